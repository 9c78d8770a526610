"""Decodes bodies: undoes the Content-Encoding within a bound, and says what is JSON.

Decoding is for the log and for comparing only; on the wire nothing is ever decoded. A coding that is unknown, broken
or expands beyond the bound leaves the bytes as they are: such a body is recorded by its wire bytes.
"""

import contextlib
import io
import json
import re
import zlib
from collections.abc import Callable

import orjson

from shadowproxy.exact import may_hold_long_integer

DECODED_LIMIT = 16 << 20
"""Bytes that one body may expand to: twice the default capture limit. gzip expands up to 1000 times, others more."""

MOST_CODINGS = 4
"""Codings stacked on one body that are undone. Real servers use one; each costs a pass."""

MOST_MEMBERS = 10_000
"""Members of one gzip body that are undone. bgzip writes one for each 64 KiB; each costs some microseconds."""

_FIRST_PIECE = 1024
_ZEROS = re.compile(rb"\0*+")
_DEPTH_LEFT = 24
_DEEPEST = 1000


class Undecodable(Exception):
    """The content cannot be decoded within the bound. The text is one short phrase."""


def decoded(body: bytes, codings: str, limit: int = DECODED_LIMIT) -> bytes:
    """`body` with the codings of a Content-Encoding value undone, the last first. A prefix decodes to a prefix.

    Raises Undecodable where a coding is unknown, the data is broken, or a result is over `limit` bytes.
    """
    names = [name for part in codings.split(",") if (name := part.strip().lower()) and name != "identity"]
    if len(names) > MOST_CODINGS:
        raise Undecodable("too many content codings")
    for name in reversed(names):
        decoder = _DECODERS.get(name)
        if decoder is None:
            raise Undecodable("unknown content coding")
        try:
            body = decoder(body, limit)
        except zlib.error as error:
            raise Undecodable("broken content coding") from error
        if len(body) > limit:
            raise Undecodable("decodes to more than the limit")
    return body


# Each reads one byte past the limit: it is the only way to tell "full" from "over".


def _gunzip(body: bytes, limit: int) -> bytes:
    """RFC 1952 section 2.2 lets members follow one another, and tools pad with zeros.

    A member is given ever longer pieces of what is left, as what it leaves over is copied: given all of it, a body of a
    hundred thousand empty members would be copied as often.
    """
    pieces: list[bytes] = []
    room = limit + 1
    at = 0
    for _ in range(MOST_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        step = _FIRST_PIECE
        while at < len(body) and room > 0 and not member.eof:
            pieces.append(member.decompress(member.unconsumed_tail or body[at : at + step], room))
            room -= len(pieces[-1])
            if not member.unconsumed_tail:
                at = min(len(body), at + step) - len(member.unused_data)
                step *= 2
        if not member.eof:
            return b"".join(pieces)
        padding = _ZEROS.match(body, at)
        at = at if padding is None else padding.end()
        if at >= len(body) or room <= 0:
            return b"".join(pieces)
    raise Undecodable("too many gzip members")


def _inflate(body: bytes, limit: int) -> bytes:
    # RFC 9110 section 8.4.1.2: "deflate" is the zlib format, and some senders leave its wrapper off.
    try:
        return zlib.decompressobj().decompress(body, limit + 1)
    except zlib.error:
        return zlib.decompressobj(wbits=-15).decompress(body, limit + 1)


def _unbrotli(body: bytes, limit: int) -> bytes:
    # Imported here, as zstandard is below: most processes that serve callers never decode a body.
    import brotli  # type: ignore[import-untyped]  # it ships no types

    try:
        decoder = brotli.Decompressor()
        pieces = [decoder.process(body, output_buffer_limit=limit + 1)]
        size = len(pieces[0])
        while size <= limit and not decoder.can_accept_more_data():
            pieces.append(decoder.process(b"", output_buffer_limit=limit + 1 - size))
            size += len(pieces[-1])
    except brotli.error as error:
        raise Undecodable("broken content coding") from error
    return b"".join(pieces)


def _unzstd(body: bytes, limit: int) -> bytes:
    # RFC 8878 section 3.1.1.1.2 recommends windows of 8 MiB; a larger one would let the sender use our memory.
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=8 << 20)
    try:
        with decoder.stream_reader(io.BytesIO(body), read_across_frames=True) as reader:
            return reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise Undecodable("broken content coding") from error


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}


def is_json_type(content_type: str) -> bool:
    """Whether a Content-Type value names JSON: application/json, text/json, or any +json (RFC 6839 section 3.1)."""
    media = content_type.partition(";")[0].strip().lower()
    return media in ("application/json", "text/json") or media.endswith("+json")


_JSON_LINES = re.compile(r"(?i)ndjson|jsonl|json-lines|json-seq|stream\+json|json-stream")


def names_lines(content_type: str) -> bool:
    """Whether a Content-Type value names JSON with one value in each line, by any of its names (NDJSON, JSON Lines)."""
    return _JSON_LINES.search(content_type) is not None


def names_events(content_type: str) -> bool:
    """Whether a Content-Type value names server-sent events."""
    return "event-stream" in content_type.lower()


def is_lines_type(content_type: str) -> bool:
    """Whether a Content-Type value names one JSON text a line: server-sent events, or any name of NDJSON."""
    return names_events(content_type) or names_lines(content_type)


def parsed(raw: bytes) -> object:
    """The value of a JSON text that may stand in a record as it is. Raises ValueError (orjson's) for any other.

    Strict: it rejects NaN, numbers beyond a double, lone surrogates, a byte order mark and bad UTF-8. Integers are
    exact, whatever their size, as they are when the record is read again.
    """
    value: object = orjson.loads(raw)
    if len(raw) > _DEEPEST and raw.count(b"[") + raw.count(b"{") > _DEEPEST:
        # orjson reads 1024 levels, and a body stands some levels down in its record: it must be readable there too.
        orjson.loads(b"[" * _DEPTH_LEFT + raw + b"]" * _DEPTH_LEFT)
    if may_hold_long_integer(raw):
        with contextlib.suppress(ValueError, RecursionError):  # over 4300 digits, or nested too deeply for it
            return json.loads(raw)
    return value
