"""A WebSocket's bytes, after live's 101: from the caller to live and back, copied nowhere and not looked into.

The rules:

1. It begins only with live's 101 to a request that offered `Upgrade: websocket`. From then on no byte of either
   connection is read as HTTP, and neither carries anything else afterwards.
2. Both ways are bounded: a side is not read while the other one has `HIGH_WATER` bytes left to take.
3. When one side ends, the other gets what came before, and is closed as well. HTTP/1.1 has no half of a connection to
   keep open: WebSockets say goodbye in frames of their own. What the other still sends is read and dropped for a while:
   a connection that is closed with bytes unread is reset, and a reset can overtake what was sent last.
4. It ends after `idle` seconds in which nothing came from either side, and with the proxy, after `drain`.
5. It outlives the configuration under which it began, and keeps nothing of it: its connection leaves live's pool for
   `Tunnels`. Hours of WebSockets beneath hundreds of reloads would hold all of these configurations in memory.
"""

from collections.abc import Callable
from typing import Final

from shadowproxy.exchange import Tunnel, TunnelEnd
from shadowproxy.serve.callers.call import STOPPING, Call
from shadowproxy.serve.live.exchange import LiveExchange
from shadowproxy.serve.upstreams.connection import Carried, Connection, Owner

FLUSH: Final = 10.0
"""Seconds that live may take to read the caller's last bytes and to close, after the caller has left."""


class Tunnels(Owner):
    """All open tunnels: their exchanges, and the connections to live, which it owns. End with `close`."""

    def __init__(self) -> None:
        self.exchanges: set[LiveExchange] = set()
        self._connections: set[Connection] = set()

    def __len__(self) -> int:
        return len(self.exchanges)

    def close(self) -> None:
        """Close what is left of the connections: of tunnels that have ended, with bytes that live did not take."""
        for connection in list(self._connections):
            connection.abort()

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)

    def remove(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def keep(self, connection: Connection, *, rest: bool) -> bool:
        return False


class TunnelToLive(Carried):
    """Both ends of one tunnel. It calls `ended` once, with the sizes and who ended it, and why if that was a break.

    `hold` is called with how many bytes wait for live to take them. `begin` is called once, after the caller was sent
    the 101.
    """

    __slots__ = (
        "_call",
        "_connection",
        "_ended",
        "_from_caller",
        "_from_live",
        "_hold",
        "_idle",
        "_over",
        "_stopped",
        "_waits",
    )

    def __init__(
        self,
        connection: Connection,
        call: Call,
        idle: float,
        hold: Callable[[int], None],
        ended: Callable[[Tunnel, str | None], None],
    ) -> None:
        self._connection = connection
        self._call = call
        self._idle = idle
        self._hold = hold
        self._ended = ended
        self._from_caller = 0
        self._from_live = 0
        self._over = False
        self._waits = False  # for the caller to take what live sent
        self._stopped = False  # for live to take what the caller sent

    def begin(self, data: bytes, tunnels: Tunnels) -> None:
        """`data` came from live behind its 101."""
        self._connection.hand_over(self, tunnels)
        self._connection.deadline.set(self._idle)
        if data:
            self.receive(data)

    # Live's side: its connection calls these.

    @property
    def over(self) -> bool:
        return self._over

    @property
    def has_backlog(self) -> bool:
        return False

    def receive(self, data: bytes) -> None:
        if not data:
            return
        self._from_live += len(data)
        self._connection.deadline.set(self._idle)
        self._call.send_through(data)
        if not self._over and not self._waits and not self._call.writable:
            self._waits = True
            self._connection.transport.pause_reading()
            self._call.when_writable(self._read_live_on)

    def _read_live_on(self) -> None:
        self._waits = False
        if not self._over:
            self._connection.resume_reading()

    def connection_ended(self, exc: Exception | None) -> None:
        self._end(TunnelEnd.LIVE, "live broke the tunnel off" if exc is not None else None)

    def time_out(self) -> None:
        if self._over:
            self._connection.abort()
        self._end(TunnelEnd.IDLE, None)

    def resume(self) -> None:
        """Live's connection is lost, and what the kernel holds of it is read now."""

    def fail(self, error: Exception) -> None:
        self._end(TunnelEnd.LIVE, str(error))

    def fail_by_defect(self, error: Exception) -> None:
        self._end(TunnelEnd.LIVE, "a defect in the proxy; its log says more")
        raise error  # the event loop reports it

    # The caller's side: its connection calls these.

    def take(self, data: bytes) -> None:
        if self._over:
            return
        self._from_caller += len(data)
        connection = self._connection
        connection.deadline.set(self._idle)
        connection.transport.write(data)
        if connection.writable is not None and not self._stopped:
            self._stopped = True
            self._hold(connection.transport.get_write_buffer_size())
            self._call.stop_taking()
            connection.writable.add_done_callback(self._take_on)

    def _take_on(self, _: object) -> None:
        self._stopped = False
        if not self._over:
            self._hold(0)
            self._call.take_on()

    def caller_ended(self, exc: Exception | None) -> None:
        lost = exc is not None or self._waits
        self._end(TunnelEnd.CALLER, "the caller left before it had taken all that live sent" if lost else None)

    def cancel(self, why: str) -> None:
        if why == STOPPING:
            self._end(TunnelEnd.SHUTDOWN, "the proxy stopped")
        else:  # it was ended in favour of others, as it took nothing
            self.caller_ended(None)

    def _end(self, who: TunnelEnd, error: str | None) -> None:
        """Close both connections, each with what it has left to send."""
        if self._over:
            return
        self._over = True
        connection = self._connection
        if not connection.has_ended:
            connection.deadline.set(FLUSH)
            connection.end_sending()
            if self._waits:
                connection.resume_reading()
        self._call.end_tunnel()
        self._ended(Tunnel(self._from_caller, self._from_live, who), error)
