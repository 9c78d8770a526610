"""The composition root: builds the sidecar from its configuration, owns all of it, and stops it in order."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from shadowproxy.exchange import Exchange, Verdict
from shadowproxy.serve.admin import census, recent
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.admin.recent import Recent
from shadowproxy.serve.callers.addresses import StartError, bind, release
from shadowproxy.serve.callers.server import Part, Server
from shadowproxy.serve.journal.notices import Notice
from shadowproxy.serve.journal.queue import Encode
from shadowproxy.serve.journal.root import Journal
from shadowproxy.serve.live import proxy
from shadowproxy.serve.mirror.capture import Memory
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.sidecar import generation, recording
from shadowproxy.serve.sidecar.admin import open_admin
from shadowproxy.serve.sidecar.contexts import ContextError, Contexts
from shadowproxy.serve.sidecar.generation import GenerationError
from shadowproxy.serve.sidecar.generations import Generations
from shadowproxy.serve.sidecar.program import Program
from shadowproxy.serve.sidecar.share import Share
from shadowproxy.serve.sidecar.specs import LiveSpec, RecorderSpec, Specs
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering, SteeringCommands
from shadowproxy.serve.system.preload import preload
from shadowproxy.serve.telemetry import tracing
from shadowproxy.serve.telemetry.operator_log import AccessLine

FLUSH = 10.0  # seconds that stopping waits for a slow disk

_log = logging.getLogger("shadowproxy")
_LEVELS = {"records_lost": logging.ERROR, "log_trouble": logging.WARNING, "log_recovered": logging.INFO}


class Sidecar(Program):
    """Owns the journal, the endpoints, the mirror and the server.

    Leaving stops accepting, finishes the requests under way and then the shadows, both within `drain`, and flushes the
    journal. With a `share` it is one of several workers: another process has the address, the admin server and file.
    """

    def __init__(
        self,
        specs: Specs,
        file: Path | None = None,
        access: Callable[[AccessLine], object] | None = None,
        share: Share | None = None,
    ) -> None:
        super().__init__(file)
        if share is not None:
            self._outputs = dict(share.start.outputs)
        self._access = access
        self._share = share
        self._name = generation.proxy_name(share.start.number if share is not None else 0)
        self._tracer = tracing.tracer_from_environment(self._name)
        self._specs = specs
        self._steering = UNSTEERED
        self.journal = Journal(
            specs.recorder.journal.path,
            proxy=self._name,
            settings=recording.journal_settings(specs.recorder.journal),
            notify=_log_notice,
        )
        workers = share.start.workers if share is not None else 1
        self.recent = Recent(recent.MAX_RECORDS // workers, recent.MAX_BYTES // workers)
        self._generations = Generations(self._append)
        self._encoders: dict[int, Encode] = {}
        self.mirror: Mirror
        self.proxy: proxy.Proxy
        self._server: Server

    @property
    def specs(self) -> Specs:
        return self._specs

    @property
    def steering(self) -> Steering:
        return self._steering

    def census(self) -> Census:
        now = asyncio.get_running_loop().time()
        return census.take(self.proxy, self.mirror, self.journal, self._reloads.census, accepts=self.accepts, now=now)

    # --- starting and stopping ---------------------------------------------------------------------------------------

    async def _open(self, stack: AsyncExitStack) -> None:
        if self._tracer is not None:
            stack.push_async_callback(asyncio.to_thread, self._tracer.close)
        self.journal.open()
        stack.push_async_callback(asyncio.to_thread, self.journal.close, FLUSH)
        await self._open_mirror(stack)
        # The admin server stops at this place in the order, and its port is known to be free before callers connect.
        admin = await stack.enter_async_context(AsyncExitStack())
        if self._share is None:
            self._bind(stack, admin)
            part = None
        else:
            await self._take_share(self._share)
            part = Part(self._share.board, self._share.start.number)
        # Callers that connect from here on wait in the kernel's queue, and use no descriptor of ours yet.
        await asyncio.to_thread(preload, admin=self._admin_socket is not None)
        front = None
        if self._admin_socket is not None:
            front = await open_admin(
                admin,
                self._admin_socket,
                _Alone(self),
                proxy=self._name,
                spec=lambda: self._specs.recorder,
                census=self.census,
            )
        await self._open_server(stack, part)
        self._listening = True
        if front is not None:
            front.start()
        if self._share is None:
            self._reloads.start(stack)

    async def _open_mirror(self, stack: AsyncExitStack) -> None:
        """The first generation, and the live path and the mirror under it."""
        spec = self._specs.live
        self._add_encoder(self._specs.recorder)
        try:
            contexts = await self._contexts.read(spec)
        except ContextError as error:
            raise StartError(str(error)) from error
        first = self._generations.build(spec, contexts, self._steering)
        stack.push_async_callback(self._generations.aclose)
        memory = Memory(spec.memory, elsewhere=self.journal.queued_bytes)
        self.mirror = await stack.enter_async_context(Mirror(first.plan, memory=memory, loop_lag=spec.loop_lag))
        self._generations.add(first)
        self.proxy = proxy.Proxy(first.service, self.mirror, self._access)

    def _bind(self, stack: AsyncExitStack, admin: AsyncExitStack) -> None:
        """The addresses of a process that has no supervisor."""
        program = self._specs.program
        if program.admin is not None:
            self._admin_socket = bind(program.admin)
            admin.callback(release, program.admin, self._admin_socket)
        self._socket = bind(program.listen)
        stack.callback(release, program.listen, self._socket)

    async def _take_share(self, share: Share) -> None:
        """Take from the supervisor the socket, the steering, and what is used of the budgets."""
        start = share.start
        await self.steer(start.steering)
        for lane in self.mirror.plan.all_lanes:
            if (used := start.used.get(lane.shadow.name)) is not None:
                lane.restore_budget(used.begun, used.left, now=asyncio.get_running_loop().time())
        self._socket = share.listening

    async def _open_server(self, stack: AsyncExitStack, part: Part | None) -> None:
        self._server = Server(
            self.proxy,
            limits=lambda: generation.caller_limits(self._specs.live),
            drain=self._specs.live.drain,
            part=part,
        )
        self._server.hurry = self._hurry  # which may be set by now
        serving = asyncio.get_running_loop().create_task(self._server.serve(self._socket))
        stack.push_async_callback(self._stop_serving, serving)
        await self._server.ready.wait()

    async def _stop_serving(self, serving: asyncio.Task[None]) -> None:
        """Finish the requests under way, then the shadows, within `drain` together."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._specs.live.drain
        self._server.stop.set()
        await serving
        draining = loop.create_task(self.mirror.drain(max(0.0, until - loop.time())))
        hurrying = loop.create_task(self._hurry.wait())
        await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not draining.done():
            await self.mirror.drain(0)
        await draining

    # --- changes while it runs ---------------------------------------------------------------------------------------

    async def steer(self, steering: Steering) -> None:
        """Pause, resume and set percents until all stands as `steering` says."""
        self._steering = steering
        mirror = self.mirror
        if mirror.paused != steering.paused:
            (mirror.pause if steering.paused else mirror.resume)()
        for lane in mirror.plan.all_lanes:
            name = lane.shadow.name
            if lane.paused != (name in steering.paused_shadows):
                (mirror.resume if lane.paused else mirror.pause)(name)
            if lane.percent != (percent := steering.percents.get(name, lane.percent)):
                mirror.set_percent(name, percent)

    async def prepare(self, spec: LiveSpec, only: frozenset[str] | None = None) -> Contexts:
        """Read the files that `switch(...)` needs, which takes a while. Raises GenerationError.

        Builds a generation on trial: a configuration that cannot be built must change nothing. `only` is as in
        `_adopt`.
        """
        try:
            contexts = await self._contexts.read(spec, only)
        except ContextError as error:
            raise GenerationError(str(error)) from error
        try:
            self._generations.try_out(spec, contexts)
        except Exception as error:
            _log.exception("a defect in the proxy while building a configuration", extra={"event": "defect"})
            raise GenerationError("it cannot be built; the log says more") from error
        return contexts

    def switch(self, specs: Specs, contexts: Contexts) -> None:
        """Serve new requests by `specs`, all at once."""
        before = self._generations.current
        assert before is not None  # since `_open`
        self._steering = self._steering.under(specs.live.percents, before.spec.percents)
        self._specs = specs
        self._add_encoder(specs.recorder)
        new = self._generations.build(specs.live, contexts, self._steering)
        self._generations.add(new)
        self.proxy.service = new.service
        self.mirror.adopt(new.plan)
        self.mirror.memory.limit = specs.live.memory
        self.mirror.pulse.limit = specs.live.loop_lag
        self.journal.settings = recording.journal_settings(specs.recorder.journal)
        self._server.drain = specs.live.drain
        self._generations.retire(before, self.mirror)

    async def _adopt(self, specs: Specs, only: frozenset[str] | None = None) -> None:
        self.switch(specs, await self.prepare(specs.live, only))

    # --- recording ---------------------------------------------------------------------------------------------------

    def _append(self, exchange: Exchange, number: int) -> None:
        self.journal.append(exchange, self._encoders[number])

    def _add_encoder(self, spec: RecorderSpec) -> None:
        """Record the exchanges of `spec.generation` by `spec`, and forget how those were recorded that have settled."""
        counts = self._generations.counts

        def count(name: str, verdict: Verdict) -> None:
            counts[name].verdicts[verdict] += 1

        kept = {number: each for number, each in self._encoders.items() if number >= self._generations.oldest}
        kept[spec.generation] = recording.encoder(
            spec,
            self._name,
            seen=self.recent.add if self._specs.program.admin is not None else lambda line, verdicts: None,
            count=count,
            trace=self._tracer.send if self._tracer is not None else None,
        )
        self._encoders = kept


class _Alone(SteeringCommands):
    """The admin server's `Operated` without workers: this process."""

    def __init__(self, sidecar: Sidecar) -> None:
        super().__init__(sidecar)
        self._sidecar = sidecar

    async def census(self) -> Census:
        return self._sidecar.census()

    async def latest(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[bytes]:
        return self._sidecar.recent.latest(limit, verdict, shadow)

    async def find(self, record: str) -> bytes | None:
        return self._sidecar.recent.find(record)


def _log_notice(notice: Notice) -> None:
    _log.log(_LEVELS[notice.event], "%s", notice.line, extra={"event": notice.event, **notice.values})
