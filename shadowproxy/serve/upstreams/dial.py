"""From a host and a port to a connected socket. A slow name server of one endpoint delays no other endpoint.

The event loop's own resolver has four threads for all: a shadow whose name server hangs would take them all, and live
could not be dialled. Here every endpoint has at most one lookup under way, in a daemon thread of its own, and all its
connections wait for that one. Results are not cached: the next lookup runs again, so a moved service is found.
"""

import asyncio
import socket
import threading
from typing import Any

Address = tuple[Any, ...]

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


class Dialler:
    """Connects to one host and port. Its methods raise OSError, and leave nothing behind when they are cancelled."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lookup: asyncio.Future[list[tuple[socket.AddressFamily, Address]]] | None = None

    async def connect(self) -> socket.socket:
        """Connect to the first of the host's addresses that accepts. If none does, raise the first one's error.

        uvloop's create_connection goes on connecting after it is cancelled, so this makes the sockets itself.
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
            return _resolve(self._host, self._port, socket.AI_NUMERICHOST)
        except (socket.gaierror, UnicodeError):
            pass  # a name, not an address
        if self._lookup is None:
            self._lookup = loop.create_future()
            self._lookup.add_done_callback(self._forget)
            arguments = (loop, self._lookup)
            threading.Thread(target=self._look_up, args=arguments, name=f"resolve-{self._host}", daemon=True).start()
        return await asyncio.shield(self._lookup)  # one that is cancelled must not cancel it for the others

    def _forget(self, lookup: "asyncio.Future[list[tuple[socket.AddressFamily, Address]]]") -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # so that asyncio logs no unretrieved error if all that waited were cancelled

    def _look_up(
        self,
        loop: asyncio.AbstractEventLoop,
        lookup: "asyncio.Future[list[tuple[socket.AddressFamily, Address]]]",
    ) -> None:
        """In the lookup's own thread."""
        found: list[tuple[socket.AddressFamily, Address]] = []
        failed: OSError | None = None
        try:
            found = _resolve(self._host, self._port, 0)
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
            return  # the loop was closed meanwhile: nothing waits for it


def _resolve(host: str, port: int, flags: int) -> list[tuple[socket.AddressFamily, Address]]:
    return [(info[0], info[4]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)]
