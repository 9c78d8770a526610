"""What `serve` runs until it is stopped: its addresses, signals and reloads, whatever processes serve the callers."""

import asyncio
import socket
import threading
from abc import abstractmethod
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from shadowproxy import __version__, compiled
from shadowproxy.addresses import Address, UnixAddress
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.sidecar.contexts import Reader
from shadowproxy.serve.sidecar.opened import Opened
from shadowproxy.serve.sidecar.reading_apart import read_specs_apart
from shadowproxy.serve.sidecar.reload import Reloads, endpoints
from shadowproxy.serve.sidecar.specs import Specs
from shadowproxy.serve.system import outputs


class Program(Opened):
    """Use as `async with`: entering raises StartError, leaving stops accepting and waits for what is under way.

    Subclasses open what they own in `_open`. With a `file`, `reload` or a change of the file puts another
    configuration in force.
    """

    def __init__(self, file: Path | None) -> None:
        super().__init__()
        self._contexts = Reader()
        self._reloads = Reloads(
            file,
            in_force=lambda: self.specs,
            adopt=self._adopt,
            read=self._contexts.read,
            unusable=self._unusable,
            on_change=self._note_reload,
            read_file=self._read_file,
        )
        self._outputs = outputs.find()
        self._sockets: tuple[socket.socket, ...] = ()  # one for each address of `listen`
        self._admin_socket: socket.socket | None = None
        self._listening = False
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    @abstractmethod
    def specs(self) -> Specs:
        """The configuration in force."""

    @abstractmethod
    def census(self) -> Census:
        """All counts, and the state of every part."""

    @abstractmethod
    async def _open(self, stack: AsyncExitStack) -> None:
        """Open everything, and push what closes it onto `stack`. Raises StartError."""

    @abstractmethod
    async def _adopt(self, specs: Specs, only: frozenset[str] | None = None) -> None:
        """Put `specs` in force, whole or not at all. Raises GenerationError.

        With `only`, they are the one in force, and only the files of these shadows are read again.
        """

    @abstractmethod
    def _note_reload(self) -> None:
        """Called when the counts of reloads, or the last one's error, have changed."""

    async def _read_file(self, file: Path) -> Specs:
        program = self.specs.program
        return await read_specs_apart(file, program.options, is_companion=program.is_companion)

    def _unusable(self) -> dict[str, str]:
        """The shadows that cannot be used, each with the reason."""
        return {each.name: each.unusable for each in self.census().shadows if each.unusable is not None}

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where callers connect: hosts and ports, or a Unix socket's path and 0."""
        return tuple(_address(*each) for each in zip(self.specs.program.listen, self._sockets, strict=True))

    @property
    def admin_address(self) -> tuple[str, int] | None:
        """Where the admin server listens, in the same form; None where it is off."""
        if (admin := self.specs.program.admin) is None or self._admin_socket is None:
            return None
        return _address(admin, self._admin_socket)

    @property
    def accepts(self) -> bool:
        """Whether callers are served: from when the port is bound until stopping begins."""
        return self._listening and not self._stopping.is_set()

    def describe(self) -> str:
        """Where it listens, what it forwards to, and where it logs, in one line."""
        program, values = self.specs.program, self.particulars()
        log = "standard output" if program.log_path == "-" else program.log_path
        many = f", {program.workers} workers" if program.workers > 1 else ""
        built = ", compiled" if values["compiled"] else ""
        return (
            f"shadowproxy {__version__} listening on {values['listen']}, {endpoints(program)}, log {log}, "
            f"admin {values['admin'] or 'off'}{many}{built}"
        )

    def particulars(self) -> dict[str, Any]:
        """The values in `describe`, by name."""
        program = self.specs.program
        return {
            "version": __version__,
            "compiled": compiled(),
            "listen": ", ".join(
                _written(each, secure=self.specs.live.listen_tls is not None) for each in self.addresses
            ),
            "live": program.live_url,
            "shadows": dict(program.shadows),
            "log": program.log_path,
            "admin": None if self.admin_address is None else _written(self.admin_address),
            "workers": program.workers,
        }

    def reload(self) -> None:
        """Have the configuration file read again. Returns at once; the operator's log has the result."""
        self._reloads.request()

    def reopen(self) -> None:
        """Reopen standard error and output where they are files. Returns at once: a file may be slow to open."""
        threading.Thread(target=outputs.reopen, args=(self._outputs,), name="shadowproxy-reopen", daemon=True).start()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Begin to stop. Called again: stop waiting for what is under way."""
        if self._stopping.is_set():
            self.hurry()
        self._stopping.set()

    def hurry(self) -> None:
        """When stopping, don't wait for what is under way."""
        self._hurry.set()

    async def wait_stopping(self) -> None:
        await self._stopping.wait()

    def _begin_closing(self) -> None:
        self._stopping.set()


def _address(listen: Address, bound: socket.socket) -> tuple[str, int]:
    if isinstance(listen, UnixAddress):
        return listen.path, 0
    host, port = bound.getsockname()[:2]
    return host, port


def _written(address: tuple[str, int], *, secure: bool = False) -> str:
    host, port = address
    scheme = "https" if secure else "http"
    if not port:
        return f"unix:{host}"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
