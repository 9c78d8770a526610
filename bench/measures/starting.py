"""How long a start takes, until the first request is answered, and a word of the command line."""

import subprocess
import time
from collections.abc import Iterator

from bench import contenders
from bench.connections import connect
from bench.figures import Bound, Row, ratios
from bench.rig import Bench, Rounds

IMPORTS = "import uvicorn, httpx, pydantic, yaml"


def starting(bench: Bench) -> Iterator[Row]:
    taken: Rounds = {IMPORTS: [], "serve": [], "python -c pass": [], "shadowproxy --version": []}
    for _ in range(2 * bench.scale.rounds):
        taken[IMPORTS].append(_run(bench, "-c", IMPORTS))
        taken["serve"].append(_until_answered(bench))
        taken["python -c pass"].append(_run(bench, "-c", "pass"))
        taken["shadowproxy --version"].append(_run(bench, "-m", "shadowproxy", "--version"))
    serve = {name: taken[name] for name in (IMPORTS, "serve")}
    begun = ratios(taken["serve"], taken[IMPORTS])
    what = "start until the first request is answered"
    yield Row("starting", what, "ms", serve, begun, "serve / imports", Bound("at most", 1.0))
    version = {name: taken[name] for name in ("python -c pass", "shadowproxy --version")}
    printed = ratios(taken["shadowproxy --version"], taken["python -c pass"])
    yield Row(
        "starting", "a word from the command line", "ms", version, printed, "--version / pass", Bound("at most", 4)
    )


def _until_answered(bench: Bench) -> float:
    """Milliseconds until a first request has its answer: a connection alone may wait in the kernel's queue."""
    began = time.perf_counter()
    with contenders.shadowproxy(bench.place, "start", bench.live.port, None) as proxy:
        connection = connect(proxy.port)
        with connection.socket:
            connection.send(bench.request())
            while not connection.whole():
                pass
        return (time.perf_counter() - began) * 1000


def _run(bench: Bench, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([bench.place.program.python, "-P", *arguments], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000
