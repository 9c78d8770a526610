"""From a host and a port to a connection: by turns to all addresses of the name, and to the next one if one is silent.

RFC 8305 (Happy Eyeballs), with these rules:

1. Each connection begins with the address whose turn it is: the one that was dialled the longest ago. Connections are
   spread over all addresses, and a new one gets the next connection. The first one is chosen at random: many proxies
   that start together do not all begin with the same.
2. The next address is dialled when one fails, or is silent for `NEXT_AFTER`. A server that has accepted may take
   `HANDSHAKE_AFTER` for its TLS handshake: a busy one takes longer for that than its kernel takes to accept.
3. An address that failed, or was silent until the next one was dialled, has its turn after all others for `SHUNNED`.
4. All addresses are dialled before the time for a connection is over. No more than `AT_ONCE` are dialled at once: the
   one that was silent the longest is given up for the next.
"""

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import count, zip_longest
from typing import Any, Generic, Protocol, TypeVar

from shadowproxy.serve.system.descriptors import OWN_LACK
from shadowproxy.serve.upstreams.names import Address, Addresses, Name

NEXT_AFTER = 0.25  # seconds; RFC 8305 section 5
NEXT_AFTER_MIN = 0.01  # RFC 8305 section 8: the least, whatever `connect_timeout` is
HANDSHAKE_AFTER = 1.0
SHUNNED = 30.0
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
"""Opens a connection over a connected socket, which it owns from then on. Raises OSError."""


def order(
    addresses: Iterable[Address], last: Mapping[Address, int], shunned: Mapping[Address, float], now: float
) -> list[Address]:
    """The addresses in the order in which to dial them: see the rules. The families alternate (RFC 8305 section 4).

    `last` has a number for each that was dialled, which grows; `shunned`, until when it has its turn after the others.
    """
    mixed = list(addresses)
    random.shuffle(mixed)
    mixed.sort(key=lambda each: last.get(each, 0))  # stable: those never dialled stay mixed
    well = [each for each in mixed if shunned.get(each, 0.0) <= now]
    ill = [each for each in mixed if shunned.get(each, 0.0) > now]
    return [*_alternate(well), *_alternate(ill)]


def _alternate(addresses: list[Address]) -> list[Address]:
    same = [each for each in addresses if each[0] == addresses[0][0]]
    other = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for pair in zip_longest(same, other) for each in pair if each is not None]


class Dialler:
    """Connects to one host and port. Its methods raise OSError, and leave nothing behind when they are cancelled.

    `within` is how many seconds `connect` will be given.
    """

    def __init__(self, host: str, port: int, within: float) -> None:
        self.within = within
        self._of = (host, port)
        self._name = Name(host, port)
        self._numbers = count(1)
        self._last: dict[Address, int] = {}
        self._shunned: dict[Address, float] = {}

    def take_over(self, before: "Dialler") -> None:
        """Go on with the addresses that `before` knows, if it is of the same host and port."""
        if before._of == self._of:
            self._name, self._numbers = before._name, before._numbers
            self._last, self._shunned = before._last, before._shunned

    async def connect(self, opening: Opening[Opened]) -> Opened:
        """Open a connection to one of the host's addresses. If none can be opened, raise the first one's error.

        uvloop's create_connection goes on connecting after it is cancelled, so this makes the sockets itself.
        """
        found = await self._name.find()
        if len(found.addresses) == 1 and found.newer is None:
            return await _Attempt(opening).run(found.addresses[0])
        return await _Race(self, opening, found.newer).run(found.addresses)

    # The race calls these.

    def order(self, addresses: Addresses) -> list[Address]:
        for known in (self._last, self._shunned):
            for gone in known.keys() - addresses:
                del known[gone]
        return order(addresses, self._last, self._shunned, asyncio.get_running_loop().time())

    def dialled(self, address: Address) -> None:
        self._last[address] = next(self._numbers)

    def shun(self, address: Address) -> None:
        self._shunned[address] = asyncio.get_running_loop().time() + SHUNNED

    def opened(self, address: Address) -> None:
        self._shunned.pop(address, None)


class _Attempt(Generic[Opened]):
    """One address."""

    def __init__(self, opening: Opening[Opened]) -> None:
        self._opening = opening
        self.accepted_at: float | None = None  # by the loop's time

    async def run(self, address: Address) -> Opened:
        loop = asyncio.get_running_loop()
        sock = socket.socket(address[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
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

    def __init__(self, dialler: Dialler, opening: Opening[Opened], newer: "asyncio.Future[Addresses] | None") -> None:
        self._dialler = dialler
        self._opening = opening
        self._newer = newer
        self._loop = asyncio.get_running_loop()
        self._to_dial: list[Address] = []
        self._dialled: set[Address] = set()
        self._running: dict[asyncio.Task[Opened], tuple[Address, _Attempt[Opened]]] = {}
        self._next_at = 0.0  # by the loop's time: the next address is dialled
        self._failed: OSError | None = None

    async def run(self, addresses: Addresses) -> Opened:
        self._to_dial = self._dialler.order(addresses)
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
            raise self._failed or OSError("the name has no address")
        finally:
            await self._give_up(list(self._running))

    def _dial_next(self) -> float | None:
        """Dial the next address if it is time to, and return how many seconds from now the one after it has its turn.

        None if no other address is left.
        """
        now = self._loop.time()
        if self._running and self._to_dial and self._next_at <= now:
            newest = next(reversed(self._running.values()))[1]
            if newest.accepted_at is not None:
                self._next_at = max(self._next_at, newest.accepted_at + HANDSHAKE_AFTER)
        if self._to_dial and (self._next_at <= now or not self._running):
            for address, _ in self._running.values():
                self._dialler.shun(address)
            if len(self._running) >= AT_ONCE:
                next(iter(self._running)).cancel()
            address, attempt = self._to_dial.pop(0), _Attempt(self._opening)
            self._dialled.add(address)
            self._dialler.dialled(address)
            self._running[self._loop.create_task(attempt.run(address))] = (address, attempt)
            share = self._dialler.within / (len(self._to_dial) + len(self._dialled) + 1)
            self._next_at = now + max(NEXT_AFTER_MIN, min(NEXT_AFTER, share))
        return max(0.0, self._next_at - now) if self._to_dial else None

    def _take_newer(self) -> None:
        """The name server has answered after all: dial what is new first, and nothing that is not there any more."""
        newer, self._newer = self._newer, None
        assert newer is not None  # it is done
        try:
            self._to_dial = [each for each in self._dialler.order(newer.result()) if each not in self._dialled]
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
            self._dialler.opened(address)
            return True
        if not isinstance(error, OSError) or error.errno in OWN_LACK:
            raise error
        self._failed = self._failed or error
        self._dialler.shun(address)
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
