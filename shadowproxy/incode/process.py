"""Starts the companion of an application, from whichever of its processes needs it first.

The directory of the companion is private (0700), and has its socket, what describes it, a lock that the process holds
that is starting it, and what it logs. Its path is chosen at once, so that forked processes agree on it; it is made by
the process that starts the companion, which may have given up a user's rights by then.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from shadowproxy.incode.errors import ShadowError
from shadowproxy.incode.interpreter import interpreter
from shadowproxy.intake_frames import PROTOCOL, Frame, Hello, hello_frame

_NAMES: Final = ("companion.json", "intake", "starting", "operator.log")
_SHOWN: Final = 16 << 10
"""Bytes of the companion's log that are logged here at once."""

_LEVELS: Final = {"error": logging.ERROR, "warning": logging.WARNING}
_LOG: Final = logging.getLogger("shadowproxy")


class CompanionProcess:
    """The companion as this application starts it. Owns its directory, which `remove` removes, or the
    companion if this process is killed before.

    Attributes:
        directory: its own. owner: the process that chose it.
        socket: the path that it listens at. log: the file with what it logs. working: the directory that it works in.
    """

    def __init__(self) -> None:
        try:
            parent = tempfile.gettempdir()
        except OSError as error:
            raise ShadowError(f"no directory can be made for the companion: {error}") from None
        if len(os.fsencode(parent)) > 60:  # a socket's path has at most 103 bytes on some systems
            parent = "/tmp"
        if not os.access(parent, os.W_OK | os.X_OK):
            raise ShadowError(f"no directory can be made for the companion: {parent} cannot be written to")
        self.directory = os.path.join(parent, f"shadowproxy-{os.urandom(8).hex()}")
        self.description, self.socket, self._lock, self.log = (os.path.join(self.directory, each) for each in _NAMES)
        self.candidates: Callable[[], list[bytes]] = list
        self.on_frame: Callable[[Frame], None] = lambda frame: None
        self.owner = os.getpid()
        self.working = os.getcwd()
        self._described = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._starting: int | None = None
        self._read = 0  # bytes of its log that have been logged here

    def describe(self, config: Path | None, keys: dict[str, Any]) -> bytes:
        """Say what the companion reads when it starts, and when it is told to read it again. Returns that."""
        content = {
            "socket": self.socket,
            "config": None if config is None else str(config),
            "keys": keys,
            "owner": self.owner,
        }
        try:
            self._described = orjson.dumps(content, default=str)
        except TypeError as error:
            raise ShadowError(f"the keys cannot be written as JSON: {error}") from None
        if os.path.exists(self.description):
            self._write()
        return self._described

    def _write(self) -> None:
        new = f"{self.description}.{os.getpid()}.{threading.get_ident()}"
        written = None
        while written is not self._described:  # another thread may have a new one meanwhile
            written = self._described
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(written)
            os.replace(new, self.description)

    # What a Connection calls, in its own thread.

    def start(self) -> None:
        """Start it unless it runs, or another process is starting it. Raises OSError."""
        if self._starting is not None:
            return
        self.prepare()
        lock = os.open(self._lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return
        self._starting = lock
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)  # of one that was killed
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
            self._process = subprocess.Popen(
                command(self.description),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.working if os.path.isdir(self.working) else None,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the application
            )

    def prepare(self) -> None:
        """Make the directory, and in it what describes the companion, unless they are there.

        Raises OSError, also if the directory is not private.
        """
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.directory, 0o700)
        found = os.lstat(self.directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise PermissionError(f"{self.directory} is not this user's own")
        if not os.path.exists(self.description):
            self._write()

    def first_frames(self) -> list[bytes]:
        from shadowproxy import __version__

        return [hello_frame(Hello(PROTOCOL, os.getpid(), __version__)), *self.candidates()]

    def connected(self) -> None:
        """It listens: other processes may look for it again."""
        lock, self._starting = self._starting, None
        if lock is not None:
            os.close(lock)

    def problem(self) -> str | None:
        """Why it ended before it listened; None if it has not, or another process started it."""
        if self._process is None or self._process.poll() is None:
            return None
        status, self._process = self._process.returncode, None
        self.connected()
        lines = self._new_lines()
        return _message(lines[-1])[1] if lines else f"it ended with status {status}"

    def look(self) -> None:
        """Log here what the companion has logged, if this process started it: nobody reads its own file."""
        if self._process is not None:
            for line in self._new_lines():
                level, message = _message(line)
                _LOG.log(level, "companion: %s", message)

    def _new_lines(self) -> list[bytes]:
        """The next whole lines of its log, at most SHOWN bytes of them."""
        with contextlib.suppress(OSError), open(self.log, "rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read(_SHOWN).rpartition(b"\n")
            self._read += len(whole) + len(newline)
            return whole.split(b"\n") if whole else []
        return []

    def received(self, frame: Frame) -> None:
        self.on_frame(frame)

    # Its end.

    def forget(self) -> None:
        """In a forked child: what the parent started is the parent's."""
        self._process = None
        if self._starting is not None:
            with contextlib.suppress(OSError):
                os.close(self._starting)
            self._starting = None

    def remove(self) -> None:
        """Remove the directory, in the process that made it. The companion goes on to its end without it."""
        remove_directory(self.directory, self.owner)


def remove_directory(directory: str, owner: int) -> None:
    """Remove a companion's directory, in the process that chose it."""
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


def _message(line: bytes) -> tuple[int, str]:
    """A line of the companion's log: its level, and what it says."""
    try:
        said = orjson.loads(line)
        return _LEVELS.get(said["level"], logging.INFO), str(said["message"])
    except (ValueError, LookupError, TypeError):
        return logging.WARNING, line.decode("utf-8", "replace")


def command(description: str) -> list[str]:
    """The command line of the companion, in the application's interpreter."""
    return [interpreter(), "-P", "-m", "shadowproxy.serve.start.companion", description]


def environment() -> dict[str, str]:
    """The application's, with this package found where it was found here."""
    own = str(Path(__file__).parent.parent.parent)
    given = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{own}{os.pathsep}{given}" if given else own}
