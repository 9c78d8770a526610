"""Nothing is imported or opened for the first time once callers are let in: they may take all descriptors there are."""

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
import ssl
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import trustme
import zstandard
from fakes import Caller, CutOff, Origin, Peer, answer
from program import PATIENCE, Program
from test_unusable import admin_of

NOTED = '''
"""Notes which modules were imported, and which files of the installation opened, after callers were let in."""

import atexit, json, os, sys

_known = None
_opened = []
_roots = tuple({sys.prefix, sys.base_prefix, os.path.dirname(os.environ["SHADOWPROXY_TEST_PACKAGE"])})


def _hook(event, arguments):
    if _known is not None:
        if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(_roots):
            _opened.append(arguments[0])
    elif event == "import":
        server = sys.modules.get("shadowproxy.serve.callers.server")
        if hasattr(server, "Server") and not hasattr(server, "noted_by_test"):
            server.noted_by_test = True
            serve = server.Server.serve

            async def noted(self, listening):
                global _known
                if _known is None:
                    _known = set(sys.modules)
                await serve(self, listening)

            server.Server.serve = noted


def _tell():
    if _known is not None:
        with open(os.path.join(os.environ["SHADOWPROXY_TEST_NOTES"], str(os.getpid())), "w") as notes:
            json.dump({"imported": sorted(set(sys.modules) - _known), "opened": sorted({*_opened})}, notes)


sys.addaudithook(_hook)
atexit.register(_tell)
'''


def noting(tmp_path: Path) -> dict[str, str]:
    """The environment in which every process of the program says so at its end, in a file of `notes`."""
    (tmp_path / "site").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NOTED)
    return {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "SHADOWPROXY_TEST_NOTES": str(tmp_path / "notes"),
        "SHADOWPROXY_TEST_PACKAGE": str(Path(__file__).parent.parent / "shadowproxy"),
    }


async def every_kind(peer: Peer) -> None:
    """Live: what the path asks for."""
    while (request := await peer.request()) is not None:
        path = request.target.split(b"?")[0]
        match path:
            case b"/hangs":
                await peer.wait_ended(60)
                return
            case b"/garbage":
                await peer.send(b"no HTTP at all\r\n\r\n")
                return
            case b"/cut":
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
                return
            case b"/long":
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
            case b"/chunked":
                await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            case b"/text":
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n\xe4bc")
            case b"/gzip" | b"/deflate" | b"/zstd" | b"/br":
                coding = path[1:]
                body = coded(coding, b'{"a": 1.5, "b": [1, 2]}')
                head = b"Content-Type: application/json\r\nContent-Encoding: %b\r\nContent-Length: %d" % (
                    coding,
                    len(body),
                )
                await peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body)
            case _:
                await peer.send(
                    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}'
                )


async def no_tls(peer: Peer) -> None:
    await peer.wait_received(1)
    await peer.send(b"no TLS")


def coded(coding: bytes, body: bytes) -> bytes:
    match coding:
        case b"gzip":
            return gzip.compress(body)
        case b"deflate":
            return zlib.compress(body)
        case b"zstd":
            return zstandard.compress(body)
    return body  # what is said to be br and is not


def request(path: bytes, body: bytes = b"", *fields: bytes, method: bytes = b"POST") -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


JSON = b"Content-Type: application/json"
REQUESTS = (
    request(b"/", b'{"model": "a", "user": {"email": "x@y.z"}}', JSON),
    request(b"/?token=secret&a=1", b"", b"Authorization: Bearer abcdefghijklmnop", b"Cookie: a=b", b"Referer: http://u:p@h/"),
    request(b"/", gzip.compress(b'{"model": "a"}'), JSON, b"Content-Encoding: gzip"),
    request(b"/", zlib.compress(b'{"model": "a"}'), JSON, b"Content-Encoding: deflate"),
    request(b"/", zstandard.compress(b'{"model": "a"}'), JSON, b"Content-Encoding: zstd"),
    request(b"/", b"\x0b\x02\x80[]\x03", JSON, b"Content-Encoding: br"),
    request(b"/", b"{]", JSON),
    request(b"/", b"a=1&password=2", b"Content-Type: application/x-www-form-urlencoded"),
    request(b"/", b"x" * 200_000),
    request(b"/", b"\xff\xfe", b"Content-Type: text/plain; charset=utf-16"),
    request(b"/", b"", b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"X-Request-ID: r-1"),
    *(request(path, b'{"model": "a"}', JSON) for path in (
        b"/garbage", b"/cut", b"/long", b"/chunked", b"/text", b"/gzip", b"/deflate", b"/zstd", b"/br", b"/\xc3\xa9%20"
    )),
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
    request(b"/", b"", method=b"GET"),
    request(b"/", b"", method=b"HEAD"),
    request(b"/", b"", b"Connection: Upgrade", b"Upgrade: websocket", method=b"GET"),
    request(b"/", b"", b"Via: 1.1 shadowproxy", method=b"GET"),
    b"BAD\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
)  # fmt: skip

