"""The addresses of a host name, looked up for each new connection. A slow name server of one endpoint delays no other.

The event loop's own resolver has four threads for all: a shadow whose name server hangs would take them all, and live
could not be dialled. Here every endpoint has at most one lookup under way, in a daemon thread of its own, and all its
connections wait for that one.

No answer is used again while the name server works, so a service that moved is found. The last addresses are kept for
when it does not work: it fails, or takes longer than `PATIENCE`. An answer that the name does not exist, or has no
address, is not a failure, and the last addresses may belong to others before long (RFC 8767 section 4): they are used
for `HELD` more seconds. A Kubernetes Service without its own address gives that answer while no pod of it is ready.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from dataclasses import dataclass
from typing import Any, Final

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
Addresses = tuple[Address, ...]

PATIENCE = 0.25
"""Seconds that a connection waits for an answer before it begins with the last known addresses."""

HELD = 30.0

_NO_SUCH_NAME: Final = frozenset(getattr(socket, name, socket.EAI_NONAME) for name in ("EAI_NONAME", "EAI_NODATA"))
"""What a name server that works says of a name without addresses. Other systems than Linux have one code for both."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """Addresses to begin with. `newer` is the lookup that is still under way, if they are the last known ones."""

    addresses: Addresses
    newer: "asyncio.Future[Addresses] | None" = None


class Name:
    """The addresses of one host and port."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._known: Addresses = ()
        self._numeric: bool | None = None  # not known before the first connection
        self._absent_since: float | None = None  # by the loop's time: the name has had no address
        self._lookup: asyncio.Future[Addresses] | None = None
        self._began = 0.0  # by the loop's time: that lookup
        self._noted = False  # that it failed or took too long
        self._failures = 0  # lookups in a row that did

    async def find(self) -> Found:
        """Raises OSError, if there is no known address either."""
        if self._numeric is None:
            self._read_number()
        if self._numeric:
            return Found(self._known)
        loop = asyncio.get_running_loop()
        lookup = self._lookup or self._look_up(loop)
        if self._known and not lookup.done():
            if not self._failures:
                await asyncio.wait([lookup], timeout=max(0.0, self._began + PATIENCE - loop.time()))
                if not lookup.done():
                    self._note_failure(f"no answer within {PATIENCE:g} s")
            if not lookup.done():
                return Found(self._known, lookup)
        return Found(await asyncio.shield(lookup))  # one that is cancelled must not cancel it for the others

    def _read_number(self) -> None:
        try:
            self._known = resolve(self._host, self._port, socket.AI_NUMERICHOST)
            self._numeric = True
        except (socket.gaierror, UnicodeError):
            self._numeric = False

    def _look_up(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[Addresses]":
        self._lookup = lookup = loop.create_future()
        self._began = loop.time()
        self._noted = False

        def work() -> None:
            found: Addresses | OSError
            try:
                found = resolve(self._host, self._port, 0)
            except UnicodeError:
                found = socket.gaierror(socket.EAI_NONAME, "not a host name")
            except OSError as error:
                found = error
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nothing waits for it
                loop.call_soon_threadsafe(self._end, lookup, found)

        try:
            threading.Thread(target=work, name=f"resolve-{self._host}", daemon=True).start()
        except RuntimeError as error:  # no thread can be started: a limit on processes counts them too
            self._end(lookup, OSError(str(error)))
        return lookup

    def _end(self, lookup: "asyncio.Future[Addresses]", found: Addresses | OSError) -> None:
        self._lookup = None
        answer = self._answer(found, lookup.get_loop().time())
        if isinstance(answer, OSError):
            lookup.set_exception(answer)
            lookup.exception()  # so that asyncio logs no unretrieved error if all that waited were cancelled
        else:
            lookup.set_result(answer)

    def _answer(self, found: Addresses | OSError, now: float) -> Addresses | OSError:
        """What the connections get that wait for the lookup which `found` this."""
        if not isinstance(found, OSError):
            self._known, self._absent_since = found, None
            if now - self._began <= PATIENCE:
                self._note_answer()
            return found
        if isinstance(found, socket.gaierror) and found.errno in _NO_SUCH_NAME:
            if self._absent_since is None:
                self._absent_since = now
            if now - self._absent_since >= HELD:
                self._known = ()
        if not self._known:
            return found
        self._note_failure(found.strerror or str(found))
        return self._known

    def _note_failure(self, error: str) -> None:
        if self._noted:
            return
        self._noted = True
        self._failures += 1
        if self._failures & (self._failures - 1):
            return  # the 1st, 2nd, 4th, 8th ... in a row has a line
        _log.warning(
            "the name %s cannot be looked up (%s; failures in a row: %d): its last known addresses are used",
            self._host,
            error,
            self._failures,
            extra={"event": "name_not_resolved", "host": self._host, "error": error, "count": self._failures},
        )

    def _note_answer(self) -> None:
        if self._failures:
            extra = {"event": "name_resolved", "host": self._host, "count": self._failures}
            _log.info("the name %s can be looked up again", self._host, extra=extra)
        self._failures = 0


def resolve(host: str, port: int, flags: int) -> Addresses:
    """The addresses of `host`, each once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return tuple(dict.fromkeys((info[0], info[4]) for info in found))
