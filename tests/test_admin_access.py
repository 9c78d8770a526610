"""Who may what on the real server: beyond loopback, by a Unix socket, with a token and with another Host."""

import asyncio
from pathlib import Path

import httpx
import pytest
from conftest import Proxy, StartProxy
from fakes import always, answer
from inprocess import Sidecar
from test_admin import ADMIN, client

from shadowproxy.serve.sidecar.reading import read_specs

TOKEN = "0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
MARK = {"X-Shadowproxy-Admin": "1"}
BEYOND = {"admin": "0.0.0.0:0"}
OPEN = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")
PRIVATE = ("/config", "/exchanges", "/overview")
SHADOWS = {"a": always(answer(b"{}"))}


def reason(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["reason"]


def from_here(running: Proxy) -> httpx.AsyncClient:
    """To a server that listens everywhere, by an address of this machine."""
    assert running.sidecar.admin_address is not None
    return httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{running.sidecar.admin_address[1]}")


async def test_beyond_loopback_and_without_a_token_only_counts_are_shown(proxy: StartProxy) -> None:
    async with proxy(shadows=SHADOWS, **BEYOND) as running, from_here(running) as admin:
        for path in (*OPEN, "/shadows"):
            assert (await admin.get(path)).status_code == 200, path
        for path in (*PRIVATE, "/events", "/exchanges/0192f3a0-0000-7000-8000-000000000000"):
            assert reason(await admin.get(path)) == (403, "token_not_configured"), path
        assert reason(await admin.post("/pause", headers=MARK | BEARER)) == (403, "token_not_configured")
        assert (await admin.get("/shadows")).json()["paused"] is False


async def test_beyond_loopback_the_token_opens_private_paths_and_changes(proxy: StartProxy) -> None:
    async with proxy(shadows=SHADOWS, admin_token=TOKEN, **BEYOND) as running, from_here(running) as admin:
        for path in (*PRIVATE, "/events"):
            refused = await admin.get(path)
            assert reason(refused) == (401, "token_needed"), path
            assert refused.headers["www-authenticate"].startswith("Bearer")
        for path in PRIVATE:
            assert (await admin.get(path, headers=BEARER)).status_code == 200
        assert reason(await admin.post("/pause", headers=MARK)) == (401, "token_needed")
        assert reason(await admin.post("/pause", headers=BEARER)) == (403, "header_needed")
        wrong = MARK | {"Authorization": "Bearer 0123456789abcdeF"}
        assert reason(await admin.post("/pause", headers=wrong)) == (401, "token_wrong")
        assert (await admin.get("/shadows")).json()["paused"] is False
        assert (await admin.post("/pause", headers=MARK | BEARER)).json() == {"paused": True}


async def test_the_token_is_in_no_answer_and_no_log_line(proxy: StartProxy, caplog: pytest.LogCaptureFixture) -> None:
    async with proxy(shadows=SHADOWS, admin_token=TOKEN, **ADMIN) as running, client(running) as admin:
        for path in (*OPEN, *PRIVATE, "/shadows"):
            for fields in ({}, BEARER, {"Authorization": f"Bearer {TOKEN}x"}):
                reply = await admin.get(path, headers=fields)
                assert TOKEN not in reply.text + str(reply.headers)
        assert TOKEN not in repr(running.sidecar.specs) + running.sidecar.describe()
    assert TOKEN not in caplog.text


async def test_a_wrong_token_is_logged_with_its_sender_and_not_each_time(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy(shadows=SHADOWS, admin_token=TOKEN, **ADMIN) as running, client(running) as admin:
        for _ in range(5):
            await admin.get("/config", headers={"Authorization": "Bearer guessed"})
        await admin.get("/config")
    told = [each for each in caplog.records if getattr(each, "event", None) == "admin_token_wrong"]
    assert [vars(each)["count"] for each in told] == [1, 2, 4]
    assert {vars(each)["client"] for each in told} == {"127.0.0.1"}
    assert "guessed" not in caplog.text


async def test_another_name_for_this_address_gets_nothing_but_counts(proxy: StartProxy) -> None:
    rebound = {"Host": "evil.example"}
    async with proxy(shadows=SHADOWS, **ADMIN) as running, client(running) as admin:
        for path in (*PRIVATE, "/events", "/shadows"):
            assert reason(await admin.get(path, headers=rebound)) == (421, "host_not_known"), path
        assert reason(await admin.post("/pause", headers=rebound | MARK)) == (421, "host_not_known")
        for path in OPEN:
            assert (await admin.get(path, headers=rebound)).status_code == 200, path
        assert (await admin.get("/shadows", headers={"Host": "localhost:1"})).json()["paused"] is False


async def test_the_name_that_it_is_configured_with_is_its_own(proxy: StartProxy) -> None:
    async with proxy(shadows=SHADOWS, admin="localhost:0") as running, client(running) as admin:
        assert (await admin.get("/config", headers={"Host": "LOCALHOST:9901"})).status_code == 200


async def test_a_name_of_a_service_is_fine_with_the_token(proxy: StartProxy) -> None:
    service = {"Host": "shadowproxy.models.svc:9901"}
    async with proxy(shadows=SHADOWS, admin_token=TOKEN, **BEYOND) as running, from_here(running) as admin:
        assert (await admin.get("/overview", headers=service | BEARER)).status_code == 200
        assert reason(await admin.get("/overview", headers=service)) == (421, "host_not_known")


async def test_a_unix_socket_is_as_good_as_loopback_and_may_be_called_anything(
    proxy: StartProxy, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    async with (
        proxy(shadows=SHADOWS, admin=f"unix:{path}") as running,
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://sidecar") as admin,
    ):
        assert (await admin.get("/exchanges")).json() == {"exchanges": []}
        assert reason(await admin.post("/pause")) == (403, "header_needed")
        assert (await admin.post("/pause", headers=MARK)).json() == {"paused": True}
        assert running.sidecar.mirror.paused


async def test_a_wrong_token_on_a_unix_socket_is_rejected_and_logged_too(
    proxy: StartProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "admin.sock"
    async with (
        proxy(shadows=SHADOWS, admin=f"unix:{path}", admin_token=TOKEN),
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://sidecar") as admin,
    ):
        refused = await admin.get("/config", headers={"Authorization": "Bearer guessed"})
        assert reason(refused) == (401, "token_wrong")
    assert "last by a Unix socket" in caplog.text


async def test_a_form_on_another_site_can_change_nothing(proxy: StartProxy) -> None:
    """What a browser sends for it: the three content types of forms, with its Origin, and nothing of the site's own."""
    async with proxy(shadows=SHADOWS, **ADMIN) as running, client(running) as admin:
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"):
            form = {"Content-Type": kind, "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
            assert reason(await admin.post("/pause", headers=form, content=b"x=1")) == (403, "header_needed")
        asking = {
            "Origin": "http://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-shadowproxy-admin",
        }
        preflight = await admin.options("/pause", headers=asking)
        assert preflight.status_code == 405
        assert not [name for name in preflight.headers if name.startswith("access-control-")]
        assert (await admin.get("/shadows")).json()["paused"] is False


async def test_a_token_that_was_changed_in_the_file_holds_from_the_reload_on(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"

    def write(token: str) -> None:
        file.write_text(
            f"{{listen: 127.0.0.1:0, admin: 127.0.0.1:0, admin_token: {token}, live: {{respond: {{}}}}, "
            f"log: {{path: {tmp_path}/log}}}}"
        )

    write(TOKEN)
    async with Sidecar(read_specs(file), file) as sidecar:
        host, port = sidecar.admin_address or ("", 0)
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://{host}:{port}") as admin:
            assert (await admin.get("/config", headers=BEARER)).status_code == 200
            write("another-token-of-some-length")
            sidecar.reload()
            async with asyncio.timeout(5):
                while (await admin.get("/config", headers=BEARER)).status_code == 200:
                    pass
            other = {"Authorization": "Bearer another-token-of-some-length"}
            told = (await admin.get("/overview", headers=other)).json()
            assert told["config"]["generation"] == 2
