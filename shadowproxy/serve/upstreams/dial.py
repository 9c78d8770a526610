"""From a host and a port to a connection: by turns to all addresses of the name, and to the next one if one is silent.

RFC 8305 (Happy Eyeballs), with these rules:

1. Each connection begins with the address whose turn it is: the one that was dialled the longest ago. Connections are
   spread over all addresses, and a new one gets the next connection. The first one is chosen at random: many proxies
   that start together do not all begin with the same.
2. The next address is dialled when one fails, or is silent for `NEXT_AFTER`. A server that has accepted may take
   `HANDSHAKE_AFTER` for its TLS handshake: a busy one takes longer for that than its kernel takes to accept.
3. An address that failed, or was silent until the next one was dialled, has its turn after all others for `SHUNNED`
   (turns.py).
4. All addresses are dialled before the time for a connection is over. No more than `AT_ONCE` are dialled at once: the
   one that was silent the longest is given up for the next.
"""

import asyncio
import select
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from shadowproxy.serve.system.descriptors import OWN_LACK
from shadowproxy.serve.upstreams.errors import TransportError
from shadowproxy.serve.upstreams.names import Address, Addresses, Name
from shadowproxy.serve.upstreams.turns import Turns

NEXT_AFTER = 0.25  # seconds; RFC 8305 section 5
NEXT_AFTER_MIN = 0.01  # RFC 8305 section 8: the least, whatever `connect_timeout` is
HANDSHAKE_AFTER = 1.0
AT_ONCE = 2

_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A response may take ten minutes (`live.timeout`). Meanwhile the kernel probes the other side every minute: a host
    # that vanished is noticed after two minutes, and a NAT gateway keeps the connection; some drop one that is silent
    # for 350 s.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
]
if hasattr(socket, "TCP_KEEPIDLE"):  # macOS has another name for it
    _OPTIONS.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60))


class Abortable(Protocol):
    """What is opened over a connected socket."""

    def abort(self) -> None: ...


Opened = TypeVar("Opened", bound=Abortable)
Opening = Callable[[socket.socket], Coroutine[Any, Any, Opened]]
"""Opens a connection over a connected socket, which it owns from then on. Raises OSError or a TransportError."""


class Dialler:
    """Connects to one host and port. Its methods leave nothing behind when they are cancelled.

    They raise OSError, and what opening a connection raises. `within` is how many seconds `connect` will be given.
    """

    def __init__(self, host: str, port: int, within: float) -> None:
        self._of = (host, port)
        self._within = within
        self._name = Name(host, port)
        self._turns = Turns(host)

    def take_over(self, before: "Dialler") -> None:
        """Go on with what `before` knows of the addresses, if it is of the same host and port."""
        if before._of == self._of:
            self._name, self._turns = before._name, before._turns

    async def connect(self, opening: Opening[Opened]) -> Opened:
        """Open a connection to one of the host's addresses. If none can be opened, raise the first one's error.

        uvloop's create_connection goes on connecting after it is cancelled, so this makes the sockets itself.
        """
        found = await self._name.find()
        if len(found.addresses) == 1 and found.newer is None:
            return await _Attempt(opening).run(found.addresses[0])
        return await _Race(self._turns, self._within, opening, found.newer).run(found.addresses)


