"""`shadowproxy erase`: takes the records of a person or a request out of a log's closed segments.

1. A file without such a record is not touched; one with such records is replaced at once by one without them, complete
   and on the disk before it has the name. Its compression, mode and time of last writing stay.
2. A segment that a proxy is writing is not touched: it is named, to be erased from once it is closed.
3. A line that is no record is removed if it holds one of the IDs as a whole word, since it may be a torn piece of such
   a record. A saved summary is one line of all records: it is left and named.
4. A file whose lines a container's runtime has wrapped is named and left: a record may be in pieces there.
5. An object in a store is replaced in the same way, and the summary beside it, which has examples, is removed.
"""

import contextlib
import os
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import zstandard

from shadowproxy.compare.fold.engines import SAVED
from shadowproxy.compare.fold.filters import EVERYTHING, Only
from shadowproxy.lines import Line, lines
from shadowproxy.record import RecordError, decode
from shadowproxy.serve.journal.segments import locked
from shadowproxy.sources import ANSWERS, JUDGED, RECORD, SUMMARY, Source, source_of
from shadowproxy.stores.addresses import address_of
from shadowproxy.wrapped import Unwrapper

PATIENCE: Final = 5.0
"""Seconds to wait for a proxy that is compressing the segment."""

_FEW: Final = 20  # IDs that are looked for in the bytes of a line before it is read

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


class Wanted(NamedTuple):
    """Which records to erase: those with one of these IDs, or any if there are none, that `only` accepts."""

    ids: frozenset[str]
    only: Only = EVERYTHING

    def has(self, line: bytes, hints: Collection[bytes]) -> bool:
        """Whether a line is to be erased. `hints` are from `hints_of`."""
        if hints and not any(each in line for each in hints):
            return False
        try:
            record = decode(line)
        except RecordError:
            return any(_has_word(line, each) for each in hints or [each.encode() for each in self.ids])
        if self.ids and not (record.id in self.ids or record.record in self.ids):
            return False
        return self.only == EVERYTHING or self.only.accepts(record)

    def hints(self) -> tuple[bytes, ...]:
        """Bytes of which a line has one if it has one of the IDs; empty if there are too many to look for."""
        if len(self.ids) > _FEW or any('"' in each or "\\" in each or not each.isascii() for each in self.ids):
            return ()
        return tuple(each.encode() for each in self.ids)


def _has_word(line: bytes, text: bytes) -> bool:
    """Whether a text stands in a line, and is no part of a longer word there."""
    return text in line and re.search(rb"(?<![0-9A-Za-z])" + re.escape(text) + rb"(?![0-9A-Za-z])", line) is not None


class Erased(NamedTuple):
    """What was done with one file: how many of its lines are gone. `why` says why it was left as it is."""

    file: str
    lines: int = 0
    why: str | None = None


def erase(sources: Iterable[Source], wanted: Wanted, *, dry: bool = False) -> Iterator[Erased]:
    """Erase from each file. With `dry` only count. Raises OSError if a file cannot be read or written."""
    hints = wanted.hints()
    for source in sources:
        path = Path(source.path)
        if source.in_store and address_of(source.path).kind == "http":
            yield Erased(source.name, why="a web server is only read")
            continue
        if source.in_store or path.suffix in (".zst", ".gz"):
            yield _from(source, wanted, hints, dry=dry)
            continue
        until = time.monotonic() + PATIENCE
        while True:
            with locked(path) as file:
                if file is not None:
                    yield _from(source, wanted, hints, dry=dry)
                    break
            if not path.exists():
                for compressed in (path.with_name(path.name + ending) for ending in (".zst", ".gz")):
                    if compressed.exists():  # since it was listed
                        yield _from(source_of(compressed), wanted, hints, dry=dry)
                break
            if time.monotonic() >= until:
                yield Erased(source.name, why="a proxy is writing it: erase again once it is closed")
                break
            time.sleep(0.05)


