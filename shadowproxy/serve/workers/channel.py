"""The supervisor's calls to a worker, over a pair of connected sockets that the worker inherits.

A call is a number, a name and arguments; its reply has the same number. They are pickled: both ends are this program,
of one version, and no other process can open a socket that has no address. The names are a closed table.

A worker may be stopped, hang or die at any time. So every call has a time limit, and only UNANSWERED calls wait in the
socket of a worker that does not read.
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
"""Calls that may wait for their replies; further ones fail at once, except those that must arrive."""

_LENGTH = struct.Struct("!Q")

CLOSING = 0
"""The number of the message that a worker sends by itself when it ends; calls are counted from 1."""


class NoReply(Exception):
    """The worker has not replied in time, or has ended. One line."""


class CallFailed(Exception):
    """The worker has replied that it cannot do it. One line."""


class Calls:
    """The supervisor's end. Owns its connection and the task that reads from it: `open`, then `aclose`.

    `closing` is what the worker sent when it ended, None until then. `gone` is set when nothing more can come from it.
    """

    def __init__(self, name: str) -> None:
        self.closing: Any = None
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
        """The reply to a call. Raises NoReply after `within` seconds, CallFailed where the worker replied so.

        With `must` the call is sent whatever the worker does: it waits in the socket while the worker hangs.
        """
        if self.gone.is_set() or (len(self._waiting) >= UNANSWERED and not must):
            raise NoReply(f"{self._name} does not reply")
        number = next(self._numbers)
        self._waiting[number] = reply = asyncio.get_running_loop().create_future()
        self._writer.write(_packed((number, what, arguments)))
        # A late reply is still taken out of `_waiting`: until it comes, the worker counts as hanging.
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
                elif (reply := self._waiting.pop(number, None)) is not None:
                    reply.set_result((result, None if failure is None else CallFailed(failure)))
        except (asyncio.IncompleteReadError, OSError):
            pass  # the worker has ended: its exit status says how
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
        """Answer one call after the other. A CallFailed that a call raises is sent as its reply."""
        while True:
            try:
                number, what, arguments = await _unpacked(self._reader)
            except (asyncio.IncompleteReadError, OSError):
                return
            try:
                result, failure = await self._table[what](*arguments), None
            except CallFailed as error:
                result, failure = None, str(error)
            except Exception:  # noqa: BLE001  # one defect must not leave the supervisor without replies
                _log.exception("a defect in the proxy while replying to the supervisor", extra={"event": "defect"})
                result, failure = None, f"{what} failed: a defect in the proxy; its log says more"
            self._send((number, result, failure))

    async def aclose(self, closing: object) -> None:
        """Send the closing message, to a supervisor that may be gone."""
        self._send((CLOSING, closing, None))
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _send(self, message: object) -> None:
        # uvloop raises RuntimeError on a transport that it has closed, as it does when the other end is gone.
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write(_packed(message))


def _packed(message: object) -> bytes:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


async def _unpacked(reader: asyncio.StreamReader) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # see the top of this file
