"""What live's own answers are like, by route: it decides which faults can be planted, and how."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from shadowproxy.answers import answer_value, content_of
from shadowproxy.compare.fold.places import extract
from shadowproxy.compare.fold.requests import request_json
from shadowproxy.compare.fold.routes import OTHER, route_of
from shadowproxy.compare.fold.slices import leaves
from shadowproxy.compare.fold.survey import Survey
from shadowproxy.compare.fold.values import form_of, vector_of
from shadowproxy.compare.report.figures.types import PairFigures, ShadowReport
from shadowproxy.compare.report.judged import judged_output
from shadowproxy.exchange import Outcome
from shadowproxy.record import Record
from shadowproxy.selftest.plants.fault import Known
from shadowproxy.selftest.plants.texts import CALL

WHOLE: Final = ""
"""The route of requests whose own route is not judged alone."""

_MOST_CLASSES: Final = 1000
_LOOKED_AT: Final = 200  # answers that are searched for members that no check looks at
_NUMBERS: Final = frozenset({"whole", "real"})
_SLICE_VALUES: Final = 50
_SLICE: Final = 0.1
"""The share of the requests that a part should have: the part nearest to it is taken."""
_SLICE_FROM, _SLICE_TO = 0.02, 0.5

Belongs = Callable[[Record], bool]


def known_by_route(records: Sequence[Record], twin: ShadowReport) -> dict[str, Known]:
    """What each judged route's answers are like, and the rest's under `WHOLE`. `twin` is the report on live beside
    itself."""
    judged: dict[str, PairFigures] = {WHOLE: twin}
    for route in twin["routes"]:
        if route["gated"] and route["figures"] is not None:
            judged[WHOLE if route["route"] == OTHER else route["route"]] = route["figures"]
    by_route: dict[str, list[Record]] = {route: [] for route in judged}
    for record in records:
        by_route[route_in(judged, record)].append(record)
    sliced = slice_of(records) is not None
    return {route: _known(by_route[route] or records, figures, sliced) for route, figures in judged.items()}


def route_in(judged: Iterable[str], record: Record) -> str:
    route = route_of(record.request.method, record.request.path)
    return route if route in judged else WHOLE


def _known(records: Sequence[Record], figures: PairFigures, sliced: bool) -> Known:
    times = sorted(record.live.total_ms for record in records if record.live.total_ms is not None)
    slow = times[int(len(times) * 0.99)] if times else None
    good = [record.live for record in records if record.live.outcome is Outcome.OK and record.live.status is not None]
    streams = any(content_of(live).stream is not None for live in good[:_LOOKED_AT])
    known = Known(slow=slow, streams=streams, slices=sliced)
    output = judged_output(figures)
    if output is None:
        return known
    place = output["live_path"]
    answers = [answer_value(live) for live in good if live.status is not None and 200 <= live.status < 300]
    rows = [extract(answer, place) for answer in answers]
    values = [value for each in rows for value in each]
    fields = tuple(each["live_path"] for each in figures["outputs"])
    numbers = [value for value in values if form_of(value) in _NUMBERS]
    return Known(
        place=place,
        kind=output["kind"],
        fields=fields,
        low=min(numbers, default=0.0),
        high=max(numbers, default=0.0),
        classes=_classes(values, output["kind"]),
        fractions=any(isinstance(value, float) and value % 1 for value in numbers),
        batches=2 * sum(len(each) > 1 for each in rows) > len(rows),
        streams=streams,
        calls=2 * sum(isinstance(value, str) and CALL.match(value) is not None for value in values) > len(values),
        slow=slow,
        other=_other(answers[:_LOOKED_AT], fields),
        slices=sliced,
    )


def _classes(values: list[Any], kind: str) -> tuple[Any, ...]:
    """The classes, or the columns with the largest number, the most frequent first."""
    if kind == "vector":
        tops: Counter[int] = Counter()
        for value in values:
            vector = vector_of(value)
            if vector:
                numbers = list(vector.values())
                tops[numbers.index(max(numbers))] += 1
        return tuple(top for top, _ in sorted(tops.items(), key=lambda each: (-each[1], each[0])))
    if kind != "class":
        return ()
    counts: dict[tuple[str, Any], int] = {}
    for value in values:
        if isinstance(value, str | int | float) and len(counts) < _MOST_CLASSES:
            key = type(value).__name__, value
            counts[key] = counts.get(key, 0) + 1
    rows = sorted(counts.items(), key=lambda each: (-each[1], str(each[0])))
    return tuple(value for (_, value), _ in rows)


def _other(answers: list[Any], fields: tuple[str, ...]) -> str | None:
    """A place with a value in most answers that no check looks at."""
    counts: Counter[str] = Counter()
    for answer in answers:
        for place, values in Survey(answer).found.items():
            if all(isinstance(value, str | int | float) for value in values) and not any(
                _overlap(place, each) for each in fields
            ):
                counts[place] += 1
    best = min(counts.items(), key=lambda each: (-each[1], each[0]), default=None)
    return best[0] if best is not None and 2 * best[1] > len(answers) else None


def _overlap(place: str, other: str) -> bool:
    return place == other or place.startswith(f"{other}/") or other.startswith(f"{place}/")


# --- parts of the requests -------------------------------------------------------------------------------------------


def slice_of(records: Sequence[Record]) -> tuple[str, Belongs] | None:
    """A part of the requests, with its name: one value of one field, or numbers up to a limit."""
    found: dict[str, Counter[Any]] = {}
    for record in records:
        for place, values in leaves(request_json(record)).items():
            if len(values) == 1 and isinstance(values[0], str | int | float):
                found.setdefault(place, Counter())[values[0]] += 1
    n = len(records)
    best: tuple[float, str, str, Belongs] | None = None
    for place, counts in sorted(found.items()):
        texts = {value: count for value, count in counts.items() if isinstance(value, str | bool)}
        if 1 < len(texts) <= _SLICE_VALUES:
            for value, count in sorted(texts.items(), key=lambda each: str(each[0])):
                best = _nearer(best, count / n, place, f'is "{value}"', _has(place, value))
        numbers = sorted((value, count) for value, count in counts.items() if not isinstance(value, str | bool))
        below = 0
        for value, count in numbers[:-1]:
            below += count
            if below >= _SLICE_FROM * n:
                best = _nearer(best, below / n, place, f"is at most {value:g}", _up_to(place, value))
            if below >= _SLICE * n:
                break
    return None if best is None else (f"{best[1]} {best[2]}", best[3])


_Best = tuple[float, str, str, Belongs]


def _nearer(best: _Best | None, share: float, place: str, name: str, belongs: Belongs) -> _Best | None:
    if not _SLICE_FROM <= share <= _SLICE_TO:
        return best
    far = abs(share - _SLICE)
    return (far, place, name, belongs) if best is None or far < best[0] else best


def _has(place: str, value: Any) -> Belongs:
    return lambda record: leaves(request_json(record)).get(place) == [value]


def _up_to(place: str, most: float) -> Belongs:
    def belongs(record: Record) -> bool:
        values = leaves(request_json(record)).get(place, [])
        return len(values) == 1 and isinstance(values[0], int | float) and values[0] <= most

    return belongs


def rarest(known: dict[str, Known]) -> Belongs:
    """The requests that live answers with the rarest class of their route."""

    def belongs(record: Record) -> bool:
        here = known[route_in(known, record)]
        if here.kind != "class" or not here.classes or here.place is None:
            return False
        return here.classes[-1] in extract(answer_value(record.live), here.place)

    return belongs
