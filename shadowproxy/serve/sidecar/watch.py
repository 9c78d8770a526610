"""Sees that files have changed, by what they hold: a mounted ConfigMap changes by its directory's symbolic link."""

import hashlib
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self, TypeAlias

EVERY = 1.0
"""Seconds between looks. Polled, as no notification crosses every kind of mount."""

Held: TypeAlias = dict[Path, bytes | None]


class Watch:
    """Calls `changed`, from a thread of its own, when what some of `files()` hold is not what it was.

    It is called once they have held the same for two looks: an editor may be halfway. Owns its thread, between `start`
    and `stop`; a thread that hangs in a file system's hands is left behind.
    """

    def __init__(
        self, files: Callable[[], Iterable[Path]], changed: Callable[[], object], every: float = EVERY
    ) -> None:
        self._files = files
        self._changed = changed
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="shadowproxy-watch", daemon=True)

    def __enter__(self) -> Self:
        self._told = self._now({})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(self._every)

    def _look(self) -> None:
        seen = self._told
        while not self._ended.wait(self._every):
            now = self._now(seen)
            if now == seen and any(now[path] != self._told.get(path, now[path]) for path in now):
                self._changed()
            if now == seen:
                self._told = now  # with files that are looked at for the first time: those have not changed
            seen = now

    def _now(self, before: Held) -> Held:
        now: Held = {}
        for path in self._files():
            try:
                now[path] = _held(path)
            except OSError:  # too many open files say nothing of this one
                if path in before:
                    now[path] = before[path]
        return now


def _held(path: Path) -> bytes | None:
    """What stands for a file's contents; None where there is none, for instance between a removal and a renaming.

    Raises OSError where that cannot be seen. Reading a pipe would be waiting for who writes into it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("not a file")
        return hashlib.sha256(path.read_bytes()).digest()
    except (FileNotFoundError, NotADirectoryError):
        return None
