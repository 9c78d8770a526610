"""The demo: an if statement and a trained model answer the same real flights, and the report shows the differences."""

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.truths import by_request
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.gates import load_gates
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.screen import Screen
from shadowproxy.compare.report.text import print_figures
from shadowproxy.demo import flights
from shadowproxy.demo.client import RATE, CallerResponse, NoAnswer, send_all
from shadowproxy.demo.flights import Flight
from shadowproxy.demo.place import DemoDirectory, directory_at, new_directory
from shadowproxy.demo.processes import NotStarted, Server, started
from shadowproxy.demo.verify import differs, scores, unequal, unlogged
from shadowproxy.record import Record, read

SHADOW = "gbm"
SHOWN_FAULTS = 3  # the first few of 5,000 similar ones are enough

SAME, FAULTY, NOT_SET_UP = 0, 1, 2
BY_SIGNAL = 128
"""Exit statuses; a signal's number is added to the last, as a shell does. 130 is Ctrl-C."""

NOT_JUDGED = "Latency is shown and not judged: an if statement takes no time, and all of this is one machine."

LOGGED_DEADLINE = 45.0
"""Seconds until each request is in the log of a proxy that goes on: a shadow has 30 for its answer."""
LOOK = 0.1

_ADMIN = re.compile(r"admin (http://127\.0\.0\.1:\d+)")

Advance = Callable[[], None]


class Stopped(Exception):
    """A signal stopped the demo early."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True, slots=True)
class DemoAnswers:
    """The answers to the same flights, through the proxy and from live directly. `proxy_status` is the proxy's exit
    status: 0 too while it runs."""

    sent: Sequence[Flight]
    through: Sequence[CallerResponse]
    direct: Sequence[CallerResponse]
    proxy_status: int


def run(*, requests: int = flights.SAMPLE, directory: Path | None = None, keep: bool = False) -> int:
    """Run the demo and return its exit status; `requests` is 1 to 5,000. With `keep` the servers stay up until Ctrl-C.

    0: every promise held. 1: an answer was not live's, or a request is not in the log exactly once. 2: it could not be
    set up. 130: Ctrl-C before the report (SIGTERM and SIGHUP likewise), and everything it started is stopped.

    `directory` must be new or empty. The default is a new directory under `shadow-demo` in the working directory, or
    under the system's temporary directory if that is not writable.
    """
    console = Screen()
    try:
        place = new_directory(lambda text: _say(console, text)) if directory is None else directory_at(directory)
        return asyncio.run(_until_signalled(_run(console, place, flights.flights(requests), keep=keep)))
    except NotStarted as error:
        sys.stderr.write(f"shadowproxy: {error}\n")
        return NOT_SET_UP
    except NoAnswer as error:
        sys.stderr.write(f"shadowproxy: a request got no answer: {error}; see {place.directory}/*.txt\n")
        return FAULTY
    except Stopped as stopped:
        sys.stderr.write(f"shadowproxy: stopped, with all servers; the results so far are in {place.directory}\n")
        return BY_SIGNAL + stopped.number


async def _until_signalled(demo: Coroutine[None, None, int]) -> int:
    """The demo's exit status. On the first signal raises Stopped, once everything that was started is stopped."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    signals: list[int] = []

    def stop(number: int) -> None:
        # Only the first: stopping takes a bounded time, and a second Ctrl-C that ends it would leave processes behind.
        if not signals:
            signals.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        return await demo
    except asyncio.CancelledError:
        if not signals:
            raise
        raise Stopped(signals[0]) from None


async def _run(console: Console, place: DemoDirectory, sent: Sequence[Flight], *, keep: bool) -> int:
    async with AsyncExitStack() as stack:

        async def start(name: str, module: str, *arguments: str) -> Server:
            return await stack.enter_async_context(started(name, module, *arguments, output=place.output(name)))

        live = await start("live", "shadowproxy.demo.server", "live")
        shadow = await start(SHADOW, "shadowproxy.demo.server", "shadow")
        ways = ["--live", live.url, "--shadow", f"{SHADOW}={shadow.url}"]
        places = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0" if keep else "off", "--log", str(place.log)]
        proxy = await start("proxy", "shadowproxy", "serve", *ways, *places)
        _say(console, f"live    {live.url}  an if statement: late if it left more than 15 minutes late")
        _say(console, f"shadow  {shadow.url}  {SHADOW}: boosted trees, trained on January to August")
        _say(console, f"proxy   {proxy.url}  shadowproxy serve {shlex.join(ways)}")
        _say(console)
        with _progress(console, "Sent through the proxy", len(sent)) as advance:
            through = await send_all(proxy.url, sent, advance, rate=RATE)
        # Either way every shadow has answered then, and the log is complete.
        status = await _logged(place, len(sent)) if keep else await proxy.stop()
        with _progress(console, "Sent to live directly", len(sent)) as advance:
            direct = await send_all(live.url, sent, advance)
        status = _report(console, place, DemoAnswers(sent, through, direct, status), kept=proxy if keep else None)
        if keep and status == SAME:
            status = await _until_stopped(console, proxy)
    return status


