"""Live's latency while the same program does something large beside it: compares large answers, or is polled."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median

from bench import contenders
from bench.background import asking
from bench.figures import Bound, Row, ratios
from bench.processes import HOST, BenchError, Running
from bench.rig import MIRRORED, TRIES, Bench, Rounds, get, verdicts_of

RATE, CONNECTIONS = 1000.0, 16
LARGE_EVERY = 0.5
"""Seconds between two large answers. If each delays the others for 10 ms, these are 2 % of the time."""
LARGE_MOST = 1.3
EMBEDDINGS, DIMENSIONS = 130, 1536
POLLERS, POLLED_EVERY = 4, 0.1
POLLED = ("/exchanges?limit=500", "/metrics")


def large_answers(bench: Bench) -> Iterator[Row]:
    """The same proxy passes 4 MB answers: once those of a path that no shadow gets, once those of a mirrored one."""
    size = write_embeddings(bench.place.directory / "live.json", 0.0)
    write_embeddings(bench.place.directory / "shadow.json", 0.001)
    notes = []
    if not _compares_large(bench):
        notes.append("compared only with log.body_limit raised to 16 MiB")
    log = {"body_limit": "16MiB"} if notes else {}
    taken: Rounds = {"only passed": [], "compared": []}
    asked = 0
    with contenders.shadowproxy(
        bench.place, "large-answers", bench.live.port, None, shadows=_shadows(bench), log=log
    ) as proxy:
        bench.burst(proxy, seconds=1)
        for _ in bench.rounds():
            taken["only passed"].append(_p99_while_asked(bench, proxy, proxy.port, ["/passing"], 1, LARGE_EVERY)[0])
            p99, answers = _p99_while_asked(bench, proxy, proxy.port, ["/large"], 1, LARGE_EVERY)
            taken["compared"].append(p99)
            asked += answers
        compared = _judged(proxy)
    notes.append(f"{compared:,} of {asked:,} compared")
    slower = ratios(taken["compared"], taken["only passed"])
    bound: Bound | None = Bound("at most", LARGE_MOST)
    if compared < MIRRORED * asked and median(slower) <= LARGE_MOST:  # what is not compared delays nobody
        notes.append("not judged")
        bound = None
    what = f"p99 of live at {RATE:,.0f} a second, beside {1 / LARGE_EVERY:g} answers of {size / 1e6:.1f} MB a second"
    yield Row("large_answers", what, "ms", taken, slower, "compared / only passed", bound, notes)


def polling(bench: Bench) -> Iterator[Row]:
    taken: Rounds = {"not polled": [], "polled": []}
    polls = 0
    with contenders.shadowproxy(bench.place, "polled", bench.live.port, bench.shadow.port) as proxy:
        bench.burst(proxy, seconds=1)  # it keeps the latest 500 records
        for _ in bench.rounds():
            taken["not polled"].append(_p99(bench, proxy))
            p99, answers = _p99_while_asked(bench, proxy, proxy.admin, POLLED, POLLERS, POLLED_EVERY)
            taken["polled"].append(p99)
            polls += answers
    what = f"p99 of live at {RATE:,.0f} a second, while {POLLERS} clients ask for {' and '.join(POLLED)}"
    note = f"each every {POLLED_EVERY * 1000:g} ms; {polls:,} polls answered"
    slower = ratios(taken["polled"], taken["not polled"])
    yield Row("polling", what, "ms", taken, slower, "polled / not", Bound("at most", 1.1), [note])


def _p99(bench: Bench, proxy: Running) -> float:
    timings = bench.steady(proxy.port, rate=RATE, seconds=2 * bench.scale.seconds, connections=CONNECTIONS)
    return timings.quantile(0.99)


def _p99_while_asked(
    bench: Bench, proxy: Running, port: int, paths: list[str] | tuple[str, ...], clients: int, every: float
) -> tuple[float, int]:
    """Live's p99, and how many answers the other clients got in the meantime. The proxy has done all its work then."""
    with asking(port, paths, clients=clients, every=every) as others:
        p99 = _p99(bench, proxy)
    proxy.settled_cpu_seconds()
    return p99, others.answers


def _shadows(bench: Bench) -> dict[str, dict[str, object]]:
    """The large answers have a shadow of their own, so that its verdicts can be counted."""
    url = f"http://{HOST}:{bench.shadow.port}"
    return {
        "challenger": {"url": url, "match": {"not": {"paths": ["/large", "/passing"]}}},
        "large": {"url": url, "match": {"paths": ["/large"]}},
    }


def _compares_large(bench: Bench) -> bool:
    """Whether the program compares such answers with its defaults."""
    with contenders.shadowproxy(bench.place, "probe", bench.live.port, None, shadows=_shadows(bench)) as proxy:
        return asks_until_judged(lambda: get(proxy.port, "/large"), lambda: verdicts_of(proxy, "large"))


def asks_until_judged(ask: Callable[[], object], verdicts: Callable[[], Mapping[str, int]]) -> bool:
    """Whether the first pair that got a verdict was compared: a busy program may mirror none at first.

    Raises BenchError if none of TRIES got one.
    """
    for _ in range(TRIES):
        ask()
        counts = verdicts()
        if sum(counts.values()):
            return not counts.get("incomparable")
    raise BenchError(f"{TRIES} large answers got no verdict: is the machine busy?")


def _judged(proxy: Running) -> int:
    """How many pairs of large answers have a verdict that says how they compare."""
    return sum(count for verdict, count in verdicts_of(proxy, "large").items() if verdict != "incomparable")


def write_embeddings(path: Path, shift: float) -> int:
    """A model's answer with many vectors, in all of which the first number differs by `shift`. Returns its bytes."""
    numbers = random.Random(1)
    data = [
        {"index": index, "embedding": [numbers.random() + (0 if place else shift) for place in range(DIMENSIONS)]}
        for index in range(EMBEDDINGS)
    ]
    return path.write_text(json.dumps({"object": "list", "data": data, "model": "embedding"}))
