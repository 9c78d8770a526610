"""What every measure works with: the scale, two origins that outpace every proxy, and ways to load a proxy."""

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench import closed_loop, open_loop
from bench.builds import Build
from bench.contenders import Place
from bench.figures import ratios
from bench.processes import HOST, BenchError, Running

REQUEST_BYTES = 500
MIRRORED = 0.98
"""The share of requests that must reach the shadow, or a proxy's CPU a mirrored request is not what was measured.

shadowproxy sheds mirroring while its event loop is late, as it is where others want the machine too: such a burst is
measured again, up to TRIES times in all.
"""
TRIES = 6
COUNTED_WITHIN = 1.2
"""Seconds until the admin server's counters are right: processes may send it theirs once a second."""

OWN, ENVOY, NGINX = "shadowproxy", "Envoy mirror", "nginx mirror"

T = TypeVar("T")

Rounds = dict[str, list[float]]
"""For each contender its figures, one a round."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: rounds, seconds of each burst, and records that the report reads."""

    rounds: int
    seconds: int
    records: int


FULL = Scale(rounds=5, seconds=2, records=20_000)
QUICK = Scale(rounds=1, seconds=1, records=4_000)


@dataclass(frozen=True, slots=True)
class Bench:
    """The place, the scale, two origins, and other builds of the program, None where they are not to be had.

    Requests a second are compared with `beside`, the report with `report_beside`.
    """

    place: Place
    scale: Scale
    live: Running
    shadow: Running
    body: Path
    beside: Build | None
    report_beside: Build | None

    def rounds(self) -> range:
        return range(self.scale.rounds)

    def burst(
        self,
        proxy: Running,
        *,
        callers: int = 16,
        seconds: int | None = None,
        path: str = "/predict",
        unlike: bool = False,
    ) -> closed_loop.Load:
        seconds = seconds or self.scale.seconds
        return closed_loop.burst(proxy, callers=callers, seconds=seconds, path=path, body=self.body, unlike=unlike)

    def mirrored_burst(
        self, proxy: Running, *, callers: int = 16, path: str = "/predict", unlike: bool = False
    ) -> tuple[closed_loop.Load, float]:
        """The load, and the share of its requests that reached the shadow."""
        before = requests_of(self.shadow)
        load = self.burst(proxy, callers=callers, path=path, unlike=unlike)
        return load, (requests_of(self.shadow) - before - 1) / load.requests  # asking how many counts as one

    def fully_mirrored_burst(
        self, proxy: Running, *, callers: int = 16, path: str = "/predict", unlike: bool = False
    ) -> closed_loop.Load:
        """One that mirrored nearly all of its requests. Raises BenchError if none of TRIES did."""
        return fully_mirrored(proxy.name, lambda: self.mirrored_burst(proxy, callers=callers, path=path, unlike=unlike))

    def request(self, path: str = "/predict") -> bytes:
        body = self.body.read_bytes()
        return (
            b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
            b"User-Agent: bench\r\nAuthorization: Bearer bench-secret\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), len(body), body)
        )

    def steady(self, port: int, *, rate: float, seconds: float, connections: int = 16) -> open_loop.Timings:
        return open_loop.steady(port, self.request(), rate=rate, seconds=seconds, connections=connections)


def fully_mirrored(name: str, measure: Callable[[], tuple[T, float]]) -> T:
    """What `measure` gave when its second figure, the share mirrored, was enough. Raises BenchError after TRIES."""
    share = 0.0
    for _ in range(TRIES):
        measured, share = measure()
        if share >= MIRRORED:
            return measured
    raise BenchError(f"{name} mirrored only {share:.1%} of its requests: is the machine busy?")


def in_turn(rounds: Iterable[object], contenders: Mapping[str, T], measure: Callable[[T], float]) -> Rounds:
    """What `measure` gives of each contender, round by round."""
    taken: Rounds = {name: [] for name in contenders}
    for _ in rounds:
        for name, contender in contenders.items():
            taken[name].append(measure(contender))
    return taken


def own_by(peer: str, taken: Mapping[str, Sequence[float]]) -> list[float]:
    return ratios(taken[OWN], taken[peer])


def added(through: Sequence[float], direct: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(through, direct, strict=True)]


def predict_body() -> bytes:
    """A request of REQUEST_BYTES bytes, as a model server's caller writes it."""
    asked = {"inputs": [{"carrier": "UA", "origin": "EWR", "dep_delay": 17.5, "distance": 1400, "hour": 9}], "note": ""}
    asked["note"] = "n" * (REQUEST_BYTES - len(json.dumps(asked)))
    return json.dumps(asked).encode()


def requests_of(origin: Running) -> int:
    """How many requests an origin has had, by nginx's own count."""
    return int(re.findall(rb"\d+", get(origin.port, "/requests"))[3])


def verdicts_of(proxy: Running, shadow: str) -> dict[str, int]:
    """How many pairs of answers got which verdict, once a shadowproxy has compared all that it was given."""
    proxy.settled_cpu_seconds()
    time.sleep(COUNTED_WITHIN)
    shadows = json.loads(get(proxy.admin, "/shadows"))["shadows"]
    verdicts: dict[str, int] = shadows[shadow]["verdicts"]
    return verdicts


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=10) as response:
        body: bytes = response.read()
        return body
