"""Classes and probabilities that are mixed up."""

from collections.abc import Callable
from typing import Any, Final

from shadowproxy.compare.fold.values import vector_of
from shadowproxy.selftest.plants.edit import each_row
from shadowproxy.selftest.plants.fault import Case, Fault, Known, of_kinds


def _next(case: Case, value: Any) -> Any:
    """The class after it, in the order of their names or numbers; after the last comes the first."""
    known = sorted(case.known.classes, key=lambda each: (str(type(each)), each))
    at = next((at for at, each in enumerate(known) if each == value), None)
    return value if at is None else known[(at + 1) % len(known)]


def _swapped(case: Case, value: Any) -> Any:
    """The two most frequent classes."""
    first, second = case.known.classes[:2]
    return second if value == first else first if value == second else value


def _commonest(case: Case, value: Any) -> Any:
    return case.known.classes[0]


def _never_rarest(case: Case, value: Any) -> Any:
    return case.known.classes[0] if value == case.known.classes[-1] else value


def _of_vector(change: Callable[[list[Any]], list[Any]]) -> Callable[[Case, Any], Any]:
    def changed(case: Case, value: Any) -> Any:
        if vector_of(value) is None:
            return value
        return dict(zip(value, change(list(value.values())), strict=True)) if isinstance(value, dict) else change(value)

    return changed


def _columns_swapped(case: Case, value: Any) -> Any:
    """The two columns that are the largest most often, where this vector has both."""
    one, other = case.known.classes[:2]

    def swap(numbers: list[Any]) -> list[Any]:
        if max(one, other) < len(numbers):
            numbers[one], numbers[other] = numbers[other], numbers[one]
        return numbers

    return _of_vector(swap)(case, value)


def _turned(numbers: list[Any]) -> list[Any]:
    """The largest becomes the smallest; they still add up to what they did."""
    places = sorted(range(len(numbers)), key=lambda at: numbers[at])
    turned = list(numbers)
    for at, other in zip(places, reversed(places), strict=True):
        turned[at] = numbers[other]
    return turned


def _constant_vector(case: Case, value: Any) -> Any:
    first = case.known.classes[0]
    return _of_vector(lambda numbers: [1.0 if at == first else 0.0 for at in range(len(numbers))])(case, value)


def _several(kind: str) -> Callable[[Known], bool]:
    return lambda known: known.kind == kind and len(known.classes) > 1


_class, _vector = _several("class"), of_kinds("vector")
_columns = _several("vector")

FAULTS: Final = (
    Fault("classes off by one", "unexplained", _class, each_row(_next)),
    Fault("two classes swapped", "unexplained", _class, each_row(_swapped)),
    Fault("always the commonest class", "collapse", _class, each_row(_commonest)),
    Fault("the rarest class is never said", "drift", _class, each_row(_never_rarest), part="rare"),
    Fault("two columns swapped", "unexplained", _columns, each_row(_columns_swapped)),
    Fault("columns off by one", "unexplained", _vector, each_row(_of_vector(lambda row: [*row[1:], row[0]]))),
    Fault("probabilities turned round", "unexplained", _vector, each_row(_of_vector(_turned))),
    Fault("always the same class in front", "collapse", _columns, each_row(_constant_vector)),
)
