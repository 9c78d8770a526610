"""One shadow: its settings, its counts, and what its endpoint must offer."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from shadowproxy.exchange import Field, Outcome
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.policy.arms import Arms
from shadowproxy.serve.policy.not_chosen import NotChosen
from shadowproxy.serve.policy.rewrite import Rewrite
from shadowproxy.serve.policy.sampling import Match
from shadowproxy.serve.state.settings import StateSettings
from shadowproxy.serve.telemetry.durations import DurationBuckets
from shadowproxy.serve.upstreams.roundtrip import RoundTrip


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """What the configuration says about one shadow. Times are in seconds; a `budget_*` of None means no such bound.

    `state`: the shadow has IDs of its own, and how they are learnt; None if requests are sent as they are.

    `unusable` says why the shadow cannot be used now, None means that it can. `repeats_by_default`: the file names no
    methods for it, so the default ones apply. `ramped`: its percent rises by itself, and what that is decided by is
    counted; `hold_out` percent of the requests are then never sent to it.
    """

    name: str
    percent: float
    match: Match
    rewrite: Rewrite
    timeout: float
    in_flight: int
    lane: int
    breaker_failures: int
    breaker_pause: float
    budget_requests: int | None = None
    budget_duration: float | None = None
    budget_tokens: int | None = None
    budget_cost: float | None = None
    forward_credentials: bool = False
    unusable: str | None = None
    repeats_by_default: bool = False
    state: StateSettings | None = None
    ramped: bool = False
    hold_out: float = 0.0


@dataclass(slots=True)
class ShadowCounts:
    """One shadow's counts since the start. Verdicts are not among them: the recorder counts these.

    `arms` is what its ramp is decided by, and begins again whenever it is taken.
    """

    chosen: int = 0
    translated: int = 0
    not_chosen: Counter[NotChosen] = field(default_factory=Counter)
    retries: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    times: DurationBuckets = field(default_factory=DurationBuckets)
    arms: Arms = field(default_factory=Arms)


class ShadowEndpoint(Protocol):
    """What a lane needs of its endpoint (`upstreams.endpoint.Endpoint`)."""

    @property
    def url(self) -> str: ...

    def send(
        self,
        round_trip: RoundTrip,
        method: str,
        target: bytes,
        fields: list[Field],
        body: bytes,
        section: Section | None = None,
        /,
    ) -> None: ...
