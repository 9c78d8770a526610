"""One function a goal: start the contenders, measure them in turn, round by round, and say what came of it."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import closed_loop, contenders, open_loop
from bench.contenders import LARGE, Place
from bench.figures import Bound, Row, ratios
from bench.processes import HOST, BenchError, Running, accepts, free_port
from shadowproxy.exchange import Exchange, Reply, Request
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.serve.policy.identity import uuid7

REQUEST_BYTES = 500
RATE = 200.0
EQUAL_RATE, EQUAL_CONNECTIONS = 1000.0, 16
"""A load that every proxy carries with ease. A closed loop asks each as much as it can take, and the more it takes the
fewer wake-ups a request costs it: Envoy's mirror took 51 us at 19,000 requests a second, and 133 us at 1,000."""
MIRRORED = 0.98
"""The share of requests that must reach the shadow, or a proxy's CPU a mirrored request is not what was measured.

shadowproxy sheds mirroring while its event loop is late, as it is where others want the machine too: such a burst is
measured again, up to TRIES times in all.
"""
TRIES = 6


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: rounds, seconds of each burst, and records that the report reads."""

    rounds: int
    seconds: int
    records: int


FULL = Scale(rounds=5, seconds=2, records=20_000)
QUICK = Scale(rounds=1, seconds=1, records=8_000)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every goal measures with: the place, the scale, and two origins that outpace every proxy."""

    place: Place
    scale: Scale
    live: Running
    shadow: Running
    body: Path

    def rounds(self) -> range:
        return range(self.scale.rounds)

    def burst(
        self, proxy: Running, *, callers: int = 16, seconds: int | None = None, unlike: bool = False
    ) -> closed_loop.Load:
        seconds = seconds or self.scale.seconds
        return closed_loop.burst(proxy, callers=callers, seconds=seconds, body=self.body, unlike=unlike)

    def mirrored_burst(self, proxy: Running, *, callers: int = 16) -> tuple[closed_loop.Load, float]:
        """The load, and the share of its requests that reached the shadow."""
        return self._mirrored(lambda: self.burst(proxy, callers=callers))

    def _mirrored(self, burst: Callable[[], closed_loop.Load]) -> tuple[closed_loop.Load, float]:
        before = _asked(self.shadow)
        load = burst()
        return load, (_asked(self.shadow) - before - 1) / load.requests  # asking how many counts as one

    # Each of these gives CPU microseconds a request, and the share of the requests that was mirrored.

    def alike(self, proxy: Running) -> tuple[float, float]:
        load, share = self.mirrored_burst(proxy)
        return load.cpu_us, share

    def unlike(self, proxy: Running) -> tuple[float, float]:
        """Every request with an ID and a trace of its own."""
        load, share = self._mirrored(lambda: self.burst(proxy, unlike=True))
        return load.cpu_us, share

    def equal_load(self, proxy: Running) -> tuple[float, float]:
        """Under a load that is the same for every proxy."""
        asked, spent = _asked(self.shadow), proxy.settled_cpu_seconds()
        request, seconds = self.request(), 2 * self.scale.seconds  # twice: the kernel accounts in steps of 10 ms
        timings = open_loop.steady(proxy.port, request, rate=EQUAL_RATE, seconds=seconds, connections=EQUAL_CONNECTIONS)
        count = len(timings.latency)
        spent = proxy.settled_cpu_seconds() - spent
        return spent / count * 1e6, (_asked(self.shadow) - asked - 1) / count

    def request(self, path: str = "/predict") -> bytes:
        body = self.body.read_bytes()
        return (
            b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
            b"User-Agent: bench\r\nAuthorization: Bearer bench-secret\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), len(body), body)
        )

    def steady(self, port: int) -> open_loop.Timings:
        return open_loop.steady(port, self.request(), rate=RATE, seconds=self.scale.seconds + 1)


