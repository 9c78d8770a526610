"""Where callers connect: several addresses, both families, and a machine that has only one of them."""

import asyncio
import errno
import os
import re
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import StartProxy
from fakes import Origin, answer
from program import PATIENCE, Program

from shadowproxy import config, healthcheck
from shadowproxy.addresses import TcpAddress, UnixAddress
from shadowproxy.check import examine
from shadowproxy.config import ConfigError
from shadowproxy.demo import server
from shadowproxy.serve.callers.addresses import bind, listen_tcp, release

REQUEST = b"GET /a HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n"


async def ask(host: str, port: int = 0) -> bytes:
    """The whole response over a connection of its own; a path for `host` is a Unix socket's."""
    if host.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(host)
    else:
        reader, writer = await asyncio.open_connection(host, port)
    writer.write(REQUEST)
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()
        await writer.wait_closed()


def of(**values: Any) -> config.Config:
    return config.from_values({"live": {"url": "http://127.0.0.1:9"}} | values)


def fault(**values: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        of(**values)
    return str(raised.value)


@pytest.mark.parametrize("workers", [1, 2])
async def test_callers_of_every_listed_address_are_served_also_after_a_restart(tmp_path: Path, workers: int) -> None:
    path = str(tmp_path / "s")
    async with Origin(answer(b"1")) as live:
        values = {
            "listen": ["127.0.0.1:0", "[::1]:0", f"unix:{path}"],
            "workers": workers,
            "live": {"url": live.url},
        }
        async with Program(tmp_path, values) as program:
            (line,) = [each for each in program.said if "listening on" in each]
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+), http://\[::1\]:(\d+), unix:(\S+),", line)
            assert found is not None
            addresses = ("127.0.0.1", int(found[1])), ("::1", int(found[2])), (path, 0)
            assert found[3] == path
            for _ in range(2):
                for address in addresses:
                    assert (await ask(*address)).endswith(b"\r\n\r\n1")
                killed = program.workers
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
                async with asyncio.timeout(PATIENCE):
                    # Nobody is told when a process is started again.
                    while len(now := program.workers) < workers or set(now) & set(killed):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            assert await program.stop() == 0
        assert not os.path.exists(path)  # noqa: ASYNC240
        for host, port in addresses[:2]:
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await ask(host, port)


async def test_a_wildcard_of_ipv6_serves_ipv4_and_live_sees_the_address_as_it_is(proxy: StartProxy) -> None:
    async with proxy(answer(b"1"), listen="[::]:0", forwarded=True) as running:
        port = running.sidecar.addresses[0][1]
        assert (await ask("127.0.0.1", port)).endswith(b"1")
        assert (await ask("::1", port)).endswith(b"1")
        seen = [dict(each.fields)[b"X-Forwarded-For"] for each in running.live.requests]
    assert seen == [b"127.0.0.1", b"::1"]


async def test_both_wildcards_may_share_a_port(proxy: StartProxy) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
    for listen in ([f"0.0.0.0:{port}", f"[::]:{port}"], [f"[::]:{port}", f"127.0.0.1:{port}"]):
        async with proxy(answer(b"1"), listen=listen) as running:
            assert len(running.sidecar.addresses) == 2
            assert (await ask("127.0.0.1", port)).endswith(b"1")
            assert (await ask("::1", port)).endswith(b"1")


async def test_connections_that_wait_at_a_stop_are_answered_on_every_address(proxy: StartProxy) -> None:
    async with proxy(answer(b"1"), listen=["127.0.0.1:0", "[::1]:0"]) as running:
        first, second = running.sidecar.addresses
        waiting = []
        for family, address in ((socket.AF_INET, first), (socket.AF_INET6, second)):
            caller = socket.socket(family)
            caller.connect(address)  # without a turn of the event loop: it waits in the kernel's queue
            caller.sendall(REQUEST)
            waiting.append(caller)
        stopping = asyncio.get_running_loop().create_task(running.records())
        for caller in waiting:
            with caller:
                caller.setblocking(False)
                reader, writer = await asyncio.open_connection(sock=caller)
                assert (await asyncio.wait_for(reader.read(), PATIENCE)).endswith(b"1")
                writer.close()
        assert len(await stopping) == 2


def test_a_kernel_without_ipv6_serves_ipv4_at_the_wildcard(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.create_server

    def without_ipv6(address: tuple[str, int], **options: Any) -> socket.socket:
        if options.get("family") == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(address, **options)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with listen_tcp(TcpAddress("::", 0)) as bound:
        assert bound.family is socket.AF_INET
        assert bound.getsockname()[0] == "0.0.0.0"
    with pytest.raises(OSError, match="family"):
        listen_tcp(TcpAddress("::1", 0))
    shared = TcpAddress("::", 4711)
    with pytest.raises(OSError, match="family"):
        listen_tcp(shared, [shared, TcpAddress("0.0.0.0", 4711)])


def test_the_demos_servers_listen_on_both_families_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with server.listen_on("::", 0) as bound:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, bound.getsockname()[1])).close()
    real = socket.socket

    def without_ipv6(family: int, *others: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *others)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with server.listen_on("::", 0) as bound:
        assert bound.getsockname()[0] == "0.0.0.0"
    with pytest.raises(OSError, match="family"):
        server.listen_on("::1", 0)


