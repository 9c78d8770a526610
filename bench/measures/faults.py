"""What a fault costs live: a shadow that hangs or refuses, a full disk."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

from bench import contenders
from bench.figures import Bound, Row, ratios
from bench.processes import HOST, Running, free_port
from bench.rig import Bench, in_turn

RATE = 200.0


def faults(bench: Bench) -> Iterator[Row]:
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

        def p99(proxy: Running) -> float:
            return bench.steady(proxy.port, rate=RATE, seconds=bench.scale.seconds + 1, connections=0).quantile(0.99)

        for proxy in proxies.values():
            bench.steady(proxy.port, rate=RATE, seconds=2, connections=0)
        taken = in_turn(bench.rounds(), proxies, p99)
        what = f"p99 of live at {RATE:g} requests a second"
        for name in ("hung shadow", "refusing shadow", "full disk"):
            both = {"healthy": taken["healthy"], name: taken[name]}
            slower = ratios(taken[name], taken["healthy"])
            yield Row("faults", what, "ms", both, slower, f"{name} / healthy", Bound("at most", 1.1))

        loaded = {"no shadow": start("alone", None), "hung shadow": proxies["hung shadow"]}
        rates = in_turn(bench.rounds(), loaded, lambda proxy: bench.burst(proxy, callers=64).rate)
    kept = ratios(rates["hung shadow"], rates["no shadow"])
    what = "throughput, all of mirroring shed"
    yield Row("faults", what, "/s", rates, kept, "hung / no shadow", Bound("at least", 0.9))
