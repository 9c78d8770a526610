"""Sends a log's requests, each at its time, and writes a log of the answers.

The rules:

- At most `in_flight` requests are under way; others wait, and are reported as late.
- Every request that was begun becomes exactly one record, also when Ctrl-C ends it (`shutdown`). Nothing is shed:
  reading waits for sending, and sending for writing, so memory is flat however long the log is.
- Records are compared and written in a thread, a line at a time and whole.
- With `state` a request waits for the answers that give its IDs (sessions.py).
"""

import asyncio
import contextlib
import heapq
import math
import re
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Final

import uvloop

from shadowproxy.apart import apart
from shadowproxy.compare.fold.bins import bin_of
from shadowproxy.compare.fold.summary import micros
from shadowproxy.compare.judge.verdict import judge
from shadowproxy.config import Shadow
from shadowproxy.exchange import Failure, Outcome, Reply, ShadowLeg, Skipped
from shadowproxy.lines import Line, Unreadable, lines
from shadowproxy.record import Record, RecordError, decode
from shadowproxy.recorder.line import encode_again
from shadowproxy.replay.output import Output
from shadowproxy.replay.plan import LATE, Plan, ReplayCounts, ReplayError
from shadowproxy.replay.request import NotSent, ReplayRequest, replay_request, unnamed
from shadowproxy.replay.sessions import Recorded, Sessions, Step, live_reply
from shadowproxy.serve.account import Memory
from shadowproxy.serve.mirror.capture import Capture
from shadowproxy.serve.policy.identity import uuid7
from shadowproxy.serve.policy.payload import NotRead
from shadowproxy.serve.policy.rewrite import Rewrite, raw_value_at
from shadowproxy.serve.sidecar import specify
from shadowproxy.serve.sidecar.contexts import file_fault, tls_of
from shadowproxy.serve.sidecar.endpoints import endpoint_of
from shadowproxy.serve.upstreams.endpoint import Endpoint, UpstreamError
from shadowproxy.sources import STANDARD_INPUT, Source, sources_of

_BATCH, _BATCH_BYTES = 32, 4 << 20
_ENDED: Final = "the replay was ended"
_SEGMENT: Final = re.compile(r"\d{8}T\d{6}\.\d{6}Z-(.+)-\d+-\d+\.jsonl(?:\.zst|\.gz)?")


@dataclass(frozen=True, slots=True)
class _Job:
    at: int
    record: Record
    request_text: bytes
    live_text: bytes
    request: ReplayRequest
    record_id: str
    recorded: Recorded | None = None


@dataclass(frozen=True, slots=True)
class _Settled:
    """`sent_ns` is nanoseconds since the epoch. `capture` holds the answer's memory until the record is written."""

    job: _Job
    leg: ShadowLeg
    sent_ns: int
    capture: Capture


