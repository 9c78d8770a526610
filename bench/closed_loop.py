"""The closed loop, for CPU and throughput: wrk, whose callers ask again as soon as they are answered."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.processes import HOST, BenchError, Running

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What one burst came to. `cpu_seconds` are the proxy's, `requests` the answered ones, `p99_ms` their latency."""

    requests: int
    seconds: float
    cpu_seconds: float
    p99_ms: float

    @property
    def cpu_us(self) -> float:
        return self.cpu_seconds / self.requests * 1e6

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def burst(
    proxy: Running,
    *,
    callers: int,
    seconds: int,
    path: str = "/predict",
    body: Path | None = None,
    unlike: bool = False,
) -> Load:
    """Load `proxy` and account for all it did, what came after the last answer too. Raises BenchError.

    With `unlike` every request has an X-Request-ID and a traceparent of its own, so that no two heads are the same.
    """
    before = proxy.settled_cpu_seconds()
    environment = os.environ | {"BENCH_METHOD": "POST" if body else "GET"} | ({"BENCH_BODY": str(body)} if body else {})
    if unlike:
        environment["BENCH_UNLIKE"] = "1"
    url = f"http://{HOST}:{proxy.port}{path}"
    done = subprocess.run(
        ["wrk", "-t1", f"-c{callers}", f"-d{seconds}s", "--timeout", "10s", "-s", SCRIPT, url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"wrk ended with {done.returncode}: {done.stderr.strip()}")
    told = json.loads(done.stdout.splitlines()[-1])
    if told["failed"] or not told["requests"]:
        raise BenchError(f"{proxy.name} failed {told['failed']} of {told['requests']} requests")
    return Load(told["requests"], told["seconds"], proxy.settled_cpu_seconds() - before, told["p99_ms"])
