"""What goes between an application and its companion, as bytes: frames, and what each kind of them says. No socket.

    frame = length (4 bytes) | kind (1) | key (8) | two lengths (4 each) | head | body | rest

The length is of all that follows the kind. Numbers are big-endian. The head is a JSON object in UTF-8, at most
HEAD_MOST bytes; of the two lengths the first is the head's, the second the body's, and what is left is the rest. Names
and values of header fields, and a request's target, are bytes: they stand in JSON as text of the same code points
(latin-1).

| kind | from | key | head | body | rest |
|---|---|---|---|---|---|
| HELLO | both | 0 | the application's: `protocol`, `process`, `version`; the companion's: a `Welcome` | | |
| BEGIN | application | the exchange's | a `Begin` | the request's body, or its beginning | the pickled call |
| END | application | the exchange's | how live's leg ended | the answer's, or its beginning | `Arrivals.packed` |
| LOST | application | 0 | how many exchanges it had to drop since the last LOST, by reason | | |
| CANDIDATE | application | 0 | a `Candidate` | | the pickled callable |
| RELOAD | application | 0 | empty: the configuration file has changed, put it in force | | |
| FLUSH | application | its own | empty | | |
| FLUSHED | companion | as FLUSH | empty: all that was begun before is settled, and written or counted as lost | | |
| CALL | companion | its own | a `Call`, for a candidate that runs in the application | | the pickled call |
| RESULT | application | as CALL | `failed`, or null | the result as JSON | |

The rules:

1. The first frame either way is HELLO. What the companion refuses it says in its HELLO (`refused`), and closes.
2. The application chooses the keys of exchanges: each is used once in a connection, by one BEGIN and then one END.
3. A BEGIN comes as soon as the request is whole, before live has answered: shadows and live work at the same time. The
   END comes after it, also where live was the first to finish.
4. Neither end waits for the other. The application drops whole exchanges that its own bound has no room for, and says
   so by LOST: a BEGIN without an END is not dropped, it ends as `incomplete` once the connection does.
5. A call that raised is an answer with the body `{"error": "Type: message"}` and status 200: the record's leg is `ok`,
   with `failed`. A result is its JSON.
6. A frame that cannot be read is a defect, or another program's: the end that reads it closes the connection.
   `Decoder.error` and `Malformed` say why; nothing here raises because of what was received.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from shadowproxy.exchange import Failure, Fields, LiveLeg, Outcome, Reply

PROTOCOL: Final = 1

HELLO: Final = 1
BEGIN: Final = 2
END: Final = 3
LOST: Final = 4
CANDIDATE: Final = 5
RELOAD: Final = 6
FLUSH: Final = 7
FLUSHED: Final = 8
CALL: Final = 9
RESULT: Final = 10

HEAD_MOST: Final = 4 << 20
"""Bytes of a head: more than the header fields of any request that a server takes."""

MOST: Final = 1 << 30
"""Bytes of a frame. Each end bounds what it reads by what it has told the other that it copies."""

PREFIX: Final = 5
"""Bytes of the length and the kind."""

_FIXED: Final = 16
_PREFIX: Final = struct.Struct(">IBQII")
_UNFIT: Final = frozenset({Outcome.OVERSIZE, Outcome.OVERLOAD})
_SOUND_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")


class Frame(NamedTuple):
    """A frame as received. `head` is not parsed yet."""

    kind: int
    key: int
    head: bytes
    body: bytes
    rest: bytes


class Malformed(NamedTuple):
    """Why a frame cannot be read, as one line."""

    why: str


class Hello(NamedTuple):
    """What an application says first."""

    protocol: int
    process: int
    version: str


class Welcome(NamedTuple):
    """What a companion answers.

    Attributes:
        capture: how many bytes of a body it copies; an application sends no more of one.
        request_id: the name of the header field that has the caller's request ID, as configured.
        shadows: their names, the candidates' included.
        refused: why the companion serves this application nothing, None if it does.
    """

    protocol: int
    version: str
    capture: int
    request_id: str
    shadows: tuple[str, ...]
    refused: str | None = None


class Begin(NamedTuple):
    """A request that is whole. `body` is a prefix where it is shorter than `body_bytes`.

    Attributes:
        key: the exchange's.
        id: the caller's request ID; None has the companion take the record's.
        record: a UUIDv7; None has the companion make one.
        at_ns: when the request came, in nanoseconds since the Unix epoch.
        age_ms: how long ago that was when the frame was made, in milliseconds.
        unfit: why no shadow can get it: OVERSIZE, OVERLOAD (it could not be copied; or live did not read all of it, and
            then `body` is all that live has read), or None.
        shadows: those of the candidates that it may be sent to; None is none of them. Other shadows get all.
        pickle: the call's arguments for candidates, pickled; empty for requests.
    """

    key: int
    id: str | None
    record: str | None
    at_ns: int
    age_ms: float
    method: str
    target: bytes
    fields: Fields
    body: bytes
    body_bytes: int
    body_sha256: str | None = None
    unfit: Outcome | None = None
    shadows: tuple[str, ...] | None = None
    pickle: bytes = b""


class End(NamedTuple):
    """How live's leg of an exchange ended: a `Reply`, or a `Failure` with the part of a reply that there was."""

    key: int
    live: LiveLeg


