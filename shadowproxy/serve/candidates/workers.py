"""The processes of one candidate: as many as calls may be under way, started as they are needed, and again as they end.

The rules:

1. A call that is not over when its leg is ends with its process: nothing else stops Python code that hangs.
2. A process that ended is started again at once, and after a pause that doubles with each further one that had no
   answer, up to PAUSES[1].
3. What waits for a process waits until its leg's deadline, or until the callable turns out not to be loadable.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from shadowproxy.intake_frames import Candidate
from shadowproxy.serve.candidates.process import Answer, CandidateProcess
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text
from shadowproxy.serve.upstreams.errors import ConnectError

PAUSES: Final = 0.1, 10.0

_log = logging.getLogger("shadowproxy")


class Workers:
    """Owns the processes: end with `aclose`. `most` is how many there may be, `memory` and `longest` are bytes."""

    def __init__(self, candidate: Candidate, *, most: int, memory: int, longest: int) -> None:
        self.candidate = candidate
        self.started = 0
        self._most = most
        self._memory = memory
        self._longest = longest
        self._loop = asyncio.get_running_loop()
        self._idle: list[CandidateProcess] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._busy: set[CandidateProcess] = set()
        self._waiting: deque[asyncio.Future[CandidateProcess]] = deque()
        self._failures = 0  # in a row
        self._closed = False
        self._retired = False
        self._repeats = Repeats()

    def __repr__(self) -> str:
        return f"<Workers {self.candidate.name} idle={len(self._idle)} busy={len(self._busy)}>"

    def prepare(self) -> None:
        """Have one process that is ready for the first call."""
        if not (self._idle or self._busy or self._starting or self._closed):
            self._start_one()

    async def call(self, pickled: bytes, begun: Callable[[bool], object] = lambda waited: None) -> Answer:
        """Call the candidate. Raises ConnectError and ReadError; a call that is cancelled ends with its process.

        `begun` is called when a process has the call, with whether it had to wait for one.
        """
        waited = not self._idle
        process = await self._take()
        self._busy.add(process)
        try:
            begun(waited)
            answer = await process.call(pickled)
        except BaseException:
            self._busy.discard(process)
            process.kill()
            self._failures += 1
            if not self._retired or self._waiting:
                self._start_again()
            raise
        self._busy.discard(process)
        self._failures = 0
        if self._closed or process.is_large():
            process.kill()
            self._start_again()
        else:
            self._give(process)
        self._end_if_retired()
        return answer

    @property
    def is_over(self) -> bool:
        """Whether it is retired, and nothing is under way any more."""
        return self._retired and not (self._busy or self._waiting or self._starting)

    def retire(self) -> None:
        """Another callable has taken the place of this one: what is under way is answered, and then all end."""
        self._retired = True
        self._end_if_retired()

    def _end_if_retired(self) -> None:
        if not self._retired or self._waiting:
            return
        for process in self._idle:
            process.kill()
        self._idle.clear()
        for task in self._starting:
            task.cancel()

    async def aclose(self) -> None:
        self._closed = True
        for future in self._waiting:
            if not future.done():
                future.set_exception(ConnectError("the candidate was replaced, or the companion stops"))
        self._waiting.clear()
        for task in self._starting:
            task.cancel()
        if self._starting:
            await asyncio.wait(self._starting)
        for process in (*self._idle, *self._busy):
            process.kill()
        self._idle.clear()

    async def _take(self) -> CandidateProcess:
        if self._closed:
            raise ConnectError("the candidate was replaced, or the companion stops")
        if self._idle:
            return self._idle.pop()
        future: asyncio.Future[CandidateProcess] = self._loop.create_future()
        self._waiting.append(future)
        if len(self._starting) < len(self._waiting):
            self._start_again()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give(future.result())
            raise

    def _give(self, process: CandidateProcess) -> None:
        """To the one that has waited longest, or to nobody."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(process)
                return
        self._idle.append(process)

    def _start_again(self) -> None:
        if not self._closed and len(self._idle) + len(self._busy) + len(self._starting) < self._most:
            self._start_one()

    def _start_one(self) -> None:
        task = self._loop.create_task(self._start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start(self) -> None:
        if self._failures > 1:
            await asyncio.sleep(min(PAUSES[0] * 2.0 ** (self._failures - 2), PAUSES[1]))
        process = CandidateProcess(self.candidate, self._memory, self._longest)
        self.started += 1
        try:
            await process.start()
        except ConnectError as error:
            self._note_started()
            self._failures += 1
            self._fail_waiting(error)
            return
        except asyncio.CancelledError:
            process.kill()
            raise
        self._note_started()
        self._give(process)

    def _note_started(self) -> None:
        """This task starts nothing any more, as whoever is given what it has to give must see at once."""
        task = asyncio.current_task()
        assert task is not None
        self._starting.discard(task)

    def _fail_waiting(self, error: ConnectError) -> None:
        name = self.candidate.name
        if count := self._repeats.worth_logging("not_loaded"):
            extra = {"event": "candidate_failed", "shadow": name, "error": str(error), "count": count}
            _log.error("candidate %s does not start%s: %s", name, times_text(count), error, extra=extra)
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(ConnectError(str(error)))
