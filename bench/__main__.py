"""Measure everything, alternately, and print the table; the rounds go into bench/results as JSON."""

import argparse
import compileall
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

import shadowproxy
from bench import contenders, figures, goals
from bench.processes import BenchError

RESULTS = Path(__file__).with_name("results")
ENVOY = Path(__file__).parent.parent / ".bench"
COMPILED = Path(__file__).parent.parent / ".compiled"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of each: for a look, not for a claim")
    parser.add_argument("--only", metavar="GOAL", choices=[goal.__name__ for goal in goals.GOALS], help="one of them")
    parser.add_argument("--markdown", action="store_true", help="print the table as bench/README.md has it")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, and so ends all that was started
    scale = goals.QUICK if given.quick else goals.FULL
    console = Console(width=None if sys.stdout.isatty() else 130)
    began = time.monotonic()
    rows: list[figures.Row] = []
    # As an installation does: without it, where Python is told to write no bytecode, each start would compile it all.
    compileall.compile_dir(Path(shadowproxy.__file__).parent, quiet=2)
    try:
        machine = _machine()
        with ExitStack() as stack:
            bench = _bench(stack, scale)
            for goal in goals.GOALS:
                if given.only in (None, goal.__name__):
                    console.print(f"measuring {goal.__name__}", style="dim", highlight=False)
                    rows += goal(bench)
    except BenchError as error:
        Console(stderr=True).print(f"bench: {error}", highlight=False, soft_wrap=True)
        return 1
    told = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "rows": figures.as_json(rows)}
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{told['at']}.json"
    file.write_text(json.dumps(told, indent=1) + "\n")
    words = ", ".join(f"{name} {value}" for name, value in machine.items())
    if given.markdown:
        console.print(figures.markdown(rows), soft_wrap=True, markup=False, highlight=False)
    else:
        console.print(figures.table(rows), highlight=False)
    console.print(f"\n{words}\n{time.monotonic() - began:.0f} s; every round is in {file}", highlight=False)
    return 0


def _bench(stack: ExitStack, scale: goals.Scale) -> goals.Bench:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shadowproxy-bench-")))
    directory.chmod(0o755)  # nginx's workers are another user where it is started as root
    place = contenders.Place(directory, contenders.find_envoy(ENVOY), contenders.find_compiled(COMPILED))
    body = directory / "predict.json"
    body.write_bytes(goals.predict_body())
    live = stack.enter_context(contenders.origin(place, "live", contenders.answer("v1", 0.75)))
    shadow = stack.enter_context(contenders.origin(place, "shadow", contenders.answer("v2", 0.5)))
    return goals.Bench(place, scale, live, shadow, body)


def _machine() -> dict[str, Any]:
    """What the figures depend on."""
    try:
        nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
        envoy = subprocess.run(
            [contenders.find_envoy(ENVOY), "--version"], capture_output=True, text=True, check=True
        ).stdout
        subprocess.run(["wrk", "-v"], capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"a peer is missing, `make bench` installs them: {error}") from error
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "cores": os.cpu_count(),
        "processor": cpu.partition(":")[2].strip() or platform.machine(),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "shadowproxy": version("shadowproxy-sidecar"),
        "nginx": nginx.rpartition("/")[2].strip(),
        "Envoy": envoy.strip().split("/")[-4],
    }


if __name__ == "__main__":
    sys.exit(main())
