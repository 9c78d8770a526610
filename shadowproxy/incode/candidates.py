"""The callables that are an application's shadows: sent to the companion, or called in a thread of this process."""

import logging
import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from shadowproxy.call_json import json_of, json_of_failure
from shadowproxy.incode.errors import ShadowError
from shadowproxy.incode.interpreter import interpreter, main_file
from shadowproxy.incode.pickling import Unpicklable, callable_pickle
from shadowproxy.intake_frames import (
    CALL,
    Call,
    Candidate,
    Frame,
    Malformed,
    Result,
    call_of,
    candidate_frame,
    result_frame,
)

_KEPT: Final = 16 << 20
"""Bytes of a pickled callable that are kept for the next companion; a longer one is made again."""

_WAITING: Final = 256
"""Calls that may wait for one thread."""

_LOG: Final = logging.getLogger("shadowproxy")


class Registered(NamedTuple):
    """A callable as the shadow `name`. `pickled` is empty with `thread`, and where it is long."""

    name: str
    call: Callable[..., Any]
    thread: bool
    pickled: bytes


class Candidates:
    """The candidates of one Shadow, by name. `send` sends a frame to the companion."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._registered: dict[str, Registered] = {}
        self._threads: dict[str, tuple[int, queue.Queue[tuple[Call, float]]]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._registered

    def add(self, name: str, call: Callable[..., Any], *, thread: bool) -> None:
        """Raises ShadowError if it cannot be one."""
        pickled = b""
        if not thread:
            try:
                pickled = callable_pickle(call)
            except Unpicklable as error:
                raise ShadowError(f"shadows.{name}: the candidate cannot go to a process of its own: {error}") from None
        self._registered[name] = Registered(name, call, thread, pickled if len(pickled) <= _KEPT else b"")

    def remove(self, name: str) -> None:
        del self._registered[name]

    def frames(self) -> list[bytes]:
        """What registers all of them."""
        return [self.frame(name) for name in list(self._registered)]

    def frame(self, name: str) -> bytes:
        """What registers one of them."""
        registered = self._registered[name]
        pickled = registered.pickled
        if not pickled and not registered.thread:
            try:
                pickled = callable_pickle(registered.call)
            except Unpicklable as error:
                _LOG.warning("the candidate %s gets no calls: %s", name, error)
        return candidate_frame(
            Candidate(
                name,
                registered.thread,
                interpreter(),
                tuple(os.path.abspath(each) for each in sys.path),
                os.getcwd(),
                main_file() or "",
                pickled,
            )
        )

    # Those that run in this process.

    def received(self, frame: Frame) -> None:
        """Take a call from the companion for a candidate in a thread."""
        if frame.kind != CALL:
            return
        call = call_of(frame)
        if isinstance(call, Malformed):
            return
        registered = self._registered.get(call.name)
        if registered is None or not registered.thread:
            self._send(result_frame(Result(call.key, "this process has no such candidate", b"")))
            return
        try:
            self._calls(registered).put_nowait((call, time.monotonic() + call.seconds))
        except queue.Full:
            self._send(result_frame(Result(call.key, f"{_WAITING} calls wait for its thread", b"")))
        except RuntimeError as error:
            self._send(result_frame(Result(call.key, f"no thread can be started: {error}", b"")))

    def _calls(self, registered: Registered) -> "queue.Queue[tuple[Call, float]]":
        """What waits for the candidate's thread, which is started if there is none in this process."""
        process, calls = self._threads.get(registered.name, (0, None))
        if calls is None or process != os.getpid():
            calls = queue.Queue(_WAITING)
            name = f"shadowproxy-{registered.name}"
            threading.Thread(target=self._run, args=(registered, calls), name=name, daemon=True).start()
            self._threads[registered.name] = os.getpid(), calls
        return calls

    def _run(self, registered: Registered, calls: "queue.Queue[tuple[Call, float]]") -> None:
        """A candidate's thread: one call after the other. Those past their deadline are not begun."""
        while True:
            call, deadline = calls.get()
            if time.monotonic() < deadline:
                self._send(result_frame(answer(registered.call, call)))


def answer(function: Callable[..., Any], call: Call) -> Result:
    """What a candidate makes of a call."""
    import asyncio
    import inspect

    try:
        arguments, named = pickle.loads(call.pickle)
        result = function(*arguments, **named)
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
        return Result(call.key, None, json_of(result))
    except BaseException as error:  # noqa: BLE001 - whatever it raises is its answer
        return Result(call.key, None, json_of_failure(error))


async def _awaited(result: Any) -> Any:
    return await result


def described(section: Mapping[str, Any]) -> dict[str, Any]:
    """A candidate's section as the companion reads it."""
    return {key: value for key, value in section.items() if key not in ("candidate", "thread")} | {"candidate": True}
