"""Edits a request's query: removes credentials for shadows, and makes the configuration's changes. Pure.

Parameters are cut out of the target's text, replaced or added. Every other byte stays as it is.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_plus

from shadowproxy.caches import remembered
from shadowproxy.credential_values import PATH_PARAMETER, PIECES, is_credential_piece, is_plain_query


def remove_credentials(target: bytes) -> bytes:
    """The target without the parameters that carry credentials: equal to `target` if it has none."""
    # Not `in`: for bytes Python makes an error each time, which it then drops.
    if target.find(b"?") < 0 and target.find(b"=") < 0:
        return target
    return _targets[target]


def _cut_credentials(target: bytes) -> bytes:
    text = _text(target)
    path, mark, query = text.partition("?")
    if "=" not in path and is_plain_query(query):
        return target
    kept_path = PATH_PARAMETER.sub(lambda match: "" if is_credential_piece(match[0][1:]) else match[0], path)
    kept_query = edit_query(mark + query, lambda piece: None if is_credential_piece(piece) else piece)
    held_back = len(kept_path) + len(kept_query) < len(text)
    return _raw(kept_path + kept_query) if held_back else target


_targets: Final = remembered("targets without credentials", _cut_credentials)


def edit_query(query: str, edit: Callable[[str], str | None]) -> str:
    """Apply `edit` to each piece of a query, which may begin with its question mark; None removes the piece."""
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
            # The first piece that is left follows the question mark, unless it is a fragment.
            first = is_less and not left and query[begins] != "#"
            left.append(("?" if first else query[begins]) + piece)
        begins = ends
    return "".join(left)


@dataclass(frozen=True, slots=True)
class QueryEdits:
    """`removed` are percent-decoded names; case matters. Each of `put`, a name and its parameter as written, replaces
    the first parameter of that name in place and removes the others, or is added at the end.
    """

    removed: frozenset[str] = frozenset()
    put: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, put: Mapping[str, str], removed: Iterable[str]) -> "QueryEdits":
        written = tuple((name, f"{quote(name, safe='')}={quote(value, safe='')}") for name, value in put.items())
        return cls(frozenset(removed), written)

    def edit_target(self, target: bytes) -> bytes:
        """The target with the changes made: the same object if nothing changes."""
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