def replay(plan: Plan, progress: Callable[[int, int], None] | None = None) -> ReplayCounts:
    """Send the plan's requests and write their records. Raises ReplayError; records written before it stay.

    `progress` is called with the bytes of logs read and the records written. SIGINT and SIGTERM end it early, cleanly.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(send_all(plan, progress))


async def send_all(plan: Plan, progress: Callable[[int, int], None] | None = None) -> ReplayCounts:
    """`replay` in a loop that already runs. Call it in the main thread: only there are signals handled."""
    return await _Replay(plan, progress or (lambda size, count: None)).run()


class _Replay:
    """One replay, used once. Owns the endpoint's connections, the tasks that send, and the log that is written."""

    def __init__(self, plan: Plan, progress: Callable[[int, int], None]) -> None:
        self._plan = plan
        self._progress = progress
        self._counts = ReplayCounts()
        self._memory = Memory(plan.memory)
        self._rewrite = Rewrite.of(plan.shadow.rewrite.path, plan.shadow.rewrite.json)
        self._host = f"{socket.gethostname()}/replay"
        self._free = asyncio.Semaphore(plan.shadow.in_flight)
        self._room = asyncio.Semaphore(4 * plan.shadow.in_flight)  # under way, or waiting to be written
        self._settled: asyncio.Queue[_Settled | None] = asyncio.Queue()
        self._written = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._failed: ReplayError | None = None
        self._sessions: Sessions | None = None
        self._put: Counter[str] = Counter()  # fields that the log hides and that were sent with the endpoint's own ID

    async def run(self) -> ReplayCounts:
        loop = asyncio.get_running_loop()
        files = _streams(self._plan.logs)
        endpoint = _endpoint(self._plan.shadow)
        begun = loop.time()
        if self._plan.state is not None:
            self._sessions = Sessions(self._plan.state)
        with contextlib.closing(Output(self._plan.output, self._host)) as output:
            async with endpoint, asyncio.TaskGroup() as group:
                group.create_task(self._write(output))
                feeding = group.create_task(self._feed(group, files, endpoint))
                with self._handling_signals(feeding):
                    await asyncio.wait((feeding,))
                    if self._sending:
                        await asyncio.wait(self._sending)
                self._settled.put_nowait(None)
        self._counts.seconds = loop.time() - begun
        self._counts.left_out = self._counts.left_out - self._put
        if self._failed is not None:
            raise self._failed
        return self._counts

    @contextlib.contextmanager
    def _handling_signals(self, feeding: "asyncio.Task[None]") -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._interrupt, feeding)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _interrupt(self, feeding: "asyncio.Task[None]") -> None:
        self._counts.interrupted = True
        feeding.cancel()
        for task in self._sending:
            task.cancel()

    # --- sending ---------------------------------------------------------------------------------------------------

    async def _feed(self, group: asyncio.TaskGroup, files: list[list[Source]], endpoint: Endpoint) -> None:
        loop = asyncio.get_running_loop()
        jobs = self._jobs(files)
        if self._sessions is None:
            jobs = islice(jobs, self._plan.limit)
        first: int | None = None
        start, sent = loop.time(), 0
        try:
            while self._failed is None and (batch := await apart(_some, jobs)):
                for job in batch:
                    if sent == self._plan.limit:
                        return
                    if isinstance(job, Recorded):
                        if self._sessions is not None:
                            self._sessions.open(job, job.record.record)
                        continue
                    if first is None:
                        first, start = job.at, loop.time()
                    due = self._due(start, sent, (job.at - first) / 1e6)
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    await self._wait_room()
                    if self._plan.rate != math.inf and loop.time() - due > LATE:
                        self._counts.late += 1
                        self._counts.latest = max(self._counts.latest, loop.time() - due)
                    step = None
                    if self._sessions is not None and job.recorded is not None:
                        step = self._sessions.open(job.recorded, job.record_id)
                    task = group.create_task(self._send(job, step, endpoint))
                    self._sending.add(task)
                    task.add_done_callback(self._sending.discard)
                    sent += 1
        except OSError as error:
            self._failed = ReplayError(f"cannot read {error.filename or 'the log'}: {error.strerror or error}")

    async def _wait_room(self) -> None:
        """Wait until one more may be sent: answers are written first, not shed."""
        await self._room.acquire()
        await self._free.acquire()
        while self._memory.held > self._memory.limit // 2:
            self._written.clear()
            await self._written.wait()

    def _due(self, start: float, sent: int, offset: float) -> float:
        """When to send the next request, in the loop's time; `offset` is its recorded seconds after the first one."""
        rate = self._plan.rate
        return start + (offset if rate is None else 0.0 if rate == math.inf else sent / rate)

    async def _send(self, job: _Job, step: Step | None, endpoint: Endpoint) -> None:
        self._counts.begun += 1
        capture = Capture(self._plan.capture, self._memory)
        leg: ShadowLeg | None = None
        if step is not None:
            try:
                await step.wait()
                leg = step.unknown
            except asyncio.CancelledError:
                leg = Skipped(Outcome.SHUTDOWN, _ENDED)
        sent_ns = time.time_ns()
        if leg is None:
            leg = await self._ask(job, step, endpoint, capture)
        self._counts.outcomes[Outcome.OK if isinstance(leg, Reply) else leg.outcome] += 1
        if step is not None:
            leg = step.end(leg) or leg
            self._counts.translated += bool(step.translated)
            self._put.update(step.put_fields)
        self._free.release()
        self._settled.put_nowait(_Settled(job, leg, sent_ns, capture))

    async def _ask(self, job: _Job, step: Step | None, endpoint: Endpoint, capture: Capture) -> Reply | Failure:
        """Send one request, copy the answer, and return its leg, as the mirror does for a shadow."""
        timeout = self._plan.shadow.timeout
        watch = None if step is None else step.watch
        target, fields, body = (
            step.request() if step is not None else (job.request.target, job.request.fields, job.request.body)
        )
        try:
            fields, body = self._rewrite.apply_values(fields, body)
        except NotRead:
            self._counts.not_rewritten += 1
        outcome, error, answering = Outcome.OK, "", None
        began = perf_counter()
        try:
            async with asyncio.timeout(timeout):
                method, target = job.request.method, self._rewrite.apply_path(target)
                answering = await endpoint.request(method, target, fields, body)
                if watch is not None:
                    watch.own_head(answering.status, tuple(answering.fields))
                async for chunk in answering:
                    capture.add(chunk)
                    capture.note_time()
                    if watch is not None:
                        watch.own_piece(chunk)
                    if not capture.whole:
                        break
        except UpstreamError as raised:
            outcome, error = raised.outcome, str(raised)
        except TimeoutError:
            outcome, error = Outcome.TIMEOUT, f"no whole answer within {timeout:g} s"
        except asyncio.CancelledError:
            outcome, error = Outcome.SHUTDOWN, _ENDED  # recorded, then the task ends
        finally:
            if answering is not None:
                answering.abandon()
        total_ms = (perf_counter() - began) * 1000
        if capture.over:
            outcome, error = Outcome.ANSWER_OVERSIZE, "the answer is longer than limits.capture"
        elif capture.crowded:
            outcome, error = Outcome.OVERLOAD, "no memory was left for the answer"
        reply = None
        if answering is not None:
            first_byte_ms = (answering.first_byte_at - began) * 1000
            fields_back = tuple(answering.fields)
            reply = Reply(
                answering.status,
                fields_back,
                capture.body,
                capture.size,
                first_byte_ms,
                total_ms,
                arrivals=capture.arrivals(began),
            )
        if outcome is Outcome.OK and reply is not None:
            self._counts.statuses[reply.status] += 1
            self._counts.times[bin_of(total_ms)] += 1
        return reply if outcome is Outcome.OK and reply is not None else Failure(outcome, error, total_ms, reply)

    # --- reading, in a thread --------------------------------------------------------------------------------------

    def _jobs(self, files: list[list[Source]]) -> Iterator["_Job | Recorded"]:
        """The requests to send, in the order of their times as far as the log has that order; with `state` also the
        records whose requests are not sent."""
        yield from heapq.merge(*map(self._jobs_of, files), key=lambda job: job.at)

    def _jobs_of(self, files: list[Source]) -> Iterator["_Job | Recorded"]:
        put = frozenset(name.lower() for name in self._plan.shadow.headers.set)
        for line in lines(files, lambda size: self._progress(size, 0)):
            if isinstance(line, Unreadable):
                self._counts.unreadable[line.why.partition(":")[0]] += 1
                continue
            try:
                record = decode(line.raw)
                at = micros(record.at)
                if not self._plan.only.accepts(record):
                    if self._plan.state is not None:
                        yield self._recorded(line, record, at, None)
                    continue
            except RecordError:
                self._counts.unreadable["torn line" if line.torn else "not a record"] += 1
                continue
            except ValueError:
                self._counts.skipped[NotSent.NO_TIME] += 1
                continue
            job = self._job(line, record, at, put)
            if job is not None:
                yield job
            elif self._plan.state is not None:
                yield self._recorded(line, record, at, None)

    def _job(self, line: Line, record: Record, at: int, put: frozenset[str]) -> _Job | None:
        request, live = raw_value_at(line.raw, ("request",)), raw_value_at(line.raw, ("live",))
        assert request is not None  # decode has read both
        assert live is not None
        plan = self._plan
        made = replay_request(
            record,
            raw_value_at(request, ("body",)),
            plan.name,
            put=put,
            query=plan.query,
            methods=plan.methods,
            own=plan.shadow.query.set,
            credentials=plan.shadow.forward_credentials,
        )
        if isinstance(made, NotSent):
            self._counts.skip(made, unnamed(record, plan.methods) if made is NotSent.METHOD else [])
            return None
        self._counts.left_out.update(made.left_out)
        self._counts.decoded += made.decoded
        self._counts.inexact += made.inexact
        self._counts.marked += b'"[redacted' in (raw_value_at(live, ("body",)) or b"")
        recorded = None if plan.state is None else self._recorded(line, record, at, made)
        return _Job(at, record, request, live, made, uuid7(), recorded)

    def _recorded(self, line: Line, record: Record, at: int, made: ReplayRequest | None) -> Recorded:
        live = raw_value_at(line.raw, ("live",)) or b""
        text = raw_value_at(live, ("body",)) if record.live.body is not None else None
        over = at + int(1000 * (record.live.total_ms or 0.0))
        return Recorded(at, over, record, live_reply(record.live, text), made)

    # --- writing ---------------------------------------------------------------------------------------------------

    async def _write(self, output: "Output") -> None:
        last = False
        while not last:
            batch = [await self._settled.get()]
            while not self._settled.empty() and len(batch) < _BATCH:
                batch.append(self._settled.get_nowait())
            settled = [each for each in batch if each is not None]
            last = len(settled) < len(batch)
            if settled and self._failed is None:
                try:
                    await asyncio.to_thread(self._write_some, output, settled)
                except OSError as error:
                    self._failed = ReplayError(f"cannot write {self._plan.output}: {error.strerror or error}")
            for each in settled:
                each.capture.release()
                self._room.release()
            self._written.set()

    def _write_some(self, output: "Output", settled: Sequence[_Settled]) -> None:
        for each in settled:
            line, verdict = encode_again(
                each.job.record,
                each.leg,
                request=each.job.request_text,
                live=each.job.live_text,
                shadow=self._plan.name,
                record_id=each.job.record_id,
                sent_ns=each.sent_ns,
                proxy=self._host,
                policy=self._plan.policy,
                judge=lambda live, shadow, budget, about: judge(live, shadow, self._plan.rules, budget, about),
                rules=self._plan.rules.digest,
            )
            output.append(line)
            if verdict is not None:
                self._counts.verdicts[verdict] += 1
        self._progress(0, len(settled))


