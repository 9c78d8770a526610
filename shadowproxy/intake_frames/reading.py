"""Reads frames. One of the wrong form becomes `Malformed`, with the reason; nothing here raises."""

import re
from typing import Any, Final, TypeAlias

import orjson

from shadowproxy.exchange import Failure, Fields, Outcome, Reply
from shadowproxy.intake_frames.messages import Begin, Call, Candidate, End, Frame, Hello, Malformed, Result, Welcome

_UNFIT: Final = frozenset({Outcome.OVERSIZE, Outcome.OVERLOAD})
_SOUND_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")


class _NotRead(Exception):
    """A head that has not the right form."""


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
            raise _NotRead("`method` is not a method")
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
                raise _NotRead("`outcome` is ok without a reply")
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
