"""A log's files to its lines: plain, gzip or zstd, in bounded memory.

Lines end at a newline byte and nowhere else: a JSON string may hold U+2028. What is no whole line (a torn tail, one too
long, broken compression) becomes Unreadable, and reading continues where it can.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import zstandard

from shadowproxy.sources import Source, sources_of

LINE_LIMIT = 64 << 20
"""Bytes of the longest line that is read: far above what the default limits let a record become."""

_CHUNK = 256 << 10
_ZSTD_SLICE = 1 << 10
"""zstd expands four bytes to 128 KiB at most, so a slice to 32 MiB; its decoder takes no bound."""


class Unreadable(NamedTuple):
    """A line (counted from 1) of a log that is no record, and why not."""

    file: str
    line: int
    why: str


class Line(NamedTuple):
    """A line's bytes, without its newline, and where it stood. `torn` is the last of a file that ends without one."""

    file: str
    line: int
    raw: bytes
    torn: bool


def lines(
    paths: Iterable[str | Path | Source], on_bytes: Callable[[int], None] | None = None
) -> Iterator[Line | Unreadable]:
    """Every line of these files, folders (their segments, oldest first), patterns, addresses in object stores and `-`
    (standard input), in this order.

    Blank lines are skipped. `on_bytes` gets the number of the files' bytes that were read since its last call.
    Raises OSError where a path cannot be opened or read.
    """
    for path in paths:
        for source in [path] if isinstance(path, Source) else sources_of(path):
            with source.open() as file:
                yield from _lines_of(source.name, file, on_bytes)


def _lines_of(file: str, source: BinaryIO, on_bytes: Callable[[int], None] | None) -> Iterator[Line | Unreadable]:
    number = 1
    parts: list[bytes] = []
    held = 0
    why: str | None = None
    chunks = _chunks(source, on_bytes)
    while True:
        try:
            chunk = next(chunks, None)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
            why = f"broken compression: {error}"
            break
        if chunk is None:
            break
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            raw = piece if not held else b"".join((*parts, piece))
            if held + len(piece) > LINE_LIMIT:
                yield Unreadable(file, number, f"longer than {LINE_LIMIT >> 20} MiB")
            elif raw:
                yield tuple.__new__(Line, (file, number, raw, False))  # in half the time: see record.py
            parts, held = [], 0
            number += 1
        held += len(rest)
        if held > LINE_LIMIT:
            parts = []  # its length is still counted, its bytes are not kept
        elif rest:
            parts.append(rest)
    if held > LINE_LIMIT:
        yield Unreadable(file, number, f"longer than {LINE_LIMIT >> 20} MiB")
    elif held:
        yield Line(file, number, b"".join(parts), torn=True)
    if why is not None:
        yield Unreadable(file, number, why)


def _chunks(source: BinaryIO, on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    """A file's content, decompressed as its first bytes say, in pieces of bounded size."""
    counted = io.BufferedReader(_Counted(source, on_bytes), _CHUNK)
    magic = counted.peek(4)[:4]
    if magic[:2] == b"\x1f\x8b":
        unzipped = gzip.GzipFile(fileobj=counted)
        while chunk := unzipped.read1(_CHUNK):
            yield chunk
    elif magic == b"\x28\xb5\x2f\xfd":
        yield from _unzstd(counted)
    else:
        while chunk := counted.read1(_CHUNK):
            yield chunk


def _unzstd(source: "io.BufferedReader[_Counted]") -> Iterator[bytes]:
    # Not stream_reader: that ends a torn frame as if it were whole.
    frame = zstandard.ZstdDecompressor().decompressobj()
    begun = False
    while piece := source.read(_ZSTD_SLICE):
        while piece:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            begun = True
            chunk = frame.decompress(piece)
            piece = frame.unused_data if frame.eof else b""
            if chunk:
                yield chunk
    if begun and not frame.eof:
        raise EOFError("the last zstd frame is cut off")


class _Counted(io.RawIOBase):
    """A stream that reports how many bytes were read from it."""

    def __init__(self, source: BinaryIO, on_bytes: Callable[[int], None] | None) -> None:
        self._source = source
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        size = cast(io.BufferedReader, self._source).readinto1(cast(bytearray, buffer))
        if size and self._on_bytes is not None:
            self._on_bytes(size)
        return size
