"""Ends connections in favour of others, where memory, slots or descriptors are short.

The rules:

1. Whoever has sent and taken nothing for the longest time goes first. A caller for whom live works is not among them,
   nor one whose response or upload flows: it has moved a moment ago. One that sends or takes less than `LEAST_RATE`
   bytes a second falls behind, and counts as still for that long: a byte a second keeps no place.
2. Memory: copies that wait for shadows go before any caller. Then, until a sixteenth of the limit is free again, TLS
   handshakes that have lasted for `STILL` seconds, and then those for whom something is held. Idle connections are
   among them, and end as at a stop, where there are so many that they count.
3. A slot in which live is asked is only taken from a caller who has stood still for `STILL` seconds.
4. A descriptor is taken from a TLS handshake that lasts, and then from an idle connection: it ends as at a stop, so a
   request that is on its way is still answered. Then from callers who have stood still for `STILL` seconds; and if
   there are none, other connections end with the response that they wait for.
5. To look for them costs a turn's time, so it is done at most every `AGAIN` seconds.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from shadowproxy.serve.account import SHORT, Memory
from shadowproxy.serve.callers.connection import CONNECTION, CallerConnection
from shadowproxy.serve.callers.tls import HANDSHAKE, SECURED, Secured
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

STILL: Final = 2.0
AGAIN: Final = 0.05

EACH: Final = 20e-6
"""Seconds, for each connection, until all are looked at again for descriptors: that takes a twentieth of it."""

BEAT: Final = 0.1
BEATS: Final = 10
"""Each connection is looked at once in this many beats: so often it is seen whether its caller takes its response."""

_log = logging.getLogger(__name__)


class Shedding:
    """Of one server's `connections` and TLS `handshakes`. Owns its timers, from `start` to `stop`.

    `shed_copies` gives up copies for shadows, and returns whether there were any. `shed` counts the connections that
    were ended, by what was short.
    """

    def __init__(
        self,
        connections: set[CallerConnection],
        handshakes: set[Secured],
        memory: Memory,
        shed_copies: Callable[[], bool] = lambda: False,
    ) -> None:
        self.shed = dict.fromkeys(SHORT, 0)
        self._connections = connections
        self._handshakes = handshakes
        self._memory = memory
        self._shed_copies = shed_copies
        self._loop = asyncio.get_running_loop()
        self._repeats = Repeats()
        self._timer: asyncio.TimerHandle | None = None
        self._relief: asyncio.Handle | None = None
        self._unseen: list[CallerConnection] = []  # in this round of beats
        self._still: list[CallerConnection] = []  # with a slot, the longest last
        self._looked_at = -AGAIN  # when they were looked for
        self._counted_at = -AGAIN  # when all connections were looked at for descriptors

    def start(self) -> None:
        self._memory.relieve = self._relieve_soon
        self._timer = self._loop.call_later(BEAT, self._beat)

    def stop(self) -> None:
        self._memory.relieve = _nothing
        for timer in (self._timer, self._relief):
            if timer is not None:
                timer.cancel()

    def _beat(self) -> None:
        """Look at a tenth of the connections: all at once would take a turn of some milliseconds."""
        if not self._unseen:
            self._unseen = list(self._connections)
        for _ in range(max(1, len(self._connections) // BEATS)):
            if not self._unseen:
                break
            self._unseen.pop().look()
        self._timer = self._loop.call_later(BEAT, self._beat)

    # Memory.

    def _relieve_soon(self) -> None:
        """In a turn of its own: whoever passed the limit is in the midst of something."""
        if self._relief is None:
            self._relief = self._loop.call_soon(self._relieve)

    def _relieve(self) -> None:
        memory = self._memory
        if memory.excess > 0 and not self._shed_copies():  # else that is waited for: the recorder gets them first
            self._free(memory.excess + memory.limit // 16)
        self._relief = self._loop.call_later(AGAIN, self._look_again)

    def _free(self, count: int) -> None:
        """Have connections end until that many bytes are free, or soon will be."""
        left = count - sum(size_of(each) for each in self._connections if each.link.stopping)
        left -= self._end_handshakes(max(0, left // HANDSHAKE + 1), "memory") * HANDSHAKE
        crowded = self._memory.objects > self._memory.free  # else nothing is gained by ending idle connections
        found = [each for each in self._connections if each.link.held or (crowded and each.is_idle)]
        for since, connection in longest_still(each for each in found if not each.link.stopping or each.link.held):
            if left <= 0:
                break
            if connection.is_idle and not connection.link.held:
                left -= size_of(connection)
                self._part(connection, since, "memory")
            else:
                left -= self._end(connection, "memory")

    def _look_again(self) -> None:
        self._relief = None
        if self._memory.excess > 0:
            self._relieve_soon()

    # Slots and descriptors.

    def make_slot(self) -> bool:
        """End a request whose caller has stood still, and return whether there was one."""
        now = self._loop.time()
        if not self._still and now - self._looked_at >= AGAIN:
            self._looked_at = now
            asking = longest_still(each for each in self._connections if each.asks_live)
            self._still = [connection for since, connection in reversed(asking) if now - since >= STILL]
        while self._still:
            connection = self._still.pop()
            since = connection.still_since()
            if connection.asks_live and since is not None and now - since >= STILL:
                self._end(connection, "slots")
                return True
        return False

    def make_descriptors(self, count: int) -> None:
        """Have up to `count` connections end, those that end already among them."""
        now = self._loop.time()
        if now - self._counted_at < EACH * len(self._connections):
            return
        self._counted_at = now
        count -= self._end_handshakes(count, "descriptors")
        ending = [each for each in self._connections if each.link.stopping]
        staying = [each for each in self._connections if not each.link.stopping]
        still = longest_still(staying)
        idle = [each for each in still if each[1].is_idle]
        left = count - len(ending)
        for since, connection in [*idle, *(each for each in still if not each[1].is_idle and now - each[0] >= STILL)]:
            if left <= 0:
                return
            left -= 1
            if connection.is_idle:
                self._part(connection, since, "descriptors")
            else:
                self._end(connection, "descriptors")
        for connection in [each for each in staying if each.asks_live][: max(0, left)]:
            connection.shutdown()

    def _end_handshakes(self, most: int, short: str) -> int:
        """Give up that many TLS handshakes, of those that have lasted for `STILL`, and return how many there were."""
        late = self._loop.time() - STILL
        lasting = sorted((each for each in self._handshakes if each.since <= late), key=lambda each: each.since)[:most]
        for each in lasting:
            each.give_up(short)
        return len(lasting)

    def _part(self, connection: CallerConnection, since: float, short: str) -> None:
        """End an idle connection as at a stop: a request that is on its way is still answered."""
        self._log(self._loop.time() - since, short)
        connection.shutdown()

    def _end(self, connection: CallerConnection, short: str) -> int:
        since = connection.still_since()
        self._log(0.0 if since is None else self._loop.time() - since, short)
        return connection.shed()

    def _log(self, seconds: float, short: str) -> None:
        self.shed[short] += 1
        if count := self._repeats.worth_logging("shed", short):
            extra = {"event": "caller_shed", "short": short, "seconds": round(seconds, 1), "count": count}
            words = "ended a connection%s whose caller had sent and taken next to nothing for %.1f s, as %s ran out"
            _log.warning(words, times_text(count), seconds, short, extra=extra)


def size_of(connection: CallerConnection) -> int:
    """About how many bytes an idle connection takes."""
    return CONNECTION + (SECURED if connection.link.secure else 0)


def longest_still(connections: Iterable[CallerConnection]) -> list[tuple[float, CallerConnection]]:
    """Those whose caller something is awaited from, and since when; the longest first."""
    found = [(since, each) for each in connections if (since := each.still_since()) is not None]
    found.sort(key=lambda each: each[0])
    return found


def _nothing() -> None:
    """Nobody is left to be shed."""