def _some(jobs: Iterator[_Job | Recorded]) -> list[_Job | Recorded]:
    """The next few jobs, with a bound on their bytes."""
    taken: list[_Job | Recorded] = []
    size = 0
    for job in islice(jobs, _BATCH):
        taken.append(job)
        if isinstance(job, _Job):
            size += len(job.request_text) + len(job.live_text)
        else:
            size += job.record.request.body.size + (job.record.live.body.size if job.record.live.body else 0)
        if size > _BATCH_BYTES:
            break
    return taken


def _streams(logs: Sequence[str]) -> list[list[Source]]:
    """The logs' files, in order and grouped by proxy, so that the times of several proxies can be merged.

    Raises ReplayError for a log that does not exist.
    """
    found: dict[str, list[Source]] = {}
    for log in logs:
        try:
            sources = sources_of(log)
        except OSError as error:
            raise ReplayError(f"cannot read {error.filename or 'the log'}: {error.strerror or error}") from error
        for source in sources:
            if source.path != STANDARD_INPUT and not source.in_store and not Path(source.path).exists():
                raise ReplayError(f"cannot read {log}: No such file or directory")
            match = _SEGMENT.fullmatch(source.name.rpartition("/")[2])
            found.setdefault(match[1] if match else "", []).append(source)
    return list(found.values())


def _endpoint(shadow: Shadow) -> Endpoint:
    try:
        spec = specify.endpoint(shadow)
        return endpoint_of(spec, tls_of(spec.tls) if spec.url.startswith("https:") else None)
    except (OSError, ssl.SSLError) as error:
        raise ReplayError(f"tls: its files cannot be used: {file_fault(error)}") from error
