"""TLS over a connected socket, without losing a response that the kernel still holds: see kernel.py.

An event loop's TLS is a protocol between its transport for the socket and ours. `_Rescue` stands before it. When the
transport for the socket has failed, it passes on what the socket still holds.
"""

import asyncio
import socket
import ssl
from typing import Protocol, cast

from shadowproxy.serve.system import kernel
from shadowproxy.serve.upstreams.errors import CLOSED_EARLY, ReadError


class Secured(Protocol):
    """What gets the decrypted bytes: an asyncio.Protocol in all but its base class."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def read_to_the_end(self) -> None:
        """The connection is lost: what was received is passed on now, even if reading was paused."""


async def secure(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, inside: Secured, context: ssl.SSLContext, name: str
) -> None:
    """Do the TLS handshake over `sock`, which this now owns, with the server `name`; then connect `inside`.

    Raises OSError; ssl.SSLError is one. Raises ReadError where the connection ends after the handshake and before this
    returns, as on one that ends a turn later: when the loop looks must not decide what is reported.
    """
    plain, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    try:
        protocol = cast(asyncio.Protocol, inside)
        transport = await loop.start_tls(plain, protocol, context, server_hostname=name)
        if transport is None or plain.is_closing():
            raise ReadError(CLOSED_EARLY)
    except BaseException:
        plain.abort()
        raise
    plain.set_protocol(_Rescue(sock, cast(asyncio.BufferedProtocol, plain.get_protocol()), inside))
    inside.connection_made(transport)


class _Rescue(asyncio.BufferedProtocol):
    """Between a transport and the loop's TLS. It passes everything on."""

    __slots__ = ("_inside", "_sock", "_tls")

    def __init__(self, sock: socket.socket, tls: asyncio.BufferedProtocol, inside: Secured) -> None:
        self._sock = sock
        self._tls = tls
        self._inside = inside

    def get_buffer(self, sizehint: int) -> memoryview:
        return cast(memoryview, self._tls.get_buffer(sizehint))

    def buffer_updated(self, nbytes: int) -> None:
        self._tls.buffer_updated(nbytes)

    def eof_received(self) -> bool | None:
        return self._tls.eof_received()

    def pause_writing(self) -> None:
        self._tls.pause_writing()

    def resume_writing(self) -> None:
        self._tls.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inside.read_to_the_end()
        rest = kernel.received(self._sock)
        while True:  # at least once: TLS may still hold what was received before
            buffer = self.get_buffer(len(rest))
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            self._tls.buffer_updated(count)
            rest = rest[count:]
            if not rest:
                break
        self._tls.connection_lost(exc)
