"""Where callers and operators come in: the addresses that are listened on, and the servers that answer there."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from shadowproxy.compare.stats import wilson
from shadowproxy.config import Config, TcpAddress, UnixAddress, shown
from shadowproxy.serve.access import Access
from shadowproxy.serve.asgi import Asgi
from shadowproxy.serve.balance import Board, Taking
from shadowproxy.serve.listener import Application, Limits, Listener, Refusing, refusal
from shadowproxy.serve.operator_log import Repeats
from shadowproxy.serve.overview import Overview

if TYPE_CHECKING:
    from shadowproxy.serve.admin import Operated


class StartError(Exception):
    """The sidecar cannot be started here. One line."""


async def serve_admin(
    stack: AsyncExitStack,
    bound: socket.socket,
    operated: "Operated",
    *,
    proxy: str,
    config: Callable[[], Config],
) -> None:
    """Answer operators until `stack` closes: what `operated` tells, under the configuration in force.

    `bound` is the caller's to release; `proxy` is what the overview is headed with.
    """
    # Imported by preload.py, where there is an admin server: else it would be a third of the time that starting takes.
    from shadowproxy.serve import admin, page

    address = config().admin
    host = address.host if isinstance(address, TcpAddress) else None
    overview = Overview(operated.census, proxy=proxy, interval=wilson)
    app = admin.build(
        admin.Sources(
            operated=operated,
            overview=overview,
            access=lambda: Access(host, config().admin_token),
            configuration=lambda: shown(config()),
            page=page.respond,
        )
    )
    await overview.start()
    stack.push_async_callback(overview.stop)
    server = Server(uvicorn_config(Asgi(app), lambda: admin.LIMITS, admin.refusal), drain=1.0)
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[bound]))

    async def stop() -> None:
        await overview.stop()  # or it would be waited for as a request under way
        server.stop.set()
        await serving

    stack.push_async_callback(stop)
    await server.ready.wait()


def uvicorn_config(app: Application, limits: Callable[[], Limits], refusal: Refusing = refusal) -> uvicorn.Config:
    """`limits` is asked with each connection; `refusal` is the form of what is no sound HTTP is told in."""
    repeats = Repeats()

    def listener(*, server_state: ServerState, **_: Any) -> Listener:
        return Listener(app, server_state, limits=limits(), repeats=repeats, refusal=refusal)

    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn only looks at it: the listeners are who ask it
        http=listener,  # type: ignore[arg-type]  # uvicorn calls it, it need not be a class
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )


@dataclass(frozen=True, slots=True)
class Part:
    """Which worker's part of the connections a server takes."""

    board: Board
    worker: int


class Server(uvicorn.Server):
    """uvicorn's server, told by its owner when to stop, and at once.

    By its own signal handling it would end by raising the signal again, and it looks for word of stopping every 0.1 s.
    It takes its connections itself: while no descriptor is left for one more, libuv would accept and close what comes,
    and who is left in the kernel's queue is answered later. With a `part` it is one worker's, and takes that part.
    """

    def __init__(self, config: uvicorn.Config, drain: float, part: Part | None = None) -> None:
        super().__init__(config)
        self._part = part
        self._taking: Taking | None = None
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.drain = drain

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        assert sockets is not None
        (listening,) = sockets
        connections = self.server_state.connections
        part = self._part or Part(Board.of_one(), 0)
        self._taking = Taking(
            listening, part.board, part.worker, protocol=self._protocol, open_now=lambda: len(connections)
        )
        self._taking.start()
        self.ready.set()

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def main_loop(self) -> None:
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let every request under way be answered within `drain`, and cut off the rest."""
        if self._taking is not None:
            await self._taking.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.drain):
                # uvicorn's two sets tell nobody when they become empty.
                while (self.server_state.connections or self.server_state.tasks) and not self.hurry.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # or it might bring another request, for which there is no log any more
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)  # each has a record to settle


def release(listen: TcpAddress | UnixAddress, bound: socket.socket) -> None:
    bound.close()
    if isinstance(listen, UnixAddress):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(listen.path)


def bind(listen: TcpAddress | UnixAddress) -> socket.socket:
    try:
        if isinstance(listen, UnixAddress):
            return _bind_unix(listen.path)
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        bound = socket.create_server((listen.host, listen.port), family=family, backlog=2048)
    except OSError as error:
        why = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise StartError(f"cannot listen on {listen}: {why}") from error
    bound.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )  # accepted sockets inherit it; loops differ in setting it
    bound.setblocking(False)
    return bound


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode) and _nobody_listens(path):
            os.unlink(path)  # left behind by one that was killed
    except FileNotFoundError:
        pass
    try:
        bound.bind(path)
        bound.listen(2048)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _nobody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
