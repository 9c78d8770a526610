"""What is only a shadow's fault stops nothing: live is served, the books balance, and it is used once it can be."""

import asyncio
import json
import os
import re
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from fakes import Address, Caller, Origin, answer
from inprocess import Sidecar
from program import PATIENCE, Program

from shadowproxy import config, record
from shadowproxy.config import ConfigError, UnusableShadow
from shadowproxy.exchange import Outcome
from shadowproxy.serve.sidecar import contexts, reload
from shadowproxy.serve.sidecar.reading import read_specs
from shadowproxy.serve.sidecar.steering import Steering
from shadowproxy.serve.sidecar.watch import Watch

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
CHOSEN = 3
UNSET = "SHADOWPROXY_TEST_IS_NOT_SET"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def secure(authority: trustme.CA, body: bytes = b"{}") -> AsyncIterator[Origin]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with Origin(answer(body), tls=context) as origin:
        yield origin


async def told(address: Address, path: str) -> Any:
    async with await Caller.to(address) as caller:
        reply = await caller.ask(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return reply.body.decode() if path == "/metrics" else json.loads(reply.body)


async def until(ask: Callable[[], Awaitable[Any]], wanted: object) -> None:
    async with asyncio.timeout(PATIENCE):
        while (now := await ask()) != wanted:
            assert now is not None
            await asyncio.sleep(0.01)


def admin_of(program: Program) -> Address:
    found = re.search(r"admin http://([0-9.]+):([0-9]+)", "\n".join(program.said))
    assert found is not None
    return found[1], int(found[2])


def spoil(directory: Path, kind: str, authority: trustme.CA) -> tuple[dict[str, Any], str]:
    """What of a shadow's section cannot be used, and what is said of it."""
    ca, key = directory / "ca.pem", directory / "key.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("client.example").private_key_pem.write_to_path(str(key))
    (directory / "garbage.pem").write_text("no certificate")
    match kind:
        case "ca is missing":
            return {"tls": {"ca": str(directory / "late.pem")}}, "late.pem cannot be read: No such file or directory"
        case "ca is a directory":
            return {"tls": {"ca": str(directory)}}, "cannot be read: Is a directory"
        case "ca is garbage":
            return {"tls": {"ca": str(directory / "garbage.pem")}}, "shadows.s.tls: its files cannot be used"
        case "cert is missing":
            return {"tls": {"ca": str(ca), "cert": str(directory / "no.pem"), "key": str(key)}}, "shadows.s.tls.cert: "
        case "key is missing":
            return {"tls": {"ca": str(ca), "cert": str(ca), "key": str(directory / "no.pem")}}, "shadows.s.tls.key: "
        case "key is another's":
            return {"tls": {"ca": str(ca), "cert": str(ca), "key": str(key)}}, "shadows.s.tls: its files"
        case "ca hangs":
            os.mkfifo(directory / "pipe")
            return {"tls": {"ca": str(directory / "pipe")}}, "reading its files takes longer than"
        case "token is not set":
            headers = {"set": {"Authorization": f"Bearer ${{{UNSET}}}"}}
            return {"headers": headers, "tls": {"ca": str(ca)}}, f"variable {UNSET} is not set"
        case "token holds a line break":
            headers = {"set": {"Authorization": "Bearer ${SHADOWPROXY_TEST_TOKEN}"}}
            return {"headers": headers, "tls": {"ca": str(ca)}}, "shadows.s.headers.set.Authorization: has a line break"
        case "url is not set":
            return {"url": f"${{{UNSET}}}"}, f"shadows.s.url: the environment variable {UNSET} is not set"
    raise AssertionError(kind)


KINDS = (
    "ca is missing",
    "ca is a directory",
    "ca is garbage",
    "cert is missing",
    "key is missing",
    "key is another's",
    "ca hangs",
    "token is not set",
    "token holds a line break",
    "url is not set",
)


@pytest.mark.parametrize("kind", KINDS)
async def test_live_is_served_and_every_chosen_request_is_recorded_as_unusable(
    tmp_path: Path, kind: str, authority: trustme.CA
) -> None:
    async with Origin(answer(b"live")) as live, secure(authority) as broken, Origin(answer()) as well:
        given, said = spoil(tmp_path, kind, authority)
        values = {
            "admin": "127.0.0.1:0",
            "live": {"url": live.url},
            "shadows": {"s": {"url": broken.url} | given, "well": {"url": well.url}},
        }
        environment = {"SHADOWPROXY_TEST_TOKEN": "secret\n"}
        async with Program(tmp_path, values, environment=environment) as program:
            for _ in range(CHOSEN):
                assert (await program.ask(GET)).body == b"live"
            admin = admin_of(program)
            async with asyncio.timeout(PATIENCE):  # the live process reports a few times a second
                while (shadow := (await told(admin, "/shadows"))["shadows"]["s"])["chosen"] < CHOSEN:
                    pass
            assert shadow["chosen"] == CHOSEN
            assert shadow["outcomes"] == {"unusable": CHOSEN}
            assert said in shadow["unusable"]
            metrics = await told(admin, "/metrics")
            assert f'shadowproxy_shadow_outcomes_total{{outcome="unusable",shadow="s"}} {CHOSEN}.0' in metrics
            assert 'shadowproxy_shadow_unusable{shadow="s"} 1.0' in metrics
            assert 'shadowproxy_shadow_unusable{shadow="well"} 0.0' in metrics
            assert (await told(admin, "/healthz"))["unusable"] == ["s"]
            assert (await told(admin, "/readyz")) == {"status": "ready"}
            (overview,) = (each for each in (await told(admin, "/overview"))["shadows"] if each["name"] == "s")
            assert overview["unusable"] == shadow["unusable"]
            assert await program.stop() == 0
        (event,) = program.told("shadow_unusable")
        assert (event["shadow"], event["level"]) == ("s", "error")
        assert said in event["error"]
        records = program.records()
    assert len(records) == CHOSEN
    for each in records:
        assert each.shadows["s"].outcome is Outcome.UNUSABLE
        assert said in str(each.shadows["s"].error)
        assert each.shadows["well"].outcome is Outcome.OK
    everything = "\n".join(program.said) + "".join(map(str, records))
    assert "secret" not in everything
    assert broken.connections == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_certificate_that_comes_later_is_used_without_a_restart(
    tmp_path: Path, authority: trustme.CA, workers: int
) -> None:
    late = tmp_path / "late.pem"
    async with Origin(answer(b"live")) as live, secure(authority) as shadow:
        values = {
            "admin": "127.0.0.1:0",
            "workers": workers,
            "live": {"url": live.url},
            "shadows": {"s": {"url": shadow.url, "tls": {"ca": str(late)}}},
        }
        async with Program(tmp_path, values) as program:
            await program.ask(GET)
            await program.wait_said('"event":"shadow_unusable"')
            authority.cert_pem.write_to_path(str(late))
            await program.wait_said('"event":"shadow_usable"')
            for _ in range(CHOSEN):
                await program.ask(GET)
            assert (await told(admin_of(program), "/shadows"))["shadows"]["s"]["unusable"] is None
            assert await program.stop() == 0
        outcomes = Counter(each.shadows["s"].outcome for each in program.records())
    assert outcomes == {Outcome.UNUSABLE: 1, Outcome.OK: CHOSEN}
    assert len(program.told("shadow_unusable")) == len(program.told("shadow_usable")) == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_log_that_cannot_be_opened_keeps_nobody_from_being_served(tmp_path: Path, workers: int) -> None:
    """What is lost meanwhile is counted, and the log is written as soon as it can be, without a restart."""
    obstacle = tmp_path / "log"
    obstacle.write_text("no directory")
    async with Origin(answer(b"live")) as live, Origin(answer()) as shadow:
        values = {
            "admin": "127.0.0.1:0",
            "workers": workers,
            "live": {"url": live.url},
            "shadows": {"s": {"url": shadow.url}},
        }
        async with Program(tmp_path, values) as program:
            for _ in range(CHOSEN):
                assert (await program.ask(GET)).body == b"live"
            admin = admin_of(program)
            await until(lambda: told(admin, "/healthz"), {"status": "alive", "log": "write_error", "unusable": []})
            async with asyncio.timeout(PATIENCE):
                while f'records_lost_total{{reason="write_error"}} {CHOSEN}.0' not in await told(admin, "/metrics"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert "shadowproxy_log_writable 0.0" in await told(admin, "/metrics")
            assert (await told(admin, "/readyz")) == {"status": "ready"}
            assert len(program.told("log_trouble")) == 1
            obstacle.unlink()
            await until(lambda: told(admin, "/healthz"), {"status": "alive", "log": "ok", "unusable": []})
            assert "shadowproxy_log_writable 1.0" in await told(admin, "/metrics")
            await program.ask(GET)
            assert await program.stop() == 0
        assert f"{CHOSEN + 1} requests, 1 records in the log, {CHOSEN} lost" in program.said[-1]
        assert len(program.told("log_recovered")) == 1
        assert len(program.records()) == 1


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"live": {"url": f"${{{UNSET}}}"}}, rf"config.yaml:1: live.url: the environment variable {UNSET} is not set"),
        (
            {"live": {"url": "https://127.0.0.1:1", "tls": {"ca": "/nowhere/ca.pem"}}},
            r"config.yaml:1: live.tls.ca: /nowhere/ca.pem cannot be read: No such file or directory",
        ),
        (
            {"live": {"url": "https://127.0.0.1:1", "tls": {"ca": "Makefile"}}},
            r"live.tls: its files cannot be used: ",
        ),
        ({"live": {"url": "http://a"}, "log": {"path": f"${{{UNSET}}}"}}, rf"log.path: .* {UNSET} is not set"),
        (
            {"live": {"url": "http://a"}, "shadows": {"s": {"url": "http://b", "tmeout": 1}}},
            "shadows.s.tmeout: unknown",
        ),
        ({"live": {"url": "http://a"}, "shadows": {"s": {"url": "ftp://b"}}}, "url: must begin with http"),
        (
            {"live": {"url": "http://a"}, "shadows": {"s": {"utl": f"${{{UNSET}}}", "url": "http://b"}}},
            "shadows.s.utl: unknown key",
        ),
        ({"live": {"url": "http://a"}, "shadows": {"s": {"url": "http://${}"}}}, r"url: write \$\{NAME\}"),
    ],
)
async def test_what_is_lives_fault_or_the_files_ends_the_start(
    tmp_path: Path, workers: int, values: Mapping[str, Any], why: str
) -> None:
    given = {"listen": "127.0.0.1:0", "admin": None, "workers": workers, **values}
    (tmp_path / "config.yaml").write_text(json.dumps(given))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shadowproxy",
        "serve",
        "-c",
        str(tmp_path / "config.yaml"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 2
    assert re.search(f"^shadowproxy: .*{why}", said.decode(), re.MULTILINE), said
    assert "Traceback" not in said.decode()


@pytest.mark.parametrize("kind", [each for each in KINDS if each != "ca hangs"])
def test_check_fails_and_names_it(tmp_path: Path, kind: str, authority: trustme.CA) -> None:
    given, said = spoil(tmp_path, kind, authority)
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "admin": None,
        "log": {"path": str(tmp_path / "log")},
        "live": {"respond": {}},
        "shadows": {"s": {"url": "https://127.0.0.1:1"} | given},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(values))
    words = [sys.executable, "-m", "shadowproxy", "check", "-c", str(tmp_path / "config.yaml")]
    environment = {**os.environ, "SHADOWPROXY_TEST_TOKEN": "secret\n"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False)
    assert done.returncode == 1
    screen = " ".join(done.stdout.split())
    if said.startswith("shadows.s.tls"):  # told of by each file there, and not by its key
        said = {"cert": "our certificate", "key": "the key"}.get(kind.split()[0], "") if "missing" in kind else ""
        said = said or "the tls files cannot be used"
    assert f"FAIL {'cannot be used: ' if 'set' in said else ''}" in screen
    assert said in screen
    assert "NOT READY: shadow s" in screen


