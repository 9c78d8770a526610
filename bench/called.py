"""A function that is called at a steady rate: `called.py LOG RATE SECONDS`, as a script on the Python to measure.

It prints a JSON object: for each way of calling the function, the microseconds of each call.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

FEATURES = {"distance": 1_437.0, "carrier": "AA", "hour": 17, "delays": [0.1, 0.2, 0.7]}


def score(features: dict[str, Any]) -> dict[str, Any]:
    """Live's function: a small call."""
    return {"score": features["distance"] / 2_000, "label": "late"}


def agreeing(features: dict[str, Any]) -> dict[str, Any]:
    """A candidate."""
    return score(features)


def hanging(features: dict[str, Any]) -> None:
    """A candidate that never returns."""
    time.sleep(3600)


def main(log: str, rate: float, seconds: float) -> None:
    from shadowproxy import Shadow

    with Shadow(log=log) as shadow:
        ways: dict[str, Callable[[dict[str, Any]], object]] = {
            "alone": score,
            "mirrored": shadow.function(candidate=agreeing)(score),
            "hung candidate": shadow.function(candidate=hanging, timeout="1s")(score),
        }
        for way in ways.values():
            way(FEATURES)
        shadow.flush(10)
        print(json.dumps({name: paced(way, rate, seconds) for name, way in ways.items()}))  # noqa: T201 - its answer


def paced(way: Callable[[dict[str, Any]], object], rate: float, seconds: float) -> list[float]:
    """Microseconds of each call. A call's time is its own: the next one is due at a fixed time, whatever it took."""
    taken = []
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        left = began + number / rate - time.perf_counter()
        if left > 0:
            time.sleep(left)
        before = time.perf_counter_ns()
        way(FEATURES)
        taken.append((time.perf_counter_ns() - before) / 1000)
    return taken


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