class Candidate(NamedTuple):
    """A Python callable as the shadow `name`, which the configuration has as a candidate.

    Attributes:
        thread: it runs in a thread of the application, which gets CALLs for it.
        executable, path, directory, main: of the application's interpreter: `sys.executable`, `sys.path`, the working
            directory, and the file of its main module ("" if it has none).
        pickle: the callable; empty with `thread`.
    """

    name: str
    thread: bool
    executable: str
    path: tuple[str, ...]
    directory: str
    main: str
    pickle: bytes


class Call(NamedTuple):
    """One call for a candidate that runs in the application: `seconds` are left of its deadline."""

    key: int
    name: str
    seconds: float
    pickle: bytes


class Result(NamedTuple):
    """What a candidate in the application returned, as JSON; `failed` says why there is none."""

    key: int
    failed: str | None
    body: bytes


# Writing.


def frame(kind: int, key: int = 0, head: object = None, body: bytes = b"", rest: bytes = b"") -> bytes:
    """One frame. `head` is an object for JSON, None for an empty one; numbers must fit. Raises TypeError otherwise."""
    return packed(kind, key, b"{}" if head is None else orjson.dumps(head), body, rest)


def packed(kind: int, key: int, head: bytes, body: bytes = b"", rest: bytes = b"") -> bytes:
    """One frame, of a head that is JSON already."""
    length = _FIXED + len(head) + len(body) + len(rest)
    return b"".join((_PREFIX.pack(length, kind, key, len(head), len(body)), head, body, rest))


def hello_frame(hello: Hello) -> bytes:
    return frame(HELLO, 0, {"protocol": hello.protocol, "process": hello.process, "version": hello.version})


def welcome_frame(welcome: Welcome) -> bytes:
    head = {
        "protocol": welcome.protocol,
        "version": welcome.version,
        "capture": welcome.capture,
        "request_id": welcome.request_id,
        "shadows": welcome.shadows,
        "refused": welcome.refused,
    }
    return frame(HELLO, 0, head)


def begin_frame(begin: Begin) -> bytes:
    head: dict[str, object] = {
        "id": begin.id,
        "record": begin.record,
        "at_ns": begin.at_ns,
        "age_ms": begin.age_ms,
        "method": begin.method,
        "target": begin.target.decode("latin-1"),
        "fields": _text_fields(begin.fields),
        "body_bytes": begin.body_bytes,
    }
    if begin.body_sha256 is not None:
        head["body_sha256"] = begin.body_sha256
    if begin.unfit is not None:
        head["unfit"] = begin.unfit.value
    if begin.shadows is not None:
        head["shadows"] = begin.shadows
    return frame(BEGIN, begin.key, head, begin.body, begin.pickle)


def end_frame(key: int, live: LiveLeg) -> bytes:
    head: dict[str, object] = {"total_ms": live.total_ms, "began_ms": live.began_ms}
    reply = live
    if isinstance(live, Failure):
        head["outcome"] = live.outcome.value
        head["error"] = live.error
        if live.reply is None:
            return frame(END, key, head)
        reply = live.reply
    assert isinstance(reply, Reply)
    head["status"] = reply.status
    head["fields"] = _text_fields(reply.fields)
    head["body_bytes"] = reply.body_bytes
    head["first_byte_ms"] = reply.first_byte_ms
    if reply.body_sha256 is not None:
        head["body_sha256"] = reply.body_sha256
    if reply.caller_left:
        head["caller_left"] = True
    return frame(END, key, head, reply.body, reply.arrivals)


