"""The admin port of a program that is all in one process: the front and the recorder's admin server, over a channel."""

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

from shadowproxy.serve.admin.census import Census, health
from shadowproxy.serve.admin.operated import Operated
from shadowproxy.serve.admin.serving import Shown, serve_admin
from shadowproxy.serve.probes import passing
from shadowproxy.serve.probes.front import Front


async def open_admin(
    stack: AsyncExitStack,
    bound: socket.socket,
    operated: Operated,
    *,
    proxy: str,
    spec: Callable[[], Shown],
    census: Callable[[], Census],
) -> Front:
    """Answer operators on `bound`, which is closed elsewhere, from the front's `start` until `stack` closes.

    Everything is opened here: later, callers may have taken all descriptors. `census` returns the last known figures at
    once, for the probes; `spec` is the configuration in force.
    """
    front = Front(bound, health=lambda: health(census()))
    stack.push_async_callback(front.close)  # last: the probes say that the program is stopping
    ours, theirs = passing.pair()
    front.connect(ours)
    await serve_admin(stack, theirs, operated, proxy=proxy, spec=spec)
    return front