# --- in one process, where the test says when it is tried again ---------------------------------------------------


class Configured:
    def __init__(self, directory: Path) -> None:
        self.log = directory / "log"
        self.file = directory / "config.yaml"
        self.sidecar: Sidecar

    def write(self, live: str, **shadows: Any) -> None:
        given = {
            "listen": "127.0.0.1:0",
            "admin": None,
            "overload": {"loop_lag": "1h"},
            "log": {"path": str(self.log)},
            "live": {"url": live},
            "shadows": shadows,
        }
        self.file.write_text(json.dumps(given))

    def start(self) -> Sidecar:
        self.sidecar = Sidecar(read_specs(self.file), self.file)
        return self.sidecar

    async def ask(self) -> bytes:
        async with await Caller.to(self.sidecar.address) as caller:
            return (await caller.ask(GET)).body

    def unusable(self) -> dict[str, str | None]:
        return {each.name: each.unusable for each in self.sidecar.census().shadows}

    async def until(self, **wanted: str | None) -> None:
        """Until each of these is unusable for a reason that has these words in it, or can be used."""
        async with asyncio.timeout(10):
            while True:
                now = self.unusable()
                if all(
                    now[name] is None if words is None else words in (now[name] or "") for name, words in wanted.items()
                ):
                    return
                await asyncio.sleep(0.001)

    def outcomes(self, name: str) -> list[Outcome]:
        return [each.shadows[name].outcome for each in record.read([self.log]) if isinstance(each, record.Record)]


