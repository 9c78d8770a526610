"""What reading and comparing the bodies of one exchange may cost: steps, seconds and bytes of memory.

Peers choose the bodies, and some would take minutes or gigabytes: deep nesting, millions of members, long arrays
without order. The rules:

1. A loop spends a step for about each value that it looks at. Every EVERY steps the clock is read.
2. What cannot be interrupted (orjson, a regular expression, a sort) is spent before it begins, by its size.
3. What grows in memory by more than the body's own length is held before it is made, by an estimate.

A log that is read again has no clock: the same log gives the same report on a fast machine and on a slow one.
"""

import time
from collections.abc import Callable
from typing import Final

STEPS: Final = 10_000_000
"""Steps of one comparison: that of two answers with a million numbers each, all of which differ."""

SECONDS: Final = 1.0
MEMORY: Final = 128 << 20

EVERY: Final = 2000
"""Steps between two looks at the clock: a tenth of a millisecond, or a few where every step compares texts."""

_BYTES: Final = 32
"""Bytes that are read for one step, by what reads them in C."""


class Exhausted(Exception):
    """The work would cost more than it may. The text is one short phrase that says what ran out."""


class Budget:
    """What is left. `seconds` None: steps and memory alone count. `clock` is a parameter so that a test can replace it.

    Attributes:
        held: bytes of memory that are held now; whoever frees what it held puts the earlier figure back.
    """

    __slots__ = ("_clock", "_deadline", "_end", "_left", "_memory", "_seconds", "_slice", "_steps", "held")

    def __init__(
        self,
        seconds: float | None = None,
        *,
        steps: int = STEPS,
        memory: int = MEMORY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.held = 0
        self._seconds = seconds
        self._memory = memory
        self._clock = clock
        self._end = self._deadline = 0.0 if seconds is None else clock() + seconds
        self._steps = steps
        self._slice = self._left = min(EVERY, steps)

    def __repr__(self) -> str:
        return f"<Budget {self._steps - self._slice + self._left} steps left, {self.held} bytes held>"

    def share(self, parts: int) -> None:
        """Let the next part of the work take no more than one of `parts` equal parts of the time that is left."""
        if self._seconds is not None and parts > 1:
            now = self._clock()
            self._deadline = now + max(0.0, self._end - now) / parts
        else:
            self._deadline = self._end

    def spend(self, steps: int) -> None:
        """Take some steps. Raises Exhausted if there are none left, or no time."""
        self._left -= steps
        if self._left <= 0:
            self._look()

    def spend_bytes(self, size: int) -> None:
        """Take the steps of reading `size` bytes once, in C."""
        self.spend(size // _BYTES)

    def hold(self, size: int) -> None:
        """Hold some bytes of memory. Raises Exhausted if that is more than there may be."""
        if self.held + size > self._memory:
            raise Exhausted(f"it takes over {self._memory >> 20} MiB of memory (limits.memory)")
        self.held += size

    def _look(self) -> None:
        self._steps -= self._slice - self._left
        self._slice = self._left = max(0, min(EVERY, self._steps))
        if self._steps <= 0:
            raise Exhausted("it takes too many steps")
        if self._seconds is not None and self._clock() >= self._deadline:
            raise Exhausted(f"it takes longer than {self._seconds:g} s")


_OBJECT: Final = 100
_KEY: Final = 36
_ARRAY: Final = 96
_ELEMENT: Final = 48
_TEXT: Final = 56
_WIDEST: Final = 4
_SMALL: Final = 16 << 10
_MOST: Final = 32
"""Bytes of memory at most for one byte of JSON: `{"":{"":` is an object for each five."""


def read_json(budget: Budget, raw: bytes) -> None:
    """Spend and hold what it takes to read a JSON text into values. Raises Exhausted.

    The memory is an estimate, rather too much than too little: in CPython an object of up to five members takes 184
    bytes, an array 88, a number 32 with 8 for its place in an array, a short text 50. In a text one character of four
    bytes makes all of them four.
    """
    size = len(raw)
    if size <= _SMALL:  # not worth counting
        budget.spend(size >> 2)
        budget.hold(_MOST * size)
        return
    budget.spend_bytes(8 * size)
    objects, arrays, commas = raw.count(b"{"), raw.count(b"["), raw.count(b",")
    keys = raw.count(b":")
    texts = max(0, raw.count(b'"') // 2 - keys)
    _take(budget, objects, keys, arrays, commas, texts, size if raw.isascii() else _WIDEST * size)


def read_json_text(budget: Budget, text: str) -> None:
    """The same for JSON, or for a stream of it, that is a text already."""
    size = len(text)
    if size <= _SMALL:
        budget.spend(size >> 2)
        budget.hold(_MOST * size)
        return
    budget.spend_bytes(8 * size)
    objects, arrays, commas = text.count("{"), text.count("["), text.count(",")
    keys = text.count(":")
    texts = max(0, text.count('"') // 2 - keys)
    _take(budget, objects, keys, arrays, commas, texts, size if text.isascii() else _WIDEST * size)


def _take(budget: Budget, objects: int, keys: int, arrays: int, commas: int, texts: int, characters: int) -> None:
    budget.spend(objects + arrays + commas + texts)
    budget.hold(_OBJECT * objects + _KEY * keys + _ARRAY * arrays + _ELEMENT * commas + _TEXT * texts + characters)
