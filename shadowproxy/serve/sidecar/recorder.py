"""The recorder's side: all of the recorder between its sockets. It has exchanges judged and written, keeps the latest
records, and serves the admin server's pages."""

import asyncio
import logging
import pickle
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from shadowproxy.exchange import Verdict
from shadowproxy.serve.admin import census
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.admin.recent import Recent
from shadowproxy.serve.handover.inbox import Inbox, LiveState
from shadowproxy.serve.journal.notices import Notice
from shadowproxy.serve.journal.queue import Encode, Item
from shadowproxy.serve.journal.root import Journal
from shadowproxy.serve.sidecar import recording
from shadowproxy.serve.sidecar.opened import Opened
from shadowproxy.serve.sidecar.specs import RecorderSpec
from shadowproxy.serve.sidecar.supervisor_state import SupervisorState, supervised
from shadowproxy.serve.standing.answer import StandingVerdict
from shadowproxy.serve.standing.root import Standing
from shadowproxy.serve.standing.settings import StandingSettings
from shadowproxy.serve.telemetry import tracing
from shadowproxy.serve.upload.root import Uploads
from shadowproxy.serve.upload.statistics import UploadStatistics

if TYPE_CHECKING:
    from prometheus_client import Metric

    from shadowproxy.serve.telemetry.otlp_metrics import MetricsSender

FLUSH = 10.0
"""Seconds beyond `drain` that stopping waits for a slow disk."""

LAST = 1.0
"""The same, after live processes have waited for it."""

LAST_SEGMENT = 5.0
"""Seconds that stopping waits for the store to have the last segment; it is sent after the next start otherwise."""

LAST_COUNT = 5.0
"""Seconds that stopping waits for the last records to be counted."""

LOSSES_EVERY = 5.0
"""Seconds after which the standing verdict is told what was lost by now."""

APART = 4
"""Processes of each number that have ended, whose counts are kept apart: what ended may be their connection alone."""

_log = logging.getLogger("shadowproxy")
_LEVELS = {
    "records_lost": logging.ERROR,
    "log_trouble": logging.WARNING,
    "log_recovered": logging.INFO,
    "upload_trouble": logging.WARNING,
    "upload_recovered": logging.INFO,
    "upload_lost": logging.ERROR,
    "verdict_changed": logging.INFO,
    "verdict_trouble": logging.WARNING,
    "verdict_recovered": logging.INFO,
}


class Commands(Protocol):
    """What operators change. Each raises KeyError for the name of no shadow, and Unconfirmed."""

    async def pause(self, name: str | None) -> None: ...
    async def resume(self, name: str | None) -> None: ...
    async def set_percent(self, name: str, percent: float) -> None: ...


