"""The composition root: builds the sidecar from its configuration, owns all of it, and stops it in order."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from shadowproxy.config import Config
from shadowproxy.exchange import Verdict
from shadowproxy.serve.admin import census, recent
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.admin.recent import Recent
from shadowproxy.serve.admin.serving import serve_admin
from shadowproxy.serve.callers.addresses import StartError, bind, release
from shadowproxy.serve.callers.server import Part, Server
from shadowproxy.serve.journal.notices import Notice
from shadowproxy.serve.journal.root import Journal
from shadowproxy.serve.live import proxy
from shadowproxy.serve.mirror.capture import Memory
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.mirror.shadow import ShadowCounts
from shadowproxy.serve.sidecar import generation
from shadowproxy.serve.sidecar.contexts import ContextError, Contexts
from shadowproxy.serve.sidecar.generation import Generation, GenerationError
from shadowproxy.serve.sidecar.program import Program
from shadowproxy.serve.sidecar.share import Share
from shadowproxy.serve.sidecar.steering import Steering
from shadowproxy.serve.system.preload import preload
from shadowproxy.serve.telemetry import tracing
from shadowproxy.serve.telemetry.operator_log import AccessLine

FLUSH = 10.0  # seconds that stopping waits for a slow disk
_log = logging.getLogger("shadowproxy")


_LEVELS = {"records_lost": logging.ERROR, "log_trouble": logging.WARNING, "log_recovered": logging.INFO}


def _log_notice(notice: Notice) -> None:
    _log.log(_LEVELS[notice.event], "%s", notice.line, extra={"event": notice.event, **notice.values})


class Sidecar(Program):
    """Owns the journal, the endpoints, the mirror and the server.

    Leaving stops accepting, finishes the requests under way and then the shadows, both within `drain`, and flushes the
    journal. With a `share` it is one of several workers: another process has the address, the admin server and file.
    """

    def __init__(
        self,
        config: Config,
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
        self._first = config
        self.journal = Journal(
            config.log.path,
            proxy=self._name,
            settings=generation.journal_settings(config),
            notify=_log_notice,
        )
        self.mirror: Mirror
        self.proxy: proxy.Proxy
        self._alive: list[Generation] = []
        self._counts: dict[str, ShadowCounts] = {}
        workers = share.start.workers if share is not None else 1
        self.recent = Recent(recent.MOST // workers, recent.MOST_BYTES // workers)
        self._retiring: set[asyncio.Task[None]] = set()
        self._server: Server

    @property
    def config(self) -> Config:
        return self._alive[-1].config if self._alive else self._first

    def census(self) -> Census:
        now = asyncio.get_running_loop().time()
        return census.take(self.proxy, self.mirror, self.journal, self._reloads.told, accepts=self.accepts, now=now)

    async def _open(self, stack: AsyncExitStack) -> None:
        if self._tracer is not None:
            stack.push_async_callback(asyncio.to_thread, self._tracer.close)
        self.journal.open()
        stack.push_async_callback(self._close_journal)
        config = self._first
        try:
            contexts = await self._contexts.read(config)
        except ContextError as error:
            raise StartError(str(error)) from error
        first = self._built(config, contexts, None, self._counts)
        stack.push_async_callback(self._close_endpoints)
        memory = Memory(config.limits.memory, elsewhere=self.journal.queued_bytes)
        self.mirror = await stack.enter_async_context(
            Mirror(first.plan, memory=memory, loop_lag=config.overload.loop_lag)
        )
        self._alive.append(first)
        self.proxy = proxy.Proxy(first.service, self.mirror, self._access)
        # Its place among those that stop is here, and its port is known to be free before a caller is let in.
        later = await stack.enter_async_context(AsyncExitStack())
        part = None
        if self._share is None:
            if config.admin is not None:
                self._admin_socket = bind(config.admin)
                later.callback(release, config.admin, self._admin_socket)
            self._socket = bind(config.listen)
            stack.callback(release, config.listen, self._socket)
        else:
            start = self._share.start
            self.steer(start.steering)
            for lane in self.mirror.plan.all_lanes:
                if (used := start.used.get(lane.shadow.name)) is not None:
                    lane.restore_budget(used.begun, used.left, now=asyncio.get_running_loop().time())
            self._socket = self._share.listening
            part = Part(self._share.board, start.number)
        # Whoever connects from here on waits in the kernel's queue, and has no descriptor of ours.
        await asyncio.to_thread(preload, admin=self._admin_socket is not None)
        self._server = Server(
            self.proxy, limits=lambda: generation.listener_limits(self.config), drain=config.drain, part=part
        )
        self._server.hurry = self._hurry  # which may be set by now
        serving = asyncio.get_running_loop().create_task(self._server.serve(self._socket))
        stack.push_async_callback(self._stop_serving, serving)
        await self._server.ready.wait()
        self._listening = True
        if self._admin_socket is not None:
            await serve_admin(later, self._admin_socket, _Alone(self), proxy=self._name, config=lambda: self.config)
        if self._share is None:
            self._reloads.start(stack)

    async def _stop_serving(self, serving: asyncio.Task[None]) -> None:
        """Finish the requests under way, then the shadows, within `drain` together."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.config.drain
        self._server.stop.set()
        await serving
        draining = loop.create_task(self.mirror.drain(max(0.0, until - loop.time())))
        hurrying = loop.create_task(self._hurry.wait())
        await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not draining.done():
            await self.mirror.drain(0)
        await draining

    def _built(
        self, config: Config, contexts: Contexts, before: Generation | None, counts: dict[str, ShadowCounts]
    ) -> Generation:
        return generation.build(
            config,
            contexts,
            append=self.journal.append,
            writer=self._name,
            seen=self.recent.add if config.admin is not None else lambda line, verdicts: None,
            counts=counts,
            now=asyncio.get_running_loop().time(),
            before=before,
            trace=self._tracer.send if self._tracer is not None else None,
        )

    def steer(self, steering: Steering) -> None:
        """Have the pauses and percents that operators want, whatever they are now."""
        mirror = self.mirror
        if mirror.paused != steering.paused:
            (mirror.pause if steering.paused else mirror.resume)()
        for lane in mirror.plan.all_lanes:
            name = lane.shadow.name
            if lane.paused != (name in steering.paused_shadows):
                (mirror.resume if lane.paused else mirror.pause)(name)
            if lane.percent != (percent := steering.percents.get(name, lane.percent)):
                mirror.set_percent(name, percent)

    async def prepare(self, config: Config, only: frozenset[str] | None = None) -> Contexts:
        """What `switch` needs besides `config`. Reads files, so it takes a while. Raises GenerationError.

        Builds it once on trial: what cannot be built after all must change nothing. `only` is as in `_adopt`.
        """
        try:
            contexts = await self._contexts.read(config, only)
        except ContextError as error:
            raise GenerationError(str(error)) from error
        try:
            self._built(config, contexts, self._alive[-1], counts={})
        except Exception as error:
            _log.exception("a defect in the proxy, building a configuration", extra={"event": "defect"})
            raise GenerationError("it cannot be built; the log says more") from error
        return contexts

    def switch(self, config: Config, contexts: Contexts) -> None:
        """Serve new requests by `config`, all at once."""
        before = self._alive[-1]
        new = self._built(config, contexts, before, self._counts)
        self._alive.append(new)
        self.proxy.service = new.service
        self.mirror.adopt(new.plan)
        self.mirror.memory.limit = config.limits.memory
        self.mirror.pulse.limit = config.overload.loop_lag
        self.journal.settings = generation.journal_settings(config)
        self._server.drain = config.drain
        task = asyncio.get_running_loop().create_task(self._retire(before))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _adopt(self, config: Config, only: frozenset[str] | None = None) -> None:
        self.switch(config, await self.prepare(config, only))

    async def _retire(self, before: Generation) -> None:
        """Close what the generation before alone has asked, once its last exchange is settled."""
        await self.mirror.wait_ended(before.plan)
        self._alive.remove(before)
        in_use = {endpoint for each in self._alive for endpoint in each.endpoints.values()}
        for endpoint in {*before.endpoints.values()} - in_use:
            await endpoint.aclose()

    async def _close_endpoints(self) -> None:
        if self._retiring:  # the mirror has settled every exchange by now
            await asyncio.wait(self._retiring)
        for endpoint in {endpoint for each in self._alive for endpoint in each.endpoints.values()}:
            await endpoint.aclose()

    async def _close_journal(self) -> None:
        await asyncio.to_thread(self.journal.close, FLUSH)


class _Alone:
    """What the admin server tells of and changes, where there are no workers: this process."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    async def census(self) -> Census:
        return self._sidecar.census()

    async def pause(self, name: str | None) -> None:
        self._sidecar.mirror.pause(name)

    async def resume(self, name: str | None) -> None:
        self._sidecar.mirror.resume(name)

    async def set_percent(self, name: str, percent: float) -> None:
        self._sidecar.mirror.set_percent(name, percent)

    async def latest(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[bytes]:
        return self._sidecar.recent.latest(limit, verdict, shadow)

    async def find(self, record: str) -> bytes | None:
        return self._sidecar.recent.find(record)
