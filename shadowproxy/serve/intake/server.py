"""Takes the exchanges of applications from their connections to the mirror, as the live path does with callers'.

The rules:

1. An exchange is opened, offered and ended as one of the live path: same lanes, memory, outcomes and records. Its
   request is offered as soon as it comes, whatever live is doing.
2. Whatever an application sends is read at once. What there is no memory for is not mirrored (`overload`), and recorded
   without its body.
3. One that is cut off, because its connection has ended, has the outcome `incomplete`.
4. Once nobody has been connected for LINGER seconds, `on_idle` is called; `close_listening` then says whether somebody
   has come after all.
"""

import asyncio
from collections.abc import Callable, Sequence
from socket import socket
from typing import Final

from shadowproxy import __version__, intake_frames
from shadowproxy.exchange import Failure, LiveLeg, Outcome
from shadowproxy.intake_frames import Begin, Candidate, Result, Welcome
from shadowproxy.serve.callers.balance import Acceptor
from shadowproxy.serve.callers.board import Board
from shadowproxy.serve.candidates.registry import Candidates
from shadowproxy.serve.handover.outbox import Outbox
from shadowproxy.serve.intake.connection import IntakeConnection, Receiver
from shadowproxy.serve.intake.exchange import IntakeExchange
from shadowproxy.serve.journal.losses import IN_APPLICATION
from shadowproxy.serve.live.proxy import Proxy

LINGER: Final = 2.0
"""Seconds without any connection, after which nobody is expected any more."""

FIRST: Final = 20.0
"""The same before the first one: whoever has started this may take a while to connect."""

LOOKS: Final = 0.004, 0.064
"""Seconds between two looks at whether all of a flush is written: at first, and at most after doubling each time."""

RELOADING: Final = 10.0
"""Seconds that what an application sends waits for the configuration that it asked for: the file may be unusable."""

STOPPING: Final = "the companion stopped before the answer was complete"


