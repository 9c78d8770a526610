"""What each process imports: each further module would be memory, and time until the first request."""

import subprocess
import sys

import pytest

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