def lost_frame(lost: Mapping[str, int]) -> bytes:
    return frame(LOST, 0, dict(lost))


def candidate_frame(candidate: Candidate) -> bytes:
    head = {
        "name": candidate.name,
        "thread": candidate.thread,
        "executable": candidate.executable,
        "path": candidate.path,
        "directory": candidate.directory,
        "main": candidate.main,
    }
    return frame(CANDIDATE, 0, head, b"", candidate.pickle)


def call_frame(call: Call) -> bytes:
    return frame(CALL, call.key, {"name": call.name, "seconds": call.seconds}, b"", call.pickle)


def result_frame(result: Result) -> bytes:
    return frame(RESULT, result.key, {"failed": result.failed}, result.body)


def _text_fields(fields: Fields) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]


# Reading.


class Decoder:
    """Cuts frames out of what arrives. `held` is how many bytes of an incomplete frame it keeps.

    `error` says what was wrong with the first frame that cannot be one: those before it are returned, and nothing of
    what comes later.
    """

    __slots__ = ("_most", "_needed", "_parts", "error", "held")

    def __init__(self, most: int = MOST) -> None:
        """`most` is how many bytes a frame may have, except a CANDIDATE: a callable may hold a whole model."""
        self.held = 0
        self.error: str | None = None
        self._most = most
        self._parts: list[bytes] = []
        self._needed = PREFIX

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
        self._needed = PREFIX
        while size - offset >= PREFIX:
            length = int.from_bytes(data[offset : offset + 4], "big")
            kind = data[offset + 4]
            if not HELLO <= kind <= RESULT or not _FIXED <= length <= (MOST if kind == CANDIDATE else self._most):
                self.error = f"no frame begins with kind {kind} and {length} bytes"
                break
            start = offset + PREFIX
            end = start + length
            if end > size:
                self._needed = end - offset
                break
            middle = start + _FIXED
            head_end = middle + int.from_bytes(data[start + 8 : start + 12], "big")
            body_end = head_end + int.from_bytes(data[start + 12 : middle], "big")
            if body_end > end or head_end - middle > HEAD_MOST:
                self.error = f"the parts of a frame of {length} bytes are longer than it"
                break
            key = int.from_bytes(data[start : start + 8], "big")
            frames.append(Frame(kind, key, data[middle:head_end], data[head_end:body_end], data[body_end:end]))
            offset = end
        if self.error is not None:
            self._parts, self.held = [], 0
        else:
            self.held = size - offset
            self._parts = [data[offset:size]] if self.held else []
        return frames


class _NotRead(Exception):
    """What a head says is not of the form."""


_Head: TypeAlias = dict[str, Any]


def hello_of(received: Frame) -> Hello | Malformed:
    try:
        head = _head(received)
        return Hello(_int(head, "protocol"), _int(head, "process"), _text(head, "version"))
    except _NotRead as why:
        return Malformed(f"HELLO: {why}")


def welcome_of(received: Frame) -> Welcome | Malformed:
    try:
        head = _head(received)
        shadows = _texts(head, "shadows")
        return Welcome(
            _int(head, "protocol"),
            _text(head, "version"),
            _int(head, "capture"),
            _text(head, "request_id"),
            shadows or (),
            _text_or_none(head, "refused"),
        )
    except _NotRead as why:
        return Malformed(f"HELLO: {why}")


def begin_of(received: Frame) -> Begin | Malformed:
    try:
        head = _head(received)
        id, record = _text_or_none(head, "id"), _text_or_none(head, "record")
        if id is not None and _SOUND_ID.fullmatch(id) is None:
            raise _NotRead("`id` is no request ID")
        if record is not None and _UUID.fullmatch(record) is None:
            raise _NotRead("`record` is no UUID")
        method = _text(head, "method")
        if _METHOD.fullmatch(method) is None:
            raise _NotRead("`method` is none")
        unfit = None if head.get("unfit") is None else _outcome(head, "unfit")
        if unfit is not None and unfit not in _UNFIT:
            raise _NotRead(f"`unfit` cannot be {unfit}")
        return Begin(
            received.key,
            id,
            record,
            _int(head, "at_ns"),
            _number(head, "age_ms"),
            method,
            _bytes(_text(head, "target")),
            _fields(head),
            received.body,
            _body_bytes(head, received.body),
            _text_or_none(head, "body_sha256"),
            unfit,
            _texts(head, "shadows"),
            received.rest,
        )
    except _NotRead as why:
        return Malformed(f"BEGIN: {why}")


