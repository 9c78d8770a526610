"""What a mirrored request costs: CPU of all of a proxy's processes."""

from collections.abc import Iterator
from contextlib import ExitStack

from bench import contenders, open_loop
from bench.figures import Bound, Row, ratios
from bench.processes import HOST, Running
from bench.rig import ENVOY, MIRRORED, NGINX, OWN, TRIES, Bench, Rounds, fully_mirrored, in_turn, own_by, requests_of

CALLERS = (1, 16, 64)
EQUAL_RATE, EQUAL_CONNECTIONS = 1000.0, 16
"""A load that every proxy carries with ease. A closed loop asks each as much as it can take, and the more it takes the
fewer wake-ups a request costs it: Envoy's mirror took 51 us at 19,000 requests a second, and 133 us at 1,000."""


def cpu(bench: Bench) -> Iterator[Row]:
    with ExitStack() as stack:
        live, shadow = bench.live.port, bench.shadow.port
        start = stack.enter_context
        peers = {
            NGINX: start(contenders.nginx_mirror(bench.place, live, shadow)),
            ENVOY: start(contenders.envoy_mirror(bench.place, live, shadow)),
            OWN: start(contenders.shadowproxy(bench.place, "cpu", live, shadow)),
        }
        references = {
            "interpreted": start(contenders.shadowproxy(bench.place, "source", live, shadow, interpreted=True)),
            "no shadow": start(contenders.shadowproxy(bench.place, "alone", live, None)),
        }
        for proxy in (peers | references).values():
            bench.burst(proxy, seconds=1)
        for callers in CALLERS:
            yield from _by_callers(bench, peers, references if callers == 16 else {}, callers)
        if bench.beside:
            peers[bench.beside.name] = start(
                contenders.shadowproxy(bench.place, "beside", live, shadow, build=bench.beside)
            )
            bench.burst(peers[bench.beside.name], seconds=1)
        yield from _unlike(bench, peers)
        yield from _equal_load(bench, {name: peers[name] for name in (NGINX, ENVOY, OWN)})


def _by_callers(bench: Bench, peers: dict[str, Running], references: dict[str, Running], callers: int) -> Iterator[Row]:
    def cost(proxy: Running) -> float:
        if proxy is references.get("no shadow"):
            return bench.burst(proxy, callers=callers).cpu_us
        return bench.fully_mirrored_burst(proxy, callers=callers).cpu_us

    taken = in_turn(bench.rounds(), peers | references, cost)
    what = f"CPU a mirrored request, {callers} caller{'s' if callers > 1 else ''}"
    by_envoy, by_nginx = (None, None) if callers == 1 else (Bound("at most", 0.7), Bound("at most", 0.9))
    yield Row("cpu", what, "µs", taken, own_by(ENVOY, taken), "shadowproxy / Envoy", by_envoy)
    yield Row("cpu", what, "µs", {}, own_by(NGINX, taken), "shadowproxy / nginx", by_nginx)


def _unlike(bench: Bench, proxies: dict[str, Running]) -> Iterator[Row]:
    """Every request with an ID and a trace of its own: CPU, and requests a second beside another build."""
    spent: Rounds = {name: [] for name in proxies}
    rates: Rounds = {name: [] for name in proxies}
    for _ in bench.rounds():
        for name, proxy in proxies.items():
            load = bench.fully_mirrored_burst(proxy, unlike=True)
            spent[name].append(load.cpu_us)
            rates[name].append(load.rate)
    what = "CPU a mirrored request, 16 callers, an ID and a trace of its own in each"
    yield Row("cpu", what, "µs", spent, own_by(ENVOY, spent), "shadowproxy / Envoy", Bound("at most", 0.9))
    yield Row("cpu", what, "µs", {}, own_by(NGINX, spent), "shadowproxy / nginx", None)
    if bench.beside:
        beside = bench.beside.name
        both = {name: rates[name] for name in (beside, OWN)}
        what = "requests a second, 16 callers, an ID and a trace of its own in each"
        yield Row("cpu", what, "/s", both, own_by(beside, rates), f"shadowproxy / {beside}", Bound("at least", 1.5))


