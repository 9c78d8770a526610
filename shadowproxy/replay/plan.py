"""The plan of a replay, and the counts of its result."""

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
from shadowproxy.replay.request import NotSent
from shadowproxy.serve.state.settings import StateSettings

LATE: Final = 0.1
"""A request sent more than so many seconds after its time counts as late."""


MOST_METHODS: Final = 16
"""Most methods that are counted by name: callers may invent any number."""


class ReplayError(Exception):
    """The replay cannot begin or go on. The text is one line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, where, and how fast.

    `rate` is in requests a second: infinite means as fast as the endpoint answers, None the recorded pace. `query` has
    the values for redacted query parameters. `capture` and `memory` are bytes, of one answer and of all under way.
    `methods` may be sent; `*` means all. `state`: the endpoint gets its own IDs in place of live's.
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
    state: StateSettings | None = None


@dataclass(slots=True)
class ReplayCounts:
    """The result of a replay. `skipped` and `unreadable` count what was not sent, by reason; `seconds` is its duration.

    `methods` counts the requests not sent because of their method, for up to MOST_METHODS different methods. `times`
    counts answers by the bin of their milliseconds. `late` requests were sent more than LATE seconds after their time,
    the latest `latest` seconds after. `translated` requests were sent with the endpoint's own IDs. `marked` counts
    live's recorded answers with a redacted value.
    """

    begun: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)
    skipped: Counter[NotSent] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    decoded: int = 0
    inexact: int = 0
    not_rewritten: int = 0
    marked: int = 0
    late: int = 0
    latest: float = 0.0
    translated: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def skip(self, why: NotSent, unnamed: list[str]) -> None:
        """Count a request that is not sent, and the methods that are the reason."""
        self.skipped[why] += 1
        for method in unnamed:
            if method in self.methods or len(self.methods) < MOST_METHODS:
                self.methods[method] += 1

    @property
    def sound(self) -> bool:
        """Whether every request that was begun was answered."""
        return self.outcomes[Outcome.OK] == self.begun
