"""Makes frames, with one function for each kind."""

import struct
from collections.abc import Mapping
from typing import Final

import orjson

from shadowproxy.exchange import Failure, Fields, LiveLeg, Reply
from shadowproxy.intake_frames.decoder import FIXED
from shadowproxy.intake_frames.messages import (
    BEGIN,
    CALL,
    CANDIDATE,
    END,
    HELLO,
    LOST,
    RESULT,
    Begin,
    Call,
    Candidate,
    Hello,
    Result,
    Welcome,
)

_PREFIX: Final = struct.Struct(">IBQII")


def frame(kind: int, key: int = 0, head: object = None, body: bytes = b"", rest: bytes = b"") -> bytes:
    """One frame. `head` is an object for JSON, None for an empty one; numbers must fit. Raises TypeError otherwise."""
    return packed(kind, key, b"{}" if head is None else orjson.dumps(head), body, rest)


def packed(kind: int, key: int, head: bytes, body: bytes = b"", rest: bytes = b"") -> bytes:
    """One frame, of a head that is JSON already."""
    length = FIXED + len(head) + len(body) + len(rest)
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
