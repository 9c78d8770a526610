"""The places of IDs, as the configuration of a stateful shadow names them.

`learn` names places of an answer: a JSON pointer (`*` and `**` as in `compare.ignore`), `header:NAME`,
`set-cookie:NAME`. `into` names places of a request: `path`, `query`, `headers`, `json` for any place of that kind, or
one place: `path:/items/*` (the ID is the last `*`), `query:NAME`, `header:NAME`, `cookie:NAME`, `json:/pointer`.
"""

import re
from typing import Final

from shadowproxy.pointers import pattern_segments, pointer_segments

KINDS: Final = ("path", "query", "headers", "json")

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def read_learn(place: str) -> tuple[str, str]:
    """The kind of a place of `learn` (`json`, `header` or `set-cookie`), and its name. Raises ValueError."""
    if place.startswith("/") or place == "":
        pattern_segments(place)
        return "json", place
    kind, colon, name = place.partition(":")
    if colon and kind == "header" and _HEADER_NAME.fullmatch(name):
        if name.lower() == "set-cookie":
            raise ValueError("is no field for this: a cookie is named by itself, as set-cookie:NAME")
        return kind, name
    if colon and kind == "set-cookie" and _HEADER_NAME.fullmatch(name):
        return kind, name
    raise ValueError("is no place of an answer: give a JSON pointer, header:NAME or set-cookie:NAME")


def read_into(place: str) -> tuple[str, str]:
    """The kind of a place of `into` that names one, and its name. Raises ValueError."""
    kind, colon, name = place.partition(":")
    if colon and kind == "path" and name.startswith("/") and "*" in name.split("/"):
        if any("*" in part and part != "*" for part in name.split("/")):
            raise ValueError("has a * within a segment: it stands for a whole one")
        return kind, name
    if colon and kind in ("header", "cookie") and _HEADER_NAME.fullmatch(name):
        if kind == "header" and name.lower() == "cookie":
            raise ValueError("is no field for this: a cookie is named by itself, as cookie:NAME")
        return kind, name
    if colon and kind == "query" and name:
        return kind, name
    if colon and kind == "json":
        if any("*" in segment for segment in pointer_segments(name)):
            raise ValueError("has a * in it: name one place")
        return kind, name
    words = ", ".join(KINDS)
    raise ValueError(
        f"is no place of a request: give {words}, or path:/items/*, query:NAME, header:NAME, cookie:NAME, json:/pointer"
    )
