"""The files of a log, wherever they are: on this machine, in an object store, or standard input.

A path becomes sources, and a source is opened. Which files a folder has, and in which order, does not depend on where
it is.
"""

import errno
import io
import os
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from shadowproxy.stores.addresses import AddressError, address_of, is_address, local_path, shown

if TYPE_CHECKING:
    from shadowproxy.stores.listing import Found

PLAIN: Final = ".jsonl"
COMPRESSED: Final = (".jsonl.zst", ".jsonl.gz")

SUMMARY: Final = ".summary.json"
"""What is added to a segment's name for the summary beside it."""

JUDGED: Final = ".judged.jsonl"
"""How the file ends in which a judge's preferences are kept, often beside a log: it is no part of any log."""

ANSWERS: Final = ".answers.zst"
"""How the file ends with the answers that are kept beside a summary; it is found from the summary."""

STANDARD_INPUT: Final = "-"

PART: Final = 32 << 20
"""Bytes of a part of a long file: half a minute of one core's work at most."""

RECORD: Final = b'{"schema":'
"""How a line with a record begins. What a runtime has put around lines may join several, and is not taken apart."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a log.

    Attributes:
        path: what it is opened by: a path of this machine, an address, or `-`. It may hold a secret.
        name: how messages show it.
        listed: its size in bytes, if it was listed with one.
        part: only the lines that begin from this byte on and before that one; None for all. Of a compressed file of
            this machine it counts decompressed bytes; a file in a store has no parts.
        tag, modified: the store's tag of its content, and when it was written, in seconds of Unix time, if known.
        summary: the summary beside it, if it has one: `NAME.summary.json`.
    """

    path: str
    name: str
    listed: int | None = None
    part: tuple[int, int] | None = None
    tag: str | None = None
    modified: float | None = None
    summary: "Source | None" = None

    def size(self) -> int | None:
        """Bytes, compressed ones as they are; None if that is not known before it is read."""
        if self.part is not None:
            return self.part[1] - self.part[0]
        if self.listed is not None or self.path == STANDARD_INPUT or is_address(self.path):
            return self.listed
        try:
            return os.stat(self.path).st_size if os.path.isfile(self.path) else None
        except OSError:
            return None  # whoever reads it says what is wrong

    @property
    def in_store(self) -> bool:
        return is_address(self.path)

    def open(self) -> BinaryIO:
        """The file's bytes. Raises OSError with its name."""
        if self.path == STANDARD_INPUT:
            # Not sys.stdin.buffer: Python aborts if some thread still waits for that when the program ends, as replay's
            # reader does after Ctrl-C.
            return open(sys.stdin.fileno(), "rb", closefd=False)
        if self.in_store:
            from shadowproxy.stores.reading import open_object

            return open_object(address_of(self.path))
        file = _open_here(Path(self.path))
        if self.part is None:
            return file
        return cast(BinaryIO, _Part(_decompressed(file) if file.name.endswith(COMPRESSED) else file, *self.part))

    def in_parts(self) -> "list[Source]":
        """Parts of `PART` bytes of a long plain file of this machine, which can be read at once; else itself.

        A file is cut only where a record begins: what is compressed, or in pieces that a runtime made, stays together.
        """
        size = None if self.in_store or self.part is not None else self.size()
        if size is None or size < 2 * PART:
            return [self]
        ends = [*range(PART, size - PART // 2, PART), size]
        if not self._has_records_at([0, *ends[:-1]]):
            return [self]
        return [replace(self, part=(start, end)) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _has_records_at(self, starts: list[int]) -> bool:
        """Whether the first line that begins at each of these bytes, or after it, has a record."""
        try:
            with open(self.path, "rb") as file:
                for start in starts:
                    file.seek(max(start - 1, 0))
                    if start:
                        file.readline(PART)
                    if file.read(len(RECORD)) != RECORD:
                        return False
        except OSError:
            return False  # whoever reads it says what is wrong
        return True


class _Part(io.BufferedIOBase):
    """The lines of a file that begin in a part of it. What is appended to a file while it is read is in no part."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._end = end
        self._at = start
        if start:
            _skip(file, start - 1)
            # The end of a line of the part before; only its newline if a line begins at `start`.
            self._at += len(file.readline()) - 1

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        if self._at >= self._end:
            return b""
        piece = self._file.read(min(size if size > 0 else PART, self._end - self._at))
        self._at += len(piece)
        if self._at == self._end and piece and not piece.endswith(b"\n"):
            piece += self._file.readline()
        return piece

    def close(self) -> None:
        self._file.close()
        super().close()


def source_of(path: "str | Path | Source") -> Source:
    """One file, which is not looked for before it is opened. Raises OSError for an address that names nothing."""
    if isinstance(path, Source):
        return path
    if not is_address(path):
        return Source(str(path), str(path))
    try:
        here = local_path(str(path))
        if here is None:
            address_of(str(path))
    except AddressError as error:
        raise OSError(errno.EINVAL, str(error), shown(str(path))) from None
    return Source(str(path), shown(str(path))) if here is None else Source(here, here)


def sources_of(path: "str | Path | Source") -> list[Source]:
    """The files of a path: a folder's segments, oldest first; what a pattern matches, by name; or the one file.

    A folder's partitions, folders in it with names such as `dt=2026-11-29`, are read after its own segments. A pattern
    leaves out the answers that are kept beside a summary, which are found from the summary, and what a judge said.
    Raises OSError where a folder or a store cannot be read, an address names nothing, or a store has no segment there:
    it has no empty folders. A path of this machine may be missing: to open it fails then. A directory may be empty.
    """
    source = source_of(path)
    if source.in_store:
        return _in_store(source)
    if source.path == STANDARD_INPUT:
        return [source]
    here = Path(source.path)
    if here.is_dir():
        return _in_directory(here)
    if not here.exists() and any(sign in source.path for sign in "*?["):
        matched = sorted(each for each in glob(source.path, recursive=True) if not each.endswith((ANSWERS, JUDGED)))
        names = frozenset(matched)
        matched = [each for each in matched if not _is_there_plain(each, names)]
        summaries = {each for each in matched if each.endswith(SUMMARY) and each.removesuffix(SUMMARY) in names}
        return [
            each
            for file in matched
            if file not in summaries
            for each in (_in_directory(Path(file)) if os.path.isdir(file) else [_here(file, summaries)])
        ] or [source]
    return [source]


def _in_directory(directory: Path) -> list[Source]:
    files = segments(directory)
    summaries = {str(each) for folder in {file.parent for file in files} for each in folder.glob(f"*{SUMMARY}")}
    return [_here(str(file), summaries) for file in files]


def _here(path: str, summaries: Collection[str]) -> Source:
    """A file of this machine, with its summary if that is among these."""
    beside = path + SUMMARY
    return _timed(path, _timed(beside) if beside in summaries else None)


def _timed(path: str, summary: Source | None = None) -> Source:
    try:
        modified = os.stat(path).st_mtime
    except OSError:
        modified = None  # whoever reads it says what is wrong
    return Source(path, path, modified=modified, summary=summary)


def segments(directory: Path) -> list[Path]:
    """The segments in a directory, oldest first, then those of its partitions.

    One that is being compressed is there twice and is listed once.
    """
    names = sorted(path.name for path in directory.iterdir())
    found = [directory / name for name in _segments(names)]
    for name in names:
        if _is_partition(name) and (directory / name).is_dir():
            found += segments(directory / name)
    return found


def _segments(names: Iterable[str]) -> list[str]:
    """Which of the names in a folder are segments, oldest first."""
    named: dict[str, str] = {}
    for name in sorted(names):
        if name.endswith(JUDGED):
            continue
        for ending in (*COMPRESSED, PLAIN):
            if name.endswith(ending):
                named[name.removesuffix(ending)] = name
    return [named[name] for name in sorted(named)]


def _is_there_plain(name: str, others: Collection[str]) -> bool:
    """Whether this is the second of two files with the same lines: a segment that is being compressed."""
    return name.endswith(COMPRESSED) and name.rpartition(".")[0] in others


def _is_partition(name: str) -> bool:
    return "=" in name and not name.startswith(".")


def _open_here(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except FileNotFoundError:
        # Compressed since it was listed.
        for ending in COMPRESSED:
            later = file.with_name(file.name.removesuffix(PLAIN) + ending)
            if file.name.endswith(PLAIN) and later.exists():
                return later.open("rb")
        raise


def _decompressed(file: BinaryIO) -> BinaryIO:
    """What a segment was before it was compressed, which its parts are of."""
    if file.name.endswith(".gz"):
        import gzip

        file.close()
        return cast(BinaryIO, gzip.open(file.name))
    import zstandard

    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))


def _skip(file: BinaryIO, size: int) -> None:
    if file.seekable():
        file.seek(size)
        return
    while size > 0 and (piece := file.read(min(size, PART))):
        size -= len(piece)


# --- object stores ---------------------------------------------------------------------------------------------------


def _in_store(source: Source) -> list[Source]:
    """The files of an address. Raises OSError, also if there are none: a store has no empty folders."""
    from shadowproxy.stores.listing import find, inside

    address = address_of(source.path)
    found = find(address)
    if not found:
        wanted = "nothing matches it" if address.is_pattern else "there is no such object or folder"
        raise FileNotFoundError(errno.ENOENT, wanted, source.name)

    def read(each: "Found") -> list[Source]:
        if not each.is_folder:
            return [_stored(each, by_key.get(each.address.key + SUMMARY))]
        children = inside(each.address)
        files = {child.address.key.rpartition("/")[2]: child for child in children if not child.is_folder}
        sources = [_stored(files[name], files.get(name + SUMMARY)) for name in _segments(files)]
        for child in children:
            if child.is_folder and _is_partition(child.address.key.rstrip("/").rpartition("/")[2]):
                sources += read(child)
        return sources

    by_key = {each.address.key: each for each in found}
    kept = [each for each in found if not address.is_pattern or not _is_found_otherwise(each.address.key, by_key)]
    sources = [part for each in kept for part in read(each)]
    if not sources:
        endings = ", ".join((PLAIN, *COMPRESSED))
        raise FileNotFoundError(errno.ENOENT, f"there are no segments in it ({endings})", source.name)
    return sources


def _stored(each: "Found", beside: "Found | None" = None) -> Source:
    summary = None if beside is None else _stored(beside)
    text, name = each.address.text, each.address.shown
    return Source(text, name, each.size, tag=each.tag, modified=each.modified, summary=summary)


def _is_found_otherwise(key: str, others: Collection[str]) -> bool:
    """Whether what a pattern matched is no part of the log, or the summary or a copy of what it matched too."""
    return (
        key.endswith((ANSWERS, JUDGED))
        or _is_there_plain(key, others)
        or (key.endswith(SUMMARY) and key.removesuffix(SUMMARY) in others)
    )
