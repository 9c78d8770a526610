"""Memory of all processes."""

from collections.abc import Iterator

from bench import contenders
from bench.figures import Bound, Row, ratios
from bench.rig import Bench


def memory(bench: Bench) -> Iterator[Row]:
    with contenders.shadowproxy(bench.place, "memory", bench.live.port, bench.shadow.port) as proxy:
        proxy.settled_cpu_seconds()
        rest = proxy.memory_bytes() / 1e6
        bench.burst(proxy, seconds=5 * bench.scale.seconds)
        warm = proxy.memory_bytes() / 1e6
        load = bench.burst(proxy, seconds=5 * bench.scale.seconds)
        later = proxy.memory_bytes() / 1e6
    taken = {"at rest": [rest], "warm": [warm], "later": [later]}
    yield Row("memory", "PSS of all processes, one worker", "MB", taken, [rest], "at rest", Bound("at most", 75))
    what = f"PSS after {load.requests:,} more requests"
    yield Row("memory", what, "MB", {}, ratios([later], [warm]), "later / warm", None)
