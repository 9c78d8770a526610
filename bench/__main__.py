"""Measure everything, alternately, and print the table; the rounds go into bench/results as JSON."""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import builds, contenders, figures, rig
from bench.builds import Build
from bench.measures import MEASURES, Measure
from bench.processes import BenchError

RESULTS = Path(__file__).with_name("results")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    names = [measure.__name__ for measure in MEASURES]
    parser.add_argument("--quick", action="store_true", help="one short round of each: for a look, not for a claim")
    parser.add_argument("--only", metavar="MEASURE", choices=names, action="append", help=f"one of {', '.join(names)}")
    parser.add_argument("--markdown", action="store_true", help="print the table as bench/README.md has it")
    python = "a Python that has a compiled shadowproxy"
    parser.add_argument("--beside", metavar="PYTHON", type=Path, help=f"compare requests a second with this: {python}")
    parser.add_argument("--report-beside", metavar="PYTHON", type=Path, help="compare the report with this, likewise")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, and so ends all that was started
    scale = rig.QUICK if given.quick else rig.FULL
    console = Console(width=None if sys.stdout.isatty() else 130)
    began = time.monotonic()
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        machine = _machine()
        with ExitStack() as stack:
            bench = _bench(stack, scale, given.beside, given.report_beside)
            chosen = [measure for measure in MEASURES if not given.only or measure.__name__ in given.only]
            rows, failures = take(bench, chosen, lambda name: console.print(name, style="dim", highlight=False))
    except BenchError as error:
        errors.print(f"bench: {error}", markup=False)
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
    for failure in failures:
        errors.print(f"bench: {failure}", markup=False)
    return 1 if failures else 0


def take(
    bench: rig.Bench, measures: Iterable[Measure], begin: Callable[[str], None]
) -> tuple[list[figures.Row], list[str]]:
    """The rows of all measures, and what went wrong: a measure that fails costs its own rows only.

    `begin` is called with a line before each.
    """
    rows: list[figures.Row] = []
    failures: list[str] = []
    for measure in measures:
        begin(f"measuring {measure.__name__}")
        try:
            rows += measure(bench)
        except BenchError as error:
            failures.append(f"{measure.__name__}: {error}")
    return rows, failures


def _bench(stack: ExitStack, scale: rig.Scale, beside: Path | None, report_beside: Path | None) -> rig.Bench:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shadowproxy-bench-")))
    directory.chmod(0o755)  # nginx's workers are another user where it is started as root
    place = contenders.Place(directory, builds.find_envoy(), builds.find_build(builds.PROGRAM))
    body = directory / "predict.json"
    body.write_bytes(rig.predict_body())
    live = stack.enter_context(contenders.origin(place, "live", contenders.answer("v1", 0.75)))
    shadow = stack.enter_context(contenders.origin(place, "shadow", contenders.answer("v2", 0.5)))
    return rig.Bench(
        place,
        scale,
        live,
        shadow,
        body,
        beside=_other(beside, builds.HERE / "beside"),
        report_beside=_other(report_beside, builds.HERE / "report-beside"),
    )


def _other(python: Path | None, directory: Path) -> Build | None:
    return builds.find_build(python, str(python)) if python else builds.find_other(directory)


def _machine() -> dict[str, Any]:
    """What the figures depend on."""
    try:
        nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
        envoy = subprocess.run([builds.find_envoy(), "--version"], capture_output=True, text=True, check=True).stdout
        subprocess.run(["wrk", "-v"], capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"a peer is missing, `make bench` installs them: {error}") from error
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "cores": os.cpu_count(),
        "processor": cpu.partition(":")[2].strip() or platform.machine(),
        "kernel": platform.release(),
        "Python": builds.describe_python(builds.PROGRAM),
        "shadowproxy": version("shadowproxy-sidecar"),
        "nginx": nginx.rpartition("/")[2].strip(),
        "Envoy": envoy.strip().split("/")[-4],
    }


if __name__ == "__main__":
    sys.exit(main())
