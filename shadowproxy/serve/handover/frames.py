"""What goes over the pair of sockets, as bytes: frames, and the exchanges in them. Pure; no socket, no clock.

A frame is a head (its kind, and two lengths), a value that `marshal` wrote, and raw bytes. Both ends are this program,
of one version, and nobody else can open a socket that has no address. So a frame that cannot be read is a defect.

An exchange goes as plain tuples: a leg's length says which kind it is. A body over RAW stands behind the value as it
is, so that nothing copies it; its place in the value has the number of its bytes.
"""

import marshal
import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from shadowproxy.exchange import (
    Exchange,
    Failure,
    Learnt,
    Outcome,
    Reply,
    Request,
    ShadowLeg,
    Skipped,
    Translated,
    Tunnel,
    TunnelEnd,
)

RAW: Final = 32 << 10
"""Bytes from which on a body is not copied into the value."""

MOST: Final = 1 << 30
"""Bytes that a frame may have. An exchange is bounded long before by what may be captured."""

EXCHANGE: Final = 1
"""An exchange, with the number of the generation under which it began."""

CENSUS: Final = 2
"""How many exchanges, appended before this census was taken, come after it; and the census."""

NOTE: Final = 3
"""Anything that has to arrive in the order of the exchanges."""

END: Final = 4
"""Nothing more comes: live has stopped in order."""

ACK: Final = 5
"""From the recorder: what has become of exchanges since the last one, a `Settled` as plain tuples."""

_KINDS: Final = frozenset({EXCHANGE, CENSUS, NOTE, END, ACK})

_HEAD = struct.Struct("<BIQ")
_HEAD_SIZE: Final = 13

_VERSION: Final = 2
"""Of the format of marshal: later ones look for objects that repeat, and there are few."""

_REPLY: Final = len(Reply._fields)
_FAILURE: Final = len(Failure._fields)

# Found once: each of them is called for every exchange, and compiled code looks an attribute of a module up each time.
_dumps: Callable[[Any, int], bytes] = marshal.dumps
_pack_head: Callable[[int, int, int], bytes] = _HEAD.pack
_named: Callable[[Any, Any], Any] = tuple.__new__  # a third of what calling the named tuple's class takes

Frame: TypeAlias = tuple[int, Any, bytes]
"""Kind, value and raw bytes."""


class FrameError(Exception):
    """What was received is no frame. One line."""


def frame_of(kind: int, value: Any) -> bytes:
    """Raises ValueError for a value that is not plain: made of tuples, lists, dicts, text, bytes and numbers."""
    data = _dumps(value, _VERSION)
    return _pack_head(kind, len(data), 0) + data


def frames_of_exchange(exchange: Exchange, generation: int) -> list[bytes]:
    """The frame, and behind it the raw bodies, if there are any."""
    request, live, shadows, control, tunnel = exchange
    raw: list[bytes] = []
    # Not the named tuples themselves, nor members of enums: marshal takes plain types alone.
    value = (
        generation,
        _plain_request(request, raw),
        _plain_leg(live, raw),
        {name: _plain_leg(leg, raw) for name, leg in shadows.items()},
        None if control is None else _plain_leg(control, raw),
        None if tunnel is None else (tunnel.from_caller, tunnel.from_live, tunnel.ended_by.value),
    )
    data = _dumps(value, _VERSION)
    if not raw:
        return [_pack_head(EXCHANGE, len(data), 0) + data]
    behind = 0
    for each in raw:
        behind += len(each)
    return [_pack_head(EXCHANGE, len(data), behind) + data, *raw]


def exchange_of(value: Any, raw: bytes) -> tuple[int, Exchange]:
    """The generation and the exchange of an EXCHANGE. Raises FrameError."""
    try:
        generation, request, live, shadows, control, tunnel = value
        bodies = _Bodies(raw)
        if len(request) != 9:
            raise ValueError(f"no request has {len(request)} parts")
        asked: Request = _named(Request, _with_body(request, 6, bodies))
        live_leg = _leg_of(live, bodies)
        if isinstance(live_leg, Skipped):
            raise ValueError("live's leg is one of a shadow")
        legs = {name: _leg_of(leg, bodies) for name, leg in shadows.items()}
        again = None if control is None else _leg_of(control, bodies)
        passed = None if tunnel is None else Tunnel(tunnel[0], tunnel[1], TunnelEnd(tunnel[2]))
        bodies.check_end()
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise FrameError(f"an exchange cannot be read ({type(error).__name__}: {error})") from error
    return generation, Exchange(asked, live_leg, legs, again, passed)


