"""What the adapters note of exchanges: a real Sender over a connection that keeps its frames."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import uvicorn
from fakes import Address
from uvicorn.server import ServerState

from shadowproxy.exchange import Failure, Outcome, Reply
from shadowproxy.incode.exchanges import Sender
from shadowproxy.intake_frames import Begin, Decoder, End, begin_of, end_of


class Kept:
    """In place of the connection to a companion."""

    def __init__(self) -> None:
        self.closed = False
        self.is_used = False
        self.pushed: list[float] = []
        self.begun: list[Begin] = []
        self.ended: list[End] = []

    def push(self, timeout: float) -> bool:
        self.pushed.append(timeout)
        return True

    def begin(self, frame: bytes, ticket: object) -> None:
        (received,) = Decoder().feed(frame)
        read = begin_of(received)
        assert isinstance(read, Begin), read
        self.begun.append(read)

    def end(self, frame: bytes, ticket: object) -> None:
        (received,) = Decoder().feed(frame)
        read = end_of(received)
        assert isinstance(read, End), read
        self.ended.append(read)


class Exchanged(NamedTuple):
    """One exchange as a companion would read it."""

    request: Begin
    end: Reply | Failure

    @property
    def reply(self) -> Reply:
        assert isinstance(self.end, Reply), self.end
        return self.end

    @property
    def outcome(self) -> Outcome:
        return self.end.outcome if isinstance(self.end, Failure) else Outcome.OK


class Noted:
    """`sender` is for the adapters, `exchanges` what they noted with it."""

    def __init__(self, capture: int = 1 << 20) -> None:
        self.kept = Kept()
        self.sender = Sender(self.kept, capture, b"X-Request-ID", 64 << 20)  # type: ignore[arg-type]

    @property
    def exchanges(self) -> list[Exchanged]:
        ends = {end.key: end.live for end in self.kept.ended}
        assert len(ends) == len(self.kept.ended), "an exchange ended twice"
        assert set(ends) == {begin.key for begin in self.kept.begun}, "an exchange has no end, or no beginning"
        assert self.sender.held == 0, "copies that nobody needs are kept"
        return [Exchanged(begin, ends[begin.key]) for begin in self.kept.begun]

    @property
    def one(self) -> Exchanged:
        (exchange,) = self.exchanges
        return exchange


class Unnoting:
    """A Sender of which nothing works: every call raises."""

    def begin(self, *given: Any, **named: Any) -> Any:
        return _Raising()


class _Raising:
    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*given: object, **named: object) -> None:
            raise ValueError(f"a defect in {name}")

        return call


@contextlib.asynccontextmanager
async def served(app: Any, http: str = "httptools") -> AsyncIterator[Address]:
    """uvicorn in the test's own event loop, with `app`."""
    config = uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None, date_header=False)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
        "127.0.0.1",
        0,
    )
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=5)
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
