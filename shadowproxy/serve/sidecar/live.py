"""The live side: all of a live process between its sockets. It serves callers, mirrors, and hands exchanges over."""

import asyncio
import logging
import pickle
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from shadowproxy.serve.account import OBJECTS, Memory, reserve
from shadowproxy.serve.admin import taking
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.callers.addresses import StartError
from shadowproxy.serve.callers.server import Part, Server
from shadowproxy.serve.candidates.registry import Candidates
from shadowproxy.serve.handover.outbox import Outbox
from shadowproxy.serve.intake.server import Intake
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.live import proxy
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.mirror.lane import MirrorPlan
from shadowproxy.serve.neighbours.neighbours import Neighbours
from shadowproxy.serve.policy.ramping import Evidence
from shadowproxy.serve.sidecar import generation
from shadowproxy.serve.sidecar.contexts import LISTEN, ContextError, Contexts, GenerationError, Reader
from shadowproxy.serve.sidecar.generations import Generations
from shadowproxy.serve.sidecar.opened import Opened
from shadowproxy.serve.sidecar.share import BudgetUsed
from shadowproxy.serve.sidecar.specs import LiveSpec
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering
from shadowproxy.serve.state.pairs import Pairs
from shadowproxy.serve.telemetry.access import AccessLine

FLUSH = 7.0
"""Seconds that stopping waits for the recorder's last reports: its disk may be slow. See workers/stopping.py."""

HURRIED = 1.0
"""The same, when stopping is hurried."""

_log = logging.getLogger("shadowproxy")


