"""The summary beside a segment, which a report reads in the segment's place: megabytes instead of terabytes.

It says of which segment it is and by which rules it was made. It is current if the segment is as long as it says and,
if the two cannot be told apart by the store's tag, not younger than it; if it was made by this version and these rules;
and if it has records. Any other is as good as none.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import orjson

from shadowproxy import __version__
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.summary import Summary, SummaryError, load
from shadowproxy.sources import Source

_LARGEST: Final = 256 << 20  # bytes of a summary: those of real logs have some megabytes


@dataclass(slots=True)
class Used:
    """How many segments a report read by their summaries, and why not the others that had one, by reason."""

    summaries: int = 0
    segments: int = 0
    why_not: Counter[str] = field(default_factory=Counter)

    def sentence(self) -> str | None:
        """One line for the user; None if no segment had a summary."""
        if not self.summaries and not self.why_not:
            return None
        whole = self.summaries + self.segments
        line = f"read the summaries beside {self.summaries:,} of {whole:,} segments"
        if self.why_not:
            reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(self.why_not.items()))
            line += f"; read the segments of the others that have one: {reasons}"
        return line


def fault_of(raw: bytes, segment: Source, beside: Source, reading: Reading) -> str | None:
    """Why a summary cannot stand for its segment in this reading; None if it can."""
    try:
        of = orjson.loads(raw).get("of")
        rules, fields, version = of["rules"], of["fields"], of["version"]
        size, tag = of["bytes"], of["tag"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return "with one that cannot be read"
    if size != segment.size() or ((tag is None or tag != segment.tag) and _is_younger(segment, beside)):
        return "with one of an earlier content"
    if version != __version__:
        return "with one of another version"
    if rules != reading.rules.digest or fields != [list(each) for each in reading.fields]:
        return "with one by other rules"
    return None


def _is_younger(segment: Source, beside: Source) -> bool:
    """Whether the segment was written after its summary, as far as is known."""
    return segment.modified is None or beside.modified is None or segment.modified > beside.modified


def read_beside(
    sources: Iterable[Source], reading: Reading, used: Used, rest: list[Source]
) -> Iterator[tuple[Source, Summary]]:
    """Each segment that has a current summary, with that; the others are added to `rest`, in their order.

    A few summaries in a store are fetched ahead. Raises nothing for a summary that cannot be read: its segment is.
    """
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    ahead: deque[tuple[Source, Future[bytes] | None]] = deque()
    left = iter(sources)
    with ThreadPoolExecutor(8) as pool:
        while True:
            while len(ahead) < 16 and (source := next(left, None)) is not None:
                ahead.append((source, None if source.summary is None else pool.submit(_content, source.summary)))
            if not ahead:
                return
            source, fetched = ahead.popleft()
            if source.summary is not None and fetched is not None:
                raw = fetched.result()
                why = fault_of(raw, source, source.summary, reading)
                saved = _loaded(raw) if why is None else None
                if saved is not None:
                    used.summaries += 1
                    yield source, saved
                    continue
                used.why_not[why or "with one that cannot be read"] += 1
            used.segments += 1
            rest.append(source)


def _content(source: Source) -> bytes:
    """The bytes of a summary; none if it cannot be read."""
    try:
        with closing(source.open()) as file:
            raw = file.read(_LARGEST + 1)
    except OSError:
        return b""
    return raw if len(raw) <= _LARGEST else b""


def _loaded(raw: bytes) -> Summary | None:
    try:
        saved = load(raw)
    except SummaryError:
        return None
    return saved if saved.count else None
