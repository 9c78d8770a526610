"""Bodies of several parts (`multipart/form-data`, `multipart/mixed`), in requests and in answers.

Source: RFC 2046 section 5.1 and RFC 7578; tried on bodies of httpx 0.28 and of Python's email package. The delimiter is
new in each message, so it is no part of the result.
"""

import re
from typing import Final, NamedTuple

from shadowproxy.answers.formats.refusals import Malformed
from shadowproxy.budget import Budget

_MOST_PARTS: Final = 1000
_MOST_FIELDS: Final = 50
_LONGEST_BOUNDARY: Final = 200  # RFC 2046 allows 70
_HELD: Final = 1000  # bytes of memory of a part
_STEPS: Final = 100
_BOUNDARY: Final = re.compile(r'(?i);\s{0,20}boundary=(?:"([^"]{1,200})"|([^;\s"]{1,200}))')
_NAME: Final = re.compile(r'(?i);\s{0,20}name="((?:[^"\\]|\\.){0,400})"')
_FIRST_LINE: Final = re.compile(rb"--([^\r\n]{1,200})\r\n")


class Part(NamedTuple):
    """One part: its name in a form ("" if it has none), its header fields, and its bytes."""

    name: str
    headers: dict[str, str]
    raw: bytes


class Parts(NamedTuple):
    """The parts of a body. `cut` says that its last delimiter did not come."""

    parts: list[Part]
    cut: str | None


def boundary_of(content_type: str, raw: bytes) -> bytes | None:
    """What delimits the parts: as the Content-Type names it, or as the first and the last line show it."""
    if content_type.lower().lstrip().startswith("multipart/"):
        found = _BOUNDARY.search(content_type)
        if found is not None:
            return (found[1] or found[2]).encode("latin-1", "replace")
    first = _FIRST_LINE.match(raw)
    if first is not None and raw[-_LONGEST_BOUNDARY - 8 :].rstrip(b"\r\n").endswith(b"\r\n--" + first[1] + b"--"):
        return first[1]
    return None


def read(raw: bytes, boundary: bytes, budget: Budget) -> Parts:
    """The parts between the delimiters."""
    budget.spend_bytes(8 * len(raw))
    budget.hold(len(raw))
    delimiter = b"\r\n--" + boundary
    whole = b"\r\n" + raw
    at = whole.find(delimiter)
    if at < 0:
        raise Malformed("its boundary does not occur")
    parts: list[Part] = []
    while True:
        start = at + len(delimiter)
        if whole[start : start + 2] == b"--":
            return Parts(parts, None)
        end = whole.find(delimiter, start)
        if end < 0:
            parts.append(_part(whole[start:], budget))
            return Parts(parts, "its last boundary did not come")
        if len(parts) >= _MOST_PARTS:
            raise Malformed(f"it has more than {_MOST_PARTS} parts")
        parts.append(_part(whole[start:end], budget))
        at = end


def _part(raw: bytes, budget: Budget) -> Part:
    budget.spend(_STEPS)
    budget.hold(_HELD)
    start = raw.find(b"\r\n")
    head, gap, body = raw[max(0, start) :].partition(b"\r\n\r\n")
    if not gap:
        head, body = b"", raw[start + 2 :] if start >= 0 else b""
    headers: dict[str, str] = {}
    for line in head[: 64 << 10].split(b"\r\n")[: _MOST_FIELDS + 1]:
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    found = _NAME.search(headers.get("content-disposition", ""))
    return Part("" if found is None else found[1], headers, body)
