"""A fault, and what its function gets."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

import orjson

from shadowproxy.answers import answer_value
from shadowproxy.compare.report.kinds import Kind
from shadowproxy.record import Body, Record, RecordedLeg
from shadowproxy.selftest.plants.envelopes import as_sent

JSON: Final = {"content-type": "application/json"}

Part = Literal["rare", "slice"]
"""A part of the requests that a fault is limited to: those with live's rarest class, or one slice."""


@dataclass(frozen=True, slots=True)
class Known:
    """What live's answers on one route are like.

    place: where the answer is in live's payload; kind: what it is; None if no place is judged. fields: all places
    that a check looks at. low and high: of the numbers there. classes: the values there, the most frequent first, if
    they are few. batches: whether most answers have several rows. streams: whether any is a stream. calls: whether
    most texts are calls of tools. slow: live's p99 in milliseconds. other: a place that no check looks at.
    """

    place: str | None = None
    kind: Kind | None = None
    fields: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    classes: tuple[Any, ...] = ()
    fractions: bool = False
    width: int = 0
    batches: bool = False
    streams: bool = False
    calls: bool = False
    slow: float | None = None
    other: str | None = None
    slices: bool = False

    @property
    def spread(self) -> float:
        """The width of live's range; for a constant its size, and 1 for a constant 0."""
        return self.high - self.low or abs(self.high) or 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """One exchange in which a fault is planted.

    before: live's answer to the previous request on the same route; another: to any other request there; stuck: the
    answer that several requests in a row get.
    """

    record: Record
    known: Known
    random: Random
    before: RecordedLeg
    another: RecordedLeg
    stuck: RecordedLeg

    @property
    def live(self) -> RecordedLeg:
        return self.record.live

    @property
    def value(self) -> Any:
        """A copy of live's answer, which may be changed."""
        return copy.deepcopy(answer_value(self.record.live))


Plant = Callable[[Case], RecordedLeg | None]
"""Gives the shadow's answer with the fault; None if this answer has nothing to change."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that a shadow may have.

    name: in plain words. check: the check that should see it. applies: whether it can be planted in a route's answers.
    part: the requests that it is limited to. unseen_by_default: for a fault that no check looks at, how to see it.
    """

    name: str
    check: str
    applies: Callable[[Known], bool]
    plant: Plant
    part: Part | None = None
    unseen_by_default: str | None = None


def judged(known: Known) -> bool:
    return known.place is not None


def always(known: Known) -> bool:
    return True


def of_kinds(*kinds: Kind) -> Callable[[Known], bool]:
    return lambda known: known.kind in kinds


def with_json(case: Case, value: Any) -> RecordedLeg:
    """Live's answer with another payload, as plain JSON."""
    value = as_sent(value)
    body = Body("json", value, _size(value))
    return case.live._replace(headers=JSON, body=body, judgement=None)


def with_status(case: Case, status: int, value: Any) -> RecordedLeg:
    return with_json(case, value)._replace(status=status)


def _size(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return len(repr(value))
