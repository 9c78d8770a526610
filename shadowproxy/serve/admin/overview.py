"""Computes what the page shows: the sidecar's state, and counts and quantiles of the last minutes.

All counts are sampled once a second, and all listeners are sent the same bytes: a second costs the same for one and for
many.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson

from shadowproxy import __version__
from shadowproxy.exchange import CONTROL, LIVE, Outcome
from shadowproxy.serve.admin.census import Census, RampCensus, ShadowCensus
from shadowproxy.serve.admin.trend import RATE_WINDOW, WINDOW, Period, Trend, milliseconds, quantile

SAMPLE_EVERY = 1.0
"""Seconds between two samples, and between two events."""

MAX_LISTENERS = 16
"""More at once are rejected."""

ShareInterval: TypeAlias = Callable[[int, int], tuple[float, float]]

_NOT_LIVES_FAULT = frozenset({Outcome.OK, Outcome.CALLER_LEFT})
_log = logging.getLogger(__name__)


class Overview:
    """Owns the task that takes samples, from `start` to `stop`.

    `latest` is the last sample. `census` takes a new one. `proxy` is host and worker, as in the records. `interval`
    returns the confidence interval of a share of k in n. `began` is when the program did, by time.monotonic; now, if it
    is None. `fresh`: no overview was there before this one, so it also shows what the first census has counted already.
    """

    def __init__(
        self,
        census: Callable[[], Awaitable[Census]],
        *,
        proxy: str,
        interval: ShareInterval,
        began: float | None = None,
        fresh: bool = False,
    ) -> None:
        self.latest: Census | None = None
        self._census = census
        self._proxy = proxy
        self._interval = interval
        self._trend = Trend()
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic() if began is None else began
        self._fresh = fresh
        self._sampling: asyncio.Task[None] | None = None
        self._next: asyncio.Future[bytes | None] = self._loop.create_future()  # the next event; None at the end
        self._listeners = 0

    def __repr__(self) -> str:
        return f"<Overview {self._trend} listeners={self._listeners}>"

    async def start(self) -> None:
        if self._fresh:
            self._trend.begin(await self._census(), self._loop.time())
        await self._sample()
        self._sampling = self._loop.create_task(self._sample_for_ever())

    async def stop(self) -> None:
        """Take no more samples, and end every listener's events at once. May be called again."""
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.wait([self._sampling])
        if not self._next.done():
            self._next.set_result(None)

    async def now(self) -> bytes:
        """The overview of this moment, as JSON on one line. Rates and shares are those of the last sample."""
        return self._encoded(await self._census())

    def _encoded(self, census: Census) -> bytes:
        uptime = time.monotonic() - self._began
        values = overview(census, self._trend, self._interval, proxy=self._proxy, uptime=uptime)
        return orjson.dumps(values, option=orjson.OPT_NON_STR_KEYS)

    @property
    def is_full(self) -> bool:
        return self._listeners >= MAX_LISTENERS

    @contextlib.contextmanager
    def listener(self) -> Iterator[AsyncIterator[bytes]]:
        """What a listener is sent: the overview now and then every second. A slow listener misses some."""
        self._listeners += 1
        try:
            yield self._events()
        finally:
            self._listeners -= 1

    async def _events(self) -> AsyncIterator[bytes]:
        if not self._next.done():
            yield await self.now()
        # Shielded: a listener that leaves is cancelled, and the others wait for the same future.
        while (event := await asyncio.shield(self._next)) is not None:
            yield event

    async def _sample_for_ever(self) -> None:
        due = self._loop.time()
        while True:
            # By the clock, so that asking several workers does not make the seconds longer.
            due = max(due + SAMPLE_EVERY, self._loop.time())
            await asyncio.sleep(due - self._loop.time())
            try:
                census = await self._sample()
                if self._listeners:
                    event, self._next = self._next, self._loop.create_future()
                    event.set_result(self._encoded(census))
            except Exception:  # noqa: BLE001  # the page stands still for a second; requests go on
                _log.exception("a defect in the proxy: the overview misses a second", extra={"event": "defect"})

    async def _sample(self) -> Census:
        self.latest = census = await self._census()
        self._trend.add(census, self._loop.time(), time.time())
        return census


def overview(census: Census, trend: Trend, interval: ShareInterval, *, proxy: str, uptime: float) -> dict[str, Any]:
    """The overview as plain values for JSON; docs/reference/admin.md describes each. Milliseconds where named so."""
    config, journal = census.config, census.journal
    lanes = {shadow.name: _shadow(shadow, trend, interval) for shadow in census.shadows}
    control = lanes.pop(CONTROL, None)
    return {
        "at": _iso(time.time()),
        "version": __version__,
        "proxy": proxy,
        "uptime_seconds": round(uptime, 1),
        "window_seconds": WINDOW,
        "state": "ready" if census.accepts else "stopping",
        "paused": census.paused,
        "config": {
            "generation": config.generation,
            "loaded_at": _iso(config.loaded_at),
            "reload_ok": config.error is None,
            "reload_error": config.error,
        },
        "live": _live(census, trend),
        "shadows": list(lanes.values()),
        "control": control,
        "sampling_keys": sampling_keys(census),
        "journal": {
            "written": journal.written,
            "sampled_out": journal.sampled_out,
            "lost": journal.lost,
            "queued": journal.queued,
            "last_error": journal.last_error,
            "failing": journal.failing,
        },
        "uploads": None if census.uploads is None else census.uploads._asdict(),
        "overload": {
            "loop_lag_ms": round(census.loop_lag * 1000, 3),
            "memory_held": census.memory_held,
            "memory_limit": census.memory_limit,
        },
    }


