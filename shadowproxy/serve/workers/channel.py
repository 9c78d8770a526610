"""Calls between the supervisor and one of its processes, over a pair of connected sockets that the process inherits.

A call is a number, a name and arguments; its reply has the same number. The supervisor counts from 1 upwards, the
process from -1 downwards. They are pickled: both ends are this program, of one version, and no other process can open a
socket that has no address. The names are a closed table.

A process may be stopped, hang or die at any time. So every call has a time limit, and only UNANSWERED calls wait in the
socket of a process that does not read.

Sockets go to a process over a second pair, each with a name (SCM_RIGHTS).
"""

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

_log = logging.getLogger("shadowproxy")

UNANSWERED = 32
"""Calls that may wait for their replies; further ones fail at once, except those that must arrive."""

_LENGTH = struct.Struct("!Q")

CLOSING = 0
"""The number of the message that a process sends by itself when it ends."""

Table: TypeAlias = Mapping[str, Callable[..., Awaitable[Any]]]


class NoReply(Exception):
    """The process has not replied in time, or has ended. One line."""


class CallFailed(Exception):
    """The process has replied that it cannot do it. One line."""


class Calls:
    """The supervisor's end. Owns its connection and its tasks: `open`, then `aclose`.

    `table` is what the process may call. `closing` is what it sent when it ended, None until then. `gone` is set when
    nothing more can come from it.
    """

    def __init__(self, name: str, table: Table | None = None) -> None:
        self.closing: Any = None
        self.gone = asyncio.Event()
        self._name = name
        self._table = table or {}
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._waits_since = 0.0
        self._answering: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None]

    def __repr__(self) -> str:
        return f"<Calls to {self._name} unanswered={len(self._waiting)}>"

    @property
    def silence(self) -> float:
        """For how many seconds a reply is waited for, and none has come."""
        return asyncio.get_running_loop().time() - self._waits_since if self._waiting else 0.0

    async def open(self, ours: socket.socket) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    async def aclose(self) -> None:
        tasks = (self._reading, *self._answering)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._writer.close()

    async def call(self, what: str, *arguments: object, within: float, must: bool = False) -> Any:
        """The reply to a call. Raises NoReply after `within` seconds, CallFailed where the process replied so.

        With `must` the call is sent whatever the process does: it waits in the socket while the process hangs.
        """
        if self.gone.is_set() or (len(self._waiting) >= UNANSWERED and not must):
            raise NoReply(f"{self._name} does not reply")
        number = next(self._numbers)
        try:
            self._writer.write(_packed((number, what, arguments)))
        except (OSError, RuntimeError):  # uvloop's RuntimeError: it has closed the connection of a process that ended
            raise NoReply(f"{self._name} has ended") from None
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._waits_since = loop.time()
        self._waiting[number] = reply = loop.create_future()
        # A late reply is still taken out of `_waiting`: until it comes, the process counts as hanging.
        done, _ = await asyncio.wait((reply,), timeout=within)
        if not done:
            raise NoReply(f"{self._name} has not replied within {within:g} s")
        result, error = reply.result()
        if error is not None:
            raise error
        return result

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, result, failure = await _unpacked(reader)
                if number == CLOSING:
                    self.closing = result
                elif number < 0:
                    answering = asyncio.get_running_loop().create_task(self._answer(number, result, failure))
                    self._answering.add(answering)
                    answering.add_done_callback(self._answering.discard)
                elif (reply := self._waiting.pop(number, None)) is not None:
                    self._waits_since = asyncio.get_running_loop().time()
                    reply.set_result((result, None if failure is None else CallFailed(failure)))
        except (asyncio.IncompleteReadError, OSError):
            pass  # the process has ended: its exit status says how
        finally:
            self.gone.set()
            for reply in self._waiting.values():
                if not reply.done():
                    reply.set_result((None, NoReply(f"{self._name} has ended")))
            self._waiting.clear()

    async def _answer(self, number: int, what: str, arguments: tuple[Any, ...]) -> None:
        message = (number, *await _result(self._table, what, arguments))
        with contextlib.suppress(OSError, RuntimeError):  # it may be gone by now
            self._writer.write(_packed(message))