@pytest.fixture
async def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Configured]:
    monkeypatch.setattr(reload, "Watch", partial(Watch, every=3600.0))
    monkeypatch.setattr(reload, "RETRY", 0.02)
    yield Configured(tmp_path)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_it_is_tried_again_by_itself_and_nothing_else_begins_anew(
    configured: Configured, tmp_path: Path, authority: trustme.CA
) -> None:
    """What is tried again is the shadow's files: no other connection, lane or budget, and no new configuration."""
    late, ca = tmp_path / "late.pem", tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    async with secure(authority) as live, secure(authority) as shadow, Origin(answer()) as other:
        configured.write(
            live.url,
            s={"url": shadow.url, "tls": {"ca": str(late)}},
            other={"url": other.url, "budget": {"requests": 9}},
        )
        text = json.loads(configured.file.read_text())
        text["live"]["tls"] = {"ca": str(ca)}
        configured.file.write_text(json.dumps(text))
        async with configured.start() as sidecar:
            await configured.ask()
            kept = sidecar.mirror.lane("other")
            late.write_text("no certificate")
            await configured.until(s="its files cannot be used")
            authority.cert_pem.write_to_path(str(late))
            await configured.until(s=None)
            await configured.ask()
            assert sidecar.mirror.lane("other") is kept
            assert len(live.connections) == len(other.connections) == 1
            assert sidecar.census().config.generation == 1
    assert configured.outcomes("s") == [Outcome.UNUSABLE, Outcome.OK]
    assert configured.outcomes("other") == [Outcome.OK, Outcome.OK]


