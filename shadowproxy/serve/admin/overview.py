"""The sidecar at a glance, as the page shows it: how it stands, and what happened over the last minutes.

A sample of what was counted is taken once a second, and whoever listens is sent the same bytes: a second costs the
same for one listener and for many.
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
from shadowproxy.exchange import CONTROL, Outcome
from shadowproxy.serve.admin.census import Census, ShadowCensus
from shadowproxy.serve.admin.trend import LIVE, RATE_WINDOW, WINDOW, Span, Trend, milliseconds, quantile

EVERY = 1.0
"""Seconds between two samples, and between two events."""

LISTENERS = 16
"""More at once are refused."""

Interval: TypeAlias = Callable[[int, int], tuple[float, float]]

_NOT_LIVES_FAULT = frozenset({Outcome.OK, Outcome.CALLER_LEFT})
_log = logging.getLogger(__name__)


class Overview:
    """Owns the task that takes samples, from `start` to `stop`.

    `latest` is the last sample. `census` tells how the sidecar stands now. `proxy` is host and worker, as in the
    records. `interval` gives the bounds of a share of k in n.
    """

    def __init__(self, census: Callable[[], Awaitable[Census]], *, proxy: str, interval: Interval) -> None:
        self.latest: Census | None = None
        self._census = census
        self._proxy = proxy
        self._interval = interval
        self._trend = Trend()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._beating: asyncio.Task[None] | None = None
        self._next: asyncio.Future[bytes | None] = self._loop.create_future()  # the next event; None: there is none
        self._listeners = 0

    def __repr__(self) -> str:
        return f"<Overview {self._trend} listeners={self._listeners}>"

    async def start(self) -> None:
        await self._sample()
        self._beating = self._loop.create_task(self._beat())

    async def stop(self) -> None:
        """Take no more samples, and end every listener's events at once. Called again, do nothing."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        if not self._next.done():
            self._next.set_result(None)

    async def now(self) -> bytes:
        """The overview of this moment, as JSON on one line. The rates and shares are those of the last sample."""
        return self._told(await self._census())

    def _told(self, census: Census) -> bytes:
        uptime = self._loop.time() - self._began
        told = tell(census, self._trend, self._interval, proxy=self._proxy, uptime=uptime)
        return orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS)

    @property
    def is_full(self) -> bool:
        return self._listeners >= LISTENERS

    @contextlib.contextmanager
    def listener(self) -> Iterator[AsyncIterator[bytes]]:
        """What a listener is sent: the overview now and then every second. One who is slow misses those in between."""
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

    async def _beat(self) -> None:
        due = self._loop.time()
        while True:
            # By the clock, so that asking several workers does not make the seconds longer.
            due = max(due + EVERY, self._loop.time())
            await asyncio.sleep(due - self._loop.time())
            try:
                census = await self._sample()
                if self._listeners:
                    told, self._next = self._next, self._loop.create_future()
                    told.set_result(self._told(census))
            except Exception:  # noqa: BLE001  # the page stands still for a second; requests are not to notice
                _log.exception("a defect in the proxy, telling how it stands", extra={"event": "defect"})

    async def _sample(self) -> Census:
        self.latest = census = await self._census()
        self._trend.add(census, self._loop.time(), time.time())
        return census


def tell(census: Census, trend: Trend, interval: Interval, *, proxy: str, uptime: float) -> dict[str, Any]:
    """The overview as plain values for JSON; docs/admin.md tells what each is. Milliseconds where a name says so."""
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
            "lost": journal.lost,
            "queued": journal.queued,
            "last_error": journal.last_error,
            "failing": journal.failing,
        },
        "overload": {
            "loop_lag_ms": round(census.loop_lag * 1000, 3),
            "memory_held": census.memory_held,
            "memory_limit": census.memory_limit,
        },
    }


def _live(census: Census, trend: Trend) -> dict[str, Any]:
    span = trend.over(WINDOW, LIVE)
    ended = sum(span.outcomes.values())
    failed = sum(count for outcome, count in span.outcomes.items() if outcome not in _NOT_LIVES_FAULT)
    return {
        "url": census.live_url,
        "rate": _rate(LIVE, trend),
        "in_flight": census.in_flight,
        "errors_share": round(failed / ended, 6) if ended else None,
        "outcomes": span.outcomes,
        "latency": {"mirrored": _latency(span.times), "not_mirrored": _latency(span.alone)},
        "series": [point[:4] for point in trend.curve(LIVE)],
    }


def standing(shadow: ShadowCensus) -> dict[str, Any]:
    """How a shadow stands now, as every answer says it."""
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
    }


def sampling_keys(census: Census) -> dict[str, int]:
    """How many requests had a sampling key that was new, and how many one that had just come before."""
    return {"first": census.keys_first, "again": census.keys_again}


def _shadow(shadow: ShadowCensus, trend: Trend, interval: Interval) -> dict[str, Any]:
    span = trend.over(WINDOW, shadow.name)
    return {
        "name": shadow.name,
        **standing(shadow),
        "rate": _rate(shadow.name, trend),
        "outcomes": span.outcomes,
        "latency": _latency(span.times),
        "agreement": _agreement(span, interval),
        "verdicts": span.verdicts,
        "series": trend.curve(shadow.name),
    }


def budget(shadow: ShadowCensus) -> dict[str, Any] | None:
    """How much of a shadow's budget is used, None where it has none."""
    if shadow.budget_requests is None and shadow.budget_left is None:
        return None
    requests = None
    if shadow.budget_requests is not None:
        requests = {"used": shadow.begun, "allowed": shadow.budget_requests}
    return {"requests": requests, "seconds_left": shadow.budget_left and round(shadow.budget_left, 1)}


def _agreement(span: Span, interval: Interval) -> dict[str, Any] | None:
    """The share that agrees of what could be compared."""
    if not span.compared:
        return None
    low, high = interval(span.agreed, span.compared)
    return {
        "share": round(span.agreed / span.compared, 6),
        "low": round(low, 6),
        "high": round(high, 6),
        "compared": span.compared,
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