def predict_body() -> bytes:
    """A request of REQUEST_BYTES bytes, as a model server's caller writes it."""
    told = {"inputs": [{"carrier": "UA", "origin": "EWR", "dep_delay": 17.5, "distance": 1400, "hour": 9}], "note": ""}
    told["note"] = "n" * (REQUEST_BYTES - len(json.dumps(told)))
    return json.dumps(told).encode()


def cpu(bench: Bench) -> Iterator[Row]:
    """Goal 1."""
    with ExitStack() as stack:
        live, shadow = bench.live.port, bench.shadow.port
        start = stack.enter_context
        proxies = {
            "nginx mirror": start(contenders.nginx_mirror(bench.place, live, shadow)),
            "Envoy mirror": start(contenders.envoy_mirror(bench.place, live, shadow)),
            "shadowproxy": start(contenders.shadowproxy(bench.place, "cpu", live, shadow)),
            "interpreted": start(contenders.shadowproxy(bench.place, "source", live, shadow, interpreted=True)),
            "no shadow": start(contenders.shadowproxy(bench.place, "alone", live, None)),
            "on httpx": start(contenders.shadowproxy(bench.place, "httpx", live, shadow, on_httpx=True)),
        }
        for proxy in proxies.values():
            bench.burst(proxy, seconds=1)
        spent = _in_turn(bench, proxies, bench.alike)
        peers = {name: proxies[name] for name in ("nginx mirror", "Envoy mirror", "shadowproxy")}
        unlike = _in_turn(bench, peers, bench.unlike)
        steady = _in_turn(bench, peers, bench.equal_load)
    what = "CPU a mirrored request, 16 callers"
    yield Row(1, what, "µs", spent, _own_by_envoy(spent), "shadowproxy / Envoy", Bound("at most", 1.0))
    # Nothing of the one on httpx is compiled: like is set beside like.
    saved = ratios(spent["on httpx"], spent["interpreted"])
    yield Row(1, what, "µs", {}, saved, "on httpx / interpreted", Bound("at least", 15))
    what = "the same, each with an ID and a trace of its own"
    yield Row(1, what, "µs", unlike, _own_by_envoy(unlike), "shadowproxy / Envoy", Bound("at most", 1.0))
    what = f"the same at {EQUAL_RATE:g} requests a second, open loop"
    yield Row(1, what, "µs", steady, _own_by_envoy(steady), "shadowproxy / Envoy", Bound("at most", 1.0))


def _in_turn(
    bench: Bench, proxies: Mapping[str, Running], measure: Callable[[Running], tuple[float, float]]
) -> dict[str, list[float]]:
    """What `measure` gives of each proxy, round by round. Raises BenchError where one mirrors too few."""
    taken: dict[str, list[float]] = {name: [] for name in proxies}
    for _ in bench.rounds():
        for name, proxy in proxies.items():
            for _ in range(TRIES):
                cost, share = measure(proxy)
                if share >= MIRRORED or name == "no shadow":
                    break
            else:
                raise BenchError(f"{name} mirrored only {share:.1%} of its requests: is the machine busy?")
            taken[name].append(cost)
    return taken


def _own_by_envoy(spent: Mapping[str, Sequence[float]]) -> list[float]:
    return ratios(spent["shadowproxy"], spent["Envoy mirror"])


def latency(bench: Bench) -> Iterator[Row]:
    """Goal 2."""
    shares = {"p50": 0.5, "p99": 0.99}
    taken: dict[str, dict[str, list[float]]] = {share: {} for share in shares}
    with ExitStack() as stack:
        live, shadow = bench.live.port, bench.shadow.port
        ports = {
            "live asked directly": live,
            "Envoy mirror": stack.enter_context(contenders.envoy_mirror(bench.place, live, shadow)).port,
            "shadowproxy": stack.enter_context(contenders.shadowproxy(bench.place, "latency", live, shadow)).port,
        }
        for port in ports.values():
            open_loop.steady(port, bench.request(), rate=RATE, seconds=1)
        for _ in bench.rounds():
            for name, port in ports.items():
                timings = bench.steady(port)
                for share, value in shares.items():
                    taken[share].setdefault(name, []).append(timings.quantile(value))
    for share, most in (("p50", 1.5), ("p99", 2.0)):
        direct, envoy, own = taken[share].values()
        added = ratios(_added(own, direct), _added(envoy, direct))
        what = f"{share} at {RATE:g} requests a second, open loop"
        yield Row(2, what, "ms", taken[share], added, "added, shadowproxy / Envoy", Bound("at most", most))


