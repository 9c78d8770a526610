"""What a log has that it did not have at the last look.

1. A segment is known by its path without the ending of its compression: compressed since, it is the same one.
2. Of a plain file whole lines are read, to the last newline. What a runtime has cut and not finished waits as well.
3. A compressed file of this machine is whole: the rest of it is read, and it is never opened again.
4. A file in a store is read once, whole: stores have no files that grow.
5. A plain file that is shorter than it was, or another file by that name, is read from its beginning.
"""

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from shadowproxy.compare.fold.engines import SAVED
from shadowproxy.lines import Line, lines
from shadowproxy.sources import COMPRESSED, PLAIN, RECORD, STANDARD_INPUT, Source, sources_of
from shadowproxy.wrapped import Unwrapper

_BACK: Final = 64 << 10  # bytes in which the last newline is looked for at once
_END: Final = 1 << 62  # of a file that is read to its end


class Position(NamedTuple):
    """How far a file was read: `read` bytes of its content, or all of it. `inode` is the plain file's."""

    read: int
    whole: bool = False
    inode: int | None = None


class New(NamedTuple):
    """A file, or the part of it, that is to be read; `name` is the segment's, `after` where reading then stands."""

    name: str
    source: Source
    after: Position


def segment_name(path: str) -> str:
    """What a segment is known by, plain or compressed."""
    for ending in COMPRESSED:
        if path.endswith(ending):
            return path.removesuffix(ending) + PLAIN
    return path


def is_in(log: str, file: Path) -> bool:
    """Whether a file, which may not be there yet, would be one of the segments of a log's directory."""
    if not file.name.endswith(PLAIN) or not os.path.isdir(log):
        return False
    return Path(log).resolve() in file.resolve().parents


def new_in(paths: Iterable[str], known: Mapping[str, Position]) -> list[New]:
    """What is new in these logs. Raises OSError as `sources_of` does, and for a file that is not there."""
    found: dict[str, New] = {}
    for path in paths:
        for source in sources_of(path):
            if source.path == STANDARD_INPUT:
                raise ValueError("standard input cannot be read again")
            name = segment_name(source.path)
            if name in found:
                continue
            new = _new(source, name, known.get(name))
            if new is not None:
                found[name] = new
    return list(found.values())


def _new(source: Source, name: str, known: Position | None) -> New | None:
    if source.in_store:
        return None if known is not None else New(name, source, Position(0, whole=True))
    if source.path.endswith(COMPRESSED):
        if known is not None and known.whole:
            return None
        start = 0 if known is None else known.read
        part = None if not start else (start, _END)
        return New(name, replace(source, part=part), Position(0, whole=True))
    if not os.path.exists(source.path):
        later = next((source.path + ending[len(PLAIN) :] for ending in COMPRESSED if _is_there(source, ending)), None)
        if later is not None:
            return _new(Source(later, later), name, known)  # compressed since it was listed
    with open(source.path, "rb") as file:
        about = os.fstat(file.fileno())
        start = 0
        if known is not None and not known.whole and known.inode == about.st_ino and known.read <= about.st_size:
            start = known.read
        if file.read(len(SAVED)) == SAVED:
            raise OSError(errno.EINVAL, "it is a saved summary, which does not grow: give the log", source.name)
        end = _end_of_lines(file, start, about.st_size)
        if end > start:
            end = _end_of_records(file, source, start, end)
    if end <= start:
        return None
    return New(name, replace(source, part=(start, end)), Position(end, inode=about.st_ino))


def _is_there(source: Source, ending: str) -> bool:
    return source.path.endswith(PLAIN) and os.path.exists(source.path + ending[len(PLAIN) :])


def _end_of_lines(file: BinaryIO, start: int, end: int) -> int:
    """The byte after the last newline; `start` if there is none."""
    at = end
    while at > start:
        begin = max(start, at - _BACK)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return start


def _end_of_records(file: BinaryIO, source: Source, start: int, end: int) -> int:
    """The byte after the last line with which no record waits for its rest, where a runtime cuts lines."""
    file.seek(start)
    if file.read(len(RECORD)) == RECORD:
        return end
    unwrapper = Unwrapper()
    at, number, whole = start, 0, start
    with closing(lines([replace(source, part=(start, end))], as_stored=True)) as stored:  # type: ignore[type-var]
        for line in stored:
            if not isinstance(line, Line):
                return end  # its length is not known
            at += len(line.raw) + line.line - number  # blank lines have a newline each
            number = line.line
            unwrapper.unwrap(line.raw)
            if not unwrapper.waits:
                whole = at
    return end if whole >= at else whole
