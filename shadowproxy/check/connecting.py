"""Connects to all addresses of a name at once, since `serve` spreads its connections over all of them."""

import contextlib
import errno
import os
import selectors
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from shadowproxy.serve.upstreams.errors import ConnectError
from shadowproxy.serve.upstreams.names import Address
from shadowproxy.serve.upstreams.through import CLOSED, ForwardProxy, connect_request, read_answer

Outcomes = dict[Address, float | OSError]
"""What each address came to, in the given order: the seconds that connecting took, or an error."""


def connect_all(addresses: Sequence[Address], within: float) -> Outcomes:
    """Connect to each, and close the connections. A TimeoutError stands for one that is silent for `within` seconds."""
    began = perf_counter()
    ended: Outcomes = {}
    with selectors.DefaultSelector() as waiting, contextlib.ExitStack() as stack:
        for address in addresses:
            try:
                sock = stack.enter_context(socket.socket(address[0], socket.SOCK_STREAM))
                sock.setblocking(False)
                failed = sock.connect_ex(address[1])
            except OSError as error:
                ended[address] = error
                continue
            if failed == errno.EINPROGRESS:
                waiting.register(sock, selectors.EVENT_WRITE, address)
            else:
                ended[address] = _ended(failed, began)
        while waiting.get_map() and (left := began + within - perf_counter()) > 0:
            for key, _ in waiting.select(left):
                assert isinstance(key.fileobj, socket.socket)  # it was registered
                ended[key.data] = _ended(key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), began)
                waiting.unregister(key.fileobj)
    return {each: ended.get(each, TimeoutError()) for each in addresses}


@dataclass(frozen=True, slots=True)
class Way:
    """To the endpoint's `host` and `port`: over one of the `addresses`, which are its own or those of its `proxy`."""

    addresses: Sequence[Address]
    host: str
    port: int
    proxy: ForwardProxy | None

    def open(self, within: float) -> socket.socket:
        """Connect to the first address that accepts, and opens the tunnel if it is a proxy's.

        Raises the first one's error if there is none: OSError, and ConnectError where the proxy refuses.
        """
        refused: OSError | ConnectError | None = None
        for _, address in self.addresses:
            try:
                return self._open_at(address, within)
            except (OSError, ConnectError) as error:
                refused = refused or error
        raise refused or OSError("no address")

    def _open_at(self, address: tuple[Any, ...], within: float) -> socket.socket:
        connection = socket.create_connection(address[:2], within)
        try:
            if self.proxy is not None:
                self._tunnel(connection, self.proxy)
        except BaseException:
            connection.close()
            raise
        return connection

    def _tunnel(self, connection: socket.socket, proxy: ForwardProxy) -> None:
        connection.sendall(connect_request(proxy, self.host, self.port))
        received = b""
        while not read_answer(received, authorized=proxy.authorization is not None):
            piece = connection.recv(4096)
            if not piece:
                raise ConnectError(CLOSED)
            received += piece


def _ended(failed: int, began: float) -> float | OSError:
    return OSError(failed, os.strerror(failed)) if failed else perf_counter() - began
