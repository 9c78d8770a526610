"""HTTP streams with faults that nobody thought of: good ones, changed byte by byte, line by line and piece by piece.

Everything is drawn from a `random.Random` that the caller seeds: the same seed, the same bytes.
"""

import itertools
import random

BYTES = b'\r\n\0\t \x0b\x0c,:;="\\/?#%*+-.0159aAfFxX_|~\x7f\x80\xa0\xff'
LINES = [
    b"Content-Length: 0",
    b"Content-Length: 4",
    b"Content-Length: 5",
    b"Content-Length: 44",
    b"content-length:5",
    b"Content-Length: 5,5",
    b"Content-Length: +5",
    b"Content_Length: 5",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: CHUNKED",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding:",
    b"Transfer_Encoding: chunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: keep-alive, content-length",
    b"Connection: transfer-encoding",
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Host: other",
    b"Trailer: Content-Length",
    b"Keep-Alive: timeout=1",
    b" folded",
    b"X-Long: " + b"x" * 5000,
    b"0",
    b"5",
    b"5;x=y",
    b"ffffffffffffffff",
    b"0000000000000005",
    b"",
]


def mutated(raw: bytes, source: random.Random, *, at_most: int = 3) -> bytes:
    """`raw` with up to `at_most` faults, and in one of five cases with none: good messages keep the parsers honest."""
    if source.random() < 0.2:
        return raw
    for _ in range(source.randint(1, at_most)):
        raw = source.choice(_FAULTS)(raw, source)
    return raw


def cut(raw: bytes, source: random.Random) -> list[bytes]:
    """`raw` in pieces, as a network may deliver it: mostly few, sometimes many."""
    if not raw:
        return []
    count = source.choice((0, 0, 1, 2, 5, min(40, len(raw))))
    edges = sorted({0, len(raw), *(source.randrange(len(raw)) for _ in range(count))})
    return [raw[begin:end] for begin, end in itertools.pairwise(edges)]


def _place(raw: bytes, source: random.Random) -> int:
    """Anywhere, but twice in three times beside a line's end, where parsers look."""
    ends = [at for at in range(len(raw)) if raw[at] in b"\r\n:"]
    if ends and source.random() < 0.67:
        return min(len(raw), max(0, source.choice(ends) + source.randint(-1, 1)))
    return source.randint(0, len(raw))


def _insert(raw: bytes, source: random.Random) -> bytes:
    at = _place(raw, source)
    return raw[:at] + bytes(source.choices(BYTES, k=source.choice((1, 1, 1, 2, 4)))) + raw[at:]


def _delete(raw: bytes, source: random.Random) -> bytes:
    at = _place(raw, source)
    return raw[:at] + raw[at + source.choice((1, 1, 2, 8)) :]


def _replace(raw: bytes, source: random.Random) -> bytes:
    at = _place(raw, source)
    return raw[:at] + bytes([source.choice(BYTES)]) + raw[at + 1 :]


def _flip(raw: bytes, source: random.Random) -> bytes:
    at = _place(raw, source)
    return raw[:at] + bytes([raw[at] ^ (1 << source.randrange(8))]) + raw[at + 1 :] if at < len(raw) else raw


def _new_line(raw: bytes, source: random.Random) -> bytes:
    lines = raw.split(b"\r\n")
    lines.insert(source.randint(0, len(lines)), source.choice(LINES))
    return b"\r\n".join(lines)


def _lose_line(raw: bytes, source: random.Random) -> bytes:
    lines = raw.split(b"\r\n")
    del lines[source.randrange(len(lines))]
    return b"\r\n".join(lines)


def _double_line(raw: bytes, source: random.Random) -> bytes:
    lines = raw.split(b"\r\n")
    lines.insert(source.randint(0, len(lines)), source.choice(lines))
    return b"\r\n".join(lines)


def _other_end_of_line(raw: bytes, source: random.Random) -> bytes:
    lines = raw.split(b"\r\n")
    if len(lines) < 2:
        return raw
    at = source.randrange(1, len(lines))
    return b"\r\n".join(lines[:at]) + source.choice((b"\n", b"\r", b"\r\r\n", b"\n\r")) + b"\r\n".join(lines[at:])


def _other_number(raw: bytes, source: random.Random) -> bytes:
    places = [at for at in range(len(raw)) if raw[at] in b"0123456789"]
    if not places:
        return raw
    at = source.choice(places)
    return raw[:at] + source.choice((b"", b"0", b"9", b"a", b"00", b"99999999999999999999")) + raw[at + 1 :]


def _repeat(raw: bytes, source: random.Random) -> bytes:
    begin, end = sorted((_place(raw, source), _place(raw, source)))
    at = _place(raw, source)
    return raw[:at] + raw[begin:end] + raw[at:]


def _cut_off(raw: bytes, source: random.Random) -> bytes:
    return raw[: _place(raw, source)]


_FAULTS = (
    _insert,
    _insert,
    _delete,
    _delete,
    _replace,
    _replace,
    _flip,
    _new_line,
    _new_line,
    _new_line,
    _lose_line,
    _double_line,
    _other_end_of_line,
    _other_end_of_line,
    _other_number,
    _other_number,
    _repeat,
    _cut_off,
)
