"""A running proxy with scripted upstreams, on port 0, in the test's own event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fakes import Address, Caller, Message, Origin, Script, strict_ok
from hypothesis import settings
from inprocess import Sidecar

from shadowproxy import compiled, config, record
from shadowproxy.serve.sidecar.specify import specify

pytest_plugins = ("second_try", "side_by_side", "for_compiled", "left_open", "only_parties")

# No deadline for an example: on a busy machine each takes longer.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if compiled():
        skipped = pytest.mark.skip("it replaces a method or a base class, which compiled code does not look up by name")
        for item in items:
            if item.get_closest_marker("source"):
                item.add_marker(skipped)


@dataclass
class Proxy:
    """A sidecar under test, with the origins that it forwards and mirrors to: `live` and `shadows`."""

    address: Address
    live: Origin
    shadows: Mapping[str, Origin]
    log: Path
    sidecar: Sidecar
    _closing: AsyncExitStack = field(repr=False)

    async def caller(self, **options: Any) -> Caller:
        """A new connection to the proxy; use as `async with`."""
        return await Caller.to(self.address, **options)

    async def ask(self, raw: bytes) -> Message:
        """Send one request over a connection of its own, and read the response."""
        async with await self.caller() as caller:
            return await caller.ask(raw)

    async def records(self) -> list[record.Record]:
        """Stop the sidecar, as SIGTERM does, and read its log. A line that is not a record fails the test."""
        await self._closing.aclose()
        read = list(record.read([self.log]))
        unreadable = [entry for entry in read if not isinstance(entry, record.Record)]
        assert not unreadable
        return [entry for entry in read if isinstance(entry, record.Record)]


StartProxy = Callable[..., AbstractAsyncContextManager[Proxy]]


def starter(directory: Path) -> StartProxy:
    """The same as the fixture `proxy`, with logs in `directory`: for tests that share one proxy."""

    @contextlib.asynccontextmanager
    async def start(
        live: Origin | Script | bytes = strict_ok,
        shadows: Mapping[str, Origin | Script | bytes] | None = None,
        *,
        live_options: Mapping[str, Any] | None = None,
        shadow_options: Mapping[str, Any] | None = None,
        **top_level: Any,
    ) -> AsyncIterator[Proxy]:
        async with AsyncExitStack() as origins:

            async def running(what: Origin | Script | bytes) -> Origin:
                return what if isinstance(what, Origin) else await origins.enter_async_context(Origin(what))

            live_origin = await running(live)
            shadow_origins = {name: await running(what) for name, what in (shadows or {}).items()}
            log = directory / "log"
            values: dict[str, Any] = {
                "listen": "127.0.0.1:0",
                "admin": None,
                "overload": {"loop_lag": "1h"},  # the tests' own machine may be busy
                "live": {"url": live_origin.url} | dict(live_options or {}),
                "shadows": {
                    name: {"url": origin.url} | dict(shadow_options or {}) for name, origin in shadow_origins.items()
                },
                "log": {"path": str(log)},
            }
            async with AsyncExitStack() as closing:
                sidecar = await closing.enter_async_context(Sidecar(specify(config.from_values(values | top_level))))
                yield Proxy(sidecar.address, live_origin, shadow_origins, log, sidecar, closing)

    return start


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[StartProxy]:
    """Starts a proxy: `async with proxy(script, shadows={"a": script}, limits={...}) as running`.

    `live` and each shadow are a running Origin, a script, or the bytes of a response. `live_options` and
    `shadow_options` are added to their parts of the configuration; all other arguments are its top level. Every test
    that uses this fixture also asserts that no task outlives it.
    """
    yield starter(tmp_path)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks that outlived the proxy: {left}"
