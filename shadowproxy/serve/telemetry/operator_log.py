"""The operator's log: the process's own log on standard error. Logging never waits for the log's reader.

Its rules:

- Lines go through a bounded queue to a thread of their own, so logging never blocks. The number of dropped lines is
  logged as soon as the queue has room again.
- One event is one line, whatever is in it: characters that could end a line or move a terminal's cursor are escaped.
- No bodies, no field values, no queries. Exceptions are logged with their type and where they were raised; their
  message is left out, because it may quote a request.
- Repeated failures are logged at the 1st, 2nd, 4th, 8th ... time: `Repeats`.

Modules call `logging` with `extra={"event": ..., ...}`: a name for alarms to match, and the values that the message
contains. docs/reference/logging.md lists all events.
"""

import contextlib
import json
import logging
import queue
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from shadowproxy.serve.telemetry.log_settings import Form, OperatorLogSettings

if TYPE_CHECKING:
    from shadowproxy.serve.telemetry.access import AccessLine

WAITING = 1000
"""Lines that may wait for the log's reader, besides those of the access log; more are dropped."""

ACCESS_WAITING = 4000
"""Access log lines that may wait. Events have room even when so many wait."""

BATCH = 200
"""Lines that one write may carry: with an access log, one write per line would be most of the work."""

PATIENCE = 1.0
"""Seconds that `close` waits for a slow reader."""

QUIET = 60.0
"""Seconds without a failure after which the next one of its kind counts as the first again."""

_OWN = "shadowproxy"
_BARE = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes of every log record. Others come from `extra`."""


class Repeats:
    """Decides which of many similar failures get a line: the 1st, 2nd, 4th, 8th ... of each kind.

    A kind with no failure for QUIET seconds is counted from 1 again: tomorrow's outage must not be today's 1025th.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, ...], tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Repeats {self._counts}>"

    def worth_logging(self, *kind: str) -> int:
        """Count one more of `kind`. Return how many there were if this one gets a line, else 0."""
        now = self._clock()
        count, last = self._counts.get(kind, (0, now))
        count = count + 1 if now - last < QUIET else 1
        self._counts[kind] = count, now
        return count if count & (count - 1) == 0 else 0


def times_text(count: int) -> str:
    """` 4 times`, for the middle of a sentence; empty for once."""
    return f" {count} times" if count > 1 else ""


class OperatorLog(logging.Handler):
    """Writes lines in a daemon thread of its own. `close` waits at most PATIENCE seconds for a slow reader."""

    def __init__(self, form: Form = "text", stream: TextIO | None = None, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker
        self._stream = sys.stderr if stream is None else stream
        if form == "auto":
            form = "text" if self._stream.isatty() else "json"
        self._format = _as_json if form == "json" else _as_text
        self._waiting: queue.SimpleQueue[dict[str, Any] | tuple[float, AccessLine] | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="shadowproxy-operator-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() >= ACCESS_WAITING + WAITING:
            self._dropped += 1
        else:
            self._waiting.put(_event(record))

    def access(self, line: "AccessLine") -> None:
        """Log one request. Never waits: the thread writes the line."""
        if self._waiting.qsize() >= ACCESS_WAITING:
            self._dropped += 1
        else:
            self._waiting.put((time.time(), line))

    def close(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(PATIENCE)
        super().close()

    def _write_all(self) -> None:
        reported = 0
        last = False
        while not last:
            taken = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(taken) < BATCH:
                    taken.append(self._waiting.get_nowait())
            last = None in taken
            lines = [self._line(each) for each in taken if each is not None]
            if (dropped := self._dropped) > reported:
                lines.append(self._line(_dropped(dropped - reported)))
                reported = dropped
            # OSError: the reader is gone; ValueError: the stream is closed. Either way nobody can read the line.
            with contextlib.suppress(OSError, ValueError):
                for piece in ["".join(lines)] if self._worker is None else _pieces(lines):
                    self._stream.write(piece)
                    self._stream.flush()

    def _line(self, waiting: "dict[str, Any] | tuple[float, AccessLine]") -> str:
        event = _access_event(*waiting) if isinstance(waiting, tuple) else waiting
        return self._format(event if self._worker is None else event | {"worker": self._worker})


def _pieces(lines: list[str]) -> Iterator[str]:
    """The lines, joined into pieces that a pipe takes in one write: lines of several workers must not mix."""
    piece: list[str] = []
    size = 0
    for line in lines:
        length = len(line.encode(errors="replace"))
        if piece and size + length > select.PIPE_BUF:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += length
    yield "".join(piece)


@contextlib.contextmanager
def opened(
    settings: OperatorLogSettings, stream: TextIO | None = None, worker: int | None = None
) -> Iterator[OperatorLog]:
    """While this is open the program's log goes to standard error, with warnings and errors of other libraries.

    With several workers each line names its `worker`.
    """
    handler = OperatorLog(settings.form, stream, worker)
    root, own = logging.getLogger(), logging.getLogger(_OWN)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    before = root.level, own.level
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    own.setLevel(level)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        own.setLevel(before[1])
        handler.close()


# --- one event as plain values ---------------------------------------------------------------------------------------


def _event(record: logging.LogRecord) -> dict[str, Any]:
    """A line's values in the order in which they are written. Read at once, because arguments may change later."""
    event: dict[str, Any] = {
        "time": _time_text(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    extras = {name: value for name, value in vars(record).items() if name not in _BARE}
    own = record.name.partition(".")[0] == _OWN
    if own and "event" in extras:
        event["event"] = extras.pop("event")
    event["message"] = record.getMessage()
    if own:
        event |= extras
    else:  # other libraries attach anything, and asyncio's messages quote exceptions after their first line
        event["message"] = event["message"].partition("\n")[0]
    if record.exc_info and record.exc_info[1] is not None:
        event["exception"], event["traceback"] = _exception_values(record.exc_info[1])
    return event


def _exception_values(error: BaseException) -> tuple[str, list[str]]:
    """An exception's type, for an OSError with the system's reason, and the lines of code it passed, innermost last."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        name = f"{name}: {error.strerror}"
    frames = traceback.extract_tb(error.__traceback__)
    return name, [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]


def _access_event(at: float, line: "AccessLine") -> dict[str, Any]:
    return {"time": _time_text(at), "level": "info", "logger": "shadowproxy.access", **line.values()}


def _dropped(count: int) -> dict[str, Any]:
    return {
        "time": _time_text(time.time()),
        "level": "warning",
        "logger": __name__,
        "event": "lines_dropped",
        "message": f"dropped {count} lines of this log: its reader is too slow",
        "count": count,
    }


def _time_text(seconds: float) -> str:
    """UTC in the form of the log's records, so that the two can be compared."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- plain values as a line ------------------------------------------------------------------------------------------


def _as_json(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"), default=str) + "\n"


def _as_text(event: dict[str, Any]) -> str:
    worker = f"worker {event['worker']}: " if "worker" in event else ""
    lines = [f"{event['time']} {event['level'].upper()} {worker}{event['message']}"]
    if "exception" in event:
        # Indented, so that none of it looks like a separate event.
        lines += [f"    at {place}" for place in event["traceback"]] + [f"    {event['exception']}"]
    return "".join(f"{_escaped(line)}\n" for line in lines)


def _escaped(text: str) -> str:
    """`text` on one line and harmless to a terminal: characters that Unicode calls unprintable are escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
