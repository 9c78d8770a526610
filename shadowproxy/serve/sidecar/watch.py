"""Calls back when the contents of given files change. It follows symbolic links, as a mounted ConfigMap's, and takes no
directories."""

import hashlib
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self, TypeAlias

EVERY = 1.0
"""Seconds between looks. It polls, since notifications do not work on every kind of mount."""

Held: TypeAlias = dict[Path, bytes | None]


class Watch:
    """Calls `changed`, from a thread of its own, when the contents of some of `files()` have changed.

    It calls once the contents are the same in two looks: an editor may be halfway through. Owns its thread while the
    `with` block runs; a thread that hangs in the file system is abandoned.
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
        self._settled = self._now({})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(self._every)

    def look(self) -> Held:
        """What the files contain now. May hang, as reading them may."""
        return self._now({})

    def settle(self, held: Held) -> None:
        """Count these contents as known: they are no change any more."""
        self._settled = {**self._settled, **held}

    def _look(self) -> None:
        seen = self._settled
        while not self._ended.wait(self._every):
            now = self._now(seen)
            if now == seen and any(now[path] != self._settled.get(path, now[path]) for path in now):
                self._changed()
            if now == seen:
                self._settled = now  # includes new files, which count as unchanged
            seen = now

    def _now(self, before: Held) -> Held:
        now: Held = {}
        for path in self._files():
            try:
                now[path] = _held(path)
            except OSError:  # with too many open files, its contents are unknown
                if path in before:
                    now[path] = before[path]
        return now


def _held(path: Path) -> bytes | None:
    """A hash of the file's contents; None if it does not exist, for instance between a removal and a renaming.

    Raises OSError if it cannot be read, and for a pipe, where reading would wait for a writer.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("not a file")
        return hashlib.sha256(path.read_bytes()).digest()
    except (FileNotFoundError, NotADirectoryError):
        return None
