"""Decides what an answer's body is, for comparing, counting and showing alike.

| Body | is |
|---|---|
| JSON, under any Content-Type (Triton sends it as text/plain, Flask as text/html) | json |
| JSON with NaN or Infinity in it, as Python's servers write it, and all else that may have these | json, `lenient` |
| server-sent events | json: the one answer that they are put together to (`streams`) |
| lines of JSON (`x-ndjson`, `jsonlines`; several under any type) | json: likewise, or the list of their values |
| CSV; a number or rows of numbers under any type | json: rows, cells or the number (`formats/comma_separated`) |
| npy, Open Inference tensors, MessagePack, multipart, event frames, Arrow, Parquet | json, with leaves (`formats`) |
| other text | text |
| images, sounds, anything that is not text or could not be decoded | bytes |
| nothing | empty |
| cut, hashed, left out, or too much to read | unknown, with the reason |

A JSON text that is neither object nor array (`"late"`) is JSON only if its Content-Type says so.
"""

import codecs
import re
from typing import Any, Final

from shadowproxy.answers.binary import may_be_format, names_format, of_format, of_media
from shadowproxy.answers.contents import Content as Content
from shadowproxy.answers.contents import Fields, media_type
from shadowproxy.answers.contents import field_value as field_value
from shadowproxy.answers.embeddings import with_leaves
from shadowproxy.answers.formats import comma_separated
from shadowproxy.answers.formats.refusals import FormatError
from shadowproxy.answers.left_out import WHY, left_out_by
from shadowproxy.answers.sse import events_of, looks_like_events, names_no_field
from shadowproxy.answers.streams import of_events, of_lines
from shadowproxy.answers.texts import UNREADABLE, json_in, lines_in, names_constants, plain_value
from shadowproxy.budget import Budget, Exhausted, read_json_text
from shadowproxy.content import names_events, names_lines
from shadowproxy.record import Body, RecordedLeg


def content_of(answer: RecordedLeg, budget: Budget | None = None) -> Content:
    """The content of an answer's body; unknown if the log has not the whole body, or if reading it costs too much."""
    if answer.body is None:
        return Content("unknown", why="no body in the record")
    return content_in(answer.body, answer.headers, budget)


def content_in(body: Body, headers: Fields, budget: Budget | None = None) -> Content:
    """The same for a body, of an answer or of a request, and the header fields beside it."""
    if (setting := left_out_by(body)) is not None:
        return Content("unknown", why=WHY[setting])
    if body.kind == "json":
        return of_json(body.value)
    if body.kind == "none":
        return Content("empty") if body.size == 0 else Content("unknown", why=WHY["log.bodies"])
    if not body.value:
        return Content("empty")
    if body.coding is not None:
        return Content("bytes", body.value)
    try:
        if body.kind == "bytes":
            return _of_bytes(body.value, headers, budget or Budget(), 0)
        return _of_text(body.value, headers, budget or Budget(), 0)
    except Exhausted as why:
        return Content("unknown", why=f"not read, as {why}")


def value_in(body: Body, headers: Fields, budget: Budget | None = None) -> Any:
    """The value of a body, such as a request's; None if it has none, or is not known."""
    if body.kind == "json":
        return None if body.truncated else body.value
    if body.kind == "none" or body.truncated:
        return None
    content = content_in(body, headers, budget)
    return content.value if content.kind == "json" else None


def of_json(value: Any, *, lenient: bool = False) -> Content:
    """The content of a JSON value."""
    made = with_leaves(value)
    return Content("json", made, lenient, format="json", leaves=made is not value)


def _of_bytes(raw: bytes, headers: Fields, budget: Budget, depth: int) -> Content:
    """The content of bytes: what UTF-8 or the charset that they come under makes a text of is read as one."""
    named = field_value(headers, "content-type")
    found = of_format(raw, named, headers, budget, depth, _inner)
    if found is not None:
        return found
    text = _decoded(raw, named, budget)
    if text is not None:
        return _of_text(text, headers, budget, depth)
    return of_media(raw, named, budget)


