"""Rankings in another order, or cut short."""

from typing import Any, Final

from shadowproxy.selftest.plants.edit import each_row
from shadowproxy.selftest.plants.fault import Case, Fault, of_kinds


def _reversed(case: Case, value: Any) -> Any:
    return value[::-1] if isinstance(value, list) else value


def _first(case: Case, value: Any) -> Any:
    return value[:1] if isinstance(value, list) else value


_ranking = of_kinds("ranking")

FAULTS: Final = (
    Fault("the ranking is turned round", "unexplained", _ranking, each_row(_reversed)),
    Fault("the ranking is cut off after its first item", "unexplained", _ranking, each_row(_first)),
)