async def test_an_admin_server_on_the_wildcard_of_ipv6_is_asked_by_either_family(proxy: StartProxy) -> None:
    async with proxy(admin="[::]:0") as running:
        assert running.sidecar.admin_address is not None
        port = running.sidecar.admin_address[1]
        for admin in (f"[::]:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", f"localhost:{port}"):
            assert await asyncio.to_thread(healthcheck.probe, admin) == 0


async def test_a_healthcheck_at_the_wildcard_needs_no_loopback_of_ipv6(proxy: StartProxy) -> None:
    """In a container without IPv6, `[::]` serves IPv4 alone."""
    async with proxy(admin="127.0.0.1:0") as running:
        assert running.sidecar.admin_address is not None
        assert await asyncio.to_thread(healthcheck.probe, f"[::]:{running.sidecar.admin_address[1]}") == 0


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [
        ("127.0.0.1:1", [TcpAddress("127.0.0.1", 1)]),
        (["127.0.0.1:1"], [TcpAddress("127.0.0.1", 1)]),
        (["127.0.0.1:0", "127.0.0.1:0"], [TcpAddress("127.0.0.1", 0)] * 2),
        (["0.0.0.0:1", "[::]:1", "unix:/s"], [TcpAddress("0.0.0.0", 1), TcpAddress("::", 1), UnixAddress("/s")]),
    ],
)
def test_listen_is_an_address_or_a_list(listen: object, addresses: list[object]) -> None:
    loaded = of(listen=listen, admin=None)
    assert list(loaded.listen) == addresses
    written = config.shown(loaded)["listen"]
    assert written == (listen[0] if isinstance(listen, list) and len(listen) == 1 else listen)
    assert of(listen=written, admin=None).listen == loaded.listen


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"listen": []}, "listen: must be an address, or a list of at least one"),
        ({"listen": ["127.0.0.1:1", "8080"]}, "listen.1: must be host:port, [IPv6 address]:port, or unix:/path"),
        ({"listen": {"a": 1}}, "listen: must be host:port, [IPv6 address]:port, or unix:/path"),
        ({"listen": ["unix:/s", "unix:/s"]}, "listen: has unix:/s twice"),
        ({"listen": ["[::]:1", "[::]:1"]}, "listen: has [::]:1 twice"),
        (
            {"listen": ["[::1]:1", "[0:0:0:0:0:0:0:1]:1"]},
            "listen: has [::1]:1 and [0:0:0:0:0:0:0:1]:1, of which one includes the other: leave that one out",
        ),
        (
            {"listen": ["unix:/a/s", "unix:/a/./s"]},
            "listen: has unix:/a/s and unix:/a/./s, of which one includes the other: leave that one out",
        ),
        ({"listen": "unix:/a\0b"}, "listen: must be unix: and a path of at most 107 bytes, none of them 0"),
        ({"listen": f"unix:/{'ä' * 54}"}, "listen: must be unix: and a path of at most 107 bytes, none of them 0"),
        (
            {"listen": ["127.0.0.1:1", "0.0.0.0:1"]},
            "listen: has 127.0.0.1:1 and 0.0.0.0:1, of which one includes the other: leave that one out",
        ),
        (
            {"listen": ["[::]:1", "[::1]:1"]},
            "listen: has [::]:1 and [::1]:1, of which one includes the other: leave that one out",
        ),
        (
            {"listen": ["127.0.0.1:1", "127.0.0.1:2"], "admin": "0.0.0.0:2"},
            "admin: must differ from listen, or its paths would hide those of the callers",
        ),
    ],
)
def test_a_list_that_cannot_be_listened_on_is_one_line(values: dict[str, Any], problem: str) -> None:
    assert fault(**values) == problem


def test_an_error_in_a_list_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("live: {url: http://a}\nlisten:\n  - 127.0.0.1:1\n  - nowhere\n")
    with pytest.raises(ConfigError) as raised:
        config.load(file)
    assert str(raised.value).startswith(f"{file}:4: listen.1: must be host:port")


def test_a_unix_sockets_longest_path_can_be_listened_on(tmp_path: Path) -> None:
    path = f"{tmp_path}/".ljust(107, "s")
    address = of(listen=f"unix:{path}").listen[0]
    release(address, bind(address))


def test_check_finds_two_names_of_one_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    listen = [f"127.0.0.1:{port}", f"localhost:{port}"]
    made = of(listen=listen, admin=None, log={"path": str(tmp_path / "log")})
    found = [f"{each.level.name} {each.words}" for each in examine(made, None).of("listen")]
    assert found == [f"OK 127.0.0.1:{port}: free", f"FAIL localhost:{port}: is the same address as 127.0.0.1:{port}"]


def test_check_names_the_address_of_a_list_that_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, ExitStack() as free:
        used = taken.getsockname()[1]
        other = free.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        free.close()
        listen = [f"127.0.0.1:{used}", f"[::]:{used}", f"127.0.0.1:{other}"]
        made = of(listen=listen, admin=None, log={"path": str(tmp_path / "log")})
        found = [f"{each.level.name} {each.words}" for each in examine(made, None).of("listen")]
    assert found == [
        f"FAIL 127.0.0.1:{used}: in use by another program",
        f"OK [::]:{used}: free",
        f"OK 127.0.0.1:{other}: free",
    ]