def _equal_load(bench: Bench, peers: dict[str, Running]) -> Iterator[Row]:
    def once(proxy: Running) -> tuple[float, float]:
        """CPU microseconds a request, and the share of the requests that was mirrored."""
        asked, spent = requests_of(bench.shadow), proxy.settled_cpu_seconds()
        request, seconds = bench.request(), 2 * bench.scale.seconds  # twice: the kernel accounts in steps of 10 ms
        timings = open_loop.steady(proxy.port, request, rate=EQUAL_RATE, seconds=seconds, connections=EQUAL_CONNECTIONS)
        count = len(timings.latency)
        spent = proxy.settled_cpu_seconds() - spent
        return spent / count * 1e6, (requests_of(bench.shadow) - asked - 1) / count

    taken = in_turn(bench.rounds(), peers, lambda proxy: fully_mirrored(proxy.name, lambda: once(proxy)))
    what = f"CPU a mirrored request at {EQUAL_RATE:,.0f} a second, open loop"
    yield Row("cpu", what, "µs", taken, own_by(ENVOY, taken), "shadowproxy / Envoy", Bound("at most", 1.0))


def httpx(bench: Bench) -> Iterator[Row]:
    """Nothing of the one on httpx is compiled, so it is compared with the interpreted program."""
    with ExitStack() as stack:
        live, shadow = bench.live.port, bench.shadow.port
        proxies = {
            name: stack.enter_context(
                contenders.shadowproxy(bench.place, name, live, shadow, interpreted=True, on_httpx=name == "on httpx")
            )
            for name in ("interpreted", "on httpx")
        }
        for proxy in proxies.values():
            bench.burst(proxy, seconds=1)
        spent = in_turn(bench.rounds(), proxies, lambda proxy: bench.fully_mirrored_burst(proxy).cpu_us)
    saved = ratios(spent["on httpx"], spent["interpreted"])
    what = "CPU a mirrored request, 16 callers"
    yield Row("httpx", what, "µs", spent, saved, "on httpx / interpreted", Bound("at least", 15))


def workers(bench: Bench) -> Iterator[Row]:
    """The machine has few cores, so CPU is judged and not throughput. So is the growth with the number of callers."""
    yield from _several_workers(bench)
    yield from _many_callers(bench)


def _several_workers(bench: Bench) -> Iterator[Row]:
    with ExitStack() as stack:
        live, shadow = bench.live.port, bench.shadow.port
        proxies = {
            f"{count} workers": stack.enter_context(
                contenders.shadowproxy(bench.place, f"workers-{count}", live, shadow, workers=count)
            )
            for count in (1, 2)
        }
        for proxy in proxies.values():
            bench.burst(proxy, seconds=1)
        spent, shed = _mostly_mirrored(bench, proxies, callers=16)
    one, two = spent.values()
    what = "CPU a mirrored request, 16 callers"
    bound = None if shed else Bound("at most", 1.15)  # what is shed costs less, which meets no goal
    yield Row("workers", what, "µs", spent, ratios(two, one), "2 workers / 1", bound, shed)


def _many_callers(bench: Bench) -> Iterator[Row]:
    """By default a shadow is asked 64 requests at once: half of 256 callers' requests would be shed."""
    live, shadow = bench.live.port, bench.shadow.port
    challenger = {"url": f"http://{HOST}:{shadow}", "in_flight": 256}
    with contenders.shadowproxy(bench.place, "callers", live, None, shadows={"challenger": challenger}) as proxy:
        bench.burst(proxy, seconds=1)
        spent: Rounds = {"1 caller": [], "256 callers": []}
        shed: list[str] = []
        for _ in bench.rounds():
            for name, callers in (("1 caller", 1), ("256 callers", 256)):
                costs, shares = _mostly_mirrored(bench, {name: proxy}, callers=callers, rounds=range(1))
                spent[name] += costs[name]
                shed += shares
    bound = None if shed else Bound("at most", 1.3)
    grown = ratios(spent["256 callers"], spent["1 caller"])
    yield Row("workers", "CPU a mirrored request", "µs", spent, grown, "256 / 1", bound, shed)


def _mostly_mirrored(
    bench: Bench, proxies: dict[str, Running], *, callers: int, rounds: range | None = None
) -> tuple[Rounds, list[str]]:
    """The costs, and a note for each burst that mirrored too few of its requests in all of TRIES."""
    spent: Rounds = {name: [] for name in proxies}
    shed: list[str] = []
    for _ in rounds or bench.rounds():
        for name, proxy in proxies.items():
            for _ in range(TRIES):
                load, share = bench.mirrored_burst(proxy, callers=callers)
                if share >= MIRRORED:
                    break
            else:
                shed.append(f"{name} mirrored {share:.1%}: not judged")
            spent[name].append(load.cpu_us)
    return spent, shed
