"""What shadow mode in an ASGI application costs its callers, beside the sidecar in front of the same application."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import contenders
from bench.figures import Bound, Row, ratios
from bench.processes import HOST, Running, free_port
from bench.rig import OWN, Bench, Rounds, added, in_turn, requests_of

APP = Path(__file__).parent.parent / "asgi_app.py"
BARE, IN_CODE = "bare application", "mirrored application"
CONNECTIONS = 16
RATES = (200.0, 1000.0)


def asgi(bench: Bench) -> Iterator[Row]:
    with ExitStack() as stack, socket.create_server((HOST, 0), backlog=4096) as hung:

        def start(name: str, shadow: int | None) -> Running:
            port = free_port()
            more = [] if shadow is None else [f"http://{HOST}:{shadow}", str(bench.place.directory / f"{name}-log")]
            command: list[str | Path] = [bench.place.program.python, "-P", APP, str(port), *more]
            return stack.enter_context(bench.place.run(name, command, port))

        bare = start("asgi-bare", None)
        sidecar = contenders.shadowproxy(bench.place, "asgi-sidecar", bare.port, bench.shadow.port)
        ways = {
            BARE: bare,
            IN_CODE: start("asgi-mirrored", bench.shadow.port),
            OWN: stack.enter_context(sidecar),
        }
        for way in ways.values():
            bench.burst(way, seconds=1)
        for rate in RATES:
            yield from _latency(bench, ways, rate)
        yield _cpu(bench, ways)
        yield _hung(bench, {"healthy": ways[IN_CODE], "hung shadow": start("asgi-hung", hung.getsockname()[1])})


def _latency(bench: Bench, ways: dict[str, Running], rate: float) -> Iterator[Row]:
    shares = {"p50": 0.5, "p99": 0.99}
    taken: dict[str, Rounds] = {share: {name: [] for name in ways} for share in shares}
    for _ in bench.rounds():
        for name, way in ways.items():
            timings = bench.steady(way.port, rate=rate, seconds=bench.scale.seconds + 1, connections=CONNECTIONS)
            for share, value in shares.items():
                taken[share][name].append(timings.quantile(value))
    for share, rounds in taken.items():
        more = ratios(added(rounds[IN_CODE], rounds[BARE]), added(rounds[OWN], rounds[BARE]))
        what = f"{share} of an application at {rate:,.0f} requests a second, open loop, {CONNECTIONS} connections"
        bound = Bound("at most", 0.5) if share == "p50" else None
        yield Row("asgi", what, "ms", rounds, more, "added, in the code / sidecar", bound)


def _cpu(bench: Bench, ways: dict[str, Running]) -> Row:
    """CPU of all processes: the application's, and those of what mirrors."""
    rate, seconds = RATES[-1], 2 * bench.scale.seconds
    taken: Rounds = {name: [] for name in ways}
    shares: list[float] = []
    for _ in bench.rounds():
        for name, way in ways.items():
            counted = {way, ways[BARE]} if name == OWN else {way}
            asked, spent = requests_of(bench.shadow), sum(each.settled_cpu_seconds() for each in counted)
            count = len(bench.steady(way.port, rate=rate, seconds=seconds, connections=CONNECTIONS).latency)
            taken[name].append((sum(each.settled_cpu_seconds() for each in counted) - spent) / count * 1e6)
            if name == IN_CODE:
                shares.append((requests_of(bench.shadow) - asked - 1) / count)
    more = ratios(added(taken[IN_CODE], taken[BARE]), added(taken[OWN], taken[BARE]))
    what = f"CPU of a mirrored request at {rate:,.0f} a second, the application's included"
    note = f"in the code, {min(shares):.1%} of the requests reached the shadow in the worst round"
    return Row("asgi", what, "µs", taken, more, "added, in the code / sidecar", None, (note,))


def _hung(bench: Bench, ways: dict[str, Running]) -> Row:
    def p99(way: Running) -> float:
        return bench.steady(way.port, rate=RATES[0], seconds=bench.scale.seconds + 1, connections=0).quantile(0.99)

    for way in ways.values():
        bench.steady(way.port, rate=RATES[0], seconds=2, connections=0)
    taken = in_turn(bench.rounds(), ways, p99)
    what = f"p99 of a mirrored application at {RATES[0]:g} requests a second"
    slower = ratios(taken["hung shadow"], taken["healthy"])
    return Row("asgi", what, "ms", taken, slower, "hung shadow / healthy", Bound("at most", 1.1))