class Decoder:
    """Cuts frames out of what arrives. `held` is how many bytes of an incomplete frame it keeps.

    `error` says what was wrong with the first malformed frame, if one came: those before it are returned, and of what
    comes later nothing.
    """

    def __init__(self, most: int = MOST) -> None:
        self.held = 0
        self.error: str | None = None
        self._most = most
        self._parts: list[bytes] = []
        self._needed = _HEAD_SIZE

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete."""
        if self.error is not None:
            return []
        self._parts.append(data)
        self.held += len(data)
        if self.held < self._needed:
            return []
        if len(self._parts) > 1:
            data = b"".join(self._parts)
        frames: list[Frame] = []
        offset, size = 0, len(data)
        self._needed = _HEAD_SIZE
        while size - offset >= _HEAD_SIZE:
            kind, length, behind = _HEAD.unpack_from(data, offset)
            if kind not in _KINDS or length + behind > self._most:
                self.error = f"no frame begins with kind {kind} and {length} + {behind} bytes"
                break
            start = offset + _HEAD_SIZE
            middle = start + length
            end = middle + behind
            if end > size:
                self._needed = end - offset
                break
            try:
                value = marshal.loads(data[start:middle])
            except (ValueError, EOFError, TypeError) as error:
                self.error = f"the value of a frame cannot be read ({type(error).__name__})"
                break
            frames.append((kind, value, data[middle:end]))
            offset = end
        if self.error is not None:
            self._parts, self.held = [], 0
        else:
            self.held = size - offset
            self._parts = [data[offset:size]] if self.held else []
        return frames


class _Bodies:
    """The raw bytes behind a value, taken off from the front."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, count: int) -> bytes:
        start, end = self._at, self._at + count
        if count < 0 or end > len(self._raw):
            raise ValueError("a body is missing")
        self._at = end
        return self._raw[start:end]

    def check_end(self) -> None:
        if self._at != len(self._raw):
            raise ValueError("there are more raw bytes than bodies")


def _plain_request(request: Request, raw: list[bytes]) -> tuple[object, ...]:
    if len(request.body) <= RAW:
        return tuple(request)
    raw.append(request.body)
    return (*request[:6], len(request.body), request.body_bytes, request.body_sha256)


def _plain_leg(leg: Reply | Failure | Skipped, raw: list[bytes]) -> tuple[object, ...]:
    if isinstance(leg, Reply):
        state: tuple[object, object] = ((), ())
        if leg.translated or leg.learnt:
            state = (_plain_tuples(leg.translated), _plain_tuples(leg.learnt))
        elif len(leg.body) <= RAW:
            return tuple(leg)
        if len(leg.body) <= RAW:
            return (*leg[:-2], *state)
        raw.append(leg.body)
        return (leg.status, leg.fields, len(leg.body), *leg[3:-2], *state)
    if isinstance(leg, Failure):
        reply = None if leg.reply is None else _plain_leg(leg.reply, raw)
        return (leg.outcome.value, leg.error, leg.total_ms, reply, leg.began_ms, _plain_tuples(leg.translated))
    return (leg.outcome.value, leg.error)


def _plain_tuples(named: tuple[Translated, ...] | tuple[Learnt, ...]) -> tuple[object, ...]:
    return tuple([tuple(each) for each in named])


def _leg_of(plain: Any, bodies: _Bodies) -> ShadowLeg:
    count = len(plain)
    if count == _REPLY:
        return _reply_of(plain, bodies)
    if count == _FAILURE:
        reply = None if plain[3] is None else _reply_of(plain[3], bodies)
        translated = tuple([Translated(*each) for each in plain[5]])
        return Failure(Outcome(plain[0]), plain[1], plain[2], reply, plain[4], translated)
    if count == 2:
        return Skipped(Outcome(plain[0]), plain[1])
    raise ValueError(f"no leg has {count} parts")


def _reply_of(plain: Any, bodies: _Bodies) -> Reply:
    if len(plain) != _REPLY:
        raise ValueError(f"no reply has {len(plain)} parts")
    whole = _with_body(plain, 2, bodies)
    if plain[-2] or plain[-1]:
        translated = tuple([Translated(*each) for each in plain[-2]])
        whole = (*whole[:-2], translated, tuple([Learnt(*each) for each in plain[-1]]))
    reply: Reply = _named(Reply, whole)
    return reply


def _with_body(plain: Any, place: int, bodies: _Bodies) -> Any:
    """The same with the body that stands in this place, where the number of its bytes does."""
    body = plain[place]
    if isinstance(body, bytes):
        return plain
    return (*plain[:place], bodies.take(body), *plain[place + 1 :])