def faults(bench: Bench) -> Iterator[Row]:
    """Goal 3."""
    with ExitStack() as stack, socket.create_server((HOST, 0), backlog=4096) as hung:
        live, shadow = bench.live.port, bench.shadow.port
        hung_port = hung.getsockname()[1]  # the kernel accepts for it, and nobody ever answers

        def start(name: str, shadow: int | None, *, full_disk: bool = False) -> Running:
            return stack.enter_context(
                contenders.shadowproxy(bench.place, f"fault-{name}", live, shadow, full_disk=full_disk)
            )

        proxies = {
            "healthy": start("none", shadow),
            "hung shadow": start("hung", hung_port),
            "refusing shadow": start("refusing", free_port()),
            "full disk": start("disk", shadow, full_disk=True),
        }
        p99: dict[str, list[float]] = {name: [] for name in proxies}
        for proxy in proxies.values():
            open_loop.steady(proxy.port, bench.request(), rate=RATE, seconds=2)
        for _ in bench.rounds():
            for name, proxy in proxies.items():
                p99[name].append(bench.steady(proxy.port).quantile(0.99))
        what = f"p99 of live at {RATE:g} requests a second"
        for name in ("hung shadow", "refusing shadow", "full disk"):
            both = {"healthy": p99["healthy"], name: p99[name]}
            yield Row(3, what, "ms", both, ratios(*reversed(both.values())), f"{name} / healthy", Bound("at most", 1.1))

        rates: dict[str, list[float]] = {"no shadow": [], "hung shadow": []}
        alone = start("alone", None)
        for _ in bench.rounds():
            for name, proxy in (("no shadow", alone), ("hung shadow", proxies["hung shadow"])):
                rates[name].append(bench.burst(proxy, callers=64).rate)
    kept = ratios(rates["hung shadow"], rates["no shadow"])
    yield Row(3, "throughput, all of mirroring shed", "/s", rates, kept, "hung / no shadow", Bound("at least", 0.9))


def callers(bench: Bench) -> Iterator[Row]:
    """Goal 4. By default a shadow is asked 64 requests at once: of 256 callers' half would be shed."""
    with contenders.shadowproxy(bench.place, "callers", bench.live.port, bench.shadow.port, at_once=256) as proxy:
        rest = proxy.resident_bytes() / 1e6
        spent: dict[int, list[float]] = {1: [], 16: [], 256: []}
        shares: list[float] = []
        for _ in bench.rounds():
            for count, each in spent.items():
                load, share = bench.mirrored_burst(proxy, callers=count)
                each.append(load.cpu_us)
                shares += [share] if count == 256 else []
        resident = {"at rest": [rest], "warm": [proxy.resident_bytes() / 1e6], "later": [0.0]}
        load = bench.burst(proxy, seconds=5 * bench.scale.seconds)
        resident["later"] = [proxy.resident_bytes() / 1e6]
    by_callers = {f"{count} callers": each for count, each in spent.items()}
    share = median(shares)
    grown = ratios(spent[256], spent[1])
    bound = Bound("at most", 1.3) if share >= MIRRORED else None  # what is shed costs less: that is no goal met
    note = f"of 256 callers' requests {share:.1%} mirrored" + ("" if bound else ": not judged")
    yield Row(4, "CPU a request", "µs", by_callers, grown, "256 / 1", bound, [note])
    yield Row(4, "memory, one worker", "MB", resident, [rest], "at rest", Bound("at most", 80))
    yield Row(
        4,
        f"memory after {load.requests:,} more requests",
        "MB",
        {},
        ratios(resident["later"], resident["warm"]),
        "later / warm",
        None,
    )