class _Attempt(Generic[Opened]):
    """One address."""

    def __init__(self, opening: Opening[Opened]) -> None:
        self._opening = opening
        self._sock: socket.socket | None = None
        self.accepted_at: float | None = None  # by the loop's time

    def is_answered(self) -> bool:
        """Whether the kernel has an answer, which a loop that runs late has not reported."""
        if self._sock is None or self._sock.fileno() < 0:
            return True
        asking = select.poll()
        asking.register(self._sock, select.POLLOUT)
        return bool(asking.poll(0))

    async def run(self, address: Address) -> Opened:
        loop = asyncio.get_running_loop()
        self._sock = sock = socket.socket(address[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setblocking(False)
            for level, option, value in _OPTIONS:
                sock.setsockopt(level, option, value)
            await loop.sock_connect(sock, address[1])
        except BaseException:
            sock.close()
            raise
        self.accepted_at = loop.time()
        return await self._opening(sock)


class _Race(Generic[Opened]):
    """The attempts for one connection. Owns their tasks while `run` runs."""

    def __init__(
        self, turns: Turns, within: float, opening: Opening[Opened], newer: "asyncio.Future[Addresses] | None"
    ) -> None:
        self._turns = turns
        self._within = within
        self._opening = opening
        self._newer = newer
        self._loop = asyncio.get_running_loop()
        self._to_dial: list[Address] = []
        self._dialled: set[Address] = set()
        self._silent: set[Address] = set()  # until the next one was dialled
        self._running: dict[asyncio.Task[Opened], tuple[Address, _Attempt[Opened]]] = {}
        self._next_at = 0.0  # by the loop's time: the next address is dialled
        self._failed: OSError | TransportError | None = None

    async def run(self, addresses: Addresses) -> Opened:
        self._to_dial = self._turns.order(addresses)
        try:
            while self._to_dial or self._running or self._newer is not None:
                left = self._dial_next()
                waiting: list[asyncio.Future[Any]] = [*self._running]
                if self._newer is not None:
                    waiting.append(self._newer)
                done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if self._newer in done:
                    self._take_newer()
                for task in [each for each in self._running if each in done]:
                    if self._succeeded(task):
                        return task.result()
            raise self._failed or socket.gaierror(socket.EAI_NONAME, "the name has no address")
        finally:
            for address in self._silent:
                self._turns.note_failed(address, "no answer")
            await self._give_up(list(self._running))

    def _dial_next(self) -> float | None:
        """Dial the next address if it is time to, and return how many seconds from now the one after it has its turn.

        None if no other address is left.
        """
        now = self._loop.time()
        share = max(NEXT_AFTER_MIN, self._within / (len(self._to_dial) + len(self._dialled) + 1))
        if self._running and self._to_dial and self._next_at <= now:
            newest = next(reversed(self._running.values()))[1]
            if newest.accepted_at is not None:
                self._next_at = max(self._next_at, newest.accepted_at + min(HANDSHAKE_AFTER, share))
            elif newest.is_answered():
                self._next_at = now + min(NEXT_AFTER, share)
        if self._to_dial and (self._next_at <= now or not self._running):
            self._silent.update(address for address, _ in self._running.values())
            if len(self._running) >= AT_ONCE:
                next(iter(self._running)).cancel()
            address, attempt = self._to_dial.pop(0), _Attempt(self._opening)
            self._dialled.add(address)
            self._turns.note_dialled(address)
            self._running[self._loop.create_task(attempt.run(address))] = (address, attempt)
            self._next_at = now + min(NEXT_AFTER, share)
        return max(0.0, self._next_at - now) if self._to_dial else None

    def _take_newer(self) -> None:
        """The name server has answered after all: dial what is new first, and nothing that is not there any more."""
        newer, self._newer = self._newer, None
        assert newer is not None  # it is done
        try:
            self._to_dial = [each for each in self._turns.order(newer.result()) if each not in self._dialled]
        except OSError as error:
            self._failed = error
            self._to_dial = []

    def _succeeded(self, task: "asyncio.Task[Opened]") -> bool:
        """Whether this attempt, which has ended, has opened a connection."""
        address, _ = self._running.pop(task)
        if task.cancelled():  # it was given up for the next one
            return False
        error = task.exception()
        if error is None:
            self._silent.discard(address)
            self._turns.note_accepted(address)
            return True
        if not isinstance(error, OSError | TransportError) or (isinstance(error, OSError) and error.errno in OWN_LACK):
            raise error
        self._failed = self._failed or error
        self._silent.discard(address)
        self._turns.note_failed(address, (isinstance(error, OSError) and error.strerror) or str(error))
        self._next_at = 0.0
        return False

    async def _give_up(self, tasks: "list[asyncio.Task[Opened]]") -> None:
        for task in tasks:
            task.add_done_callback(_abort)  # one may have been opened in the same moment
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _abort(task: "asyncio.Task[Opened]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