class Intake(Receiver):
    """Owns the listening sockets, from `start` to `finish`, and the connections.

    `on_idle` and `on_reload` are called as rule 4 says, and when an application asks for it.
    """

    def __init__(
        self,
        proxy: Proxy,
        outbox: Outbox,
        listening: Sequence[socket],
        *,
        candidates: Candidates,
        on_idle: Callable[[], object] = lambda: None,
        on_reload: Callable[[], object] = lambda: None,
    ) -> None:
        self._proxy = proxy
        self._mirror = proxy.mirror
        self._outbox = outbox
        self._candidates = candidates
        self._on_idle = on_idle
        self._on_reload = on_reload
        self._loop = asyncio.get_running_loop()
        self._connections: set[IntakeConnection] = set()
        self._flushes: list[_Flush] = []
        self._look: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._stopping = False
        self._reloading: set[IntakeConnection] = set()
        self._turns: list[IntakeConnection] = []  # to receive a long frame: the first one has it
        self._give_up: asyncio.TimerHandle | None = None
        self._left = asyncio.Event()
        self._acceptor = Acceptor(
            listening,
            Board.of_one(),
            0,
            protocol=lambda _: IntakeConnection(self, self._mirror.plan.capture),
            count_open=lambda: len(self._connections),
        )

    def __repr__(self) -> str:
        return f"<Intake {len(self._connections)} connections>"

    def start(self) -> None:
        self._acceptor.start()
        self._idle = self._loop.call_later(FIRST, self._note_idle)

    async def close_listening(self) -> bool:
        """Take those that wait to be accepted, and nobody after them. Returns whether anybody is connected."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._acceptor.close())
        await self._closing
        return bool(self._connections)

    async def finish(self, until: float, hurry: asyncio.Event) -> None:
        """Accept nobody any more, wait for those that are connected to leave, and then end what they had begun.

        `until` is the loop's time, when they are not waited for any longer; nor are they once `hurry` is set.
        """
        self._stopping = True
        self.note_adopted()
        await self.close_listening()
        hurrying = self._loop.create_task(hurry.wait())
        while self._connections and (left := until - self._loop.time()) > 0 and not hurrying.done():
            self._left.clear()
            leaving = self._loop.create_task(self._left.wait())
            await asyncio.wait((leaving, hurrying), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
        hurrying.cancel()
        for connection in list(self._connections):
            connection.cut_off(Outcome.SHUTDOWN, STOPPING)
            connection.close()
        self._stop_timers()

    # What connections call.

    def welcome(self) -> Welcome:
        plan = self._mirror.plan
        return Welcome(
            intake_frames.PROTOCOL,
            __version__,
            plan.capture,
            self._proxy.service.id_header.decode(),
            tuple(lane.shadow.name for lane in plan.lanes),
        )

    def add(self, connection: IntakeConnection) -> None:
        self._connections.add(connection)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def remove(self, connection: IntakeConnection) -> None:
        self._connections.discard(connection)
        self._reloading.discard(connection)
        self._candidates.forget(connection)
        self._flushes = [flush for flush in self._flushes if flush.connection is not connection]
        self._left.set()
        if not self._connections and not self._stopping:
            self._idle = self._loop.call_later(LINGER, self._note_idle)

    def hold(self, count: int) -> None:
        self._mirror.memory.hold(count)

    def take_turn(self, connection: IntakeConnection) -> bool:
        self._turns.append(connection)
        return self._turns[0] is connection

    def end_turn(self, connection: IntakeConnection) -> None:
        if connection in self._turns:
            had_it = self._turns[0] is connection
            self._turns.remove(connection)
            if had_it and self._turns:
                self._loop.call_soon(self._give_turn, self._turns[0])

    def _give_turn(self, connection: IntakeConnection) -> None:
        if self._turns and self._turns[0] is connection:
            connection.continue_long()

    def begin(self, begin: Begin, connection: IntakeConnection) -> IntakeExchange:
        mirror, proxy = self._mirror, self._proxy
        exchange = IntakeExchange(mirror.plan, mirror.memory, begin, proxy.service.id_header, connection)
        if names := self._candidates.names:  # they take the calls of their own functions alone; others take all
            others = frozenset(lane.shadow.name for lane in mirror.plan.lanes) - names
            exchange.only = others if exchange.only is None else others | exchange.only
        else:
            exchange.only = None
        mirror.open(exchange)
        proxy.in_flight += 1
        if not exchange.is_mirrored_already:
            mirror.offer(exchange, exchange.begun, exchange.unfit, exchange.unfit_why)
        return exchange

    def end(self, exchange: IntakeExchange, live: LiveLeg) -> None:
        proxy = self._proxy
        proxy.in_flight -= 1
        live = exchange.copied(live)
        proxy.outcomes[live.outcome if isinstance(live, Failure) else Outcome.OK] += 1
        (proxy.times_mirrored if exchange.mirrored else proxy.times_alone).add(live.total_ms / 1000)
        self._mirror.end_live(exchange, exchange.begun, live)

    def lose(self, lost: dict[str, int]) -> None:
        for reason, count in lost.items():
            if count:
                self._proxy.outcomes[Outcome.INCOMPLETE] += count
                self._outbox.note_lost(reason if reason in IN_APPLICATION else IN_APPLICATION[-1], count)

    def take_candidate(self, candidate: Candidate, connection: IntakeConnection) -> None:
        self._candidates.take(candidate, connection)

    def take_result(self, result: Result, connection: IntakeConnection) -> None:
        self._candidates.take_result(result, connection)

    def reload(self, connection: IntakeConnection) -> None:
        connection.wait()
        self._reloading.add(connection)
        if self._give_up is None:
            self._give_up = self._loop.call_later(RELOADING, self.note_adopted)
        self._on_reload()

    def note_adopted(self) -> None:
        """A configuration is in force; or none is, in time."""
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        waiting, self._reloading = self._reloading, set()
        for connection in waiting:
            connection.go_on()

    def flush(self, key: int, connection: IntakeConnection) -> None:
        exchanges = [
            each
            for each in self._mirror.unsettled_exchanges()
            if isinstance(each, IntakeExchange) and each.owner is connection
        ]
        self._flushes.append(_Flush(key, connection, exchanges))
        self._look_at_flushes(LOOKS[0])

    def _look_at_flushes(self, pause: float) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._flushes = [flush for flush in self._flushes if not flush.is_done(self._outbox)]
        if self._flushes:
            self._look = self._loop.call_later(pause, self._look_at_flushes, min(2 * pause, LOOKS[1]))

    def _note_idle(self) -> None:
        self._idle = None
        if not self._connections and not self._stopping:
            self._on_idle()

    def _stop_timers(self) -> None:
        for timer in (self._look, self._idle):
            if timer is not None:
                timer.cancel()
        self._look = self._idle = None


class _Flush:
    """Waits until a connection's exchanges are settled, and then until all appended by then is on disk or lost."""

    def __init__(self, key: int, connection: IntakeConnection, exchanges: list[IntakeExchange]) -> None:
        self.connection = connection
        self._key = key
        self._exchanges = exchanges
        self._appended: int | None = None

    def __repr__(self) -> str:
        return f"<_Flush {self._key}, {len(self._exchanges)} exchanges unsettled>"

    def is_done(self, outbox: Outbox) -> bool:
        """Whether it is over, and the application has been told."""
        self._exchanges = [each for each in self._exchanges if not each.is_settled]
        if self._exchanges:
            return False
        books = outbox.statistics()
        if self._appended is None:
            self._appended = books.appended
        if books.written + books.sampled_out + sum(books.lost.values()) < self._appended:
            return False
        self.connection.send(intake_frames.frame(intake_frames.FLUSHED, self._key))
        return True
