"""What `shadows.NAME.state` says: where IDs are learnt, and where a request carries them.

stateful.py has the places' forms.

An ID is text of visible ASCII. One of at least LEAST characters is recognized wherever `into` allows. A shorter one,
such as an integer key, means something only at a place of its own: where both `learn` and `into` name the places.
"""

import re
from dataclasses import dataclass
from typing import Final

from shadowproxy.pointers import Patterns, pointer_segments
from shadowproxy.stateful import KINDS, read_into, read_learn

LEAST: Final = 8
"""Characters of an ID that is recognized anywhere."""

MOST: Final = 2048
"""Characters of an ID at most."""

SESSION_HEADERS: Final = frozenset({b"mcp-session-id"})
"""Header fields that hold a session's ID in each protocol that has them."""

_ID: Final = re.compile(rb"[!-~]{1,%d}" % MOST)


def is_id(text: bytes) -> bool:
    """Whether a value has the form of an ID."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class StateSettings:
    """As the configuration says it. `learn` of None is `auto`. `pairs` is the number kept, `age` the seconds that one
    is kept without being used.
    """

    learn: tuple[str, ...] | None = None
    into: tuple[str, ...] = KINDS
    pairs: int = 20_000
    age: float = 3600.0


class Places:
    """The same, ready for use. Raises ValueError for what is no place."""

    __slots__ = (
        "auto",
        "cookies",
        "headers",
        "in_headers",
        "in_json",
        "in_path",
        "in_query",
        "location",
        "member_names",
        "named_cookies",
        "named_headers",
        "named_paths",
        "named_pointers",
        "named_query",
        "names_places",
        "pointers",
        "sessions",
    )

    def __init__(self, settings: StateSettings) -> None:
        learn, into = settings.learn, settings.into
        self.auto = learn is None
        self.headers: frozenset[bytes] = frozenset()
        self.cookies: frozenset[bytes] = frozenset()
        self.pointers: Patterns | None = None
        self.member_names: tuple[bytes, ...] = ()
        self.location = self.auto
        if learn is not None:
            self._read_learn(learn)
        self.in_path, self.in_query, self.in_headers, self.in_json = [kind in into for kind in KINDS]
        paths: list[tuple[bytes, ...]] = []
        query: set[bytes] = set()
        headers: set[bytes] = set(self.headers)
        cookies: set[bytes] = set(self.cookies)
        pointers: list[tuple[str, ...]] = []
        for place in into:
            if place in KINDS:
                continue
            kind, name = read_into(place)
            if kind == "path":
                paths.append(tuple(name.encode().split(b"/")))
            elif kind == "query":
                query.add(name.encode())
            elif kind == "header":
                headers.add(name.lower().encode())
            elif kind == "cookie":
                cookies.add(name.encode())
            else:
                pointers.append(pointer_segments(name))
        self.named_paths = tuple(paths)
        self.named_query = frozenset(query)
        self.named_headers = frozenset(headers)
        self.named_cookies = frozenset(cookies)
        self.named_pointers = tuple(pointers)
        self.sessions = self.headers | {b"set-cookie:" + name for name in self.cookies}
        if self.auto:
            self.sessions |= SESSION_HEADERS
        self.names_places = bool(paths or query or headers or cookies or pointers)

    def _read_learn(self, learn: tuple[str, ...]) -> None:
        headers: set[bytes] = set()
        cookies: set[bytes] = set()
        pointers: list[str] = []
        for place in learn:
            kind, name = read_learn(place)
            if kind == "header":
                headers.add(name.lower().encode())
            elif kind == "set-cookie":
                cookies.add(name.encode())
            else:
                pointers.append(name)
        self.location = b"location" in headers
        self.headers = frozenset(headers - {b"location"})
        self.cookies = frozenset(cookies)
        if pointers:
            self.pointers = Patterns(pointers)
            last = [segments[-1] if segments else "*" for segments in self.pointers.segments]
            # A body without any of these members has nothing to learn. A pattern that ends in * may be anything.
            if not any(name in ("*", "**") or name.isdigit() or not _is_plain(name) for name in last):
                self.member_names = tuple(f'"{name}"'.encode() for name in dict.fromkeys(last))


def _is_plain(name: str) -> bool:
    """Whether JSON writes the name in one way only, as far as anybody does."""
    return name.isascii() and name.isprintable() and not {'"', "\\", "/"} & set(name)
