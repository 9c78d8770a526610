"""The report: CPU for each record, and memory."""

import fileinput
import os
import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bench import contenders, numbered
from bench.builds import Build
from bench.figures import Bound, Row, ratios
from bench.processes import BenchError
from bench.rig import MIRRORED, OWN, Bench, Rounds, verdicts_of


def report(bench: Bench) -> Iterator[Row]:
    """Each build reads a log that it wrote itself, of the same exchanges: formats and what they carry may differ."""
    count = bench.scale.records
    builds = {OWN: bench.place.program}
    if bench.report_beside:
        builds = {bench.report_beside.name: bench.report_beside} | builds
    logs = {name: write_log(bench, build, count) for name, build in builds.items()}
    quarter = shorten(logs[OWN], bench.place.directory / "quarter", count // 4)
    rates: Rounds = {name: [] for name in builds}
    peaks: Rounds = {"a quarter": [], "whole": []}
    for _ in bench.rounds():
        for name, build in builds.items():
            seconds, peak = read_log(build, logs[name])
            rates[name].append(count / seconds)
        peaks["whole"].append(peak)
        peaks["a quarter"].append(read_log(bench.place.program, quarter)[1])
    what = f"report of {count:,} records of two 1 KB answers"
    if bench.report_beside:
        other = bench.report_beside.name
        faster, judged = ratios(rates[OWN], rates[other]), f"shadowproxy / {other}"
        yield Row("report", what, "/CPU s", rates, faster, judged, Bound("at least", 2))
    else:
        yield Row("report", what, "/CPU s", rates, rates[OWN], "records a CPU second", None)
    what = f"peak memory of the report's largest process, {count:,} records"
    yield Row("report", what, "MB", peaks, peaks["whole"], "MB", Bound("at most", 100))


def write_log(bench: Bench, build: Build, count: int) -> Path:
    """The directory of a log of so many exchanges, all different, as `build` records them. Raises BenchError."""
    name = f"log-{build.name.replace(' ', '-')}"
    with (
        contenders.numbered(bench.place, "v1", 0.0) as live,
        contenders.numbered(bench.place, "v2", 0.01) as shadow,
        contenders.shadowproxy(
            bench.place, name, live.port, shadow.port, build=build, log={"compress": "none"}, sheds=False
        ) as proxy,
    ):
        numbered.send(proxy.port, count)
        mismatches = verdicts_of(proxy, "challenger").get("mismatch", 0)
    if mismatches < MIRRORED * count:
        raise BenchError(f"{build.name} compared only {mismatches} of {count} answers: is the machine busy?")
    return bench.place.directory / f"{name}-log"


def read_log(build: Build, log: Path) -> tuple[float, float]:
    """CPU seconds of all processes of `shadowproxy report`, and the largest one's peak memory in MB.

    Its exit statuses 1 and 3 are verdicts, not failures.
    """
    words: list[str | Path] = [build.python, "-P", "-m", "shadowproxy", "report", log]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 3):
        raise BenchError(f"the report of {build.name} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def shorten(log: Path, target: Path, count: int) -> Path:
    """The first `count` records of a log, as a log of its own."""
    target.mkdir()
    with (
        fileinput.input(sorted(log.glob("*.jsonl")), mode="rb") as lines,
        (target / "first.jsonl").open("wb") as shorter,
    ):
        shorter.writelines(islice(lines, count))
    return target
