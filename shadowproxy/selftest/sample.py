"""Draws the records in which faults are planted: always the same ones, by the hash of the request ID."""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shadowproxy.answers.contents import FIELDS_OF_ANSWERS
from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.summary import micros
from shadowproxy.lines import Unreadable, lines
from shadowproxy.record import NO_HEADERS, Record, RecordError, decode
from shadowproxy.sources import sources_of

MOST_RECORDS: Final = 5_000
MOST_BYTES: Final = 64 * 2**20
"""Bytes of the drawn lines together: fewer are drawn from a log of very long lines."""

_SAVED: Final = b'{"shadowproxy_summary"'
_REPORT_EVERY: Final = 200


class SampleError(Exception):
    """A log in which no fault can be planted. The text is one line."""


class NoSampleError(SampleError):
    """A log with too few good answers of live."""


@dataclass(slots=True)
class Sample:
    """The drawn records, how many the log has, and how many requests these stand for.

    `unreadable` counts lines that are no records, by why.
    """

    records: list[Record]
    of: int
    requests: int
    unreadable: Counter[str] = field(default_factory=Counter)


def draw_sample(
    paths: Iterable[str | Path],
    *,
    most: int = MOST_RECORDS,
    most_bytes: int = MOST_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Sample:
    """The records whose IDs hash lowest, in the order of time. Only live's leg of them is kept.

    Raises OSError where a path cannot be read and SampleError for a saved summary, which has no records.
    """
    files = [source for path in paths for source in sources_of(path)]
    unreadable: Counter[str] = Counter()
    kept: list[tuple[int, int, int, Record]] = []
    of = requests = size = unreported = 0
    for line in lines(files, None if progress is None else lambda count: progress(count, 0)):
        if isinstance(line, Unreadable):
            unreadable[line.why.partition(":")[0]] += 1
            continue
        if line.raw.startswith(_SAVED):
            raise SampleError(f"{line.file} is a summary; faults are planted in records: give the log it was made from")
        try:
            record = decode(line.raw)
            micros(record.at)
        except RecordError as error:
            unreadable["torn line" if line.torn else str(error).partition(":")[0]] += 1
            continue
        except ValueError:
            unreadable["no time"] += 1
            continue
        of += 1
        requests += record.weight
        unreported += 1
        if progress is not None and unreported % _REPORT_EVERY == 0:
            progress(0, _REPORT_EVERY)
        rank = hashed(record.id, record.record)
        if len(kept) >= most and rank > kept[-1][0]:
            continue
        weight = len(line.raw)
        insort(kept, (rank, of, weight, _without_shadows(record)), key=lambda each: each[:2])
        size += weight
        while len(kept) > most or (size > most_bytes and len(kept) > 1):
            size -= kept.pop()[2]
    records = sorted((each[3] for each in kept), key=lambda record: (micros(record.at), record.id, record.record))
    return Sample(records, of, requests, unreadable)


def _without_shadows(record: Record) -> Record:
    # A fault is planted in what was written, each record for itself: one with a fault would stand for itself.
    live = record.live._replace(judgement=None, headers=_fields(record))
    return record._replace(live=live, shadows={}, control=None, weight=1, heaviest=1, differing=1)


def _fields(record: Record) -> dict[str, str | list[str]]:
    """The header fields that are needed to read the answer."""
    return {name: value for name, value in (record.live.headers or NO_HEADERS).items() if name in FIELDS_OF_ANSWERS}
