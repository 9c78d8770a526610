"""The keeper's thread: compresses and removes closed segments, and reports to the operator.

It has the lowest priority, and the writing thread never waits for it: a terminal or pipe that does not read stops the
keeper alone.
"""

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from shadowproxy.serve.journal import marks, segments
from shadowproxy.serve.journal.notices import TIDY, Notice, Notices, defect
from shadowproxy.serve.journal.settings import Settings

TIDY_EVERY = 60.0
"""Seconds between looks at the ages of closed segments."""


class Keeper:
    """Owns the thread. `notify` gets each notice, in that thread. `is_opened`: whether the directory is usable.

    `removed_unsent` counts the segments that had to be removed before the store had them.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        settings: Settings,
        notices: Notices,
        notify: Callable[[Notice], object],
        is_opened: Callable[[], bool],
    ) -> None:
        self.settings = settings
        self._directory = directory
        self._notices = notices
        self._notify = notify
        self._is_opened = is_opened
        self._worker_thread = threading.Thread(target=self._run, name="shadowproxy-keeper", daemon=True)
        self._tidy_due = True
        self._trouble: str | None = None
        self._ends = False
        self.removed_unsent = 0

    def start(self) -> None:
        self._worker_thread.start()

    def close(self, timeout: float) -> None:
        """Report what is left to report and end, within `timeout` seconds."""
        self._notices.put(None)
        self._worker_thread.join(timeout)

    def _run(self) -> None:
        if sys.platform == "linux":
            # There a nice value belongs to the thread. Where the process may not set it, the usual priority stays.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while not self._ends:
            if self._tidy_due:
                self._tidy_due = False
                self.tidy()
            else:
                self._take_notice(TIDY_EVERY)

    def _take_notice(self, timeout: float) -> None:
        try:
            notice = self._notices.get(timeout=timeout)
        except queue.Empty:
            notice = TIDY
        if notice is None:
            self._ends = True
        elif notice == TIDY:
            self._tidy_due = True
        else:
            self._notify(notice)

    def _goes_on(self) -> bool:
        """Report what has come up during long work; False when the work is to stop."""
        while not self._notices.empty():
            self._take_notice(0)
        return not self._ends

    def tidy(self) -> None:
        """Compress and remove the closed segments for which it is time."""
        if self._directory is None or not self._is_opened():
            return
        try:
            settings = self.settings
            if settings.compress != "none":
                for path in segments.to_compress(segments.list_segments(self._directory)):
                    if not segments.compress(path, settings.compress, self._goes_on) and self._ends:
                        return
            files = segments.list_segments(self._directory)
            unsent = _unsent(files) if settings.uploads else frozenset()
            for path in segments.to_remove(files, settings.keep_size, settings.keep_age, time.time(), unsent):
                segments.remove(path)
                marks.remove(path)
                if path in unsent:
                    self.removed_unsent += 1
                    line = f"{path.name} was removed to stay within log.keep.size before it could be uploaded"
                    self._notify(Notice("upload_lost", line, {"segment": path.name}))
        except Exception as error:  # noqa: BLE001 - whatever it is, without this thread nobody hears of a loss
            # The log itself may be well. Tidying is retried in a while, and only another reason is reported again.
            what = (isinstance(error, OSError) and error.strerror) or defect(error)
            why = f"closed segments cannot be compressed or removed: {what}"
            before, self._trouble = self._trouble, why
            if why != before:
                self._notify(Notice("log_trouble", why))
        else:
            self._trouble = None


def _unsent(files: list[segments.Segment]) -> frozenset[Path]:
    """The closed segments that no store has confirmed yet."""
    return frozenset(file.path for file in files if not marks.is_sent(marks.read(file.path), file.path.name, file.size))
