"""From a host and a port to a connected socket, so that one endpoint's slow name server holds up nobody else.

The event loop's own resolver has four threads for all: a shadow whose name server hangs would take them all, and live
could not be dialled. Here every endpoint has at most one lookup under way, in a daemon thread of its own, and all who
ask meanwhile wait for that one. Nothing is kept: the next lookup asks again, so a moved service is found.
"""

import asyncio
import socket
import threading
from typing import Any

Address = tuple[Any, ...]

_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # An answer may be ten minutes in coming (`live.timeout`). Meanwhile the kernel asks every minute whether the other
    # side is there: a host that vanished is noticed after two minutes, and a NAT gateway, some of which forget what is
    # silent for 350 s, keeps the connection.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
]
if hasattr(socket, "TCP_KEEPIDLE"):  # macOS calls it otherwise
    _OPTIONS.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60))


class Dialler:
    """One host and port. Its methods raise OSError, and leave nothing behind when they are cancelled."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lookup: asyncio.Future[list[tuple[socket.AddressFamily, Address]]] | None = None

    async def connect(self) -> socket.socket:
        """A connection to the first of the host's addresses that takes one; raises what the first one said.

        uvloop's create_connection, when cancelled, goes on connecting for nobody: hence sockets of our own.
        """
        loop = asyncio.get_running_loop()
        refused: OSError | None = None
        for family, address in await self._addresses(loop):
            sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                sock.setblocking(False)
                for level, option, value in _OPTIONS:
                    sock.setsockopt(level, option, value)
                await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                refused = refused or error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise refused or OSError("the name has no address")

    async def _addresses(self, loop: asyncio.AbstractEventLoop) -> list[tuple[socket.AddressFamily, Address]]:
        try:
            return _looked_up(self._host, self._port, socket.AI_NUMERICHOST)
        except (socket.gaierror, UnicodeError):
            pass  # a name, not an address
        if self._lookup is None:
            self._lookup = loop.create_future()
            self._lookup.add_done_callback(self._forget)
            arguments = (loop, self._lookup)
            threading.Thread(target=self._look_up, args=arguments, name=f"resolve-{self._host}", daemon=True).start()
        return await asyncio.shield(self._lookup)  # who leaves must not take the answer from the others

    def _forget(self, lookup: "asyncio.Future[list[tuple[socket.AddressFamily, Address]]]") -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # everybody who waited for it may have left: that is no defect

    def _look_up(
        self,
        loop: asyncio.AbstractEventLoop,
        lookup: "asyncio.Future[list[tuple[socket.AddressFamily, Address]]]",
    ) -> None:
        """In the lookup's own thread."""
        found: list[tuple[socket.AddressFamily, Address]] = []
        failed: OSError | None = None
        try:
            found = _looked_up(self._host, self._port, 0)
        except UnicodeError:
            failed = socket.gaierror(socket.EAI_NONAME, "not a host name")
        except OSError as error:
            failed = error

        def settle() -> None:
            if failed is None:
                lookup.set_result(found)
            else:
                lookup.set_exception(failed)

        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            return  # the loop was closed meanwhile: nobody waits any more


def _looked_up(host: str, port: int, flags: int) -> list[tuple[socket.AddressFamily, Address]]:
    return [(info[0], info[4]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)]