def _live(census: Census, trend: Trend) -> dict[str, Any]:
    period = trend.over(WINDOW, LIVE)
    ended = sum(period.outcomes.values())
    failed = sum(count for outcome, count in period.outcomes.items() if outcome not in _NOT_LIVES_FAULT)
    return {
        "url": census.live_url,
        "rate": _rate(LIVE, trend),
        "in_flight": census.in_flight,
        "answers_failed": census.answers_failed,
        "errors_share": round(failed / ended, 6) if ended else None,
        "outcomes": period.outcomes,
        "latency": {"mirrored": _latency(period.times), "not_mirrored": _latency(period.alone)},
        "series": [point[:4] for point in trend.curve(LIVE)],
    }


def shadow_state(shadow: ShadowCensus) -> dict[str, Any]:
    """A shadow's state now, the same in every response."""
    return {
        "url": shadow.url,
        "percent": shadow.percent,
        "configured_percent": shadow.configured_percent,
        "paused": shadow.paused,
        "unusable": shadow.unusable,
        "breaker": shadow.breaker,
        "in_flight": shadow.in_flight,
        "waiting": shadow.waiting,
        "budget": budget(shadow),
        "not_chosen": shadow.not_chosen,
        "answers_failed": shadow.answers_failed,
        "state": state(shadow),
        "ramp": ramp(shadow.ramp),
    }


def ramp(ramp: RampCensus | None) -> dict[str, Any] | None:
    """Where a percent that rises by itself stands; None where it is a number."""
    if ramp is None:
        return None
    last = ramp.last
    return {
        "state": ramp.state,
        "steps": ramp.steps,
        "percent": ramp.percent,
        "next": None
        if ramp.next_percent is None or ramp.next_at is None
        else {"percent": ramp.next_percent, "at": _iso(ramp.next_at)},
        "why": ramp.why,
        "raised": ramp.raised,
        "back": ramp.back,
        "last": None if last is None else {"at": _iso(last.at), "from": last.before, "to": last.after, "why": last.why},
        "conditions": [
            {
                "name": each.name,
                "result": each.word,
                "figure": _rounded(each.figure),
                "low": _rounded(each.low),
                "allowed": each.allowed,
                "says": each.says,
            }
            for each in ramp.conditions
        ],
    }


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 6)


def state(shadow: ShadowCensus) -> dict[str, int] | None:
    """What is known of a stateful shadow's own IDs; None without `state`."""
    if shadow.ids is None:
        return None
    return {"translated": shadow.translated, "ids": shadow.ids, "dropped": shadow.ids_dropped}


def sampling_keys(census: Census) -> dict[str, int]:
    """How many requests had a new sampling key, and how many one that was seen shortly before."""
    return {"first": census.keys_first, "again": census.keys_again}


def _shadow(shadow: ShadowCensus, trend: Trend, interval: ShareInterval) -> dict[str, Any]:
    period = trend.over(WINDOW, shadow.name)
    return {
        "name": shadow.name,
        **shadow_state(shadow),
        "rate": _rate(shadow.name, trend),
        "outcomes": period.outcomes,
        "latency": _latency(period.times),
        "agreement": _agreement(period, interval),
        "verdicts": period.verdicts,
        "series": trend.curve(shadow.name),
    }


def budget(shadow: ShadowCensus) -> dict[str, Any] | None:
    """How much of a shadow's budget is used; None without a budget."""
    parts = {name: {"used": used, "allowed": allowed} for name, used, allowed in shadow.budget_parts}
    if not parts and shadow.budget_left is None:
        return None
    return {
        "requests": parts.get("requests"),
        "tokens": parts.get("tokens"),
        "cost": parts.get("cost"),
        "seconds_left": shadow.budget_left and round(shadow.budget_left, 1),
    }


def _agreement(period: Period, interval: ShareInterval) -> dict[str, Any] | None:
    """The share of answers that agree, among those that could be compared; None without any."""
    if not period.compared:
        return None
    low, high = interval(period.agreed, period.compared)
    return {
        "share": round(period.agreed / period.compared, 6),
        "low": round(low, 6),
        "high": round(high, 6),
        "compared": period.compared,
    }


def _rate(name: str, trend: Trend) -> float:
    return round(trend.over(RATE_WINDOW, name).rate, 2)


def _latency(times: Sequence[int]) -> dict[str, Any]:
    return {
        "p50_ms": milliseconds(quantile(0.5, times)),
        "p99_ms": milliseconds(quantile(0.99, times)),
        "count": sum(times),
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