def workers(bench: Bench) -> Iterator[Row]:
    """Goal 5. The machine has few cores, so what is judged is CPU and not throughput."""
    with ExitStack() as stack:
        live, shadow = bench.live.port, bench.shadow.port
        proxies = {
            f"{count} workers": stack.enter_context(
                contenders.shadowproxy(bench.place, f"workers-{count}", live, shadow, workers=count)
            )
            for count in (1, 2)
        }
        spent: dict[str, list[float]] = {name: [] for name in proxies}
        mirrored: dict[str, list[float]] = {name: [] for name in proxies}
        for proxy in proxies.values():
            bench.burst(proxy, seconds=1)
        for _ in bench.rounds():
            for name, proxy in proxies.items():
                for _ in range(TRIES):
                    load, share = bench.mirrored_burst(proxy)
                    if share >= MIRRORED:
                        break
                spent[name].append(load.cpu_us)
                mirrored[name].append(share)
    one, two = spent.values()
    shed = [f"{name} mirrored {min(shares):.1%}" for name, shares in mirrored.items() if min(shares) < MIRRORED]
    what = "CPU a mirrored request, 16 callers"
    yield Row(5, what, "µs", spent, ratios(two, one), "2 workers / 1", None if shed else Bound("at most", 1.15), shed)


def starting(bench: Bench) -> Iterator[Row]:
    """Goal 6."""
    count = range(2 * bench.scale.rounds)

    def until_accepts() -> float:
        began = time.perf_counter()
        with contenders.shadowproxy(bench.place, "start", bench.live.port, None) as proxy:
            while not accepts(proxy.port):
                time.sleep(0.001)
            return (time.perf_counter() - began) * 1000

    taken: dict[str, list[float]] = {"imports": [], "serve": [], "pass": [], "--version": []}
    for _ in count:
        taken["imports"].append(_run(bench, "-c", "import uvicorn, httpx, pydantic, yaml"))
        taken["serve"].append(until_accepts())
        taken["pass"].append(_run(bench, "-c", "pass"))
        taken["--version"].append(_run(bench, "-m", "shadowproxy", "--version"))
    serve = {"import uvicorn, httpx, pydantic, yaml": taken["imports"], "serve": taken["serve"]}
    began = ratios(taken["serve"], taken["imports"])
    yield Row(6, "until the first connection is accepted", "ms", serve, began, "serve / imports", Bound("at most", 1.5))
    version = {"python -c pass": taken["pass"], "shadowproxy --version": taken["--version"]}
    told = ratios(taken["--version"], taken["pass"])
    yield Row(6, "a word from the command line", "ms", version, told, "--version / pass", Bound("at most", 4))


def large(bench: Bench) -> Iterator[Row]:
    """Goal 7: large bodies and streams."""
    upload = bench.place.directory / "upload"
    upload.write_bytes(bytes(LARGE))
    with ExitStack() as stack:
        proxies = {
            "nginx": stack.enter_context(contenders.nginx_plain(bench.place, bench.live.port)),
            "shadowproxy": stack.enter_context(
                contenders.shadowproxy(bench.place, "large", bench.live.port, bench.shadow.port)
            ),
        }
        for what, path, body in (("uploads", "/up", upload), ("downloads", "/big", None)):
            carried: dict[str, list[float]] = {name: [] for name in proxies}
            for _ in bench.rounds():
                for name, proxy in proxies.items():
                    load = closed_loop.burst(proxy, callers=4, seconds=bench.scale.seconds, path=path, body=body)
                    carried[name].append(load.requests * LARGE / 1e6 / load.cpu_seconds)
            share = ratios(carried["shadowproxy"], carried["nginx"])
            yield Row(7, f"10 MB {what}", "MB/CPU s", carried, share, "shadowproxy / nginx", Bound("at least", 0.5))
    yield from _streams(bench)


