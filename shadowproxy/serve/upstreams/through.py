"""The way to an endpoint through an HTTP proxy.

A plain endpoint's requests are sent to the proxy with their whole URL as the target (RFC 9112 section 3.2.2). To an
https endpoint the proxy is asked for a tunnel (CONNECT, RFC 9110 section 9.3.6), in which TLS is then end to end: the
proxy sees the endpoint's host and port, and nothing else.

What a proxy answers to CONNECT is quoted nowhere: it may repeat the credentials, or be a page of any size.
"""

import asyncio
import re
import socket
from dataclasses import dataclass, field
from http import HTTPStatus

from shadowproxy.serve.upstreams.errors import ConnectError

CREDENTIALS = b"Proxy-Authorization"
NOT_ALLOWED = 407
"""The status with which a proxy requires credentials, or rejects those that it was sent."""

CLOSED = "the proxy closed the connection instead of answering CONNECT"

_HEAD_MOST = 64 << 10
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: [^\r\n]*)?(?:\r?\n|\Z)")
_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """Where it is. `authorization` is the value of the header field with its credentials; None without any."""

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)


def connect_request(proxy: ForwardProxy, host: str, port: int) -> bytes:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [b"CONNECT %b HTTP/1.1" % authority.encode(), b"Host: %b" % authority.encode()]
    if proxy.authorization is not None:
        lines.append(b"%b: %b" % (CREDENTIALS, proxy.authorization))
    return b"\r\n".join([*lines, b"", b""])


def read_answer(received: bytes, *, authorized: bool) -> bool:
    """Whether the tunnel is open; False while the proxy's answer is not whole. Raises ConnectError where it refuses."""
    while True:
        end = _END.search(received)
        if end is None:
            if len(received) > _HEAD_MOST:
                raise ConnectError("the proxy's answer to CONNECT has no end")
            if not b"HTTP/1.".startswith(received[:7]) and not received.startswith(b"HTTP/1."):
                raise ConnectError("the proxy does not answer CONNECT with HTTP/1.1")
            return False
        status_line = _STATUS_LINE.match(received)
        if status_line is None:
            raise ConnectError("the proxy does not answer CONNECT with HTTP/1.1")
        status = int(status_line[1])
        received = received[end.end() :]
        if 100 <= status < 200:
            continue
        if status >= 300:
            raise ConnectError(refusal(status, authorized=authorized))
        if received:
            raise ConnectError("the proxy sent bytes of its own into the tunnel")
        return True


def refusal(status: int, *, authorized: bool) -> str:
    """Why there is no way through the proxy, in its status's registered words."""
    if status == NOT_ALLOWED:
        return f"the proxy {'rejects the credentials' if authorized else 'requires credentials'} (407)"
    try:
        words = f" {HTTPStatus(status).phrase}"
    except ValueError:
        words = ""
    return f"the proxy answers CONNECT with {status}{words}"


async def open_tunnel(sock: socket.socket, proxy: ForwardProxy, host: str, port: int) -> None:
    """Ask the proxy at the other end of `sock` for a tunnel. Raises ConnectError or OSError, and has then closed it."""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, connect_request(proxy, host, port))
        received = b""
        while not read_answer(received, authorized=proxy.authorization is not None):
            piece = await loop.sock_recv(sock, 4096)
            if not piece:
                raise ConnectError(CLOSED)
            received += piece
    except BaseException:
        sock.close()
        raise
