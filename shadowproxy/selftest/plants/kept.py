"""Changes that keep every judged value: no check sees them without an option that names the place."""

from typing import Any, Final

from shadowproxy.compare.fold.places import extract
from shadowproxy.record import RecordedLeg
from shadowproxy.selftest.plants.edit import changed, each_row
from shadowproxy.selftest.plants.fault import Case, Fault, Known, always, of_kinds, with_json

_WITHIN: Final = 1 + 4e-6


def _other_member(case: Case) -> RecordedLeg | None:
    place, value = case.known.other, case.value
    if place is None or not extract(value, place):
        return None
    return with_json(case, changed(value, place, _another))


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}-2" if isinstance(value, str) else value


def _headers(case: Case) -> RecordedLeg:
    return case.live._replace(headers={**case.live.headers, "x-model-version": "2"}, judgement=None)


def _nearly(case: Case, value: Any) -> Any:
    return value * _WITHIN if isinstance(value, float) else value


def _has_other(known: Known) -> bool:
    return known.other is not None


def _fractions(known: Known) -> bool:
    return of_kinds("number")(known) and known.fractions


FAULTS: Final = (
    Fault(
        "another member of the answer is changed",
        "unexplained",
        _has_other,
        _other_member,
        unseen_by_default="--field with the pointer of that member",
    ),
    Fault(
        "a header field of the answer is changed",
        "unexplained",
        always,
        _headers,
        unseen_by_default="no option: the log has the header fields, and no report compares them",
    ),
    Fault(
        "numbers a few millionths off",
        "unexplained",
        _fractions,
        each_row(_nearly),
        unseen_by_default="--tolerance with the pointer of the answer and =0",
    ),
)
