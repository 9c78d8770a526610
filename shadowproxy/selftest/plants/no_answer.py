"""Missing answers, and bodies that are no answer."""

import json
from typing import Any, Final

from shadowproxy.compare.fold.places import extract
from shadowproxy.record import Body, RecordedLeg
from shadowproxy.selftest.plants.edit import each_row, with_array, without
from shadowproxy.selftest.plants.fault import Case, Fault, Known, always, judged, of_kinds, with_json

_PAGE: Final = "<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>"


def _missing(case: Case) -> RecordedLeg | None:
    place, value = case.known.place, case.value
    if place is None or not extract(value, place):
        return None
    left = without(value, place)
    return _empty_body(case) if left is None else with_json(case, left)


def _empty_body(case: Case) -> RecordedLeg:
    return case.live._replace(headers={}, body=Body("none", None, 0), judgement=None)


def _other_type(case: Case, value: Any) -> Any:
    return {"value": value} if isinstance(value, str) else json.dumps(value)


def _empty(case: Case, value: Any) -> Any:
    return "" if isinstance(value, str) else {} if isinstance(value, dict) else []


def _not_a_number(case: Case, value: Any) -> Any:
    if isinstance(value, list):
        return [float("nan")] * len(value)
    return dict.fromkeys(value, float("nan")) if isinstance(value, dict) else float("nan")


def _first_row(case: Case) -> RecordedLeg | None:
    place, value = case.known.place, case.value
    if place is None or len(extract(value, place)) < 2:
        return None
    return with_json(case, with_array(value, place, lambda rows: rows[:1]))


def _page(case: Case) -> RecordedLeg:
    body = Body("text", _PAGE, len(_PAGE))
    return case.live._replace(headers={"content-type": "text/html"}, body=body, judgement=None)


def _batches(known: Known) -> bool:
    return known.batches


FAULTS: Final = (
    Fault("the answer is missing", "answered", judged, _missing),
    Fault("the answer is null", "answered", judged, each_row(lambda case, value: None)),
    Fault("the answer is of another type, such as a number as text", "answered", judged, each_row(_other_type)),
    Fault("the answer is empty: [], {} or an empty text", "answered", judged, each_row(_empty)),
    Fault("the body is empty", "answered", always, _empty_body),
    Fault("an error object with status 200", "errors", always, lambda case: with_json(case, {"error": "boom"})),
    Fault("an HTML page with status 200", "answered", always, _page),
    Fault("NaN in place of numbers", "answered", of_kinds("number", "vector", "embedding"), each_row(_not_a_number)),
    Fault("a batch is answered with its first row only", "answered", _batches, _first_row),
)
