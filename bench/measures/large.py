"""Large bodies, and the first event of a stream."""

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from bench import closed_loop, contenders
from bench.contenders import LARGE
from bench.figures import Bound, Row
from bench.processes import Running
from bench.rig import OWN, Bench, added, in_turn, own_by
from bench.streams import first_chunks

PLAIN = "nginx"


def large(bench: Bench) -> Iterator[Row]:
    upload = bench.place.directory / "upload"
    upload.write_bytes(bytes(LARGE))
    with ExitStack() as stack:
        live, shadow = bench.live.port, bench.shadow.port
        proxies = {
            PLAIN: stack.enter_context(contenders.nginx_plain(bench.place, live)),
            OWN: stack.enter_context(contenders.shadowproxy(bench.place, "large", live, shadow)),
        }
        for what, path, body in (("uploads", "/up", upload), ("downloads", "/big", None)):

            def carried(proxy: Running, path: str = path, body: object = body) -> float:
                sent = upload if body else None
                load = closed_loop.burst(proxy, callers=4, seconds=bench.scale.seconds, path=path, body=sent)
                return load.requests * LARGE / 1e6 / load.cpu_seconds

            taken = in_turn(bench.rounds(), proxies, carried)
            share = own_by(PLAIN, taken)
            yield Row("large", f"10 MB {what}", "MB/CPU s", taken, share, "shadowproxy / nginx", Bound("at least", 0.5))
    yield from _first_events(bench)


def _first_events(bench: Bench) -> Iterator[Row]:
    request = b"GET /events HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"
    direct = "live asked directly"
    with (
        contenders.events(bench.place, "first", 4, 0.005) as events,
        contenders.shadowproxy(bench.place, "events-proxy", events.port, None) as proxy,
    ):
        ports = {direct: events.port, OWN: proxy.port}
        waited = in_turn(bench.rounds(), ports, lambda port: median(first_chunks(port, request, count=50)))
    more = added(waited[OWN], waited[direct])
    yield Row("large", "p50 of an event stream's first chunk", "ms", waited, more, "added ms", Bound("at most", 1.0))