async def test_a_reload_takes_such_a_shadow_as_a_start_does(
    configured: Configured, tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, section = tmp_path / "ca.pem", {"headers": {"set": {"X-Key": "${SHADOWPROXY_TEST_KEY}"}}}
    authority.cert_pem.write_to_path(str(ca))
    monkeypatch.delenv("SHADOWPROXY_TEST_KEY", raising=False)
    async with Origin(answer(b"one")) as one, Origin(answer(b"two")) as two, secure(authority) as shadow:
        usable = {"url": shadow.url, "tls": {"ca": str(ca)}}
        configured.write(one.url, s=usable)
        async with configured.start() as sidecar:
            assert await configured.ask() == b"one"
            ca.unlink()
            configured.write(two.url, s=usable | section)
            sidecar.reload()
            await configured.until(s="SHADOWPROXY_TEST_KEY is not set")
            assert await configured.ask() == b"two"
            configured.write(two.url, s=usable)
            sidecar.reload()
            await configured.until(s="ca.pem cannot be read")
            await configured.ask()
            authority.cert_pem.write_to_path(str(ca))
            await configured.until(s=None)
            await configured.ask()
            assert sidecar.census().config.failures == 0
    assert configured.outcomes("s") == [Outcome.OK, Outcome.UNUSABLE, Outcome.UNUSABLE, Outcome.OK]


async def test_a_pause_goes_before_and_outlives_it(
    configured: Configured, tmp_path: Path, authority: trustme.CA
) -> None:
    late = tmp_path / "late.pem"
    async with Origin(answer()) as live, secure(authority) as shadow:
        configured.write(live.url, s={"url": shadow.url, "tls": {"ca": str(late)}})
        async with configured.start() as sidecar:
            await sidecar.steer(Steering().with_pause("s", paused=True))
            await configured.ask()
            authority.cert_pem.write_to_path(str(late))
            await configured.until(s=None)
            await configured.ask()
    assert configured.outcomes("s") == [Outcome.PAUSED, Outcome.PAUSED]


async def test_a_file_that_hangs_its_reader_is_waited_for_once(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    monkeypatch.setattr(contexts, "SHADOW_WITHIN", 0.05)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with Origin(answer()) as live, secure(authority) as shadow:
        configured.write(live.url, s={"url": shadow.url, "tls": {"ca": str(pipe)}})
        async with configured.start() as sidecar:
            await configured.until(s="takes longer than 0.05 s")
            await asyncio.sleep(0.2)  # it is tried again, by nobody who would hang too
            assert sum(each is not None for each in sidecar._contexts._ended.values()) == 1
            pipe.rename(tmp_path / "gone")
            authority.cert_pem.write_to_path(str(pipe))
            os.close(os.open(tmp_path / "gone", os.O_WRONLY))  # lets the reader end
            await configured.until(s=None)
            await configured.ask()
    assert configured.outcomes("s") == [Outcome.OK]


# --- the configuration alone --------------------------------------------------------------------------------------


def loaded(tmp_path: Path, shadow: Mapping[str, Any], **environment: str) -> config.Config:
    file = tmp_path / "config.yaml"
    file.write_text(
        json.dumps({"live": {"url": "http://live"}, "shadows": {"s": dict(shadow), "t": {"url": "http://t"}}})
    )
    return config.load(file, environment)


@pytest.mark.parametrize(
    ("shadow", "reason"),
    [
        ({"url": "http://${X}"}, "url: unset"),
        ({"url": "${BAD}"}, "url: must begin with http:// or https://"),
        ({"url": "http://s", "percent": "${X}"}, "percent: unset"),
        ({"url": "http://s", "percent": "${BAD}"}, "percent: must be a number"),
        ({"url": "http://s", "timeout": "${X}", "lane": "${Y}"}, "lane: the environment variable Y is not set"),
        ({"url": "http://s", "match": {"paths": ["/a", "${X}", "/b"]}}, "match.paths.1: unset"),
        ({"url": "http://s", "match": {"paths": ["${X}", "/b", "${BAD}"]}}, "match.paths.0: unset, and 1 more"),
        ({"url": "http://s", "rewrite": {"json": {"/a": [["${X}"], "${Y}"]}}}, "rewrite.json./a.0.0: unset"),
        ({"url": "http://s", "tls": {"cert": "${X}", "key": "k"}}, "tls.cert: unset"),
        ({"url": "http://s", "host": "${BAD}"}, "host: "),
    ],
)  # fmt: skip
def test_what_the_environment_does_not_give_a_shadow_is_its_reason(
    tmp_path: Path, shadow: Mapping[str, Any], reason: str
) -> None:
    read = loaded(tmp_path, shadow, BAD="not/this/one")
    found = read.shadows["s"]
    assert isinstance(found, UnusableShadow)
    assert found.reason.startswith(f"shadows.s.{reason.replace('unset', 'the environment variable X is not set')}")
    assert "not/this/one" not in found.reason
    assert type(read.shadows["t"]) is config.Shadow
    assert "reason" not in config.shown(read)["shadows"]["s"]


def test_what_is_wrong_with_the_file_is_told_by_its_place_though_the_environment_wants_something_too(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"shadows\.s\.match\.paths\.2: must be a glob"):
        loaded(tmp_path, {"url": "http://s", "match": {"paths": ["${X}", "/b", "c"]}})


def test_the_same_is_an_error_for_live(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("live: {url: http://live, timeout: '${BAD}'}")
    with pytest.raises(ConfigError, match=r"live\.timeout: is not a duration"):
        config.load(file, {"BAD": "x"})
