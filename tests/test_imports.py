"""What a process that serves callers imports: each further module would be memory, and time until the first request."""

import subprocess
import sys

import pytest

ABSENT = ["pydantic", "yaml", "starlette", "uvicorn", "httpx", "rich", "prometheus_client", "brotli"]
SERVING = [
    "shadowproxy.serve.sidecar.specs",
    "shadowproxy.serve.sidecar.generations",
    "shadowproxy.serve.sidecar.contexts",
    "shadowproxy.serve.sidecar.steering",
    "shadowproxy.serve.callers.server",
    "shadowproxy.serve.callers.addresses",
    "shadowproxy.serve.live.proxy",
    "shadowproxy.serve.telemetry.operator_log",
    "shadowproxy.serve.workers.channel",
]


@pytest.mark.parametrize("serving", SERVING)
def test_what_serves_callers_imports_little(serving: str) -> None:
    code = f"import sys, {serving}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert serving in loaded
    unwanted = [*ABSENT, "zstandard", "shadowproxy.compare", "shadowproxy.recorder", "shadowproxy.config"]
    assert [name for name in unwanted if name in loaded] == []
