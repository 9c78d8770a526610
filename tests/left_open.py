"""An event loop that the tests close leaves no connection behind, and one that the program forgot fails its own test.

Python reports a connection that nobody ended when it collects it as garbage: in whatever test runs by then. So each
event loop, asyncio's and uvloop's, in any thread, ends all its connections just before it is closed.

A connection fails the test whose loop it was if it is the program's, the program has not begun to close it, and the
other side does not end it for `PATIENCE` either. One that is being closed fails none, as the machine decides when the
last bytes are taken; nor does one of the tests' own.
"""

import asyncio
import contextlib
import gc
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Callable, Generator
from typing import Any

import pytest
import uvloop

PATIENCE = 2.0
"""Seconds. A busy machine delivers the other side's end later, but not by that much."""


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LeftOpen())


class LeftOpen:
    def __init__(self) -> None:
        self._forgotten: list[str] = []
        self._replaced = pytest.MonkeyPatch()
        self._end_before_close(BaseSelectorEventLoop, open_on_asyncio)
        self._end_before_close(uvloop.Loop, open_on_uvloop)

    def pytest_unconfigure(self) -> None:
        self._replaced.undo()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            forgotten, self._forgotten = self._forgotten, []
            if forgotten:
                pytest.fail(f"the program left connections open when the event loop ended: {', '.join(forgotten)}")

    def _end_before_close(self, kind: type[Any], still_open: Callable[[Any], list[Any]]) -> None:
        close = kind.close

        def end_and_close(loop: asyncio.AbstractEventLoop) -> None:
            left = [] if loop.is_closed() or loop.is_running() else still_open(loop)
            if left:
                loop.run_until_complete(self._end(left))
            close(loop)

        self._replaced.setattr(kind, "close", end_and_close)

    async def _end(self, left: list[Any]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while any(map(is_forgotten, left)):  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0.01)
        self._forgotten += [describe(transport) for transport in left if is_forgotten(transport)]
        for transport in left:
            transport.abort()  # the loop closes its socket in the next turn, which it takes to end this coroutine


def open_on_asyncio(loop: Any) -> list[Any]:
    return [transport for transport in loop._transports.values() if transport._sock is not None]


def open_on_uvloop(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """uvloop gives no list. To find all that refers to the loop takes 20 ms, in about a hundred of the tests."""
    return [
        each
        for each in gc.get_referrers(loop)
        if type(each).__module__ == "uvloop.loop" and hasattr(each, "abort") and "closed=True" not in repr(each)
    ]


def is_forgotten(transport: Any) -> bool:
    """Whether it is the program's, and the program has not begun to close it."""
    return type(protocol_of(transport)).__module__.startswith("shadowproxy.") and not transport.is_closing()


def describe(transport: Any) -> str:
    return f"{type(protocol_of(transport)).__qualname__} on {transport!r}"


def protocol_of(transport: Any) -> Any:
    """What uses the connection. asyncio's TLS stands between the two; uvloop's has a transport of its own."""
    protocol = transport.get_protocol()
    return getattr(protocol, "_app_protocol", None) or protocol
