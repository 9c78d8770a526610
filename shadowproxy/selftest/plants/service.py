"""A shadow that fails, rejects or is slow."""

from struct import pack
from typing import Any, Final
from zlib import crc32

from shadowproxy.answers import content_of
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, RecordedLeg
from shadowproxy.selftest.plants.fault import Case, Fault, Known, always, with_status

_ERROR_EVENT: Final = 'event: error\ndata: {"error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n'
_REJECTED: Final[dict[str, Any]] = {
    "detail": [{"type": "missing", "loc": ["body", "currency"], "msg": "Field required"}]
}


def _timeout(case: Case) -> RecordedLeg:
    return RecordedLeg(Outcome.TIMEOUT, error="no answer in time", total_ms=20 * (case.known.slow or 100.0))


def _reset(case: Case) -> RecordedLeg:
    return RecordedLeg(Outcome.PROTOCOL_ERROR, error="the connection was reset", total_ms=case.live.total_ms)


def _slow(case: Case) -> RecordedLeg | None:
    slow = case.known.slow
    if slow is None or case.live.total_ms is None:
        return None
    return case.live._replace(total_ms=max(2 * slow, case.live.total_ms), judgement=None)


def _error_event(case: Case) -> RecordedLeg | None:
    """The stream as far as its middle, then the event."""
    body = case.live.body
    if content_of(case.live).stream is None or body is None:
        return None
    if isinstance(body.value, bytes):
        raw = _with_error_frame(body.value)
        return case.live._replace(body=Body("bytes", raw, len(raw)), judgement=None)
    if not isinstance(body.value, str):
        return None
    events = body.value.split("\n\n")
    text = "\n\n".join([*events[: max(1, len(events) // 2)], _ERROR_EVENT])
    headers = {"content-type": "text/event-stream"}
    return case.live._replace(headers=headers, body=Body("text", text, len(text)), judgement=None)


def _with_error_frame(raw: bytes) -> bytes:
    """The frames of Amazon's event stream up to its middle, then an exception."""
    at, size = 0, 0
    while at + size <= len(raw) // 2:
        at += size
        size = int.from_bytes(raw[at : at + 4], "big")
        if size < _LEAST_FRAME:
            break
    return raw[:at] + _ERROR_FRAME


def _frame(payload: bytes, **named: str) -> bytes:
    texts = [(f":{name}".replace("_", "-").encode(), text.encode()) for name, text in named.items()]
    written = b"".join(pack(">B", len(name)) + name + pack(">BH", 7, len(text)) + text for name, text in texts)
    head = pack(">II", _LEAST_FRAME + len(written) + len(payload), len(written))
    whole = head + pack(">I", crc32(head)) + written + payload
    return whole + pack(">I", crc32(whole))


_LEAST_FRAME: Final = 16
_ERROR_FRAME: Final = _frame(
    b'{"ErrorCode": "ModelInvocationTimeExceeded", "Message": "too long"}',
    exception_type="ModelStreamError",
    message_type="exception",
)


def _timed(known: Known) -> bool:
    return known.slow is not None


def _streams(known: Known) -> bool:
    return known.streams


FAULTS: Final = (
    Fault(
        "status 500",
        "errors",
        always,
        lambda case: with_status(case, 500, {"error": "ValueError: input has 7 features, 8 are expected"}),
    ),
    Fault("status 422", "flips", always, lambda case: with_status(case, 422, _REJECTED)),
    Fault("the connection is reset", "errors", always, _reset),
    Fault("no answer within the time allowed", "errors", always, _timeout),
    Fault("twice as slow as live's slowest 1 %", "latency", _timed, _slow),
    Fault("a stream ends in an error event", "errors", _streams, _error_event),
)
