"""One module for each kind of measure: its functions start contenders, measure them in turn, and give the rows."""

from collections.abc import Callable, Iterator

from bench.figures import Row
from bench.measures.calls import calls
from bench.measures.cost import cpu, httpx, workers
from bench.measures.disturbed import large_answers, polling
from bench.measures.faults import faults
from bench.measures.in_code import asgi
from bench.measures.large import large
from bench.measures.latency import latency
from bench.measures.memory import memory
from bench.measures.report import report
from bench.measures.starting import starting
from bench.measures.state import state
from bench.measures.streaming import streams
from bench.rig import Bench

Measure = Callable[[Bench], Iterator[Row]]

MEASURES: tuple[Measure, ...] = (
    cpu,
    streams,
    latency,
    large_answers,
    polling,
    memory,
    starting,
    report,
    workers,
    httpx,
    state,
    faults,
    large,
    asgi,
    calls,
)
"""In the order of the table: first the rows with the goals for live and the recorder as processes of their own."""
