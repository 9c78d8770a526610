"""The supervisor's calls to a worker, over a pair of connected sockets that the worker inherits.

A call is a number, a name and arguments; its reply has the same number. They are pickled: both ends are this program,
of one version, and nobody else can open a socket that has no address. What is called is one of a closed table of names.

A worker may be stopped, hang or die at any time, so the caller waits no longer than it says, and only so many calls
wait in the socket for a worker that does not read.
"""

import asyncio
import contextlib
import itertools
import logging
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

_log = logging.getLogger("shadowproxy")

UNANSWERED = 32
"""Calls that may wait for their replies; more are refused, but for those that must come through."""

_LENGTH = struct.Struct("!Q")

LAST_WORD = 0
"""The number of what a worker says at its end without being asked; calls are counted from 1."""


class NoReply(Exception):
    """The other end has not answered in time, or is gone. One line."""


class CallFailed(Exception):
    """The other end has answered that it cannot be done. One line."""


class Calls:
    """The supervisor's end. Owns its connection and the task that reads from it: `open`, then `aclose`.

    `last_word` is what the worker said at its end, None until then. `gone` is set when nothing more will come from it.
    """

    def __init__(self, name: str) -> None:
        self.last_word: Any = None
        self.gone = asyncio.Event()
        self._name = name
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None]

    def __repr__(self) -> str:
        return f"<Calls to {self._name} unanswered={len(self._waiting)}>"

    async def open(self, ours: socket.socket) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    async def aclose(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._writer.close()

    async def call(self, what: str, *arguments: object, within: float, must: bool = False) -> Any:
        """The reply to a call, within so many seconds. Raises NoReply, or CallFailed where the worker says so.

        What `must` come through waits in the socket for as long as the worker hangs.
        """
        if self.gone.is_set() or (len(self._waiting) >= UNANSWERED and not must):
            raise NoReply(f"{self._name} does not answer")
        number = next(self._numbers)
        self._waiting[number] = reply = asyncio.get_running_loop().create_future()
        self._writer.write(_packed((number, what, arguments)))
        # A reply that comes too late is still taken out of `_waiting`: until then the worker counts as hanging.
        done, _ = await asyncio.wait((reply,), timeout=within)
        if not done:
            raise NoReply(f"{self._name} has not answered within {within:g} s")
        told, error = reply.result()
        if error is not None:
            raise error
        return told

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, told, refused = await _unpacked(reader)
                if number == LAST_WORD:
                    self.last_word = told
                elif (reply := self._waiting.pop(number, None)) is not None:
                    reply.set_result((told, None if refused is None else CallFailed(refused)))
        except (asyncio.IncompleteReadError, OSError):
            pass  # it has ended: what of it is not well is seen by its exit status
        finally:
            self.gone.set()
            for reply in self._waiting.values():
                if not reply.done():
                    reply.set_result((None, NoReply(f"{self._name} has ended")))
            self._waiting.clear()


class Answers:
    """The worker's end. `serve` returns when the supervisor is gone. Owns its connection: `open`, then `aclose`."""

    def __init__(self, table: Mapping[str, Callable[..., Awaitable[Any]]]) -> None:
        self._table = table
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self, theirs: socket.socket) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=theirs)

    async def serve(self) -> None:
        """Answer one call after the other. What a call raises as CallFailed is its reply."""
        while True:
            try:
                number, what, arguments = await _unpacked(self._reader)
            except (asyncio.IncompleteReadError, OSError):
                return
            try:
                told, refused = await self._table[what](*arguments), None
            except CallFailed as why:
                told, refused = None, str(why)
            except Exception:  # noqa: BLE001  # one defect must not leave the supervisor without answers
                _log.exception("a defect in the proxy, answering the supervisor", extra={"event": "defect"})
                told, refused = None, f"{what} failed: a defect in the proxy; its log says more"
            self._say((number, told, refused))

    async def aclose(self, last_word: object) -> None:
        """Say the last word, to a supervisor that may be gone."""
        self._say((LAST_WORD, last_word, None))
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _say(self, message: object) -> None:
        # uvloop raises RuntimeError on a transport that it has closed, as it does when the other end is gone.
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write(_packed(message))


def _packed(message: object) -> bytes:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


async def _unpacked(reader: asyncio.StreamReader) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # see the top of this file
