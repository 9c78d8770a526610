"""Text from a stranger made safe to print: what would move the cursor, colour or reverse a line is spelt out."""

import json
import re
from typing import Any, Final

from shadowproxy.record import Body

# C0 but tab and newline, DEL and C1 (a terminal obeys them as it does ESC [), and the marks that reorder a line.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


# Without the search for circles, which nothing read from JSON has: told of every request, of which the report counts
# whether it came before.
_written: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


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


def told(body: Body, longest: int = 1000) -> str | None:
    """A body in at most `longest` characters, or None where there is none to tell."""
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