class RecorderSide(Opened):
    """Owns the journal, the inbox and the traces; `inbox` gets a socket for each live process. Use as `async with`.

    `name` is the host's. `lives` is how many live processes there are at once. Each has a name NUMBER.RUN: the numbers
    are 0, 1 and so on, and a process has the number of the one that it replaces, and the next run.
    `earlier` are the specs of generations under which exchanges may still settle, `ended` is what processes that have
    ended had counted, `supervisor` what the supervisor knows. `note_ended` is called with the name and the last census
    of each live process that has ended. Leaving waits until every live process has closed its connection and all is
    written, `flush` seconds at most; None: as long as live processes may take.
    """

    def __init__(
        self,
        spec: RecorderSpec,
        *,
        name: str,
        commands: Commands,
        lives: int = 1,
        earlier: Iterable[RecorderSpec] = (),
        supervisor: SupervisorState | None = None,
        ended: Census | None = None,
        note_ended: Callable[[str, Census], object] = lambda name, census: None,
    ) -> None:
        super().__init__()
        self.supervisor = supervisor or SupervisorState()
        self.name = name
        self._began = self.supervisor.began
        self.recent = Recent()
        self.journal = Journal(
            spec.journal.path,
            proxy=f"{name}/0",
            settings=recording.journal_settings(spec.journal),
            notify=_log_notice,
            written=self._count,
        )
        self.standing = Standing(
            None if spec.journal.path == "-" else Path(spec.journal.path),
            proxy=name,
            settings=recording.standing(spec, self._began),
            notify=_log_notice,
        )
        self.uploads = Uploads(notify=_log_notice)
        self._spec = spec
        self._specs = {each.generation: each for each in (*earlier, spec)}
        self._commands = commands
        self._ended = ended
        self._ended_apart: dict[str, Census] = {}  # the latest of these, by name
        self._note_ended = note_ended
        self.flush: float | None = None
        self._tracer = tracing.tracer_from_environment(f"{name}/0")
        self._metrics = tracing.metrics_from_environment(f"{name}/0")
        self._encoders: dict[tuple[str, int], Encode] = {}
        self._counted_by: dict[Encode, StandingSettings] = {}  # how the records of each encoder are counted
        self._lives = [str(number) for number in range(lives)]
        self._oldest: dict[str, int] = {}
        self._until = 0.0
        self._admin: AsyncExitStack | None = None
        self._noting: asyncio.TimerHandle
        self.inbox: Inbox

    def __repr__(self) -> str:
        return f"<RecorderSide {self.journal!r}>"

    @property
    def spec(self) -> RecorderSpec:
        """How exchanges of the newest generation are recorded."""
        return self._spec

    async def _open(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._close_telemetry)
        if self._metrics is not None:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            stack.callback(tasks.create_task(self._offer_metrics(self._metrics)).cancel)
        stack.push_async_callback(self._close_uploads)
        stack.push_async_callback(self._close_standing)
        await asyncio.to_thread(self.journal.open)
        stack.push_async_callback(self._close_journal)
        self.uploads.job = recording.upload_job(self._spec)
        self.inbox = Inbox(self.journal, self._encoder, on_note=self._note_oldest, on_end=self._end)
        stack.push_async_callback(self._close_inbox)
        self._note_losses()
        stack.callback(self._stop_noting)
        self._admin = await stack.enter_async_context(AsyncExitStack())

    def _note_losses(self) -> None:
        """Tell the standing verdict now and then what was lost, whoever asks for metrics or not."""
        self._noting = asyncio.get_running_loop().call_later(LOSSES_EVERY, self._note_losses)
        self.census()

    def _stop_noting(self) -> None:
        self._noting.cancel()

    async def serve_admin(self, channel: socket.socket) -> None:
        """Answer operators whose requests come over `channel`, until the end."""
        # Imported here: without an admin server it would be a third of the memory.
        from shadowproxy.serve.admin.serving import serve_admin

        assert self._admin is not None  # since `__aenter__`
        operated = _Operated(self, self._commands)
        await serve_admin(
            self._admin,
            channel,
            operated,
            proxy=self.name,
            spec=lambda: self._spec,
            began=self.supervisor.began,
            fresh=self.supervisor.recorder_restarts == 0,
        )

    def add(self, name: str, theirs: socket.socket) -> None:
        """Read from a live process, whose records have the name HOST/NUMBER."""
        self.inbox.add(name, theirs)

    def prepare(self, spec: RecorderSpec) -> None:
        """Record exchanges of `spec.generation` by `spec`. Call it before any live process begins one."""
        encode = recording.encoder(spec, self.name, seen=self.recent.add)  # on trial
        del encode
        self._specs[spec.generation] = spec

    def adopt(self, generation: int) -> None:
        """Show the configuration of this generation, and write the log by its settings."""
        self._spec = self._specs[generation]
        self.journal.settings = recording.journal_settings(self._spec.journal)
        self.uploads.job = recording.upload_job(self._spec)
        self.standing.adopt(recording.standing(self._spec, self._began))

    # --- figures -----------------------------------------------------------------------------------------------------

    def census(self) -> Census | None:
        """The counts and states of all live processes together, and of the log. None where nothing is known yet."""
        known = {name: _known(state) for name, state in self.inbox.states().items()}
        running = {name: each for name, each in known.items() if each is not None}
        ended = [each for name, each in self._ended_apart.items() if name not in running]
        if self._ended is not None:
            ended.insert(0, self._ended)
        if not running and not ended:
            return None
        log = self.journal.statistics()
        merged = supervised(census.merge(list(running.values()), ended), self.supervisor)
        steering = self.supervisor.steering
        self.standing.note_lost(sum(merged.journal.lost.values()))
        return replace(
            merged,
            shadows=tuple(
                replace(
                    each,
                    paused=each.name in steering.paused_shadows,
                    percent=steering.percent(each.name, each.percent),
                )
                for each in merged.shadows
            ),
            uploads=self._uploads(),
            standing=self.standing.words(),
            journal=merged.journal._replace(segments=log.segments, last_error=log.last_error, failing=log.failing),
        )

    def _uploads(self) -> UploadStatistics | None:
        found = self.uploads.statistics()
        return None if found is None else found._replace(removed=self.journal.removed_unsent)

    @property
    def oldest(self) -> int:
        """The oldest generation of which exchanges may still come."""
        return min(self._specs)

    def _end(self, name: str, state: LiveState, orderly: bool) -> None:
        if name not in self.inbox.states():  # else it is connected again
            self._oldest.pop(name, None)
        known = _known(state)
        if known is None:
            return
        # A process whose connection alone has ended connects again, and counts on: its counts are kept once.
        self._ended_apart.pop(name, None)
        self._ended_apart[name] = known
        if len(self._ended_apart) > APART * len(self._lives):
            earliest = self._ended_apart.pop(next(iter(self._ended_apart)))
            self._ended = census.merge((), [each for each in (self._ended, earliest) if each is not None])
        self._note_ended(name, known)

    async def _offer_metrics(self, sender: "MetricsSender") -> None:
        while True:
            await asyncio.sleep(sender.every)
            sender.offer(self._families(), self._began_ns())

    async def _close_telemetry(self) -> None:
        """The two at once: stopping waits no longer for both."""
        closing = [] if self._tracer is None else [asyncio.to_thread(self._tracer.close)]
        if self._metrics is not None:
            closing.append(asyncio.to_thread(self._metrics.close, self._families(), self._began_ns()))
        await asyncio.gather(*closing)

    def _families(self) -> "list[Metric]":
        from shadowproxy.serve.admin.metrics import families  # much to import, and mostly nobody asks for it

        known = self.census()
        return [] if known is None else [*families(known)]

    def _began_ns(self) -> int:
        return time.time_ns() - round((time.monotonic() - self.supervisor.began) * 1e9)

    # --- recording ---------------------------------------------------------------------------------------------------

    def _encoder(self, live: str, generation: int) -> Encode:
        """What makes the lines of a live process's exchanges. Raises KeyError."""
        number = _number(live)
        found = self._encoders.get((number, generation))
        if found is None:
            found = self._encoders[number, generation] = recording.encoder(
                self._specs[generation],
                f"{self.name}/{number}",
                seen=self.recent.add,
                trace=self._tracer.send if self._tracer is not None else None,
            )
            settings = recording.standing(self._specs[generation], self._began)
            if settings is not None:
                self._counted_by = {**self._counted_by, found: settings}
        return found

    def _count(self, items: list[Item]) -> None:
        """Have records counted that were written, in the writing thread."""
        known = self._counted_by
        if known:
            self.standing.offer(
                [(each.line, known[each.encode]) for each in items if each.verdicts and each.encode in known]
            )

    def _note_oldest(self, live: str, oldest: int) -> None:
        """Drop the specs of generations under which no exchange can come any more.

        A live process that is not connected yet may still hold some, from before this recorder was started, and what
        one that has ended had sent may not be read yet.
        """
        self._oldest[live] = oldest
        connected = {_number(name) for name in self._oldest}
        least = min(self._oldest.values()) if connected.issuperset(self._lives) else 0
        self._specs = {number: each for number, each in self._specs.items() if number >= least}
        self._encoders = {key: each for key, each in self._encoders.items() if key[1] >= least}
        encoders = set(self._encoders.values())
        self._counted_by = {each: settings for each, settings in self._counted_by.items() if each in encoders}

    async def _close_inbox(self) -> None:
        within = self._spec.drain + FLUSH if self.flush is None else self.flush
        self._until = asyncio.get_running_loop().time() + within
        await self.inbox.close(within)

    async def _close_journal(self) -> None:
        left = self._until - asyncio.get_running_loop().time()
        await asyncio.to_thread(self.journal.close, max(0.5, left))

    async def _close_standing(self) -> None:
        await asyncio.to_thread(self.standing.close, LAST_COUNT)

    async def _close_uploads(self) -> None:
        await asyncio.to_thread(self.uploads.close, LAST_SEGMENT)


