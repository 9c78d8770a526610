"""The file that keeps the standing verdict beside the log, across restarts.

`.standing-HOST.json` in the log's directory: hidden, so that no pattern of logs takes it for one. It is written aside
and renamed, so it is whole or the one before. A lock beside it, held as long as the process lives, keeps two programs
of one host name in one directory apart.
"""

import contextlib
import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Any, Final

import orjson

FORMAT: Final = 1
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class StateFile:
    """Owns the lock, from `lock` to `close`. `proxy` is the host's name."""

    def __init__(self, directory: Path, proxy: str) -> None:
        name = re.sub(r"[^A-Za-z0-9._]+", "-", proxy).strip("-") or "proxy"
        self.path = directory / f".standing-{name}.json"
        self._lock = -1

    def __repr__(self) -> str:
        return f"<StateFile {self.path}>"

    def read(self) -> dict[str, Any] | None:
        """What was written last; None where there is nothing that can be read."""
        try:
            found = orjson.loads(self.path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None
        return found if isinstance(found, dict) and found.get("shadowproxy_standing") == FORMAT else None

    def lock(self) -> bool:
        """Whether no other process keeps its state here. Raises OSError where the directory cannot be written."""
        if self._lock >= 0:
            return True
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path.with_suffix(".lock"), flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:  # a file system without locks: two programs there have two names
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    return False
                raise
        self._lock = descriptor
        return True

    def write(self, state: dict[str, Any]) -> None:
        """Put the state on the disk, whole or not at all. Raises OSError."""
        partial = self.path.with_suffix(f".{os.getpid()}")
        raw = orjson.dumps({"shadowproxy_standing": FORMAT, **state})
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(descriptor)
            partial.rename(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
