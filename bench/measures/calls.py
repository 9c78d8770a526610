"""What shadow mode in the code costs a function's call, and whether a candidate that never returns shows in it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Bound, Row, ratios
from bench.processes import BenchError
from bench.rig import Bench, Rounds, added

PROGRAM = Path(__file__).parent.parent / "called.py"
RATES = (500.0, 5000.0)
"""Calls a second."""


def calls(bench: Bench) -> Iterator[Row]:
    for rate in RATES:
        taken: dict[str, Rounds] = {"p50": {}, "p99": {}}
        for number in bench.rounds():
            for way, times in _called(bench, number, rate).items():
                times.sort()
                for name, share in (("p50", 0.5), ("p99", 0.99)):
                    taken[name].setdefault(way, []).append(times[int(share * len(times))])
        p50, p99 = taken["p50"], taken["p99"]
        where = f"of a function's call, {rate:,.0f} a second"
        more = added(p50["mirrored"], p50["alone"])
        yield Row("calls", f"p50 {where}", "µs", p50, more, "added, µs", Bound("at most", 30))
        hung = ratios(p99["hung candidate"], p99["mirrored"])
        yield Row("calls", f"p99 {where}", "µs", p99, hung, "hung candidate / mirrored", Bound("at most", 1.1))


def _called(bench: Bench, number: int, rate: float) -> dict[str, list[float]]:
    """The microseconds of each call, by way of calling."""
    log = bench.place.directory / f"called-{rate:g}-{number}"
    command: list[str | Path] = [
        bench.place.program.python,
        "-P",
        PROGRAM,
        log,
        str(rate),
        str(bench.scale.seconds + 1),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the calls failed: {done.stderr.strip()[-300:]}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found
