"""A log as it grows: each record once, as soon as its line is whole, across the segments of a directory."""

import errno
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from rich.console import Console
from rich.text import Text

from shadowproxy.answers import about
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import Compared
from shadowproxy.compare.judge.visible import sides, visible
from shadowproxy.compare.report.show import STYLES
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.lines import LINE_LIMIT
from shadowproxy.record import Record, RecordedLeg, RecordError, decode
from shadowproxy.sources import PLAIN, source_of

_PAUSE: Final = 0.25  # seconds between looks: what a person takes for at once
_PIECE: Final = 1 << 20
_SHOWN: Final = 40  # characters of each side of a difference
_PLACES: Final = 3  # at which IDs were translated


def follow(path: str | Path, *, last: int = 10, pause: Callable[[], None] | None = None) -> Iterator[Record]:
    """Yield the last records of a log, then each that is added, without end. Lines that are no records are skipped.

    `pause` waits until it is worth looking again. Raises OSError where the path cannot be read.
    """
    wait = pause or _wait
    source = source_of(path)
    if source.in_store:
        raise OSError(errno.EOPNOTSUPP, "a log in a store does not grow; show and report read it", source.name)
    directory = Path(source.path)
    ends: dict[Path, int] = {}
    recent: deque[Record] = deque(maxlen=last)
    for file in _plain(directory):
        ends[file] = _read(file, 0, recent.append)
    yield from recent
    while True:
        fresh: list[Record] = []
        for file in _plain(directory):
            try:
                ends[file] = _read(file, ends.get(file, 0), fresh.append)
            except FileNotFoundError:
                continue  # compressed or aged out since it was listed
        yield from fresh
        wait()


def _wait() -> None:
    time.sleep(_PAUSE)


def _plain(path: Path) -> list[Path]:
    """The segments that may still grow: a compressed one is closed, and what was in it has been read."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.name.endswith(PLAIN) and not file.name.startswith("."))


def _read(file: Path, start: int, found: Callable[[Record], None]) -> int:
    """Pass every record in whole lines from `start` on to `found`; returns where the last whole line ends."""
    with file.open("rb") as source:
        source.seek(start)
        for line in _whole_lines(source):
            start += len(line)
            try:
                found(decode(line))
            except RecordError:
                continue
    return start


def _whole_lines(source: BinaryIO) -> Iterator[bytes]:
    held = b""
    while piece := source.read(_PIECE):
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(held) > LINE_LIMIT:
            return  # longer than any record: the rest of the file is not read


def print_line(
    record: Record, console: Console, *, rules: Rules, shadow: str | None = None, mismatches: bool = False
) -> None:
    """Print one exchange on one line: its time, the request, live's answer, and each shadow's with its verdict."""
    line = Text(f"{visible(record.at[11:23])} {visible(record.request.method)} {visible(record.request.path)}  ")
    line.append(_answer(record.live), style="" if record.live.outcome is Outcome.OK else "bold red")
    differs = False
    for name, answer in record.shadows.items():
        if shadow is not None and name != shadow:
            continue
        line.append(f"  {visible(name)} ", style="bold").append(_answer(answer))
        if answer.translated:
            places = ", ".join(dict.fromkeys(visible(each.place) for each in answer.translated[:_PLACES]))
            line.append(f" (own ID in {places})", style="dim")
        compared = recompared(record.live, answer, rules, about(record, name), record.rules)
        verdict = compared.verdict
        if answer.outcome is Outcome.OK:
            line.append(f" {verdict}", style=STYLES[verdict])
            line.append(_first_difference(compared, name), style="dim")
        differs = differs or verdict in (Verdict.MISMATCH, Verdict.INCOMPARABLE)
    line.append(f"  {visible(record.id)}", style="dim")
    if differs or not mismatches:
        console.print(line, soft_wrap=True, highlight=False)


def _first_difference(compared: Compared, name: str) -> str:
    """Where two answers differ first, and how; nothing if they do not differ."""
    if compared.diff is None or not compared.diff.count:
        return ""
    first = compared.diff.listed(1)[0]
    live, shadow = sides(first.kind, first.live, first.shadow, _SHOWN)
    more = f" and {compared.diff.count - 1:,} more" if compared.diff.count > 1 else ""
    place = visible(first.path) or first.kind
    return f" ({place}: live {live}, {visible(name)} {shadow}{more})"


def _answer(answer: RecordedLeg) -> str:
    status = str(answer.status) if answer.outcome is Outcome.OK else str(answer.outcome)
    return f"{status} {answer.total_ms:.1f} ms" if answer.total_ms is not None else status
