"""Sums of floats that are the same in any order."""

import math
from typing import Any, Final, Self

from shadowproxy.compare.fold.counts import Weight

_SHIFT: Final = 1074
_MANTISSA: Final = float(1 << 53)


class Sums(dict[int, list[int]]):
    """Exact sums of floats by block of time: integers in units of the smallest float, the same in any order.

    Every finite float is a whole number of 2^-1074ths; `_SHIFT` leaves room for the mantissa below that.
    """

    def add(self, block: int, *values: float, times: int = 1) -> None:
        sums = self.get(block)
        if sums is None:
            sums = self[block] = [0] * len(values)
        for at, value in enumerate(values):
            mantissa, exponent = math.frexp(value)
            sums[at] += times * int(mantissa * _MANTISSA) << (exponent + _SHIFT)

    def floats(self) -> dict[int, list[float]]:
        return {block: [_float(total) for total in sums] for block, sums in self.items()}

    def merged(self, other: Self) -> Self:
        total = type(self)({block: list(sums) for block, sums in self.items()})
        for block, sums in other.items():
            total._gather(block, sums)
        return total

    def absorb(self, other: Self) -> None:
        for block, sums in other.items():
            self._gather(block, sums)

    def widened(self, doublings: int = 1) -> Self:
        wider = type(self)()
        for block, sums in self.items():
            wider._gather(block >> doublings, sums)
        return wider

    def weighed(self, weight: Weight) -> Self:
        return type(self)({block: [total * weight.times for total in sums] for block, sums in self.items()})

    def _gather(self, block: int, sums: list[int]) -> None:
        mine = self.get(block)
        self[block] = list(sums) if mine is None else [one + other for one, other in zip(mine, sums, strict=True)]

    def to_json(self) -> Any:
        return {str(block): [_hex(total) for total in sums] for block, sums in sorted(self.items())}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({int(block): [_unhex(text) for text in sums] for block, sums in raw.items()})


def _float(total: int) -> float:
    try:
        return total / (1 << (_SHIFT + 53))
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def _hex(total: int) -> str:
    """`mantissa.zeros` in hexadecimal: exact, and short for ordinary numbers, whose low thousand bits are zero."""
    zeros = (total & -total).bit_length() - 1 if total else 0
    return f"{total >> zeros:x}.{zeros:x}"


def _unhex(text: str) -> int:
    mantissa, _, zeros = text.partition(".")
    if int(zeros, 16) > 4096:
        raise ValueError("a sum out of range")
    return int(mantissa, 16) << int(zeros, 16)
