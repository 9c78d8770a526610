"""What translating IDs costs: CPU with `state: auto` beside the same program without it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from bench import contenders
from bench.figures import Bound, Row, ratios
from bench.processes import HOST, Running
from bench.rig import Bench, in_turn

STATES: Mapping[str, Mapping[str, Any]] = {"off": {}, "auto": {"state": "auto"}}
WHATS = {"/predict": "answers without IDs", "/items": "a new ID in each answer"}
"""What the origins answer with at each path."""


def state(bench: Bench) -> Iterator[Row]:
    with ExitStack() as stack:
        proxies = {}
        for name, options in STATES.items():
            challenger = {"url": f"http://{HOST}:{bench.shadow.port}", **options}
            proxies[name] = stack.enter_context(
                contenders.shadowproxy(
                    bench.place, f"state-{name}", bench.live.port, None, shadows={"challenger": challenger}
                )
            )
        for path, what in WHATS.items():
            yield _by_path(bench, proxies, path, what)


def _by_path(bench: Bench, proxies: Mapping[str, Running], path: str, what: str) -> Row:
    def cost(proxy: Running) -> float:
        return bench.fully_mirrored_burst(proxy, path=path).cpu_us

    for proxy in proxies.values():
        bench.burst(proxy, seconds=1, path=path)
    spent = in_turn(bench.rounds(), proxies, cost)
    grown = ratios(spent["auto"], spent["off"])
    whole = f"CPU a mirrored request, 16 callers, {what}"
    return Row("state", whole, "µs", spent, grown, "auto / off", Bound("at most", 1.15))
