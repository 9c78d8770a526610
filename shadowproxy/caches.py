"""The caches of a serving process: what was worked out for a key is found when the key comes again.

Callers, servers and payloads repeat themselves, and they choose what is cached. Two bounds hold for all caches:

1. An entry that holds more than a SHARE-th of its cache's budget is not cached.
2. Each cache has a budget of bytes in BUDGETS; together they hold TOTAL at most. A cache that is full forgets all of
   its entries: keys that still come will be cached again, and to find one costs no more than a look into a dict.

A key that comes once, such as a request ID, gains nothing from a cache, and pushes out what does. A cache of REPEATED
keys stores a result only when its key comes for the second time.

A cache needs no lock: each step on it is one operation of a dict. Two threads that store at once may pass the budget by
one entry.
"""

from array import array
from collections.abc import Callable
from sys import getsizeof
from typing import Final, TypeVar

SHARE: Final = 16

TOTAL: Final = 20 << 20
"""docs/explanation/guarantees.md promises it."""

_KIB: Final = 1 << 10
BUDGETS: Final[dict[str, int]] = {
    "request heads": 3584 * _KIB,
    "response heads": 1536 * _KIB,
    "header lines": 1024 * _KIB,
    "fields with credentials": 512 * _KIB,
    "fields without credentials": 512 * _KIB,
    "targets without credentials": 512 * _KIB,
    "credential header names": 256 * _KIB,
    "credential parameter names": 256 * _KIB,
    "doubtful header names": 256 * _KIB,
    "doubtful parameter names": 256 * _KIB,
    "credentials in texts": 512 * _KIB,
    "plain field values": 512 * _KIB,
    "echoed secrets": 1536 * _KIB,
    "recorded heads": 512 * _KIB,
    "recorded fields": 256 * _KIB,
    "recorded names": 256 * _KIB,
    "content types": 128 * _KIB,
    "pointers": 256 * _KIB,
    "places in answers": 2560 * _KIB,
}
"""By name, what each cache may hold: keys, values, and what is worked out of a value later."""

IN_EACH_CONFIGURATION: Final = frozenset({"recorded heads", "recorded fields", "places in answers"})
"""Each configuration has its own of these. During a reload there are two, so these budgets count twice."""

REPEATED: Final = frozenset({
    "request heads",
    "response heads",
    "header lines",
    "fields with credentials",
    "fields without credentials",
    "credentials in texts",
    "plain field values",
})  # fmt: skip
"""The caches that store a result only when its key comes again."""

KEYS_SEEN: Final = 4096
"""How many hashes of keys each of the caches in REPEATED remembers, of 8 bytes each."""

K = TypeVar("K")
V = TypeVar("V")


class Cache(dict[K, V]):
    """Results by key, within the budget of its name. `keep` stores one, `get` finds it.

    `weigh` gives about the bytes that an entry holds. Without it the key is a text or bytes, and the value no larger
    than some parts of it.
    """

    __slots__ = ("_budget", "_largest", "_weigh", "held")

    def __init__(self, name: str, weigh: Callable[[K, V], int] | None = None) -> None:
        super().__init__()
        self.held = 0
        self._budget = BUDGETS[name]
        self._largest = self._budget // SHARE
        self._weigh = weigh

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self)} entries, {self.held} of {self._budget} bytes>"

    def keep(self, key: K, value: V) -> int:
        """Store a result, unless it is too large. Returns how many others were forgotten for it: mostly none."""
        weigh = self._weigh
        weight = 400 + 3 * getsizeof(key) if weigh is None else weigh(key, value)
        if weight > self._largest:
            return 0
        forgotten = 0
        held = self.held + weight
        if held > self._budget:
            forgotten = len(self)
            self.clear()
            held = weight
        self.held = held
        self[key] = value
        return forgotten

    def forget(self) -> None:
        """Forget all entries."""
        self.clear()
        self.held = 0


class _Remembered(Cache[K, V]):
    __slots__ = ("seen", "work")

    work: Callable[[K], V]
    seen: "array[int] | None"  # the hash of the latest key that has this place, if only repeated keys are cached

    def __missing__(self, key: K) -> V:
        value = self.work(key)
        seen = self.seen
        if seen is None:
            self.keep(key, value)
            return value
        number = hash(key)
        place = number % KEYS_SEEN
        if seen[place] == number:
            self.keep(key, value)
        else:
            seen[place] = number
        return value


def remembered(name: str, work: Callable[[K], V], weigh: Callable[[K, V], int] | None = None) -> Cache[K, V]:
    """A cache in which `cache[key]` is what `work(key)` gives, or raises. `work` is a pure function of its argument.

    If REPEATED has its `name`, it stores only results whose key has come before, not too long ago.
    A key is hashed each time, also that of an entry which is too large to be cached.
    """
    cache: _Remembered[K, V] = _Remembered(name, weigh)
    cache.work = work
    cache.seen = array("q", bytes(8 * KEYS_SEEN)) if name in REPEATED else None
    return cache