def _streams(bench: Bench) -> Iterator[Row]:
    request = b"GET /events HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"
    with (
        contenders.events(bench.place) as events,
        contenders.shadowproxy(bench.place, "events-proxy", events.port, None) as proxy,
    ):
        waited: dict[str, list[float]] = {"live asked directly": [], "shadowproxy": []}
        for _ in bench.rounds():
            for name, port in (("live asked directly", events.port), ("shadowproxy", proxy.port)):
                waited[name].append(median(open_loop.first_chunks(port, request, count=50)))
    added = _added(waited["shadowproxy"], waited["live asked directly"])
    yield Row(7, "p50 of an event stream's first chunk", "ms", waited, added, "added ms", Bound("at most", 1.0))


def reading(bench: Bench) -> Iterator[Row]:
    """Goal 8: a log of differing 1 KB answers, once whole and once a quarter of it."""
    few, many = bench.place.directory / "few.jsonl", bench.place.directory / "many.jsonl"
    _write_log(few, bench.scale.records // 4)
    _write_log(many, bench.scale.records)
    rates: list[float] = []
    peaks: dict[str, list[float]] = {"a quarter": [], "whole": []}
    for _ in range(min(3, bench.scale.rounds)):
        _, small = _report(bench, few)
        seconds, peak = _report(bench, many)
        peaks["a quarter"].append(small)
        peaks["whole"].append(peak)
        rates.append(bench.scale.records / seconds)
    told = f"{bench.scale.records:,} records of two 1 KB answers"
    yield Row(
        8, f"report of {told}", "/CPU s", {"report": rates}, rates, "records a CPU second", Bound("at least", 12_000)
    )
    yield Row(8, f"peak memory, {told}", "MB", peaks, peaks["whole"], "MB", Bound("at most", 100))


GOALS: tuple[Callable[[Bench], Iterator[Row]], ...] = (cpu, latency, faults, callers, workers, starting, large, reading)


def _added(through: Sequence[float], direct: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(through, direct, strict=True)]


def _asked(origin: Running) -> int:
    """How many requests an origin has had, by nginx's own count."""
    with urllib.request.urlopen(f"http://{HOST}:{origin.port}/requests", timeout=5) as answer:
        return int(re.findall(rb"\d+", answer.read())[3])


def _run(bench: Bench, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([bench.place.python, "-P", *arguments], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def _report(bench: Bench, log: Path) -> tuple[float, float]:
    """CPU seconds and peak memory in MB of `shadowproxy report`; 1 and 3 are verdicts, not failures."""
    words: list[str | Path] = [bench.place.python, "-P", "-m", "shadowproxy", "report", log]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 3):
        raise BenchError(f"shadowproxy report ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def _write_log(path: Path, count: int) -> None:
    fields = ((b"Content-Type", b"application/json"), (b"Server", b"bench"), (b"Content-Length", b"1024"))

    def reply(number: int, score: float) -> Reply:
        told = {
            "predictions": [
                {"label": "late" if score > 0.5 else "on time", "score": score, "rank": rank} for rank in range(8)
            ],
            "model": "v1",
            "trace": f"{number:032x}",
            "note": "",
        }
        told["note"] = "n" * (1024 - len(json.dumps(told)))
        body = json.dumps(told).encode()
        return Reply(200, fields, body, len(body), 2.5, 3.0)

    body = predict_body()
    with path.open("wb") as log:
        for number in range(count):
            name = uuid7()
            asked = Request(
                name,
                name,
                1_700_000_000_000_000_000 + number * 10_000_000,
                "POST",
                b"/predict",
                fields,
                body,
                len(body),
            )
            score = number % 997 / 997
            live, shadow = reply(number, score), reply(number, round(score + 0.01, 6))
            exchange = Exchange(asked, live, {"challenger": shadow})
            log.write(encode(exchange, proxy="bench/0", policy=Policy(), judge=None))
