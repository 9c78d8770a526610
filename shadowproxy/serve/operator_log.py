"""The operator's log: what the sidecar has to say of itself, on standard error, without ever waiting for its reader."""

import logging
import queue
import sys
import threading
from typing import TextIO

WAITING = 1000
"""Lines that may wait for a reader that does not read; more are dropped. A pipe that is full must not stop the loop."""

PATIENCE = 1.0


class OperatorLog(logging.Handler):
    """Writes lines from a daemon thread of its own. `close` waits at most PATIENCE seconds for a slow reader."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write_all, name="shadowproxy-operator-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            return

    def close(self) -> None:
        try:
            self._lines.put(None, timeout=PATIENCE)
        except queue.Full:
            return
        self._thread.join(PATIENCE)
        super().close()

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except OSError:  # the reader is gone; there is nobody left to tell
                continue
