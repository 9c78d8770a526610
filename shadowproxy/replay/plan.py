"""What a replay is to do, and what came of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shadowproxy.compare.fold.filters import EVERYTHING, Only
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.config import REPEATABLE, Shadow
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.recorder.policy import Policy
from shadowproxy.replay.again import Unfit

LATE: Final = 0.1
"""Seconds after its time from which on a request counts as sent late."""


MOST_METHODS: Final = 16
"""Methods that are told of by name: callers may send any."""


class ReplayError(Exception):
    """The replay cannot begin or go on. The text is one line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent where, and how fast.

    `rate` is requests a second: infinite is as fast as answers come, None as they came then. `query` holds what
    redacted query parameters are filled with. `capture` and `memory` are bytes, of one answer and of all under way.
    `methods` are those that may be sent again, all where `*` is among them.
    """

    logs: tuple[str, ...]
    name: str
    shadow: Shadow
    output: Path
    only: Only = EVERYTHING
    limit: int | None = None
    rate: float | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    policy: Policy = field(default_factory=Policy)
    capture: int = 8 << 20
    memory: int = 256 << 20
    methods: frozenset[str] = frozenset(REPEATABLE)


@dataclass(slots=True)
class Tally:
    """What came of a replay. `skipped` and `unreadable` say of what was not sent, why; `seconds` is how long it took.

    `methods` counts the requests that were not sent for their method, by it, up to MOST_METHODS different ones.
    `times` counts answers by the bin of their milliseconds. `late` were sent over LATE seconds after their time, the
    latest by `latest`. `marked`: live's logged answers in which something was redacted.
    """

    begun: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)
    skipped: Counter[Unfit] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    decoded: int = 0
    inexact: int = 0
    not_rewritten: int = 0
    marked: int = 0
    late: int = 0
    latest: float = 0.0
    seconds: float = 0.0
    interrupted: bool = False

    def skip(self, why: Unfit, unnamed: list[str]) -> None:
        """Count a request that is not sent, and the methods for which it is not."""
        self.skipped[why] += 1
        for method in unnamed:
            if method in self.methods or len(self.methods) < MOST_METHODS:
                self.methods[method] += 1

    @property
    def sound(self) -> bool:
        """Whether every request that was begun was answered."""
        return self.outcomes[Outcome.OK] == self.begun
