"""The real program in a network that has IPv6 alone, as in an IPv6-only cluster: its callers, its probes, its commands.

It has a network of its own with one address, and is asked there: probes use the pod's address.
"""

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from program import Program

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, SIOCSIFADDR = 0x8914, 0x8916
IFF_UP = 1
POD = "fd00::7"
RESPONDS = {"respond": {"status": 200, "json": {}}}

KUBERNETES = Path(__file__).parents[1] / "deploy/kubernetes"

ALLOWED = subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode == 0

pytestmark = pytest.mark.skipif(not ALLOWED, reason="this user may not make a network for one process")


def enter_pod() -> None:
    """In the program's process: a network with the address POD, and the usual loopback of both families."""
    enter_network()


def enter_network_without_ipv4() -> None:
    """The same, and no 127.0.0.1."""
    enter_network()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        none = struct.pack("HH4s8x", socket.AF_INET, 0, bytes(4))
        fcntl.ioctl(asking, SIOCSIFADDR, struct.pack("16s16s", b"lo", none))


def enter_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        address = socket.inet_pton(socket.AF_INET6, POD)
        fcntl.ioctl(asking, SIOCSIFADDR, struct.pack("16sIi", address, 128, socket.if_nametoindex("lo")))


async def run_beside(program: Program, *command: str) -> tuple[int, str]:
    """Run Python with `command` in the program's network: its exit status, and what it printed."""
    running = await asyncio.create_subprocess_exec(
        "nsenter", "--net", f"--target={program.pid}", sys.executable, *command,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await running.communicate()
    assert running.returncode is not None
    return running.returncode, output.decode()


async def get(program: Program, url: str) -> tuple[int, str]:
    """What a probe or a caller gets, without proxies of the environment."""
    ask = "import sys, urllib.request as r; print(r.build_opener(r.ProxyHandler({})).open(sys.argv[1]).status)"
    return await run_beside(program, "-c", ask, url)


@pytest.mark.parametrize("where", ["behind", "in-front"])
async def test_callers_probes_and_commands_find_it_where_there_is_no_ipv4(tmp_path: Path, where: str) -> None:
    """With the addresses of the Kubernetes manifests."""
    shipped = yaml.safe_load((KUBERNETES / where / "example/config.yaml").read_text())
    values = {"listen": shipped["listen"], "admin": shipped["admin"], "live": RESPONDS}
    async with Program(tmp_path, values, before=enter_pod) as program:
        admin, callers = shipped["admin"].rpartition(":")[2], shipped["listen"].rpartition(":")[2]
        for path in ("readyz", "healthz", "metrics"):
            assert await get(program, f"http://[{POD}]:{admin}/{path}") == (0, "200\n"), path
        host = f"[{POD}]" if where == "behind" else "127.0.0.1"
        assert await get(program, f"http://{host}:{callers}/v1/predict") == (0, "200\n")
        for address in (shipped["admin"], f"[{POD}]:{admin}", f"localhost:{admin}"):
            assert (await run_beside(program, "-m", "shadowproxy", "healthcheck", "--admin", address))[0] == 0
        assert await program.stop() == 0


@pytest.mark.parametrize("host", ["[::]", "[::1]"])
async def test_it_needs_no_ipv4_at_all(tmp_path: Path, host: str) -> None:
    values = {"listen": f"{host}:8080", "admin": f"{host}:9901", "live": RESPONDS}
    async with Program(tmp_path, values, before=enter_network_without_ipv4) as program:
        assert (await get(program, "http://127.0.0.1:9901/readyz"))[0] == 1
        assert await get(program, "http://[::1]:8080/") == (0, "200\n")
        assert await get(program, "http://[::1]:9901/readyz") == (0, "200\n")
        asked = await run_beside(program, "-m", "shadowproxy", "healthcheck", "--admin", f"{host}:9901")
        assert asked[0] == 0, asked
        assert await program.stop() == 0
