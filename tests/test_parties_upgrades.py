"""WebSockets, trailers, interim responses and a forward proxy, all by other projects, through the real program."""

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from parties import installed, programs
from parties.installed import SERVERS, SOURCE
from parties.recorder import JSON, Recorder

from shadowproxy.exchange import Outcome, TunnelEnd

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    installed.check()


def told_by(*command: str | Path) -> Any:
    """What a caller prints, as JSON."""
    told = subprocess.run(command, env=installed.environment(), capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr[-4000:]
    return json.loads(told.stdout)


@pytest.mark.parametrize("caller", ["websockets", "aiohttp"])
@pytest.mark.parametrize("server", ["uvicorn", "aiohttp", "websockets"])
def test_websockets_talk_through_it_as_without_it(tmp_path: Path, server: str, caller: str) -> None:
    script = SOURCE / "sockets.py"
    with (
        programs.started([str(SERVERS), str(script), "serve", server], tmp_path / "server.txt") as live,
        programs.proxy(tmp_path / "proxy", {"url": live.url}) as proxy,
    ):
        direct, proxied = (told_by(SERVERS, script, "ask", caller, url) for url in (live.url, proxy.url))
        (entry,) = proxy.records()
    assert proxied == direct == [[True] * 7, "chat.v1", 4001, "see you"]
    assert (entry.live.outcome, entry.live.status) == (Outcome.OK, 101)
    assert entry.tunnel is not None
    assert entry.tunnel.ended_by in (TunnelEnd.LIVE, TunnelEnd.CALLER)
    assert min(entry.tunnel.from_caller, entry.tunnel.from_live) > 100_000


def test_nodes_trailers_and_early_hints_pass_both_ways_and_100_comes_once(tmp_path: Path) -> None:
    script = SOURCE / "trailers.mjs"
    with (
        programs.started(["node", str(script), "serve"], tmp_path / "server.txt") as live,
        programs.proxy(tmp_path / "proxy", {"url": live.url}) as proxy,
    ):
        direct, proxied = (told_by("node", script, "ask", url) for url in (live.url, proxy.url))
        (entry,) = proxy.records()
    assert proxied == direct
    assert proxied == {
        "interim": [[103, "</style.css>; rel=preload"]],
        "continued": True,
        "status": 200,
        "body": "some body",
        "got": "42",
        "te": "trailers",
    }
    assert entry.live.outcome is Outcome.OK


@contextmanager
def tinyproxy(directory: Path) -> Iterator[int]:
    """A forward proxy that wants a user and a password. Its port."""
    found = shutil.which("tinyproxy")
    assert found is not None, "the parties are not installed: `make soak` does it and runs these tests"
    port = programs.free_port()
    config = directory / "tinyproxy.conf"
    config.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nBasicAuth user pass\n")
    url = f"http://127.0.0.1:{port}"
    with programs.started([found, "-d", "-c", str(config)], directory / "tinyproxy.txt", url=url):
        yield port


@contextmanager
def origin(directory: Path, scheme: str) -> Iterator[dict[str, Any]]:
    """Live, by the keys of its section."""
    recorder = Recorder()
    options: dict[str, Any] = {"url": recorder.url}
    if scheme == "https":
        authority, ca = trustme.CA(), directory / "ca.pem"
        authority.cert_pem.write_to_path(ca)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        recorder.socket = context.wrap_socket(recorder.socket, server_side=True)
        options = {"url": recorder.url.replace("http:", "https:"), "tls": {"ca": str(ca)}}
    with recorder:
        yield options


GET = ["curl", "--disable", "--silent", "--noproxy", "*", "--max-time", "30", "--write-out", " %{http_code}"]


def ask(url: str) -> str:
    return subprocess.run(
        [*GET, f"{url}/json?a=1"], env=installed.environment(), capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_live_is_reached_through_tinyproxy(tmp_path: Path, scheme: str) -> None:
    with tinyproxy(tmp_path) as port, origin(tmp_path, scheme) as options:
        with programs.proxy(tmp_path / "proxy", {**options, "proxy": f"http://user:pass@127.0.0.1:{port}"}) as proxy:
            answers = [ask(proxy.url) for _ in range(3)]
            records = proxy.records()
        assert answers == [JSON.decode() + " 200"] * 3
        assert [entry.live.outcome for entry in records] == [Outcome.OK] * 3
        with programs.proxy(tmp_path / "without", {**options, "proxy": f"http://127.0.0.1:{port}"}) as proxy:
            refused = ask(proxy.url)
            (entry,) = proxy.records()
        assert refused.endswith(" 502")
        assert (entry.live.outcome, "407" in (entry.live.error or "")) == (Outcome.CONNECT_ERROR, True)
