"""The server that callers' connections are handed to, and how it stops."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from shadowproxy.serve.callers.balance import Board, Taking
from shadowproxy.serve.callers.listener import Application, Limits, Listener, Refusing, refusal
from shadowproxy.serve.telemetry.operator_log import Repeats


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