class _Operated:
    """The admin server's `Operated`."""

    def __init__(self, side: RecorderSide, commands: Commands) -> None:
        self._side = side
        self.pause = commands.pause
        self.resume = commands.resume
        self.set_percent = commands.set_percent

    async def census(self) -> Census:
        while (found := self._side.census()) is None:  # noqa: ASYNC110  # for the first live process's first census
            await asyncio.sleep(0.01)
        return found

    async def latest(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[bytes]:
        return self._side.recent.latest(limit, verdict, shadow)

    async def find(self, record: str) -> bytes | None:
        return self._side.recent.find(record)

    async def verdict(self) -> StandingVerdict:
        self._side.census()  # what was lost by now withholds READY
        return await self._side.standing.verdict()

    async def summary(self) -> bytes:
        self._side.census()
        return await self._side.standing.summary()

    async def reset_verdict(self, shadow: str | None) -> StandingVerdict:
        return await self._side.standing.reset(shadow)


def _number(name: str) -> str:
    return name.partition(".")[0]


def _known(state: LiveState) -> Census | None:
    """What a live process had counted, by its last census and by what came after it."""
    if state.census is None or state.books is None:
        return None
    return census.with_tail(pickle.loads(state.census), state.books, state.tail)


def _log_notice(notice: Notice) -> None:
    _log.log(_LEVELS[notice.event], "%s", notice.line, extra={"event": notice.event, **notice.values})