def _inner(raw: bytes, headers: Fields, budget: Budget, depth: int) -> Content:
    """The content of bytes that stand in a body: a part of it, or all that its frames carry."""
    if not raw:
        return Content("empty")
    budget.spend_bytes(4 * len(raw))
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return _of_bytes(raw, headers, budget, depth)
    return _of_text(text, headers, budget, depth)


_CHARSET: Final = re.compile(r'(?i);\s{0,20}charset\s{0,20}=\s{0,20}"?([\w.:-]{1,40})')
_TEXTS: Final = re.compile(r"(?i)\s{0,20}(?:text/|application/(?:json|xml|javascript|csv|[\w.-]{1,80}\+(?:json|xml)))")
_MARKS: Final = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def _decoded(raw: bytes, named: str, budget: Budget) -> str | None:
    """Bytes that are no UTF-8 as the text that their charset, or a byte order mark, makes of them; None without one."""
    charset = _CHARSET.search(named)
    coding = charset[1] if charset is not None else ""
    if not coding and (not named or _TEXTS.match(named)):
        coding = next((coding for mark, coding in _MARKS if raw.startswith(mark)), "")
    if not coding:
        return None
    budget.spend_bytes(16 * len(raw))
    budget.hold(4 * len(raw))
    try:
        known = codecs.lookup(coding)
        # "rot13" and "hex" are codecs too, and no charsets; "zip" would blow a body up.
        return raw.decode(known.name) if getattr(known, "_is_text_encoding", False) else None
    except (LookupError, ValueError):
        return None


def _of_text(text: str, headers: Fields, budget: Budget, depth: int) -> Content:
    named = field_value(headers, "content-type")
    budget.spend_bytes(4 * len(text))
    if may_be_format(text, named, headers):
        # Tensors of small numbers and much else are valid UTF-8 by chance.
        budget.hold(len(text))
        found = of_format(text.encode("utf-8", "surrogatepass"), named, headers, budget, depth, _inner)
        if found is not None:
            return found if found.kind != "bytes" else found._replace(kind="text", value=text)
    if names_events(named) or looks_like_events(text):
        read_json_text(budget, text)
        events = list(events_of(text, budget))
        if events or not (_may_be_json(text, named) or names_no_field(text, budget)):
            stream = of_events(events)
            return Content("json", stream.value, stream=stream, format="events")
    if names_lines(named) and (values := lines_in(text, strict=False, budget=budget)):
        return _of_lines(values, text)
    if _may_be_json(text, named):
        read_json_text(budget, text)
        value = json_in(text)
        if value is not UNREADABLE:
            return of_json(value, lenient=names_constants(text))
        values = lines_in(text, strict=True, budget=budget)
        if len(values) > 1:
            return _of_lines(values, text)
    return _of_plain(text, named, budget)


def _of_lines(values: list[Any], text: str) -> Content:
    stream = of_lines(values)
    return Content("json", stream.value, lenient=names_constants(text), stream=stream, format="lines")


def _of_plain(text: str, named: str, budget: Budget) -> Content:
    """Rows of cells, a number, or a text."""
    number = plain_value(text) if len(text) <= _LONGEST_NUMBER else text
    if not isinstance(number, str):
        return Content("json", number, True, format="number")
    media = media_type(named)
    if media in comma_separated.MEDIA:
        try:
            rows, warning = comma_separated.read(text, named, budget)
        except FormatError as why:
            return Content("text", text, format="csv", broken=f"not CSV: {why}")
        return Content("json", rows, True, format="csv", warnings=() if warning is None else (warning,))
    try:
        numbers = comma_separated.numbers_in(text, budget)
    except FormatError:
        numbers = None
    if numbers is not None:
        return Content("json", numbers, True, format="csv")
    warnings = ("named JSON, and is not",) if "json" in media else ()
    if not warnings and names_format(media):
        warnings = (f"named {media}, and is a text",)
    return Content("text", text, format="text", warnings=warnings)


_LONGEST_NUMBER: Final = 200  # characters, with the blanks around it


def _may_be_json(text: str, named: str) -> bool:
    return "json" in named.lower() or text[:200].lstrip("\ufeff \t\r\n")[:1] in ("{", "[")
