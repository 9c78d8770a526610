"""A log's files to its lines: plain, gzip or zstd, in bounded memory.

Lines end at a newline byte and nowhere else: a JSON string may hold U+2028. What is no whole line (a torn tail, one too
long, broken compression) becomes Unreadable, and reading continues where it can.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import zstandard

from shadowproxy.sources import COMPRESSED, RECORD, Source, sources_of
from shadowproxy.wrapped import Unwrapper

LINE_LIMIT = 64 << 20
"""Bytes of the longest line that is read: far above what the default limits let a record become."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPED = b"\x2a\x4d\x18"  # follows a byte from 0x50 to 0x5f, where a frame of zstd is to be skipped
_COMPRESSED = re.compile(re.escape(_GZIP) + b"|" + re.escape(_ZSTD))

_SAMPLE = 128 << 10  # bytes of a compressed file by which its length is guessed
_BLOCK = 128 << 10  # bytes that zstd compresses at once
_EXPANDS = 8.0  # times that a compressed log is shorter than its lines, where it is not looked at

_CHUNK = 256 << 10
_GZIP_SLICE = 16 << 10  # gzip expands a byte to a thousand at most
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
    paths: Iterable[str | Path | Source], on_bytes: Callable[[int], None] | None = None, *, as_stored: bool = False
) -> Iterator[Line | Unreadable]:
    """Every line of these files, folders (their segments, oldest first), patterns, addresses in object stores and `-`
    (standard input), in this order.

    Blank lines are skipped. `on_bytes` gets the number of bytes that were read since its last call, as `weight_of` has
    them. With `as_stored`, what a container's runtime or a log collector put around a line stays around it.
    Raises OSError where a path cannot be opened or read.
    """
    for path in paths:
        for source in [path] if isinstance(path, Source) else sources_of(path):
            counted = None if on_bytes is None else _weighing(on_bytes, _expansion_of(source))
            with source.open() as file:
                found = _lines_of(source.name, file, counted)
                yield from found if as_stored else _unwrapped(found)


def weight_of(source: Source) -> int | None:
    """How many bytes of lines a file has, about: a compressed one is judged by its beginning. None if nobody knows."""
    size = source.size()
    return None if size is None else round(size * _expansion_of(source))


def _weighing(on_bytes: Callable[[int], None], weight: float) -> Callable[[int], None]:
    return on_bytes if weight == 1.0 else lambda count: on_bytes(round(count * weight))


def _expansion_of(source: Source) -> float:
    """How many bytes of lines a byte of the file becomes."""
    if not source.path.endswith(COMPRESSED):
        return 1.0
    return _EXPANDS if source.in_store else _expansion(source.path)


@lru_cache(maxsize=1 << 14)
def _expansion(path: str) -> float:
    try:
        with open(path, "rb") as file:
            sample = file.read(_SAMPLE)
    except OSError:
        return 1.0  # whoever reads it says what is wrong
    made = 0
    try:
        for chunk in _chunks(io.BytesIO(sample), None):
            made += len(chunk)
    except EOFError:
        made += _BLOCK // 2  # of the block that the sample cuts, on average
    except (zlib.error, zstandard.ZstdError):
        pass
    return max(1.0, made / len(sample)) if sample else 1.0


def _unwrapped(lines: Iterator[Line | Unreadable]) -> Iterator[Line | Unreadable]:
    """The lines without what a container's runtime or a log collector put around them."""
    unwrapper = Unwrapper()
    last: Line | None = None
    for line in lines:
        if isinstance(line, Unreadable) or line.raw.startswith(RECORD):
            yield line
            continue
        last = line
        inside = unwrapper.unwrap(line.raw)
        if inside is False:
            yield Unreadable(line.file, line.line, f"longer than {LINE_LIMIT >> 20} MiB")
        elif inside:
            yield line if inside is line.raw else line._replace(raw=inside)
    if last is not None and unwrapper.waits:
        yield Unreadable(last.file, last.line, "torn: the rest of a line that a runtime has cut is missing")


def _lines_of(file: str, source: BinaryIO, on_bytes: Callable[[int], None] | None) -> Iterator[Line | Unreadable]:
    number = 1
    parts: list[bytes] = []
    held = 0
    why: str | None = None
    chunks = _chunks(source, on_bytes)
    while True:
        try:
            chunk = next(chunks, None)
        except (EOFError, zlib.error, zstandard.ZstdError) as error:
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
    """A file's content, decompressed, in pieces of bounded size.

    Streams that were joined are read one after the other, plain and compressed: the first bytes of what is compressed
    are in no text. A plain one that ends within a line is ended there, before a compressed one.
    """
    stream = _Stream(source, on_bytes)
    while magic := stream.peek(len(_ZSTD)):
        if magic.startswith(_GZIP):
            yield from _decompressed(stream, zlib.decompressobj(wbits=31), _GZIP_SLICE)
        elif magic == _ZSTD or (magic[1:] == _SKIPPED and magic[0] >> 4 == 5):
            # Not stream_reader: that ends a torn frame as if it were whole.
            yield from _decompressed(stream, zstandard.ZstdDecompressor().decompressobj(), _ZSTD_SLICE)
        else:
            yield from _plain(stream)


def _decompressed(stream: "_Stream", decoder: Any, size: int) -> Iterator[bytes]:
    """One gzip member or zstd frame. `size` is how many bytes are decompressed at once."""
    while not decoder.eof:
        piece = stream.read(size)
        if not piece:
            raise EOFError("the last compressed stream is cut off")
        chunk = decoder.decompress(piece)
        if chunk:
            yield chunk
    stream.put_back(decoder.unused_data.lstrip(b"\0"))  # zeros may follow a member of gzip


def _plain(stream: "_Stream") -> Iterator[bytes]:
    """Text, until something compressed begins."""
    last = b"\n"
    while chunk := stream.read(_CHUNK):
        found = _COMPRESSED.search(chunk)
        if found is None:
            split = chunk.rfind(_ZSTD[:1], -len(_ZSTD) + 1), chunk.rfind(_GZIP[:1], -1)
            at = max(split)  # perhaps the beginning of one that the chunk cuts
            if at > 0 and (more := stream.read(_CHUNK)):
                stream.put_back(chunk[at:] + more)
                chunk = chunk[:at]
            yield chunk
            last = chunk[-1:]
            continue
        at = found.start()
        stream.put_back(chunk[at:])
        if at:
            yield chunk[:at]
            last = chunk[at - 1 : at]
        if last != b"\n":
            yield b"\n"
        return


class _Stream:
    """A file's bytes, some of which can be put back. It reports how many were read, less those."""

    def __init__(self, source: BinaryIO, on_bytes: Callable[[int], None] | None) -> None:
        self._source = cast(io.BufferedReader, source)
        self._on_bytes = on_bytes
        self._held = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        if self._at >= len(self._held):
            self._held, self._at = self._fetch(), 0
        piece = self._held[self._at : self._at + size]
        self._at += len(piece)
        if piece and self._on_bytes is not None:
            self._on_bytes(len(piece))
        return piece

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        while len(self._held) - self._at < size and (more := self._fetch()):
            self._held, self._at = self._held[self._at :] + more, 0
        return self._held[self._at : self._at + size]

    def put_back(self, piece: bytes) -> None:
        if not piece:
            return
        self._held, self._at = piece + self._held[self._at :], 0
        if self._on_bytes is not None:
            self._on_bytes(-len(piece))

    def _fetch(self) -> bytes:
        return self._source.read1(_CHUNK) if hasattr(self._source, "read1") else self._source.read(_CHUNK)