async def _logged(place: DemoDirectory, requests: int) -> int:
    """Wait until the log has a record for each of the requests. Returns 0, as a proxy that goes on has no status."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LOGGED_DEADLINE
    while loop.time() < until:
        if sum(segment.read_bytes().count(b"\n") for segment in place.log.glob("*.jsonl")) >= requests:
            break
        await asyncio.sleep(LOOK)
    return 0


async def _until_stopped(console: Console, proxy: Server) -> int:
    """Wait until a signal, then stop the proxy first, as it still asks the others. Returns the demo's exit status."""
    _say(console)
    _say(console, "The servers stay up until Ctrl-C.")
    try:
        status = await proxy.process.wait()
    except asyncio.CancelledError:
        status = await proxy.stop()
    if status:
        sys.stderr.write(f"shadowproxy: the proxy ended with exit status {status}; see {proxy.output}\n")
        return FAULTY
    _say(console, "Stopped, with all servers.")
    return SAME


def _report(console: Console, place: DemoDirectory, answers: DemoAnswers, kept: Server | None = None) -> int:
    sent = answers.sent
    logged = list(read([place.log]))
    records = [each for each in logged if isinstance(each, Record)]
    faults = [
        *unequal(sent, answers.through, answers.direct),
        *unlogged(sent, logged),
        *([f"the proxy ended with exit status {answers.proxy_status}"] if answers.proxy_status else []),
    ]
    _say(console)
    landed = by_request(flights.labels())
    figures = to_json(summarise_files([place.log], Rules(), truths=landed), load_gates(place.gates))
    print_figures(figures, console)
    place.page.write_text(
        to_html(figures, title="An if statement and a trained model; latency not judged"),
        encoding="utf-8",
    )
    _say(console)
    _say(console, str(scores(records, SHADOW, flights.labels())))
    _say(console)
    for fault in faults[:SHOWN_FAULTS]:
        _say(console, f"Fault: {fault}")
    if faults:
        _say(console, f"{len(faults):,} faults in all. The servers' output is in {place.directory}.")
        return FAULTY
    _say(
        console,
        f"All {len(sent):,} answers are live's own, byte for byte, each request is in the log once.",
    )
    _say(console, f"The report as a web page: {place.page}")
    _say(console, f"The log: {place.log}. How the flights arrived: {place.labels}")
    if kept is not None and (admin := _ADMIN.search(kept.output.read_text(errors="replace"))) is not None:
        _say(console, f"The proxy's own page: {admin[1]}/")
    for name, shadow in figures["shadows"].items():
        verdict = shadow["verdict"]
        _say(console, f"The verdict on {name}: {verdict['headline']}: {verdict['sentence']}. {NOT_JUDGED}")
    _say(console)
    _say(console, "What to try next:")
    for command in _next(place, records) if kept is None else _next_of_kept(place, sent, kept):
        _say(console, f"  {command}")
    return SAME


def _next(place: DemoDirectory, records: Sequence[Record]) -> Iterator[str]:
    """Commands that work as they are. Without comments: an interactive zsh takes a comment for arguments."""
    program, log = _program(), shlex.quote(str(place.log))
    example = next((record for record in records if differs(record.shadows.get(SHADOW))), records[0])
    yield f"{program} show {log} {example.id}"
    yield f"{_report_again(place)} --where '/instances/*/dep_delay>10'"
    yield f"{program} demo --keep"


def _next_of_kept(place: DemoDirectory, sent: Sequence[Flight], proxy: Server) -> Iterator[str]:
    """The same for servers that go on: a request of one's own, its two answers, the report with it."""
    asked = f"curl -s -H 'X-Request-ID: my-flight' -H 'Content-Type: application/json' -d '{sent[0].body.decode()}'"
    yield f"{asked} {proxy.url}/invocations"
    yield f"{_program()} show {shlex.quote(str(place.log))} my-flight"
    yield _report_again(place)


def _report_again(place: DemoDirectory) -> str:
    log, labels, gates = (shlex.quote(str(each)) for each in (place.log, place.labels, place.gates))
    return f"{_program()} report {log} --labels {labels} --gates {gates}"


def _program() -> str:
    """How to call this installation from here: by its name if the shell finds it, else by its path."""
    script = Path(sys.executable).with_name("shadowproxy")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m shadowproxy"
    found = shutil.which("shadowproxy")
    if found is not None and script.samefile(found):
        return "shadowproxy"
    return shlex.quote(min(os.path.relpath(script), str(script), key=len))


@contextmanager
def _progress(console: Console, what: str, total: int) -> Iterator[Advance]:
    """A bar on a terminal; elsewhere five lines."""
    if console.is_terminal:
        columns = (TextColumn(f"{what:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
        return
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done * 5 // total > (done - 1) * 5 // total:
            _say(console, f"{what}: {done:,} of {total:,}")

    yield advance


def _say(console: Console, text: str = "") -> None:
    # Soft wrapping by the terminal: addresses and commands can still be copied whole.
    console.print(text, highlight=False, markup=False, soft_wrap=True)