PATHS = (
    "/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/shadows", "/config", "/exchanges?limit=5",
    "/exchanges?verdict=mismatch", "/exchanges/none", "/overview", "/nowhere", "/exchanges?limit=x",
)  # fmt: skip


async def ask(address: tuple[str, int], raw: bytes) -> None:
    """Send it, and take whatever comes for a moment."""
    with contextlib.suppress(CutOff, ConnectionError, TimeoutError):
        async with await Caller.to(address) as caller, asyncio.timeout(3):
            await caller.ask(raw)


def configuration(live: str, shadow: str, secure: str, strange: str, directory: Path, **more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"breaker": {"failures": 1000}, "match": {"methods": ["GET", "HEAD", "POST", "PUT"]}}
    urls: dict[str, Any] = {
        "well": {"url": shadow, "rewrite": {"json": {"/model": "b"}, "path": {"/": "/other"}}, "host": "preserve"},
        "same": {"url": shadow, "forward_credentials": True, "match": {"paths": ["/*"], "headers": {"Host": "h*"}}},
        "refuses": {"url": "http://127.0.0.1:9", "breaker": {"failures": 2}},
        "unknown": {"url": "http://no-such-host.invalid"},
        "spelt": {"url": "http://xn--bcher-kva.invalid"},
        # Given up amid a handshake that fails, uvloop says that nobody asked for its error: not what this is about.
        "strange": {"url": strange.replace("http:", "https:"), "timeout": "30s"},
        "secure": {"url": secure, "tls": {"ca": str(directory / "ca.pem")}},
        "doubting": {"url": secure, "timeout": "30s"},
        "spent": {"url": shadow, "budget": {"requests": 1, "duration": "1h"}},
        "full": {"url": shadow, "in_flight": 1, "lane": 0},
        "paused": {"url": shadow},
        "wanting": {"url": "https://127.0.0.1:1", "tls": {"ca": str(directory / "late.pem")}},
    }
    return {
        "admin": "127.0.0.1:0",
        "live": {"url": live, "timeout": "1s"},
        "shadows": {name: usual | {"timeout": "500ms"} | given for name, given in urls.items()},
        "control": {"percent": 50},
        "sampling": {"key": "json:/user/email"},
        "limits": {"capture": "100KiB", "buffer": "4KiB", "memory": "64MiB", "headers": "32KiB"},
        "log": {
            "path": str(directory / "log"),
            "rotate": {"size": "20KB"},
            "redact": {"json": ["/user/email"], "hash_key": "a key for the test"},
        },
        "compare": {"tolerance": {"/a": 0.5}, "ignore": ["/b/**"], "unordered": ["/c"]},
        "drain": "2s",
        **more,
    }


