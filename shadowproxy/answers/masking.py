"""Masks the parts of a message that belong to one request, so that equal failures read the same and are counted
together.

`input row 17: 'abc'` becomes `input row #: '…'`. Numbers, quoted text, lists and objects (servers repeat the caller's
input in them), UUIDs, digests, long tokens, mail and network addresses, names of temporary files and credentials are
masked: more people read a report than a log. The result is one line of bounded length.
"""

import re
from typing import Final

LONGEST: Final = 160
"""Characters of a masked message."""

_READ: Final = 1000  # characters of a message that are masked at all

_CREDENTIAL: Final = re.compile(
    r"(?i)\b(authorization|bearer|basic|token|api[_-]?key|apikey|password|passwd|pwd|secret|credentials?|access[_-]?key|signature)"
    r"(\s{0,3}[:=]\s{0,3}(?:(?:bearer|basic)\s{1,3})?|\s{1,3}(?=\S{0,200}[\d=]))[^\s,;'\"&)\]}]{2,}"
)
_KEY: Final = re.compile(
    r"\b(?:sk|pk|rk|hf|gh[pousr]|xox[a-z]|glpat)[-_][\w-]{6,}|\b(?:AKIA|ASIA|AIza)[\w-]{8,}|\beyJ[\w.-]{10,}"
)
_URL_PARTS: Final = re.compile(
    r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)(?:[^\s/?#@'\"<>]{1,200}@)?([^\s?#'\"<>]{0,300})(?:[?#][^\s'\"<>]{0,500})?"
)
_MAIL: Final = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}")
_TEMPORARY: Final = re.compile(r"(?<![\w.-])(/(?:var/)?tmp/)[^\s/:,;'\"()<>\[\]{}]{1,200}")
_UUID: Final = re.compile(r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_QUOTED: Final = re.compile(
    r"(?<!\w)'(?:[^'\\]|\\.)*(?:'(?!\w)|\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\Z)|`[^`]*(?:`|\Z)|“[^”]*(?:”|\Z)|‘[^’]*(?:’|\Z)"
)
_TOKEN: Final = re.compile(
    r"(?<![\w+/=-])(?:(?=(?:[a-zA-Z_+/=-]{0,200}\d){2})(?=[\w+/=-]{0,200}[a-z])(?=[\w+/=-]{0,200}[A-Z])[\w+/=-]{16,}"
    r"|(?=(?:[a-zA-Z_+/=-]{0,200}\d){5})[\w+/=-]{12,}|[A-Za-z0-9+/_=-]{40,})"
)
_HEX: Final = re.compile(
    r"(?i)(?<![\w-])(?:0x[0-9a-f]+|(?=[0-9a-f]{0,64}\d)(?=[0-9a-f]{0,64}[a-f])[0-9a-f]{8,})(?![\w-])"
)
_NAMED_BY_NUMBER: Final = re.compile(
    r"(?i)\b((?:u?int|float|bfloat|fp|bf|complex|datetime|utf-?|base|sha|md|http/|python|iso-?|latin-?)\d+(?:\.\d+)?(?:e\dm\d)?)\b"
)
_COLOUR: Final = re.compile(r"\x1b\[[\d;]{0,20}[A-Za-z]")
_NUMBER: Final = re.compile(r"\d+(?:[.,:_]\d+)*(?:[eE][+-]?\d+)?")
_SIGNED: Final = re.compile(r"(?<![\w#])[-+]#")
_SHORT_NOTE: Final = re.compile(r"[A-Za-z…][A-Za-z ]{0,20}[#\d]*\Z|…\Z")


def masked(message: str) -> str:
    """A message masked, on one line, of at most `LONGEST` characters."""
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in _COLOUR.sub("", message[:_READ])).split())
    text = _URL_PARTS.sub(r"\1\2", text)
    text = _KEY.sub("…", _CREDENTIAL.sub(r"\1\2…", text))
    text = _without_input(text, to_the_end=False)  # before quotes, as quoted text may hold quotes in brackets
    text = _QUOTED.sub(_quotes, text)
    text = _MAIL.sub("…@…", text)
    text = _TEMPORARY.sub(r"\1…", text)
    text = _UUID.sub("#", text)
    text = _HEX.sub("#", text)
    text = _TOKEN.sub("…", text)
    text = "".join(
        part if at % 2 else _SIGNED.sub("#", _NUMBER.sub("#", part))
        for at, part in enumerate(_NAMED_BY_NUMBER.split(text))
    )
    text = _without_input(text, to_the_end=True)
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"


def _quotes(found: re.Match[str]) -> str:
    opened = found[0][0]
    return f"{opened}…{ {'“': '”', '‘': '’'}.get(opened, opened) }"


def _without_input(text: str, *, to_the_end: bool) -> str:
    """A text without the content of brackets and braces, which is mostly the caller's input. A short note such as
    `[Errno #]` stays. A bracket that is never closed stays too or, with `to_the_end`, is cut to the end."""
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
        made.append(f"{text[start]}…" if to_the_end else text[start:])
    return "".join(made)
