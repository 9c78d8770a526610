"""Makes untrusted text safe to print: characters that move the cursor, colour or reverse a line are spelt out."""

import json
import re
from typing import Any, Final, TypeAlias

import orjson

from shadowproxy.record import Body

# C0 but tab and newline, DEL and C1 (a terminal obeys them as it does ESC [), and the marks that reorder a line.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


# Without the search for circles: JSON has none, and the report writes every request's body to see whether it repeats.
_written_by_python: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


_UNCUT: Final = 1_000_000  # longer than what a difference or a line of a body holds


Parts: TypeAlias = tuple[str, str, str]
"""A text in three parts: what is equal, what differs, and what is equal again."""


def visible(text: str) -> str:
    """`text` with every acting character as its escape, such as \\x1b or \\u202e. Tabs and newlines stay."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(value: Any, longest: int = 60) -> str:
    """A JSON value on one line, cut at `longest` characters."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    else:
        try:
            text = json.dumps(value, ensure_ascii=False, default=str)
        except (ValueError, RecursionError):
            text = f"{type(value).__name__} too deep to show"
    text = visible(text.replace("\t", "\\t"))
    return text if len(text) <= longest else text[: longest - 1] + "…"


MISSING: Final = "missing"
"""Shown for a member that one of two answers lacks; `null` would be a value."""


_NO_FAILURE: Final = "an answer"


def sides(kind: str, live: Any, shadow: Any, longest: int = 60) -> tuple[str, str]:
    """Both sides of a difference, each on one line and in at most `longest` characters.

    Long ones are cut around the first character that differs, so that both show it.
    """
    if kind == "missing":
        return one_line(live, longest), MISSING
    if kind == "extra":
        return MISSING, one_line(shadow, longest)
    if kind == "failed":
        return (_NO_FAILURE if live is None else one_line(live, longest)), (
            _NO_FAILURE if shadow is None else one_line(shadow, longest)
        )
    if kind == "length":
        return f"{live} elements", f"{shadow} elements"
    return cut_together(one_line(live, _UNCUT), one_line(shadow, _UNCUT), longest)


def cut_together(one: str, other: str, longest: int) -> tuple[str, str]:
    """Two texts in at most `longest` characters each, cut around the first character that differs."""
    if max(len(one), len(other)) <= longest:
        return one, other
    part = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, part - longest // 3)
    return _window(one, start, longest), _window(other, start, longest)


def parts(one: str, other: str) -> tuple[Parts, Parts]:
    """Two texts, each with the part in which it differs from the other."""
    most = min(len(one), len(other))
    start = next((at for at in range(most) if one[at] != other[at]), most)
    end = next((at for at in range(most - start) if one[-1 - at] != other[-1 - at]), most - start)
    return _in_parts(one, start, end), _in_parts(other, start, end)


def _in_parts(text: str, start: int, end: int) -> Parts:
    return text[:start], text[start : len(text) - end], text[len(text) - end :]


def _window(text: str, start: int, longest: int) -> str:
    if start:
        text = "…" + text[start + 1 :]
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _written(value: Any) -> str:
    """JSON as Python writes it. orjson, which takes a tenth of the time, does it where it writes the same.

    It may not where it writes null, also for NaN; 0.00001, for 1e-05; and 1e-9, for 1e-09. (In a text these mean
    nothing, and cost no more than time.) Raises ValueError or RecursionError if it is nested too deeply.
    """
    try:
        raw = orjson.dumps(value)
    except orjson.JSONEncodeError:  # half a surrogate pair, or an integer beyond 64 bits, or nested deeply
        return _written_by_python(value)
    if b"null" in raw or b"0.0000" in raw or b"e-" in raw:
        return _written_by_python(value)
    return raw.decode()


def body_text(body: Body, longest: int = 1000) -> str | None:
    """A body as text, in at most `longest` characters; None if it is neither JSON nor text."""
    if body.kind == "text":
        text: str = body.value
    elif body.kind == "json":
        try:
            text = _written(body.value)
        except (ValueError, RecursionError):
            return None
    else:
        return None
    text = text if len(text) <= longest else text[:longest] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
