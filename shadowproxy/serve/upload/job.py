"""What a round of uploading is told, and what it says, as plain data; and where a segment goes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from shadowproxy.serve.journal import marks, segments
from shadowproxy.serve.journal.segments import Compression, Segment

SUMMARY: Final = ".summary.json"
"""How a summary's name ends: it is beside the segment whose whole name stands before it."""

MOST_TRIES: Final = 2
"""How often a segment's summary is begun: a process that the system kills for its memory is not started for ever."""

_NAME: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)\d{4}\.\d{6}Z-(.+)-\d+-\d+\.jsonl(?:\.zst|\.gz)?")


@dataclass(frozen=True, slots=True)
class Job:
    """Where segments go and how their summaries are made.

    `to` is an address that ends with a slash, with {date}, {hour} and {host} of the segment. `rules` are the keyword
    arguments of Rules, `fields` the places of the answer in live's and in a shadow's, if the configuration names one.
    """

    directory: str
    to: str
    summaries: bool = True
    compress: Compression = "zstd"
    rules: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[tuple[str, str], ...] = ()


class Waiting(NamedTuple):
    """The closed segments that the store does not have whole, oldest first, and those that lack only their summary."""

    unsent: list[Segment]
    unsummarised: list[Segment]


def waiting(directory: Path, *, summaries: bool) -> Waiting:
    """Raises OSError if the directory cannot be read.

    Marks are read after the segments were listed: one that is marked meanwhile is not sent again. Whoever sends one
    looks once more, while it holds the segment's lock.
    """
    unsent: list[Segment] = []
    unsummarised: list[Segment] = []
    for segment in segments.list_segments(directory):
        if segment.active or not segment.size:
            continue
        mark = marks.read(segment.path)
        if not marks.is_sent(mark, segment.path.name, segment.size):
            unsent.append(segment)
        elif summaries and lacks_summary(mark):
            unsummarised.append(segment)
    return Waiting(unsent, unsummarised)


def lacks_summary(mark: marks.Mark | None) -> bool:
    return mark is not None and not mark.summary and mark.tries < MOST_TRIES


def object_of(to: str, segment: Path) -> str:
    """The address of a segment in the store: always the same for the same segment, whoever sends it, however often."""
    match = _NAME.fullmatch(segment.name)
    if match is None:
        raise ValueError(f"{segment.name} is no segment")
    year, month, day, hour, host = match.groups()
    # Not str.format: it would take any other brace for a name.
    folder = to.replace("{date}", f"{year}-{month}-{day}").replace("{hour}", hour).replace("{host}", host)
    return folder + segment.name
