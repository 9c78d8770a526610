"""Streams of events: CPU for each event of many streams at once."""

from collections.abc import Iterator
from contextlib import ExitStack

from bench import contenders
from bench import streams as callers
from bench.figures import Bound, Row
from bench.processes import BenchError, Running
from bench.rig import ENVOY, OWN, Bench, fully_mirrored, get, in_turn, own_by

STREAMS, EVENTS, APART = 64, 150, 0.02
"""Streams at once, events in each, and seconds between them: as 64 answers of a chat model, 50 tokens a second each."""


def streams(bench: Bench) -> Iterator[Row]:
    """nginx is not measured: it closes a mirrored request's connection as soon as the shadow's head has come."""
    with ExitStack() as stack:
        start = stack.enter_context
        live = start(contenders.events(bench.place, "live", EVENTS, APART))
        shadow = start(contenders.events(bench.place, "shadow", EVENTS, APART))
        proxies = {
            ENVOY: start(contenders.envoy_mirror(bench.place, live.port, shadow.port)),
            OWN: start(contenders.shadowproxy(bench.place, "streams", live.port, shadow.port)),
        }
        taken = in_turn(bench.rounds(), proxies, lambda proxy: fully_mirrored(proxy.name, lambda: cost(proxy, shadow)))
    what = f"CPU a mirrored event, {STREAMS} streams of {EVENTS} events, {APART * 1000:g} ms apart"
    note = "nginx closes the mirrored stream at once: not measured"
    yield Row("streams", what, "µs", taken, own_by(ENVOY, taken), "shadowproxy / Envoy", Bound("at most", 0.6), [note])


def cost(proxy: Running, shadow: Running) -> tuple[float, float]:
    """CPU microseconds for each event that callers got, and the share of the streams that the shadow sent whole."""
    request = b"POST /chat HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + (
        b'{"stream":true}'
    )
    whole, spent = int(get(shadow.port, "/whole")), proxy.settled_cpu_seconds()
    count = callers.events(proxy.port, request, streams=STREAMS, apart=APART / STREAMS)
    if count != STREAMS * EVENTS:
        raise BenchError(f"{proxy.name} passed {count} of {STREAMS * EVENTS} events")
    spent = proxy.settled_cpu_seconds() - spent
    return spent / count * 1e6, (int(get(shadow.port, "/whole")) - whole) / STREAMS
