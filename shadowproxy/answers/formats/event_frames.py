"""Amazon's event stream (`application/vnd.amazon.eventstream`), as SageMaker and Bedrock stream answers.

Source: the Smithy specification of the encoding; tried on frames that botocore 1.44.8 reads. A frame has its length,
the length of its headers, a CRC of both, the headers, a payload, and a CRC of all that. SageMaker's `PayloadPart`
frames are pieces of one body, which may end in the middle of a line; Bedrock's `chunk` frames hold a JSON event
each, in base64. A frame whose `:message-type` is `exception` or `error` reports a failure (`ModelStreamError`).

Only the frames' own lengths and CRCs show that a stream was cut: boto3 takes one for whole that ends within a frame.
"""

import base64
import binascii
from typing import Any, Final, NamedTuple
from zlib import crc32

from shadowproxy.answers.formats.refusals import Malformed
from shadowproxy.answers.texts import UNREADABLE, json_in
from shadowproxy.budget import Budget, read_json

MEDIA: Final = frozenset({"application/vnd.amazon.eventstream"})

_PRELUDE: Final = 12
_LEAST: Final = 16
_HELD: Final = 400  # bytes of memory of a frame
_STEPS: Final = 20  # of a frame, and of each header
_WIDTHS: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The bytes of a header's value, by its type; types 6 and 7 have two bytes of its length."""
_TEXT: Final = 7
_BYTES: Final = 6


class Frame(NamedTuple):
    """One frame: the texts among its headers, its payload, and where in the body it ends."""

    headers: dict[str, str]
    payload: bytes
    end: int


class Frames(NamedTuple):
    """The frames of a stream. `cut` says why the rest of its bytes is no frame, if there is a rest."""

    frames: list[Frame]
    cut: str | None


def begins_with_frame(raw: bytes) -> bool:
    """Whether a body begins as a frame does: with two lengths and the CRC of them."""
    return (
        len(raw) >= _PRELUDE
        and int.from_bytes(raw[:4], "big") >= _LEAST
        and crc32(raw[:8]) == int.from_bytes(raw[8:12], "big")
    )


def read(raw: bytes, budget: Budget) -> Frames:
    """The frames, up to the first that is cut or broken."""
    frames: list[Frame] = []
    at = 0
    view = memoryview(raw)
    while at < len(raw):
        budget.spend(_STEPS)
        budget.hold(_HELD)
        left = len(raw) - at
        size = int.from_bytes(raw[at : at + 4], "big")
        if left < _PRELUDE or (left < size and begins_with_frame(raw[at : at + _PRELUDE])):
            return Frames(frames, "its last frame is cut")
        if not begins_with_frame(raw[at : at + _PRELUDE]):
            return Frames(frames, "a frame has a wrong checksum")
        end = at + size
        budget.spend_bytes(4 * size)
        if crc32(view[at : end - 4]) != int.from_bytes(raw[end - 4 : end], "big"):
            return Frames(frames, "a frame has a wrong checksum")
        body = at + _PRELUDE + int.from_bytes(raw[at + 4 : at + 8], "big")
        if body > end - 4:
            return Frames(frames, "a frame has headers beyond its end")
        headers = _headers(raw[at + _PRELUDE : body], budget)
        if headers is None:
            return Frames(frames, "a frame has headers that cannot be read")
        budget.hold(end - body)
        frames.append(Frame(headers, raw[body : end - 4], end))
        at = end
    return Frames(frames, None)


def _headers(raw: bytes, budget: Budget) -> dict[str, str] | None:
    """The headers that are texts; None if they are no headers."""
    found: dict[str, str] = {}
    at = 0
    while at < len(raw):
        budget.spend(_STEPS)
        budget.hold(_HELD)
        start = at + 1 + raw[at]
        if start >= len(raw):
            return None
        name, kind = raw[at + 1 : start], raw[start]
        value = start + 1
        if kind in (_TEXT, _BYTES):
            value += 2
            at = value + int.from_bytes(raw[start + 1 : value], "big")
        elif kind in _WIDTHS:
            at = value + _WIDTHS[kind]
        else:
            return None
        if at > len(raw):
            return None
        if kind == _TEXT:
            found[name.decode("utf-8", "replace")] = raw[value:at].decode("utf-8", "replace")
    return found


def failure_in(frames: list[Frame], budget: Budget) -> Any:
    """What the first frame that reports a failure says; None if there is none."""
    for frame in frames:
        kind = frame.headers.get(":message-type")
        if kind in ("exception", "error"):
            name = frame.headers.get(":exception-type") or frame.headers.get(":error-code") or kind
            said = json_of(frame.payload, budget)
            message = said if isinstance(said, dict) else frame.headers.get(":error-message")
            if isinstance(message, dict):
                message = message.get("OriginalMessage") or message.get("Message") or message.get("message") or message
            return {"type": name, "message": message}
    return None


def json_of(payload: bytes, budget: Budget) -> Any:
    """A payload as its JSON, or as its text."""
    read_json(budget, payload)
    text = payload.decode("utf-8", "backslashreplace")
    value = json_in(text)
    return text if value is UNREADABLE else value


def events_in(frames: list[Frame], budget: Budget) -> list[tuple[str, Any]]:
    """The events of frames that are one each: their type, and what they say. Bedrock's `chunk` is what it holds."""
    found: list[tuple[str, Any]] = []
    for frame in frames:
        if not is_event(frame):
            continue
        name = frame.headers.get(":event-type", "")
        said = json_of(frame.payload, budget)
        if name == "chunk" and isinstance(said, dict) and isinstance(inner := said.get("bytes"), str):
            try:
                said = json_of(base64.b64decode(inner, validate=True), budget)
            except (binascii.Error, ValueError):
                raise Malformed("a chunk holds no base64") from None
            name = ""
        found.append((name, said))
    return found


def is_event(frame: Frame) -> bool:
    """Whether a frame is an event, and reports no failure."""
    return frame.headers.get(":message-type", "event") == "event"


def is_part(frame: Frame) -> bool:
    """Whether a frame is a part of the body that SageMaker's parts make together."""
    return frame.headers.get(":event-type") == "PayloadPart"


def inner_of(frame: Frame, budget: Budget) -> bytes:
    """What an event says, as JSON: Bedrock's `chunk` holds it in base64. Empty if it holds no base64."""
    if frame.headers.get(":event-type") != "chunk":
        return frame.payload
    value = json_of(frame.payload, budget)
    try:
        return base64.b64decode(value["bytes"]) if isinstance(value, dict) else b""
    except (KeyError, TypeError, ValueError):
        return b""


def body_in(frames: list[Frame]) -> bytes | None:
    """The body that SageMaker's parts make together; None if there is no part."""
    parts = [frame.payload for frame in frames if is_part(frame)]
    return b"".join(parts) if parts else None
