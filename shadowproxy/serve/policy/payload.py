"""Reads the JSON of a request's body on the event loop, decoded, within bounds on the time that takes.

Parsing holds the loop, and so delays every caller. A body over a bound is not read: NotRead says why.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from shadowproxy.content import Undecodable, decoded
from shadowproxy.exchange import Field, Request

LONGEST = 4 << 20
"""The most bytes of JSON that are read. They take 11 ms, most of it for counting and checking UTF-8."""

LONGEST_CODED = 1 << 20
"""The most bytes that a coded body may decode to: 4 ms of gzip."""

VALUES = 50_000
"""The most values that it may hold, counted by its commas; a string, key, array or object counts as 8 or 16. Most
mixtures take 3 ms; a pointer to the end of an array of so many numbers takes 20 ms."""


class NotRead(Exception):
    """A body that is not read as JSON. The message says why."""


class NotJson(NotRead):
    """A body that was parsed and is not JSON: an empty one, a form, an image."""


class JsonBody:
    """The JSON of one request's body. It is parsed when it is first needed, and only once."""

    __slots__ = ("_read", "_request", "_value", "_why")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._read = False
        self._value: Any = None
        self._why: NotRead | None = None

    def value(self) -> Any:
        """The body's value. Raises NotRead, at each call, if the body is not read."""
        if not self._read:
            self._read = True
            try:
                self._value = self._parsed()
            except NotRead as error:
                self._why = error
        if self._why is not None:
            raise self._why
        return self._value

    def _parsed(self) -> Any:
        request = self._request
        if len(request.body) != request.body_bytes:
            raise NotRead("it is longer than limits.capture")
        return json_value(request.fields, request.body)


def json_text(fields: Iterable[Field], body: bytes) -> bytes:
    """The JSON text of a body, without its content codings. NaN and the infinities are accepted. Raises NotRead."""
    text = _plain(fields, body)
    value(text)
    return text


def json_value(fields: Iterable[Field], body: bytes) -> Any:
    """The value of a body's JSON. Raises NotRead."""
    return value(_plain(fields, body))


def _plain(fields: Iterable[Field], body: bytes) -> bytes:
    codings = b",".join(value for name, value in fields if name.lower() == b"content-encoding")
    if len(body) > LONGEST:
        raise NotRead(f"it is longer than {LONGEST >> 20} MiB")
    if codings:
        try:
            body = decoded(body, codings.decode("latin-1"), LONGEST_CODED)
        except Undecodable as error:
            raise NotRead(f"it cannot be decoded: {error}") from error
    opened = body.count(b"[") + body.count(b"{")
    if body.count(b",") + 8 * (body.count(b'"') - body.count(b'\\"')) + 8 * opened > VALUES:
        raise NotRead("it holds too many values")
    return body


def value(text: bytes) -> Any:
    """The value of a JSON text. Strict at first; Python's slower parser then accepts what Python's writer produces."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text.decode("utf-8-sig"), parse_int=str)  # int() refuses over 4300 digits
    except (ValueError, RecursionError):
        raise NotJson("it is not JSON") from None


def child(value: Any, token: str) -> Any:
    """The value at one step of a JSON pointer (RFC 6901 section 4). Raises LookupError if it has no such step."""
    if isinstance(value, dict):
        return value[token]
    if isinstance(value, list) and token.isascii() and token.isdigit() and (token == "0" or token[0] != "0"):
        return value[int(token)] if len(token) < 10 else value[len(value)]
    raise LookupError(token)


def value_at(value: Any, tokens: Sequence[str]) -> Any:
    """The value that a JSON pointer leads to. Raises LookupError if it leads nowhere."""
    for token in tokens:
        value = child(value, token)
    return value


def text_of(value: Any) -> str | None:
    """A string as it is, any other value as JSON. None if the value cannot be written."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # half a surrogate pair, or nested deeper than orjson writes: Python's own writer accepts more
        try:
            return json.dumps(value, separators=(",", ":"))
        except RecursionError:
            return None
