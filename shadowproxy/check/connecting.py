"""Connects to all addresses of a name at once, since `serve` spreads its connections over all of them."""

import contextlib
import errno
import os
import selectors
import socket
from collections.abc import Sequence
from time import perf_counter

from shadowproxy.serve.upstreams.names import Address

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


def _ended(failed: int, began: float) -> float | OSError:
    return OSError(failed, os.strerror(failed)) if failed else perf_counter() - began