class LiveSide(Opened):
    """Owns the endpoints, the mirror, the server, and the outbox towards the recorder. Use as `async with`.

    Leaving stops accepting, finishes the requests under way and then the shadows, both within `drain`, and waits for
    the recorder to report the last exchanges. `listening` are closed by then. `part` makes it one of several, `used`
    is what of the budgets is used up, `reader` reads certificates. `on_disconnect` is called when the
    recorder's connection has ended. `neighbours` are the other live processes, `knowing` those to ask for IDs.
    Entering raises StartError.

    In a companion `listening` are where applications connect; `on_idle` is called when nobody has been connected for a
    while, `on_reload` when an application has changed its configuration.
    """

    def __init__(
        self,
        spec: LiveSpec,
        listening: Sequence[socket.socket],
        *,
        access: Callable[[AccessLine], object] | None = None,
        part: Part | None = None,
        steering: Steering = UNSTEERED,
        used: Mapping[str, BudgetUsed] | None = None,
        reader: Reader | None = None,
        on_disconnect: Callable[[], object] = lambda: None,
        on_idle: Callable[[], object] = lambda: None,
        on_reload: Callable[[], object] = lambda: None,
        neighbours: Neighbours | None = None,
        knowing: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self._spec = spec
        self._most_callers = most_callers(spec)
        self._listening = listening
        self._access = access
        self._part = part
        self._steering = steering
        self._used = used or {}
        self._contexts = reader or Reader()
        self._neighbours = neighbours or Neighbours()
        self._knowing = knowing
        self._hurry = asyncio.Event()
        self._stopping = False
        self._failed: dict[str, int] = {}  # at the last `evidence`
        self.outbox = Outbox(
            budget=backlog(spec),
            most=most_waiting(spec),
            census=lambda: pickle.dumps(self.census()),
            on_disconnect=on_disconnect,
        )
        self.candidates = Candidates()
        self._generations = Generations(self.outbox.append, self._send_oldest, self.candidates)
        self._on_idle = on_idle
        self._on_reload = on_reload
        self.intake: Intake | None = None
        self.mirror: Mirror
        self.proxy: proxy.Proxy
        self._server: Server

    def __repr__(self) -> str:
        return f"<LiveSide {self.outbox!r}>"

    @property
    def spec(self) -> LiveSpec:
        return self._spec

    def census(self) -> Census:
        """All counts, and the state of every part. What only the recorder knows of the log is not in it."""
        books = self.outbox.statistics()
        journal = Statistics(
            written=books.written,
            bytes=books.bytes,
            queued=books.queued,
            queued_bytes=books.queued_bytes,
            lost=books.lost,
            segments=0,
            last_error=None,
            sampled_out=books.sampled_out,
        )
        return taking.take(
            self.proxy,
            self.mirror,
            journal,
            books.verdicts,
            books.failed,
            shed=self._server.shedding.shed,
            tls_failed=self._server.tls_failures.count,
            accepts=not self._stopping,
            ids_not_shared=self._neighbours.counts.lost,
            now=asyncio.get_running_loop().time(),
        )

    def evidence(self) -> dict[str, Evidence]:
        """What each ramp is decided by, counted since the last call. Answers whose body says that they failed are known
        from the recorder, a little later than the answers themselves."""
        failed = self.outbox.statistics().failed
        found: dict[str, Evidence] = {}
        for lane in self.mirror.lanes:
            name = lane.shadow.name
            if lane.shadow.ramped:
                taken = Evidence(*lane.counts.arms.take())
                more = failed.get(name, 0) - self._failed.get(name, 0)
                found[name] = taken._replace(errors=taken.errors + more)
        self._failed = dict(failed)
        return found

    def connect(self, ours: socket.socket) -> None:
        """Hand exchanges over to the recorder at the other end."""
        self.outbox.connect(ours)
        self._send_oldest()

    def _send_oldest(self) -> None:
        """Tell the recorder which generations it may forget: all exchanges of earlier ones are before this note."""
        self.outbox.send_note(self._generations.oldest)

    # --- starting and stopping ---------------------------------------------------------------------------------------

    def _begin_closing(self) -> None:
        self._stopping = True
        self.outbox.note_change()

    def hurry(self) -> None:
        """When stopping, don't wait for what is under way."""
        self._hurry.set()

    async def _open(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._close_outbox)
        stack.push_async_callback(self.candidates.aclose)
        spec = self._spec
        try:
            contexts = await self._contexts.read(spec)
        except ContextError as error:
            raise StartError(str(error)) from error
        first = self._generations.build(spec, contexts, self._steering)
        stack.push_async_callback(self._neighbours.close)
        stack.push_async_callback(self._generations.aclose)
        reserved = reserve(spec.memory, spec.capture)
        memory = Memory(spec.memory, elsewhere=self.outbox.held_bytes, reserved=reserved, free=OBJECTS)
        self.mirror = await stack.enter_async_context(Mirror(first.plan, memory=memory, loop_lag=spec.loop_lag))
        self._generations.add(first)
        self._neighbours.share(maps_of(first.plan))
        starting = asyncio.get_running_loop().create_task(self._neighbours.start(self._knowing))
        stack.push_async_callback(_cancel, starting)
        self.proxy = proxy.Proxy(first.service, self.mirror, self._access)
        stack.callback(self.proxy.tunnels.close)
        await self.steer(self._steering)
        for lane in self.mirror.plan.all_lanes:
            if (used := self._used.get(lane.shadow.name)) is not None:
                now = asyncio.get_running_loop().time()
                lane.restore_budget(used.begun, used.left, now, used.tokens, used.cost)
        self._server = Server(
            self.proxy,
            limits=lambda: generation.caller_limits(self._spec),
            drain=spec.drain,
            memory=memory,
            most=lambda: self._most_callers,
            tls=contexts.given.get(LISTEN),
            part=self._part,
            shed_copies=self.mirror.shed,
        )
        self.proxy.make_slot = self._server.shedding.make_slot
        self._server.hurry = self._hurry  # which may be set by now
        is_companion = spec.candidates is not None
        listening = () if is_companion else self._listening
        serving = asyncio.get_running_loop().create_task(self._server.serve(listening))
        stack.push_async_callback(self._stop_serving, serving)
        await self._server.ready.wait()
        if is_companion:
            self._adopt_candidates(spec)
            self.intake = Intake(
                self.proxy,
                self.outbox,
                self._listening,
                candidates=self.candidates,
                on_idle=self._on_idle,
                on_reload=self._on_reload,
            )
            self.intake.start()

    def _adopt_candidates(self, spec: LiveSpec) -> None:
        self.candidates.adopt(
            {name: (spec.shadows[name].in_flight, memory) for name, memory in (spec.candidates or {}).items()},
            spec.capture,
        )

    async def _close_outbox(self) -> None:
        loop = asyncio.get_running_loop()
        closing = loop.create_task(self.outbox.close(FLUSH))
        hurrying = loop.create_task(self._hurry.wait())
        await asyncio.wait((closing, hurrying), return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not closing.done():
            self.outbox.hurry(HURRIED)
        await closing

    async def _stop_serving(self, serving: asyncio.Task[None]) -> None:
        """Finish the requests under way, then the shadows, within `drain` together."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._spec.drain
        if self.intake is not None:
            await self.intake.finish(until, self._hurry)
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
            if steering.ramps_on(name):
                lane.percent = steering.ramps[name]  # the supervisor logs it
                lane.hold_out = lane.shadow.hold_out
            else:
                lane.hold_out = 0.0
        self.outbox.send_census()

    async def prepare(self, spec: LiveSpec, only: frozenset[str] | None = None) -> Contexts:
        """Read the files that `switch(spec, ...)` needs, which takes a while. Raises GenerationError.

        Builds a generation on trial: a configuration that cannot be built must change nothing. With `only`, the files
        of these shadows alone are read.
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

    def switch(self, spec: LiveSpec, contexts: Contexts) -> None:
        """Serve new requests by `spec`, all at once."""
        before = self._generations.current
        assert before is not None  # since `_open`
        self._steering = self._steering.under(spec.shares, before.spec.shares)
        new = self._generations.build(spec, contexts, self._steering)
        self._generations.add(new)
        self._neighbours.share(maps_of(new.plan))
        self._adopt_candidates(spec)
        self._spec = spec
        self._most_callers = most_callers(spec)
        self.proxy.adopt(new.service)
        self.mirror.adopt(new.plan, moving=self.proxy.tunnels.exchanges)
        self.mirror.memory.limit = spec.memory
        self.mirror.memory.reserved = reserve(spec.memory, spec.capture)
        self.mirror.pulse.limit = spec.loop_lag
        self.outbox.budget, self.outbox.most = backlog(spec), most_waiting(spec)
        self._server.drain = spec.drain
        if spec.listen_tls is None or LISTEN in contexts.given:  # else only shadows' files were read
            self._server.tls = contexts.given.get(LISTEN)
        if self.intake is not None:
            self.intake.note_adopted()
        self._generations.retire(before, self.mirror)
        self.outbox.send_census()


def maps_of(plan: MirrorPlan) -> dict[str, Pairs]:
    """The maps of the stateful shadows, by what makes them the same in another live process."""
    return {
        f"{lane.shadow.name} {lane.endpoint.url} {lane.shadow.state}": lane.state.pairs
        for lane in plan.lanes
        if lane.state is not None
    }


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait((task,))


def backlog(spec: LiveSpec) -> int:
    """Bytes that may wait for a recorder that hangs: half of the memory, so that shadows get requests meanwhile.

    Where that is little, it is as much as one exchange with a shadow may hold.
    """
    return max(spec.memory // 2, min(spec.memory, 3 * spec.capture))


def most_waiting(spec: LiveSpec) -> int:
    """Bytes that may wait for a recorder which takes what it is sent: all but what is reserved for callers."""
    return max(backlog(spec), spec.memory - reserve(spec.memory, spec.capture))


def most_callers(spec: LiveSpec) -> int | None:
    """The callers' connections for which there are descriptors; None for any number."""
    shares = generation.descriptor_shares(spec)
    return None if shares is None else shares.callers
