"""A mailbox for each live process, over which the others tell it what they know of IDs."""

import contextlib
import socket
from typing import Final

from shadowproxy.serve.neighbours.neighbours import Neighbours
from shadowproxy.serve.workers.child import Child

_ROOM: Final = 1 << 20
"""Bytes that a mailbox should have room for; the system may allow less (net.core.wmem_max)."""


class Mailboxes:
    """Owns both ends of each, so that what is written waits while no process runs there. Raises OSError.

    Packets, not datagrams: Linux takes ten datagrams at once (net.unix.max_dgram_qlen), and packets by their bytes.
    """

    def __init__(self, count: int) -> None:
        self._ends: list[tuple[socket.socket, socket.socket]] = []
        try:
            for _ in range(count if count > 1 else 0):
                self._ends.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        except OSError:
            self.close()
            raise
        for _, end in self._ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)

    def __repr__(self) -> str:
        return f"<Mailboxes {len(self._ends)}>"

    def give(self, child: Child, number: int) -> bool:
        """Give the live process of this number its own, and the others to write to. False if it could not get all."""
        given = True
        with contextlib.ExitStack() as unused:
            sockets = [
                (Neighbours.mailbox_name(None if at == number else at), (mine if at == number else theirs).dup())
                for at, (mine, theirs) in enumerate(self._ends)
            ]
            for _, each in sockets:
                unused.callback(each.close)
            for name, each in sockets:
                given = child.give(name, each) and given
        return given

    def close(self) -> None:
        for one, other in self._ends:
            one.close()
            other.close()
        self._ends.clear()