async def work(program: Program, directory: Path, values: dict[str, Any]) -> None:
    """Everything that callers, operators, files and signals can do to it."""
    admin = admin_of(program)
    mark = b"X-Shadowproxy-Admin: 1"
    await ask(admin, request(b"/shadows/paused/pause", b"", mark))
    for _ in range(3):
        await asyncio.gather(*(ask(program.address, raw) for raw in REQUESTS))
    await ask(program.address, request(b"/hangs", b"1"))
    async with await Caller.to(program.address) as leaving:
        await leaving.send(request(b"/hangs", b"1")[:-1])
    for path in PATHS:
        await ask(admin, request(path.encode(), b"", method=b"GET"))
    await ask(admin, request(b"/", b"", b"Authorization: Bearer wrong", method=b"GET"))
    await ask(admin, request(b"/nowhere", b"", mark))
    await ask(admin, request(b"/shadows/well/percent", b'{"percent": 50}', mark, method=b"PUT"))
    await ask(admin, request(b"/shadows/well/percent", b"{", mark, method=b"PUT"))
    await ask(admin, request(b"/pause", b"", mark))
    await ask(program.address, REQUESTS[0])
    await ask(admin, request(b"/resume", b"", mark))
    async with await Caller.to(admin) as listener:
        await listener.send(request(b"/events", b"", method=b"GET"))
        await asyncio.sleep(1.2)
    # Its files: what cannot be used, what is late, what compresses otherwise.
    program.configure(values | {"livee": {}})
    program.signal(signal.SIGHUP)
    await program.wait_said("unknown key")
    trustme.CA().cert_pem.write_to_path(str(directory / "late.pem"))
    program.configure(
        values | {"log": values["log"] | {"compress": "gzip", "keep": {"size": "30KB"}}, "listen": "127.0.0.1:1"}
    )
    program.signal(signal.SIGHUP)
    await program.wait_said("is in force")
    await program.wait_said('"event":"shadow_usable"')
    program.signal(signal.SIGUSR1)
    for _ in range(3):
        await asyncio.gather(*(ask(program.address, raw) for raw in REQUESTS))
    (directory / "log").rename(directory / "moved")
    await asyncio.gather(*(ask(program.address, raw) for raw in REQUESTS))
    await ask(admin, request(b"/exchanges?limit=500", b"", method=b"GET"))
    await ask(admin, request(b"/metrics", b"", method=b"GET"))
    # A stop, with a request under way that it has to cut off.
    async with await Caller.to(program.address) as last:
        await last.send(request(b"/hangs", b"1"))
        assert await program.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_nothing_is_imported_or_read_of_the_installation_after_callers_are_let_in(
    tmp_path: Path, workers: int
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with (
        Origin(every_kind) as live,
        Origin(every_kind) as shadow,
        Origin(answer(), tls=context) as secure,
        Origin(no_tls) as strange,
    ):
        values = configuration(live.url, shadow.url, secure.url, strange.url, tmp_path, workers=workers)
        async with Program(tmp_path, values, "--access-log", environment=noting(tmp_path)) as program:
            await work(program, tmp_path, values)
    notes = [json.loads(file.read_text()) for file in (tmp_path / "notes").iterdir()]
    assert len(notes) == workers  # callers take the descriptors of these processes alone
    assert [each for each in notes if each != {"imported": [], "opened": []}] == []


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_crowd_that_takes_all_descriptors_while_it_starts_does_not_end_it(tmp_path: Path, workers: int) -> None:
    """Callers wait at the port from its first moment on, more of them than it may open files, and say nothing."""
    most, crowd = 100, 400
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ended = asyncio.Event()
    waiting: list[socket.socket] = []

    async def push() -> None:
        loop = asyncio.get_running_loop()
        while not ended.is_set() and len(waiting) < crowd:
            one = socket.socket()
            one.setblocking(False)
            try:
                await loop.sock_connect(one, ("127.0.0.1", port))
            except OSError:
                one.close()
                await asyncio.sleep(0.001)
            else:
                waiting.append(one)

    async with Origin(answer(b"live")) as live, Origin(answer(b"live")) as shadow:
        (tmp_path / "config.yaml").write_text(json.dumps({
            "listen": f"127.0.0.1:{port}", "admin": "127.0.0.1:0", "workers": workers, "drain": "1s",
            "live": {"url": live.url}, "shadows": {"s": {"url": shadow.url}}, "log": {"path": str(tmp_path / "log")},
            "limits": {"head_timeout": "3s"},
        }))  # fmt: skip
        program = await asyncio.create_subprocess_exec(
            "sh", "-c", f'ulimit -n {most} && exec "$0" -m shadowproxy serve -c "$1"', sys.executable,
            str(tmp_path / "config.yaml"), stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        pushing = [asyncio.get_running_loop().create_task(push()) for _ in range(50)]
        try:
            assert program.stderr is not None
            said: list[dict[str, Any]] = []
            async with asyncio.timeout(PATIENCE):
                while not any(each.get("event") == "started" for each in said):
                    line = await program.stderr.readline()
                    assert line, said
                    said.append(json.loads(line))
                while len(waiting) < most * workers + 50:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.5)  # for it to have taken as many as it can
            assert program.returncode is None
            ended.set()
            await asyncio.gather(*pushing)
            for one in waiting:
                one.close()
            async with asyncio.timeout(PATIENCE):
                async with await Caller.to(("127.0.0.1", port)) as caller:
                    assert (await caller.ask(request(b"/", b""))).body == b"live"
            program.send_signal(signal.SIGTERM)
            _, rest = await asyncio.wait_for(program.communicate(), PATIENCE)
            assert program.returncode == 0, rest
            assert b"Traceback" not in rest
            assert b'"traceback"' not in rest
        finally:
            ended.set()
            for each in pushing:
                each.cancel()
            with contextlib.suppress(ProcessLookupError):
                program.kill()
            await program.wait()
            for one in waiting:
                one.close()
