"""Marks: files beside segments that say which the store has confirmed. They outlive the processes that write them.

A mark belongs to a segment by its name without the compression. It counts as long as the segment is the one that was
sent: if `erase` rewrites it, its size is another, and it is sent again, to the same place. A segment that was sent
plain and compressed later is the same.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import orjson

from shadowproxy.serve.journal import segments

ENDING = ".uploaded"


class Mark(NamedTuple):
    """What was sent of a segment, and where to. `tries` is how often its summary was begun and did not come to be.

    `summary`: the store has confirmed its summary as well.
    """

    name: str
    bytes: int
    object: str
    etag: str | None = None
    summary: bool = False
    tries: int = 0


def stem(segment: Path) -> str:
    """A segment's name without its compression."""
    return segment.name.removesuffix(".zst").removesuffix(".gz")


def path_of(segment: Path) -> Path:
    return segment.with_name(f".{stem(segment)}{ENDING}")


def read(segment: Path) -> Mark | None:
    """The mark of a segment; None if there is none that can be read, so that the segment is sent again."""
    try:
        return Mark(**orjson.loads(path_of(segment).read_bytes()))
    except (OSError, TypeError, ValueError):
        return None


def is_sent(mark: Mark | None, name: str, size: int) -> bool:
    """Whether the store has the segment with this name and this size in bytes, by its mark."""
    return mark is not None and (mark.name != name or mark.bytes == size)


def write(segment: Path, mark: Mark) -> None:
    """Put a mark on the disk, whole or not at all. Raises OSError."""
    target = path_of(segment)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(orjson.dumps(mark._asdict()))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(target)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    segments.sync_directory(target.parent)


def remove(segment: Path) -> None:
    """Remove the mark of a segment that is gone."""
    with contextlib.suppress(OSError):
        path_of(segment).unlink()


def names(directory: Path) -> set[str]:
    """The segments' names, without compression, that have marks."""
    return {
        path.name[1 : -len(ENDING)]
        for path in directory.iterdir()
        if path.name.startswith(".") and path.name.endswith(ENDING)
    }