def _from(source: Source, wanted: Wanted, hints: Collection[bytes], *, dry: bool) -> Erased:
    gone = 0
    unwrapper = Unwrapper()
    wrapped = has_records = False
    for line in lines([source], as_stored=True):
        if not isinstance(line, Line):
            return Erased(source.name, why=f"line {line.line} cannot be read: {line.why}")
        if line.raw.startswith(SAVED):
            return Erased(source.name, why="it is a saved summary: make it again from the log")
        inside = unwrapper.unwrap(line.raw)
        wrapped = wrapped or inside is not line.raw
        has_records = has_records or (inside or line.raw).startswith(RECORD)
        gone += wanted.has(inside or line.raw, hints)
    if gone and not has_records:
        return Erased(source.name, why="it has no record: it may be no log")
    if gone and wrapped:
        return Erased(source.name, why=f"{gone} of its records are in lines that a container's runtime has wrapped")
    if gone and not dry:
        (_rewrite_in_store if source.in_store else _rewrite)(source, wanted, hints)
    return Erased(source.name, gone)


def _rewrite(source: Source, wanted: Wanted, hints: Collection[bytes]) -> None:
    path = Path(os.path.realpath(source.path))  # a file in a link's place would leave the records where they are
    partial = path.with_name(f".{path.name}.erasing")
    about = path.stat()
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, about.st_mode & 0o777)
        with open(descriptor, "wb") as sink:
            _copy_rest(source, wanted, hints, sink)
            sink.flush()
            os.fsync(descriptor)
        with contextlib.suppress(OSError):  # who may not keep the owner owns it
            os.chown(partial, about.st_uid, about.st_gid)
        os.chmod(partial, about.st_mode & 0o777)
        os.utime(partial, ns=(about.st_atime_ns, about.st_mtime_ns))  # retention goes by the age of the records
        partial.rename(path)
    except BaseException:  # Ctrl-C, too
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rewrite_in_store(source: Source, wanted: Wanted, hints: Collection[bytes]) -> None:
    """Put the rest in the object's place, and remove the summary beside it: it has examples of the records."""
    from shadowproxy.stores.writing import put, remove

    with tempfile.TemporaryFile(prefix="shadowproxy-erase-") as sink:
        _copy_rest(source, wanted, hints, sink)
        size = sink.tell()
        sink.seek(0)
        put(address_of(source.path), sink, size)
    if source.summary is not None:
        remove(address_of(source.summary.path))


def _copy_rest(source: Source, wanted: Wanted, hints: Collection[bytes], sink: Any) -> None:
    """Write the lines that stay, compressed as the file is."""
    with source.open() as file:
        magic = file.read(len(_ZSTD))
    put: Callable[[bytes], object] = sink.write
    finish: Callable[[], bytes] = bytes
    if magic == _ZSTD:
        zstd = zstandard.ZstdCompressor(level=3).compressobj()
        put, finish = (lambda raw: sink.write(zstd.compress(raw))), zstd.flush
    elif magic.startswith(_GZIP):
        squeezer = zlib.compressobj(level=6, wbits=31)
        put, finish = (lambda raw: sink.write(squeezer.compress(raw))), squeezer.flush
    for line in lines([source], as_stored=True):
        if isinstance(line, Line) and not wanted.has(line.raw, hints):
            put(line.raw if line.torn else line.raw + b"\n")
    sink.write(finish())


def made_from(files: Iterable[str]) -> list[str]:
    """Files beside these that hold answers of the log: what a judge said, answers kept for labels, and summaries."""
    folders = dict.fromkeys(Path(file).parent for file in files)
    around = dict.fromkeys(path for folder in folders for path in (folder, folder.parent))
    return sorted(
        str(path)
        for folder in around
        if folder.is_dir()
        for path in folder.iterdir()
        if path.name.endswith((ANSWERS, JUDGED, SUMMARY))
    )
