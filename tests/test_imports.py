"""What each process imports: each further module would be memory, and time until the first request."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import Origin, answer
from program import Program

HEAVY = ["pydantic", "yaml", "starlette", "uvicorn", "httpx", "rich", "prometheus_client", "brotli", "zstandard"]
RECORDING = ["shadowproxy.compare", "shadowproxy.recorder", "shadowproxy.record", "shadowproxy.serve.journal.root"]


@pytest.mark.parametrize("process", ["live", "supervisor"])
def test_the_processes_that_callers_depend_on_import_next_to_nothing(process: str) -> None:
    name = f"shadowproxy.serve.workers.{process}"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {name}; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert name in loaded
    unwanted = [*HEAVY, *RECORDING, "shadowproxy.config", "shadowproxy.serve.sidecar.recorder"]
    assert [module for module in unwanted if module in loaded] == []


def test_the_recorder_does_without_what_reads_configurations() -> None:
    name = "shadowproxy.serve.workers.recorder"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {name}; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert [module for module in ("pydantic", "yaml", "httpx", "rich", "shadowproxy.config") if module in loaded] == []


async def test_the_running_program_has_forgotten_what_read_its_configuration(tmp_path: Path) -> None:
    """Also after a reload: the file is read by a process that ends."""
    async with (
        Origin(answer(b"one")) as one,
        Origin(answer(b"two")) as two,
        Program(tmp_path, {"live": {"url": one.url}}) as program,
    ):
        program.configure({"live": {"url": two.url}})
        program.signal(signal.SIGHUP)
        await program.wait_said("configuration 2 is in force")
        libraries = await asyncio.to_thread(Path(f"/proc/{program.pid}/maps").read_text)
        assert "uvloop" in libraries
        assert "pydantic" not in libraries
        assert (await program.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")).body == b"two"
        assert await program.stop() == 0