def end_of(received: Frame) -> End | Malformed:
    try:
        head = _head(received)
        total_ms, began_ms = _number(head, "total_ms"), _number(head, "began_ms")
        reply: Reply | None = None
        if head.get("status") is not None:
            status = _int(head, "status")
            if not 100 <= status <= 999:
                raise _NotRead(f"`status` cannot be {status}")
            reply = Reply(
                status,
                _fields(head),
                received.body,
                _body_bytes(head, received.body),
                _number(head, "first_byte_ms"),
                total_ms,
                began_ms,
                _text_or_none(head, "body_sha256"),
                head.get("caller_left") is True,
                received.rest,
            )
        if head.get("outcome") is not None:
            outcome = _outcome(head, "outcome")
            if outcome is Outcome.OK:
                raise _NotRead("`outcome` is ok, and there is none for that")
            return End(received.key, Failure(outcome, _line(_text(head, "error")), total_ms, reply, began_ms))
        if reply is None:
            raise _NotRead("there is neither `status` nor `outcome`")
        return End(received.key, reply)
    except _NotRead as why:
        return Malformed(f"END: {why}")


def lost_of(received: Frame) -> dict[str, int] | Malformed:
    try:
        head = _head(received)
        return {reason: _int(head, reason) for reason in head}
    except _NotRead as why:
        return Malformed(f"LOST: {why}")


def candidate_of(received: Frame) -> Candidate | Malformed:
    try:
        head = _head(received)
        return Candidate(
            _text(head, "name"),
            head.get("thread") is True,
            _text(head, "executable"),
            _texts(head, "path") or (),
            _text(head, "directory"),
            _text(head, "main"),
            received.rest,
        )
    except _NotRead as why:
        return Malformed(f"CANDIDATE: {why}")


def call_of(received: Frame) -> Call | Malformed:
    try:
        head = _head(received)
        return Call(received.key, _text(head, "name"), _number(head, "seconds"), received.rest)
    except _NotRead as why:
        return Malformed(f"CALL: {why}")


def result_of(received: Frame) -> Result | Malformed:
    try:
        return Result(received.key, _text_or_none(_head(received), "failed"), received.body)
    except _NotRead as why:
        return Malformed(f"RESULT: {why}")


def _head(received: Frame) -> _Head:
    try:
        head = orjson.loads(received.head)
    except ValueError:
        raise _NotRead("its head is no JSON") from None
    if not isinstance(head, dict):
        raise _NotRead("its head is no object")
    return head


def _text(head: _Head, name: str) -> str:
    value = head.get(name)
    if not isinstance(value, str):
        raise _NotRead(f"`{name}` is no text")
    return value


def _text_or_none(head: _Head, name: str) -> str | None:
    return None if head.get(name) is None else _text(head, name)


def _int(head: _Head, name: str) -> int:
    value = head.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _NotRead(f"`{name}` is no number")
    return value


def _number(head: _Head, name: str) -> float:
    value = head.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _NotRead(f"`{name}` is no number")
    return float(value)


def _texts(head: _Head, name: str) -> tuple[str, ...] | None:
    value = head.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _NotRead(f"`{name}` is no list of texts")
    return tuple(value)


def _outcome(head: _Head, name: str) -> Outcome:
    try:
        return Outcome(_text(head, name))
    except ValueError:
        raise _NotRead(f"`{name}` is no outcome") from None


def _bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise _NotRead("a text has characters that are no bytes") from None


def _fields(head: _Head) -> Fields:
    value = head.get("fields")
    if not isinstance(value, list):
        raise _NotRead("`fields` is no list")
    fields = []
    for each in value:
        if not isinstance(each, list) or len(each) != 2 or not isinstance(each[0], str) or not isinstance(each[1], str):
            raise _NotRead("a field is no pair of texts")
        fields.append((_bytes(each[0]), _bytes(each[1])))
    return tuple(fields)


def _body_bytes(head: _Head, body: bytes) -> int:
    size = _int(head, "body_bytes")
    if size < len(body):
        raise _NotRead("`body_bytes` is less than came of the body")
    return size


def _line(text: str) -> str:
    return " ".join(text.split())
