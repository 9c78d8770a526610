"""The admin server: its own port, ready as long as requests are taken on, and no path of the live API taken."""

import asyncio
from typing import Any

import httpx
from conftest import Proxy, StartProxy
from fakes import always, answer

ADMIN = {"admin": "127.0.0.1:0"}


def client(running: Proxy) -> httpx.AsyncClient:
    assert running.sidecar.admin_address is not None
    host, port = running.sidecar.admin_address

    async def report(_: httpx.Request) -> None:
        await running.sidecar.report()

    hooks: dict[str, list[Any]] = {"request": [report]}
    return httpx.AsyncClient(trust_env=False, base_url=f"http://{host}:{port}", event_hooks=hooks)


async def wait_written(admin: httpx.AsyncClient, count: int) -> None:
    """Until so many records are in the log."""
    async with asyncio.timeout(5):
        while (await admin.get("/shadows")).json()["journal"]["written"] < count:
            pass


async def test_it_is_alive_and_ready(proxy: StartProxy) -> None:
    async with proxy(**ADMIN) as running, client(running) as admin:
        assert (await admin.get("/healthz")).json() == {"status": "alive", "log": "ok", "unusable": []}
        assert (await admin.get("/readyz")).json() == {"status": "ready"}


async def test_a_sidecar_that_is_stopping_is_alive_and_not_ready(proxy: StartProxy) -> None:
    async with proxy(**ADMIN) as running, client(running) as admin:
        running.sidecar.stop()
        assert (await admin.get("/healthz")).status_code == 200
        assert (await admin.get("/readyz")).status_code == 503


async def test_the_callers_port_has_none_of_its_paths(proxy: StartProxy) -> None:
    async with proxy(always(answer(b"live's own")), **ADMIN) as running:
        for path in (b"/healthz", b"/metrics", b"/shadows"):
            reply = await running.ask(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
            assert reply.body == b"live's own"


async def test_shadows_shows_the_state_of_a_lane(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": always(answer(b"{}"))}, **ADMIN) as running, client(running) as admin:
        await running.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        told = (await admin.get("/shadows")).json()
        assert told["shadows"]["a"]["chosen"] == 1
        assert told["shadows"]["a"]["breaker"] == "closed"
        assert told["shadows"]["a"]["percent"] == 100.0
        assert told["journal"]["lost"] == {}


async def test_without_an_admin_address_there_is_no_admin_server(proxy: StartProxy) -> None:
    async with proxy() as running:
        assert running.sidecar.admin_address is None
