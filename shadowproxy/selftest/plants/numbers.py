"""Numbers that are off."""

from typing import Any, Final

from shadowproxy.selftest.plants.edit import each_row
from shadowproxy.selftest.plants.fault import Case, Fault, Known, of_kinds


def _above(case: Case, value: Any) -> Any:
    return case.known.high + case.known.spread * case.random.uniform(2, 5)


def _below(case: Case, value: Any) -> Any:
    return case.known.low - case.known.spread * case.random.uniform(2, 5)


def _a_little_above(case: Case, value: Any) -> Any:
    return case.known.high + case.known.spread * case.random.uniform(0.1, 0.9)


def _offset(case: Case, value: Any) -> Any:
    return value + case.known.spread / 10 if _is_number(value) else value


def _times(factor: float) -> Any:
    return each_row(lambda case, value: value * factor if _is_number(value) else value)


def _constant(case: Case, value: Any) -> Any:
    return (case.known.low + case.known.high) / 2


def _turned(case: Case, value: Any) -> Any:
    return 1 - value if _is_number(value) else value


def _rounded(case: Case, value: Any) -> Any:
    return round(value / case.known.spread * 10) / 10 * case.known.spread if _is_number(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_number = of_kinds("number")


def _probability(known: Known) -> bool:
    return known.kind == "number" and known.low >= 0 and known.high <= 1 and known.fractions


FAULTS: Final = (
    Fault("unclipped: far above live's range", "range", _number, each_row(_above)),
    Fault("no floor: far below live's range", "range", _number, each_row(_below)),
    Fault("a little above live's range", "drift", _number, each_row(_a_little_above)),
    Fault("a thousandfold: another unit", "range", _number, _times(1000)),
    Fault("the sign is turned", "drift", _number, _times(-1)),
    Fault("offset by a tenth of live's range", "unexplained", _number, each_row(_offset)),
    Fault("rounded to tenths of live's range", "unexplained", _number, each_row(_rounded)),
    Fault("always the same number", "collapse", _number, each_row(_constant)),
    Fault("a probability turned round", "unexplained", _probability, each_row(_turned)),
)
