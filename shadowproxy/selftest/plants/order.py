"""Live's own answers, given to other requests or in another order."""

from typing import Any, Final

from shadowproxy.record import RecordedLeg
from shadowproxy.selftest.plants.edit import all_rows
from shadowproxy.selftest.plants.fault import Case, Fault, Known, judged


def _reversed_rows(case: Case, rows: list[Any]) -> list[Any] | None:
    return rows[::-1] if len(rows) > 1 else None


def _unjudged(answer: RecordedLeg) -> RecordedLeg:
    return answer._replace(judgement=None)


def _batches(known: Known) -> bool:
    return known.batches


FAULTS: Final = (
    Fault("the rows of a batch are in another order", "unexplained", _batches, all_rows(_reversed_rows)),
    Fault("answers shifted by one request", "related", judged, lambda case: _unjudged(case.before)),
    Fault("answers shuffled", "related", judged, lambda case: _unjudged(case.another)),
    Fault("an earlier answer repeated again and again", "related", judged, lambda case: _unjudged(case.stuck)),
)
