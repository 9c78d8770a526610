"""The real program with a hosts file of its own: what the system's resolver makes of names with several addresses."""

import asyncio
import ctypes
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from fakes import Caller, Origin, answer, deaf_port
from program import Program

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000

ALLOWED = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


class Hosts:
    """A hosts file for one program. Writing to it changes what the program's next lookup finds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.write()

    def write(self, *addresses: str) -> None:
        """Give `model.test` these addresses."""
        self._file.write_text("".join(f"{each} model.test\n" for each in addresses))

    def mount(self) -> None:
        """In the program's process: put it in the place of the system's, for this process and its children."""
        libc = ctypes.CDLL(None, use_errno=True)
        for failed in (
            libc.unshare(CLONE_NEWNS),
            libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None),
            libc.mount(os.fsencode(self._file), b"/etc/hosts", None, MS_BIND, None),
        ):
            if failed:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.mark.slow
@pytest.mark.skipif(not ALLOWED, reason="this user may not mount a hosts file for one process")
async def test_a_name_of_the_hosts_file_is_spread_over_its_addresses_and_followed_when_it_moves(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path / "hosts")
    last = answer(b"x", (b"Connection", b"close"))
    async with Origin(last, at=("127.0.0.3", 0)) as one, Origin(last, at=("127.0.0.4", one.port)) as two:
        with deaf_port(("127.0.0.2", one.port)):
            hosts.write("127.0.0.2", "127.0.0.3", "127.0.0.4")
            live = {"url": f"http://model.test:{one.port}", "max_age": "100ms"}
            values = {"listen": "127.0.0.1:0", "admin": None, "live": live, "log": {"path": str(tmp_path / "log")}}
            async with (
                Origin(answer(b"moved"), at=("127.0.0.5", one.port)) as moved,
                Origin(answer(b"moved again"), at=("127.0.0.6", one.port)) as again,
                Program(tmp_path, values, before=hosts.mount) as program,
                await Caller.to(program.address) as caller,
                asyncio.timeout(20),
            ):
                assert Counter([(await caller.ask(GET)).status for _ in range(12)]) == {200: 12}
                assert min(len(one.requests), len(two.requests)) >= 3

                hosts.write("127.0.0.5")
                assert (await caller.ask(GET)).body == b"moved"
                hosts.write("127.0.0.6")  # and the kept connection to 127.0.0.5 goes on answering
                while (await caller.ask(GET)).body != b"moved again":  # noqa: ASYNC110  # its age is a time
                    await asyncio.sleep(0.01)
                assert len(moved.connections) == 1

                hosts.write()  # nobody knows the name any more
                while len(again.connections) < 3:  # their age is a time
                    assert (await caller.ask(GET)).body == b"moved again"
                    await asyncio.sleep(0.01)
