"""The callables that applications have given as shadows, by the shadow's name, and who runs each of them."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from shadowproxy import container
from shadowproxy.intake_frames import Call, Candidate, Result, call_frame
from shadowproxy.serve.candidates.process import Answer
from shadowproxy.serve.candidates.workers import Workers
from shadowproxy.serve.upstreams.errors import ConnectError, ReadError

NOT_GIVEN: Final = "the application has not given this callable, or could not pickle it"
LEFT: Final = "the application's process has ended"


class Owner(Protocol):
    """The connection of the application that a call came from."""

    def send(self, data: bytes) -> bool:
        """Send a frame; False if the connection has ended."""


class Candidates:
    """Owns the processes: end with `aclose`.

    `names` are the shadows that are callables, as the configuration in force says.
    """

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self._settings: Mapping[str, tuple[int, int]] = {}
        self._longest = 0
        self._given: dict[str, Candidate] = {}
        self._workers: dict[str, Workers] = {}
        self._threads: dict[str, set[object]] = {}
        self._calls: dict[int, tuple[object, asyncio.Future[Answer]]] = {}
        self._keys = itertools.count(1)
        self._retired: list[Workers] = []  # that still answer what they were asked

    def __repr__(self) -> str:
        return f"<Candidates {sorted(self._workers)}>"

    def adopt(self, settings: Mapping[str, tuple[int, int | None]], longest: int) -> None:
        """By name, how many processes there may be of each, and how much memory one may take; None: half of all.

        `longest` is how many bytes of a result are needed.
        """
        before, longest_before = self._settings, self._longest
        half = (container.memory() or _all_memory()) // 2
        self._settings = {name: (most, memory or half) for name, (most, memory) in settings.items()}
        self._longest = longest
        self.names = frozenset(settings)
        for name, workers in list(self._workers.items()):
            if self._settings.get(name) != before.get(name) or longest != longest_before:
                self._retire(name)
                if name in self._settings:
                    self._begin(workers.candidate)
        for name, candidate in self._given.items():
            if name in self._settings and name not in self._workers:
                self._begin(candidate)

    def take(self, candidate: Candidate, connection: object) -> None:
        """An application gives a callable. One that is as it was keeps its processes."""
        if candidate.thread:
            self._threads.setdefault(candidate.name, set()).add(connection)
            return
        if self._given.get(candidate.name) == candidate:
            return
        self._given[candidate.name] = candidate
        if candidate.name in self._settings:
            self._retire(candidate.name)
            self._begin(candidate)

    def forget(self, connection: object) -> None:
        """A connection has ended."""
        for connections in self._threads.values():
            connections.discard(connection)
        for owner, future in self._calls.values():
            if owner is connection and not future.done():
                future.set_exception(ReadError(LEFT))

    def take_result(self, result: Result, connection: object) -> None:
        """What an application's own thread made of a CALL."""
        owner, future = self._calls.get(result.key, (None, None))
        if future is None or owner is not connection or future.done():
            return  # its leg is over
        if result.failed is not None:
            future.set_exception(ReadError(result.failed))
        else:
            future.set_result(Answer(result.body, False))

    async def call(
        self, name: str, pickled: bytes, owner: object, seconds: float, begun: Callable[[bool], object]
    ) -> Answer:
        """Call the candidate of this shadow. Raises ConnectError and ReadError.

        `begun` is called once it is under way, with whether a process had to be started for it.
        """
        if owner in self._threads.get(name, ()):
            begun(False)
            return await self._call_there(name, pickled, owner, seconds)
        workers = self._workers.get(name)
        if workers is None:
            raise ConnectError(NOT_GIVEN)
        return await workers.call(pickled, begun)

    async def aclose(self) -> None:
        self.names, self._settings = frozenset(), {}
        for workers in (*self._workers.values(), *self._retired):
            await workers.aclose()
        self._workers.clear()

    async def _call_there(self, name: str, pickled: bytes, owner: object, seconds: float) -> Answer:
        key = next(self._keys)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._calls[key] = owner, future
        try:
            send = getattr(owner, "send")  # noqa: B009 - an Owner, which this room may not import
            if not send(call_frame(Call(key, name, seconds, pickled))):
                raise ConnectError(LEFT)
            return await future
        finally:
            del self._calls[key]

    def _begin(self, candidate: Candidate) -> None:
        most, memory = self._settings[candidate.name]
        workers = Workers(candidate, most=most, memory=memory, longest=self._longest)
        self._workers[candidate.name] = workers
        workers.prepare()

    def _retire(self, name: str) -> None:
        workers = self._workers.pop(name, None)
        if workers is not None:
            workers.retire()
            self._retired = [each for each in (*self._retired, workers) if not each.is_over]


def _all_memory() -> int:
    """Bytes of memory of this machine."""
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
