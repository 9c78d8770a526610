"""The segments of a log directory: opened, compressed once closed, and removed to keep within size and age.

A segment is active while a process holds an flock on it. The kernel releases the lock however that process ends, so
several proxies may share a directory, and none takes another's active segment for a closed one. On a file system
without flock, every uncompressed segment counts as active and is left alone.

A file whose name is not a segment's is never touched.
"""

import contextlib
import fcntl
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

import zstandard

Compression = Literal["zstd", "gzip", "none"]

ENDINGS: dict[Compression, str] = {"zstd": ".zst", "gzip": ".gz"}
"""What is added to a segment's name, so that it is not *.jsonl: log shippers of that pattern see no second file."""

_SEGMENT = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-(.+)-\d+-\d+\.jsonl(\.zst|\.gz)?")
_PARTIAL = ".partial"
_CHUNK = 1 << 20


def create(directory: Path, proxy: str, number: int) -> tuple[int, Path]:
    """A new, empty, locked segment: its descriptor and path. Makes the directory if need be. Raises OSError."""
    make_directory(directory)
    host = re.sub(r"[^A-Za-z0-9._]+", "-", proxy).strip("-") or "proxy"
    while True:
        start = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path = directory / f"{start}-{host}-{os.getpid()}-{number:04d}.jsonl"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue  # another container with our host name and pid, in the same microsecond: the next one is free
        # Waits while another proxy's keeper looks at the new file, which may even remove it as closed and empty.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink > 0:
            return descriptor, path
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make the directory with mode 0700; one that exists keeps its mode. Raises OSError."""
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as found in its directory. `ended` is when it was last written, in seconds of Unix time."""

    path: Path
    proxy: str
    compressed: bool
    active: bool
    size: int
    ended: float


def list_segments(directory: Path) -> list[Segment]:
    """The segments in a directory, oldest first. Raises OSError if it cannot be read."""
    found: list[Segment] = []
    for path in sorted(directory.iterdir()):
        match = _SEGMENT.fullmatch(path.name)
        if match is None:
            continue
        with contextlib.suppress(FileNotFoundError):  # another proxy's keeper was faster
            about = path.stat()
            compressed = match[3] is not None
            active = False
            if not compressed:
                with locked(path) as source:
                    active = source is None
            found.append(Segment(path, match[2], compressed, active, about.st_size, about.st_mtime))
    return found


def to_compress(files: list[Segment]) -> list[Path]:
    """The closed segments whose successor is closed too: a log shipper had a whole segment's time to read them."""
    closed = [file for file in files if not file.compressed and not file.active]
    last = {file.proxy: file.path for file in closed}
    return [file.path for file in closed if last[file.proxy] != file.path]


def to_remove(
    files: list[Segment],
    keep_size: int | None,
    keep_age: float | None,
    now: float,
    unsent: Collection[Path] = (),
) -> list[Path]:
    """The closed segments that are too old (seconds), then the oldest ones until the rest is within size (bytes).

    Those in `unsent` are never too old, and go last: only if all others together are not enough.
    """
    total = sum(file.size for file in files)
    gone: list[Path] = []
    for file in sorted(files, key=lambda file: file.path in unsent):
        if file.active:
            continue
        old = keep_age is not None and now - file.ended > keep_age and file.path not in unsent
        if old or (keep_size is not None and total > keep_size):
            gone.append(file.path)
            total -= file.size
    return gone


def compress(path: Path, how: Compression, goes_on: Callable[[], bool]) -> bool:
    """Replace a closed segment by a compressed file. If it raises OSError, the segment stays as it was.

    `goes_on` is called after each mebibyte; if it returns False, the work stops. Returns whether the work was done. The
    new name appears only when its content is on the disk, and the old one is removed after that: a reader finds one of
    the two, or after a crash both, with the same lines.
    """
    target = path.with_name(path.name + ENDINGS[how])
    partial = path.with_name(f".{target.name}{_PARTIAL}")
    with locked(path) as source:
        if source is None:
            return False
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as sink:
                squeezer = (
                    zstandard.ZstdCompressor(level=3).compressobj()
                    if how == "zstd"
                    else zlib.compressobj(level=6, wbits=31)
                )
                while chunk := source.read(_CHUNK):
                    sink.write(squeezer.compress(chunk))
                    if not goes_on():
                        partial.unlink()
                        return False
                sink.write(squeezer.flush())
                sink.flush()
                os.fsync(descriptor)
            about = os.fstat(source.fileno())
            os.utime(partial, ns=(about.st_atime_ns, about.st_mtime_ns))  # retention goes by the age of the records
            partial.rename(target)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        sync_directory(path.parent)
        path.unlink()
        return True


def remove(path: Path) -> None:
    """Remove a closed segment, unless it is in use or gone. Raises OSError."""
    if path.suffix != ".jsonl":
        path.unlink(missing_ok=True)
        return
    with locked(path) as source:
        if source is not None:
            path.unlink()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[BinaryIO | None]:
    """The file, open for reading and locked; None if another process holds the lock, or if the file is gone."""
    try:
        source = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with source:
        try:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.fstat(source.fileno()).st_nlink > 0
        except OSError:
            free = False
        yield source if free else None


def sync_directory(directory: Path) -> None:
    """Have the disk keep what a directory names now. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
