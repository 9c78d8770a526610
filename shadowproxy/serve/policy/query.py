"""The query of a request for one endpoint: what is held back from a shadow, and what the configuration changes. Pure.

Parameters are cut out of the target's text and others put in: every other byte stays, in its place and its spelling.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote_plus

from shadowproxy.credential_values import PATH_PARAMETER, PIECES, is_credential_piece, is_plain_query

REMEMBERED = 1024
"""Bytes of a target. What a shadow is asked of a longer one is worked out each time."""


def remove_credentials(target: bytes) -> bytes:
    """The target without the parameters that carry credentials: the same object where there are none."""
    if b"?" not in target and b"=" not in target:
        return target
    return (_remembered if len(target) <= REMEMBERED else _without_credentials)(target)


def _without_credentials(target: bytes) -> bytes:
    text = _text(target)
    path, mark, query = text.partition("?")
    if "=" not in path and is_plain_query(query):
        return target
    passed_path = PATH_PARAMETER.sub(lambda match: "" if is_credential_piece(match[0][1:]) else match[0], path)
    passed_query = edit_query(mark + query, lambda piece: None if is_credential_piece(piece) else piece)
    held_back = len(passed_path) + len(passed_query) < len(text)
    return _raw(passed_path + passed_query) if held_back else target


_remembered = lru_cache(1024)(_without_credentials)


def edit_query(query: str, edit: Callable[[str], str | None]) -> str:
    """A query with its question mark, if any, of whose pieces each is what `edit` makes of it; None takes it out."""
    left: list[str] = []
    is_less = False
    begins = 0
    while begins < len(query):
        separator = PIECES.search(query, begins + 1)
        ends = len(query) if separator is None else separator.start()
        piece = edit(query[begins + 1 : ends])
        if piece is None:
            is_less = True
        else:
            # What is first now follows the question mark; a fragment stays one.
            first = is_less and not left and query[begins] != "#"
            left.append(("?" if first else query[begins]) + piece)
        begins = ends
    return "".join(left)


@dataclass(frozen=True, slots=True)
class QueryEdits:
    """`removed` are names, percent-decoded, exactly as callers write them. Each of `put`, a name and how the parameter
    is written, replaces the first parameter of its name in place and removes the others, or is added at the end.
    """

    removed: frozenset[str] = frozenset()
    put: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, put: Mapping[str, str], removed: Iterable[str]) -> "QueryEdits":
        written = tuple((name, f"{quote(name, safe='')}={quote(value, safe='')}") for name, value in put.items())
        return cls(frozenset(removed), written)

    def target(self, target: bytes) -> bytes:
        """The target with the changes made: the same object where there are none to be made."""
        if not self.removed and not self.put:
            return target
        text, hash_, fragment = _text(target).partition("#")
        path, _, query = text.partition("?")
        values = dict(self.put)
        met: set[str] = set()
        written: list[str] = []
        changed = False
        for parted in _PARTED.finditer(query) if query else ():
            separator, piece = parted.groups()
            name = unquote_plus(piece.partition("=")[0])
            put = values.get(name)
            if name in self.removed or (put is not None and name in met):
                changed = True
                continue
            met.add(name)
            changed = changed or put is not None
            written.append((separator if written else "") + (piece if put is None else put))
        for name, put in self.put:
            if name not in met:
                changed = True
                written.append(f"&{put}" if written else put)
        if not changed:
            return target
        query = "".join(written)
        return _raw(f"{path}{'?' if query else ''}{query}{hash_}{fragment}")


_PARTED = re.compile(r"(^|[&;])([^&;]*+)")


def _text(target: bytes) -> str:
    return target.decode("utf-8", "surrogateescape")  # takes any byte, and gives it back


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
