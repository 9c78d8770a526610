"""A log that grows day by day on real flights, whose labels come when the planes have arrived."""

import csv
import gzip
import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.history import Look
from shadowproxy.demo import flights
from shadowproxy.watch.history import HistoryFile
from shadowproxy.watch.labelled import Windows
from shadowproxy.watch.labels import Files
from shadowproxy.watch.look import Looking, Plan
from shadowproxy.watch.run import Outputs, look_once
from shadowproxy.watch.state import State

START = datetime(2026, 9, 1, tzinfo=UTC)
DAY = 86400.0
SEPTEMBER = Path(__file__).parent / "data" / "september.csv.gz"

Flight = tuple[int, int, str, str, str]
"""The minute of its day, its delay, live's answer, the shadow's, and how it arrived."""


def september() -> list[list[Flight]]:
    """The flights of each day of the month."""
    says = {"0": flights.ON_TIME, "1": flights.LATE}
    days: list[list[Flight]] = [[] for _ in range(30)]
    with gzip.open(SEPTEMBER, "rt", newline="") as file:
        for row in csv.DictReader(file):
            day, minute = divmod(int(row["minute"]), 1440)
            delay = int(row["dep_delay"])
            live = flights.LATE if delay > 15 else flights.ON_TIME
            days[day].append((minute, delay, live, says[row["shadow"]], says[row["late"]]))
    return days


def line(
    number: int, at: datetime, live: Any, shadow: Any, *, delay: int = 0, ms: float = 5.0, weight: int = 1
) -> bytes:
    """A record whose answers are predictions."""

    def leg(answer: Any) -> dict[str, Any]:
        return {
            "outcome": "ok",
            "status": 200,
            "headers": {"content-type": "application/json"},
            "body": {"predictions": [answer]},
            "body_bytes": 20,
            "first_byte_ms": ms / 2,
            "total_ms": ms,
        }

    asked = {"method": "POST", "path": "/invocations", "query": "", "headers": {}, "body": {"dep_delay": delay}}
    return json.dumps(
        {
            "schema": 1,
            "id": f"id-{number}",
            "record": f"record-{number}",
            "at": at.isoformat().replace("+00:00", "Z"),
            "proxy": "host/1",
            "request": {**asked, "body_bytes": 10},
            "live": leg(live),
            "shadows": {"challenger": leg(shadow)},
            "control": None,
            **({"weight": weight} if weight > 1 else {}),
        }
    ).encode() + b"\n"  # fmt: skip


class Watched:
    """A log, its labels and its watcher in one folder, with a clock that the test sets."""

    def __init__(self, directory: Path, *, windows: Sequence[float] = (DAY,), **plan: Any) -> None:
        self.log = directory / "log"
        self.log.mkdir()
        self.labels = directory / "labels.csv"
        self.labels.write_text("id,label,at\n")
        self.history = directory / "history.jsonl"
        self.now = START
        self.said: list[str] = []
        plan.setdefault("labels", Files((str(self.labels),)))
        self.plan = Plan((str(self.log),), (), Rules(), Windows(tuple(windows)), **plan)

    def look(self, **outputs: Any) -> Look:
        """One look by a watcher that is started for it."""
        state = self.history.with_name("state")
        with State(state) as held, HistoryFile(self.history) as history:
            looking = Looking(self.plan, held, lambda: self.now)
            return look_once(looking, history, Outputs(self.said.append, **outputs), strict=True)

    def label(self, number: int, label: Any, at: datetime | None = None) -> None:
        with self.labels.open("a") as file:
            file.write(f"id-{number},{label},{'' if at is None else at.isoformat()}\n")

    def month(
        self,
        days: Sequence[list[Flight]],
        seed: int,
        on_look: Callable[[Look], None],
        *,
        swapped: bool = False,
        hours: int = 24,
    ) -> None:
        """Look every so many hours; `swapped` has the trained model as live."""
        source = random.Random(seed)
        number = 0
        waiting: list[tuple[datetime, int, str]] = []
        for part in range(len(days) * 24 // hours):
            day, begin = divmod(part * hours * 60, 1440)
            midnight = START + timedelta(days=day)
            with (self.log / f"part-{part:03}.jsonl").open("wb") as file:
                for minute, delay, live, shadow, late in days[day]:
                    if not begin <= minute < begin + hours * 60:
                        continue
                    at = midnight + timedelta(minutes=minute, seconds=source.random() * 60)
                    one, other = (shadow, live) if swapped else (live, shadow)
                    file.write(line(number, at, one, other, delay=delay, ms=source.lognormvariate(1, 0.3)))
                    # A plane arrives some hours later, and a late one later.
                    arrived = at + timedelta(minutes=delay + source.uniform(60, 400))
                    waiting.append((arrived, number, late))
                    number += 1
            self.now = midnight + timedelta(minutes=begin, hours=hours)
            for arrived, each, late in waiting:
                if arrived <= self.now:
                    self.label(each, late, arrived)
            waiting = [each for each in waiting if each[0] > self.now]
            on_look(self.look())
