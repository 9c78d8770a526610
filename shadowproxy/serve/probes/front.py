"""The front of the admin port: accepts all connections, answers the health probes, passes other requests on.

The probes that operators ship point at the admin port, and the pages there are the recorder's, which may be busy, hang
or be dead. So the front stands in another process, needs no framework, and waits for the recorder in no case:

1. `GET` and `HEAD` of `/healthz` and `/readyz` are answered here.
2. Any other request is passed on with its connection, at the border of a request, and the connection comes back after
   the response. So a client that keeps one connection for probes and pages gets its probes answered like any other.
3. Before that the recorder is asked whether it is there. Without a reply within REPLY seconds, and until it comes,
   these requests are answered with 503. So are those beyond MOST_PASSED at once, which leaves connections for probes.
4. MOST connections are open at once, those that are passed on among them. For one more the oldest idle one is closed,
   or the new one if none is idle. Without a bound, idle ones would take the descriptors that callers need.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from shadowproxy.serve.probes.answers import Health
from shadowproxy.serve.probes.connection import Connection
from shadowproxy.serve.probes.passing import Channel, Kind, Passed
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

MOST = 64
"""Open connections; fewer where the limit of open files is low."""

MOST_PASSED = 48
"""Of these, those whose request the recorder answers; where there are fewer, three quarters of them."""

REPLY = 1.0
"""Seconds that the recorder may take to say that it is there."""

RETRY = 0.5
"""Seconds until the next try where the system accepts no connection: it may be out of descriptors."""

DRAIN = 1.0
"""Seconds that requests under way have when the sidecar stops."""

_ACCEPTED_AT_ONCE = 64

_log = logging.getLogger(__name__)

_STARTING = "the recorder is being started; callers are served, and it answers again in a moment"
_SILENT = "the recorder does not respond; callers are served, and it is waited for"
_STOPPING = "the sidecar is stopping; only requests under way are answered"
_BUSY = "the recorder answers {} requests already; try again"


class Front:
    """Owns the connections, and the channel to the recorder; not the `listening` socket, which is closed elsewhere.

    `health` is called for each probe and returns at once. `most` bounds the connections further than
    MOST does. Use: `start`, then `connect` for each recorder, `close`.
    """

    def __init__(self, listening: socket.socket, *, health: Callable[[], Health], most: int | None = None) -> None:
        self.health = health
        self.repeats = Repeats()
        self.stopping = False
        self._most = MOST if most is None else min(MOST, most)
        self._most_passed = min(MOST_PASSED, max(1, self._most * 3 // 4))
        self._listening = listening
        self._loop = asyncio.get_running_loop()
        self._numbers = 0
        self._connections: dict[int, Connection] = {}
        self._passed: dict[int, float] = {}  # by number, when each was accepted
        self._waiting: dict[int, Connection] = {}  # for the recorder's reply
        self._channel: Channel | None = None
        self._asked = False  # the recorder was asked and has not replied yet
        self._silent = False  # and its time to reply is over
        self._retrying: asyncio.TimerHandle | None = None
        self._reply_due: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Front {len(self._connections)} connections, {len(self._passed)} passed on>"

    @property
    def connected(self) -> bool:
        """Whether there is a recorder, as far as is known."""
        return self._channel is not None

    def start(self) -> None:
        """Accept connections."""
        self._listening.setblocking(False)
        self._loop.add_reader(self._listening, self._accept)

    def connect(self, end: socket.socket) -> None:
        """Pass requests on over this end of `passing.pair()`, instead of the one before."""
        self.disconnect()
        self._channel = channel = Channel(end, self._received, lambda: self._lost(channel))
        channel.start()

    def disconnect(self) -> None:
        """There is no recorder: requests for it get 503 until the next `connect`. Those that it had are forgotten."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        self._passed.clear()
        self._forget_question()
        self._silent = False
        self._answer_waiting(_STARTING)
        self._changed.set()

    async def close(self, drain: float = DRAIN) -> None:
        """Accept no more, let the requests under way be answered within `drain` seconds, and close all connections."""
        self.stopping = True
        self._loop.remove_reader(self._listening)
        if self._retrying is not None:
            self._retrying.cancel()
        for each in list(self._connections.values()):
            each.part()
        try:
            async with asyncio.timeout(drain):
                while self._connections or self._passed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        self._answer_waiting(_STOPPING)  # the recorder has said nothing
        for each in list(self._connections.values()):
            each.close()
        self.disconnect()

    # --- connections -------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue  # the client has left already
            except OSError as error:
                self._accept_later(error)
                return
            accepted.setblocking(False)
            if self._make_room():
                self._add(accepted, self._next_number(), self._loop.time()).begin()
            else:
                accepted.close()

    def _accept_later(self, error: OSError) -> None:
        self._loop.remove_reader(self._listening)
        self._retrying = self._loop.call_later(RETRY, self.start)
        reason = errno.errorcode.get(error.errno or 0, "")
        if count := self.repeats.worth_logging("not_accepted", reason):
            extra = {"event": "not_accepted", "error": error.strerror, "count": count}
            words = "a connection to the admin server could not be accepted%s: %s"
            _log.error(words, times_text(count), error.strerror, extra=extra)

    def _next_number(self) -> int:
        self._numbers = (self._numbers + 1) % 2**32
        return self._numbers

    def _add(self, accepted: socket.socket, number: int, since: float) -> Connection:
        connection = self._connections[number] = Connection(self, accepted, number, since)
        return connection

    def _make_room(self) -> bool:
        """Close the oldest idle connection if a new one is one too many. Returns whether there is room for it."""
        # The oldest, not the newest: probes must be answered, however many connections are idle.
        if len(self._connections) + len(self._passed) < self._most:
            return True
        idle = [each for each in self._connections.values() if each.is_idle]
        if idle:
            min(idle, key=lambda each: each.since).close()
        if count := self.repeats.worth_logging("full"):
            extra = {"event": "admin_full", "most": self._most, "count": count}
            words = "closed an idle connection to the admin server%s: more than %d were open"
            _log.warning(words, times_text(count), self._most, extra=extra)
        return bool(idle)

    def ended(self, connection: Connection) -> None:
        self._connections.pop(connection.number, None)
        self._waiting.pop(connection.number, None)
        self._changed.set()

    # --- the recorder ------------------------------------------------------------------------------------------------

    def hand_over(self, connection: Connection) -> None:
        """Pass on a connection with a request, once the recorder has said that it is there."""
        if self._channel is None:
            connection.unavailable(self._unless_stopping(_STARTING))
        elif self._silent:
            connection.unavailable(self._unless_stopping(_SILENT))
        elif len(self._passed) + len(self._waiting) >= self._most_passed:
            connection.unavailable(_BUSY.format(self._most_passed))
        else:
            self._waiting[connection.number] = connection
            self._ask()

    def _unless_stopping(self, detail: str) -> str:
        """The recorder stops with the sidecar, and is not started again."""
        return _STOPPING if self.stopping or not self.health().accepts else detail

    def _ask(self) -> None:
        if self._asked or self._channel is None:
            return
        if self._channel.try_send(Passed(Kind.ASK)):
            self._asked = True
            self._reply_due = self._loop.call_later(REPLY, self._no_reply)
        else:
            self._answer_waiting(_SILENT)

    def _no_reply(self) -> None:
        self._silent = True
        extra = {"event": "recorder_silent", "seconds": REPLY}
        words = "the recorder does not respond: requests to the admin server get 503, apart from the probes"
        _log.warning(words, extra=extra)
        self._answer_waiting(_SILENT)

    def _forget_question(self) -> None:
        self._asked = False
        if self._reply_due is not None:
            self._reply_due.cancel()
            self._reply_due = None

    def _answer_waiting(self, detail: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.unavailable(self._unless_stopping(detail))

    def _pass_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            message = Passed(Kind.TAKE, each.number, *each.offered)
            if self._channel is not None and self._channel.try_send(message):
                self._passed[each.number] = each.since
                each.passed_on()
            else:
                each.unavailable(self._unless_stopping(_STARTING if self._channel is None else _SILENT))

    def _received(self, message: Passed) -> None:
        if message.kind is Kind.HERE:
            self._forget_question()
            self._silent = False
            self._pass_waiting()
            return
        number = message.number
        since = self._passed.pop(number, self._loop.time())
        self._changed.set()
        if (connection := message.connection) is None:
            return  # GONE; or this process had no descriptor left for it, and the system closed it
        if message.kind is Kind.BACK:
            self._add(connection, number, since).begin(message.data)
        else:
            self._add(connection, number, since).linger()

    def _lost(self, channel: Channel) -> None:
        if channel is self._channel:
            self.disconnect()
