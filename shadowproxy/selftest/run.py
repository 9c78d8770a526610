"""The whole self-test: every fault that fits, at every share, in this process or several."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from shadowproxy import __version__
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.report.gates import Gates
from shadowproxy.selftest.figures import FaultFigures, Figures
from shadowproxy.selftest.known import WHOLE
from shadowproxy.selftest.measure import PLANTS, SHARES, Seen, measure_all, ready_from
from shadowproxy.selftest.planting import Planting, prepare
from shadowproxy.selftest.plants import FAULTS
from shadowproxy.selftest.plants.fault import Fault
from shadowproxy.selftest.sample import Sample

FORMAT: Final = 1
"""The version of the JSON. Keys are added within a version, never changed or taken away."""

Progress = Callable[[int, int], None]
"""Called with the number of measured faults, and of all."""


def selftest(
    sample: Sample,
    reading: Reading,
    gates: Gates,
    *,
    faults: Sequence[Fault] = FAULTS,
    shares: Sequence[float] = SHARES,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Figures:
    """Measure which of these faults a report on these requests sees at these shares, as plain JSON values.

    Raises NoSampleError if live gave too few good answers.
    """
    planting = prepare(sample.records, reading, gates)
    fitting = [fault for fault in faults if planting.applies(fault)]
    seen = _measure(planting, _tasks(fitting, shares, jobs), jobs, progress)
    start, twin = ready_from(planting)
    found: Figures = {
        "shadowproxy_selftest": FORMAT,
        "version": __version__,
        "log": {
            "records": sample.of,
            "drawn": len(sample.records),
            "first": sample.records[0].at,
            "last": sample.records[-1].at,
            "unreadable": dict(sorted(sample.unreadable.items())),
        },
        "prefixes": list(planting.cuts),
        "shares": sorted(shares),
        "plants": PLANTS,
        "gates": asdict(gates),
        "twin": {"result": twin.result, "ready_from": start, "checks": twin.checks},
        "answers": [
            {"route": None if route == WHOLE else route, "place": known.place, "kind": known.kind}
            for route, known in sorted(planting.known.items())
        ],
        "part": planting.part_name,
        "faults": [_row(fault, [each for each in seen if each[0] == fault.name]) for fault in fitting],
        "not_planted": [fault.name for fault in faults if fault not in fitting],
    }
    if sample.requests > sample.of:
        found["log"]["requests"] = sample.requests
    return found


def _row(fault: Fault, seen: list[tuple[str, Seen]]) -> FaultFigures:
    rows = sorted((each for _, each in seen), key=lambda each: each.share)
    return {
        "name": fault.name,
        "check": fault.check,
        "unseen_by_default": fault.unseen_by_default,
        "seen": [{"share": each.share, "from": each.start, "by": each.check, "how": each.how} for each in rows],
    }


# --- in several processes --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """Faults that are measured together at one share: they share the summaries of requests without a fault."""

    share: float
    names: tuple[str, ...]
    faults: tuple[Fault, ...] = field(default=(), compare=False)


def _tasks(faults: Sequence[Fault], shares: Sequence[float], jobs: int) -> list[_Task]:
    """A task for each share; with more processes than shares, several. The largest share takes longest: it is first."""
    pieces = -(-jobs // len(shares))
    found = []
    for share in sorted(shares, reverse=True):
        for at in range(pieces):
            part = tuple(faults[at::pieces])
            if part:
                found.append(_Task(share, tuple(fault.name for fault in part), part))
    return found


def _measure(
    planting: Planting, tasks: Sequence[_Task], jobs: int, progress: Progress | None
) -> list[tuple[str, Seen]]:
    total, done = sum(len(task.faults) for task in tasks), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    advance(0)
    found: list[tuple[str, Seen]] = []
    if jobs == 1:
        for task in tasks:
            rows = measure_all(planting, task.faults, task.share, lambda: advance(1))
            found += zip(task.names, rows, strict=True)
        return found
    from concurrent.futures import ProcessPoolExecutor, as_completed  # only here: it takes 13 ms to load

    with ProcessPoolExecutor(min(jobs, len(tasks)), initializer=_begin, initargs=(planting,)) as pool:
        waiting = {pool.submit(_in_process, task.share, task.names): task for task in tasks}
        try:
            for each in as_completed(waiting):
                task = waiting[each]
                found += zip(task.names, each.result(), strict=True)
                advance(len(task.names))
        finally:
            pool.shutdown(cancel_futures=True)
    return found


_planting: list[Planting] = []
"""In a process of the pool: the planting that it was sent."""


def _begin(planting: Planting) -> None:
    _planting[:] = [planting]


def _in_process(share: float, names: tuple[str, ...]) -> list[Seen]:
    by_name = {fault.name: fault for fault in FAULTS}
    return measure_all(_planting[0], [by_name[name] for name in names], share)