class Answers:
    """The process's end. `serve` returns when the supervisor is gone. Owns its connection and tasks: `open`, `aclose`.

    The calls of `slow` are answered beside the others: these must not wait for them.
    """

    def __init__(self, table: Table, slow: frozenset[str] = frozenset()) -> None:
        self._table = table
        self._slow = slow
        self._answering: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(-1, -1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._supervisor_gone = False
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self, theirs: socket.socket) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=theirs)

    async def serve(self) -> None:
        """Answer one call after the other, but for the slow ones. A CallFailed that a call raises is its reply."""
        while True:
            try:
                number, what, arguments = await _unpacked(self._reader)
            except (asyncio.IncompleteReadError, OSError):
                break
            if number < 0:
                if (reply := self._waiting.pop(number, None)) is not None and not reply.done():
                    reply.set_result((what, arguments))
                continue
            if what in self._slow:
                answering = asyncio.get_running_loop().create_task(self._answer(number, what, arguments))
                self._answering.add(answering)
                answering.add_done_callback(self._answering.discard)
            else:
                await self._answer(number, what, arguments)
        self._supervisor_gone = True
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_result((None, "the supervisor has ended"))
        self._waiting.clear()

    async def call(self, what: str, *arguments: object, within: float) -> Any:
        """The supervisor's reply. Raises NoReply after `within` seconds, CallFailed where it replied so."""
        if self._supervisor_gone:
            raise NoReply("the supervisor has ended")
        number = next(self._numbers)
        self._waiting[number] = reply = asyncio.get_running_loop().create_future()
        self._send((number, what, arguments))
        done, _ = await asyncio.wait((reply,), timeout=within)
        if not done:
            del self._waiting[number]
            raise NoReply(f"the supervisor has not replied within {within:g} s")
        result, failure = reply.result()
        if failure is not None:
            raise CallFailed(failure)
        return result

    async def aclose(self, closing: object) -> None:
        """Give up the slow calls, and send the closing message, to a supervisor that may be gone."""
        for each in (answering := list(self._answering)):
            each.cancel()
        if answering:
            await asyncio.wait(answering)
        self._send((CLOSING, closing, None))
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _answer(self, number: int, what: str, arguments: tuple[Any, ...]) -> None:
        self._send((number, *await _result(self._table, what, arguments)))

    def _send(self, message: object) -> None:
        # uvloop raises RuntimeError on a transport that it has closed, as it does when the other end is gone.
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write(_packed(message))


async def _result(table: Table, what: str, arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    """The result of a call, or why it failed."""
    try:
        return await table[what](*arguments), None
    except CallFailed as error:
        return None, str(error)
    except Exception:  # noqa: BLE001  # one defect must not leave the other end without replies
        _log.exception("a defect in the proxy while replying to a process of its own", extra={"event": "defect"})
        return None, f"{what} failed: a defect in the proxy; its log says more"


def _packed(message: object) -> bytes:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


async def _unpacked(reader: asyncio.StreamReader) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # see the top of this file


# --- sockets ----------------------------------------------------------------------------------------------------------

_LONGEST_NAME = 64


def give_socket(over: socket.socket, name: str, given: socket.socket) -> bool:
    """Send a socket, and close it here. False where the process is gone, or hangs and has too many waiting."""
    with given:
        try:
            socket.send_fds(over, [name.encode()], [given.fileno()])
        except OSError:
            return False
    return True


def take_socket(over: socket.socket) -> tuple[str, socket.socket] | None:
    """The next socket with its name; None at the end.

    Raises BlockingIOError where none has come, and OSError where this process has no descriptor left for it.
    """
    data, descriptors, _, _ = socket.recv_fds(over, _LONGEST_NAME, 1)
    if not data:
        return None
    if not descriptors:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    taken = socket.socket(fileno=descriptors[0])
    taken.setblocking(False)
    return data.decode(), taken
