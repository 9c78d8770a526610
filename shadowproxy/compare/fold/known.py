"""What was worked out for a key, found when the key comes again: within a bound of characters, whatever the log holds.

A log's names and texts may be of any length, and each may come once. So a number of entries is no bound of memory.
"""

from typing import Final, TypeVar

LONGEST: Final = 500
"""Characters of a text for which `lru_cache` remembers something; longer ones are worked out each time."""

_SHARE: Final = 16
_ENTRY: Final = 50  # stands for what an entry takes besides its characters

K = TypeVar("K")
V = TypeVar("V")


class Known(dict[K, V]):
    """Entries of at most `most` characters in all. When it is full, it forgets all of them."""

    __slots__ = ("_held", "_most")

    def __init__(self, most: int) -> None:
        super().__init__()
        self._held = 0
        self._most = most

    def keep(self, key: K, value: V, characters: int) -> None:
        """Remember this, unless it takes more than a sixteenth of all."""
        size = characters + _ENTRY
        if size > self._most // _SHARE:
            return
        self._held += size
        if self._held > self._most:
            self.clear()
            self._held = size
        self[key] = value
