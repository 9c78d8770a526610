"""Records made up for the tests of what reads a log."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.routes import pooled
from shadowproxy.compare.fold.summary import Summary
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.gates import Gates
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, Record, RecordedLeg, RecordedRequest

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def answer(value: Any = None, status: int = 200, ms: float = 5.0) -> RecordedLeg:
    return RecordedLeg(Outcome.OK, status, {}, Body("json", value, 10), ms / 2, ms)


def said(value: Any, content_type: str = "application/json", status: int | None = 200) -> RecordedLeg:
    """An answer as the log has it: a text is a body of text, anything else is JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    body = Body("text" if isinstance(value, str) else "json", value, len(text))
    return RecordedLeg(Outcome.OK, status, {"content-type": content_type} if content_type else {}, body, 1.0, 2.0)


def failed(outcome: Outcome, ms: float | None = None) -> RecordedLeg:
    return RecordedLeg(outcome, error=str(outcome), total_ms=ms)


def pair_of(summary: Summary, shadow: str = "s") -> Pair:
    """What is counted of one shadow on all routes."""
    return pooled(summary.shadows[shadow])


def report_json(summary: Summary, gates: Gates | None = None, *, slices: tuple[str, ...] = ()) -> Any:
    """The report as a program reads it: what `--json` prints, parsed."""
    return json.loads(orjson.dumps(to_json(summary, gates, slices=slices)))


def record(number: int, live: RecordedLeg, seconds: float = 0.0, **shadows: RecordedLeg) -> Record:
    at = (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    asked = RecordedRequest("POST", "/predict", "", {}, Body("json", {"n": number}, 8))
    return Record(f"id-{number}", f"record-{number}", at, "host/1", asked, live, shadows, None)


def mixed(count: int, seed: int = 5) -> list[Record]:
    """Records of every sort over about an hour, from a seed."""
    source = random.Random(seed)
    made = []
    for number in range(count):
        live = answer({"class": source.choice("abc"), "p": source.random()}, ms=source.lognormvariate(1, 0.5))
        draw = source.random()
        shadow = (
            failed(Outcome.TIMEOUT, 2000.0)
            if draw < 0.05
            else failed(Outcome.LANE_FULL)
            if draw < 0.1
            else answer({"class": source.choice("abc"), "p": source.random()}, ms=source.lognormvariate(1, 0.5))
            if draw < 0.5
            else live._replace(total_ms=source.lognormvariate(2, 0.5))
        )
        other = {"other": answer({"class": "a"}, status=500)} if number % 3 == 0 else {}
        made.append(record(number, live, source.uniform(0, 4000), challenger=shadow, **other))
    return made


def chosen(
    count: int, seed: int, answers: Callable[[random.Random, int], tuple[Any, Any]], **more: Any
) -> list[Record]:
    """`count` records a second apart whose live and shadow answers `answers` makes, at like latencies."""
    source = random.Random(seed)
    made = []
    for number in range(count):
        live, shadow = answers(source, number)
        legs = (each if isinstance(each, RecordedLeg) else answer(each) for each in (live, shadow))
        one, other = (
            leg._replace(total_ms=source.lognormvariate(1, 0.4)) if leg.outcome is Outcome.OK else leg for leg in legs
        )
        request = RecordedRequest("POST", "/predict", "", {}, Body("json", {"n": number % 7, **more}, 8))
        made.append(record(number, one, number, s=other)._replace(request=request))
    return made
