"""A message with what is of one request only masked, so that equal failures read the same and can be counted together.

`input row 17: 'abc'` becomes `input row #: '…'`. Numbers, quoted text, lists and objects (servers repeat the caller's
input in them), UUIDs, digests, long tokens, mail and network addresses and credentials are masked: a report is read by
more people than the log is. What is left is one line of bounded length.
"""

import re
from typing import Final

LONGEST: Final = 160
"""Characters of a masked message."""

_READ: Final = 2000  # characters of a message that are masked at all

_CREDENTIAL: Final = re.compile(
    r"(?i)\b(authorization|bearer|basic|token|api[_-]?key|apikey|password|passwd|pwd|secret|credentials?|access[_-]?key|signature)"
    r"(\s{0,3}[:=]\s{0,3}(?:(?:bearer|basic)\s{1,3})?|\s{1,3}(?=\S{0,200}[\d_=-]))[^\s,;'\"&)\]}]{2,}"
)
_URL_PARTS: Final = re.compile(
    r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)(?:[^\s/?#@'\"<>]{1,200}@)?([^\s?#'\"<>]{0,300})(?:[?#][^\s'\"<>]{0,500})?"
)
_MAIL: Final = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}")
_UUID: Final = re.compile(r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_QUOTED: Final = re.compile(
    r"(?<!\w)'(?:[^'\\]|\\.)*(?:'(?!\w)|\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\Z)|`[^`]*(?:`|\Z)|“[^”]*(?:”|\Z)|‘[^’]*(?:’|\Z)"
)
_TOKEN: Final = re.compile(r"(?<![\w+/=.-])(?=[\w+/=.-]{0,200}\d)[\w+/=.-]{20,}|(?<!\w)[A-Za-z0-9+/_=-]{40,}")
_HEX: Final = re.compile(r"(?i)\b(?:0x[0-9a-f]+|(?=[0-9a-f]{0,64}\d)(?=[0-9a-f]{0,64}[a-f])[0-9a-f]{8,})\b")
_NAMED_BY_NUMBER: Final = re.compile(
    r"(?i)\b((?:u?int|float|bfloat|fp|bf|complex|datetime|utf-?|base|sha|md|http/|python|iso-?|latin-?)\d+(?:\.\d+)?(?:e\dm\d)?)\b"
)
_NUMBER: Final = re.compile(r"\d+(?:[.,:_]\d+)*(?:[eE][+-]?\d+)?")
_SIGNED: Final = re.compile(r"(?<![\w#])[-+]#")
_SHORT_NOTE: Final = re.compile(r"[A-Za-z][A-Za-z ]{0,20}#?\Z")


def masked(message: str) -> str:
    """A message masked, on one line, of at most `LONGEST` characters."""
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in message[:_READ]).split())
    text = _URL_PARTS.sub(r"\1\2", text)
    text = _CREDENTIAL.sub(r"\1\2…", text)
    text = _QUOTED.sub(_quotes, text)
    text = _MAIL.sub("…@…", text)
    text = _UUID.sub("#", text)
    text = _TOKEN.sub("…", text)
    text = _HEX.sub("#", text)
    text = "".join(
        part if at % 2 else _SIGNED.sub("#", _NUMBER.sub("#", part))
        for at, part in enumerate(_NAMED_BY_NUMBER.split(text))
    )
    text = _without_input(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def _quotes(found: re.Match[str]) -> str:
    opened = found[0][0]
    return f"{opened}…{ {'“': '”', '‘': '’'}.get(opened, opened) }"


def _without_input(text: str) -> str:
    """What stands in brackets and braces, which is mostly the caller's input, left out; but for a short note such as
    `[Errno #]`. One that is never closed reaches to the end."""
    made: list[str] = []
    depth = start = 0
    for at, sign in enumerate(text):
        if sign in "[{":
            if not depth:
                start = at
            depth += 1
        elif sign in "]}" and depth:
            depth -= 1
            if not depth:
                inside = text[start + 1 : at]
                kept = not inside or _SHORT_NOTE.match(inside) is not None
                made.append(text[start : at + 1] if kept else f"{text[start]}…{sign}")
        elif not depth:
            made.append(sign)
    if depth:
        made.append(f"{text[start]}…")
    return "".join(made)
