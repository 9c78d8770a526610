"""Live's latency through each proxy: the closed loop's p99, and quantiles at fixed rates."""

from collections.abc import Iterator
from contextlib import ExitStack

from bench import contenders
from bench.figures import Bound, Row, ratios
from bench.processes import Running
from bench.rig import ENVOY, NGINX, OWN, Bench, Rounds, added, in_turn, own_by

CONNECTIONS = 16
RATES = ((3000.0, 0.95, None), (200.0, 0.8, Bound("at most", 1.5)))
"""Requests a second, what the p99 may be at most, beside Envoy's, and the goal for what is added to the p50."""


def latency(bench: Bench) -> Iterator[Row]:
    with ExitStack() as stack:
        live, shadow = bench.live.port, bench.shadow.port
        start = stack.enter_context
        proxies = {
            NGINX: start(contenders.nginx_mirror(bench.place, live, shadow)),
            ENVOY: start(contenders.envoy_mirror(bench.place, live, shadow)),
            OWN: start(contenders.shadowproxy(bench.place, "latency", live, shadow)),
        }
        for proxy in proxies.values():
            bench.burst(proxy, seconds=1)
        closed = in_turn(bench.rounds(), proxies, lambda proxy: bench.fully_mirrored_burst(proxy).p99_ms)
        what = "p99 of live, 16 callers, closed loop"
        yield Row("latency", what, "ms", closed, own_by(ENVOY, closed), "shadowproxy / Envoy", Bound("at most", 1.2))
        for rate, most, added_most in RATES:
            yield from _open_loop(bench, {name: proxies[name] for name in (ENVOY, OWN)}, rate, most, added_most)


def _open_loop(
    bench: Bench, proxies: dict[str, Running], rate: float, most: float, added_most: Bound | None
) -> Iterator[Row]:
    ports = {"live asked directly": bench.live.port} | {name: proxy.port for name, proxy in proxies.items()}
    shares = {"p50": 0.5, "p99": 0.99}
    taken: dict[str, Rounds] = {share: {name: [] for name in ports} for share in shares}
    seconds = bench.scale.seconds + 1
    for _ in bench.rounds():
        for name, port in ports.items():
            timings = bench.steady(port, rate=rate, seconds=seconds, connections=CONNECTIONS)
            for share, value in shares.items():
                taken[share][name].append(timings.quantile(value))
    where = f"at {rate:,.0f} requests a second, open loop, {CONNECTIONS} connections"
    p99, p50 = taken["p99"], taken["p50"]
    bound = Bound("at most", most)
    yield Row("latency", f"p99 {where}", "ms", p99, own_by(ENVOY, p99), "shadowproxy / Envoy", bound)
    direct = p50["live asked directly"]
    more = ratios(added(p50[OWN], direct), added(p50[ENVOY], direct))
    yield Row("latency", f"p50 {where}", "ms", p50, more, "added, shadowproxy / Envoy", added_most)
