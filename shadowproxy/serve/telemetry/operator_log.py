"""The operator's log: what the sidecar has to say of itself, on standard error, without ever waiting for its reader.

Its rules:

- Nobody who says something waits. Lines go through a bounded queue to a thread of their own; how many had to be dropped
  is said as soon as there is room again.
- One event is one line, whatever is in it: what could end a line, or move a terminal's cursor, is escaped.
- No bodies, no field values, no queries. Of an exception there is its type and where it was raised; its words may quote
  a request, and are left out.
- What fails again and again is told at the 1st, 2nd, 4th, 8th ... time: `Repeats`.

Who has something to say calls `logging` with `extra={"event": ..., ...}`: a name that alarms can hang on, and the
values that are in the words. docs/logging.md lists them all.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from shadowproxy.redaction import Redaction

WAITING = 1000
"""Lines that may wait for a reader that does not read, besides those of requests; more are dropped."""

ACCESS_WAITING = 4000
"""Lines of requests that may wait. An event finds room even when this many do."""

BATCH = 200
"""Lines that one write may carry: with a line for every request, a write for each would be most of the work."""

PATIENCE = 1.0
"""Seconds that `close` waits for a slow reader."""

QUIET = 60.0
"""Seconds without a failure after which the next one of its kind is told as the first again."""

PATH_MOST = 1000
"""Characters of a path in a request's line; a longer one is cut."""

Level = Literal["debug", "info", "warning", "error"]
Form = Literal["auto", "json", "text"]

_REDACTION = Redaction()
_OWN = "shadowproxy"
_BARE = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has. The rest is what the one who spoke put in `extra`."""


@dataclass(frozen=True, slots=True)
class OperatorLogSettings:
    """How much is told, and how: `auto` is text on a terminal and JSON elsewhere. `access`: a line for each request."""

    level: Level = "info"
    form: Form = "auto"
    access: bool = False


@dataclass(frozen=True, slots=True)
class AccessLine:
    """One request, as its line tells it. `status` is what the caller was answered, None where it was nothing.

    `outcome` is live's, or `refused`. `sent` is bytes of the answer's body.
    """

    request_id: str
    method: str
    target: bytes
    status: int | None
    outcome: str
    milliseconds: float
    sent: int


class Repeats:
    """Which of many failures alike are worth a line: of each kind the 1st, 2nd, 4th, 8th ...

    A kind that was not heard of for QUIET seconds begins anew: tomorrow's outage must not be the 1025th of today's.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[tuple[str, ...], tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Repeats {self._heard}>"

    def worth_logging(self, *kind: str) -> int:
        """Count one more of `kind`: how many there have been, where that is to be told, else 0."""
        now = self._clock()
        count, last = self._heard.get(kind, (0, now))
        count = count + 1 if now - last < QUIET else 1
        self._heard[kind] = count, now
        return count if count & (count - 1) == 0 else 0


def times_text(count: int) -> str:
    """` 4 times`, for the middle of a sentence; nothing for once."""
    return f" {count} times" if count > 1 else ""


class OperatorLog(logging.Handler):
    """Writes lines from a daemon thread of its own. `close` waits at most PATIENCE seconds for a slow reader."""

    def __init__(self, form: Form = "text", stream: TextIO | None = None, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker
        self._stream = sys.stderr if stream is None else stream
        if form == "auto":
            form = "text" if self._stream.isatty() else "json"
        self._written = _as_json if form == "json" else _as_text
        self._waiting: queue.SimpleQueue[dict[str, Any] | tuple[float, AccessLine] | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="shadowproxy-operator-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() >= ACCESS_WAITING + WAITING:
            self._dropped += 1
        else:
            self._waiting.put(_event(record))

    def access(self, line: AccessLine) -> None:
        """Tell of one request. Never waits, and leaves the writing to the thread."""
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
        told = 0
        last = False
        while not last:
            taken = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(taken) < BATCH:
                    taken.append(self._waiting.get_nowait())
            last = None in taken
            lines = [self._line(each) for each in taken if each is not None]
            if (dropped := self._dropped) > told:
                lines.append(self._line(_dropped(dropped - told)))
                told = dropped
            # OSError: the reader is gone; ValueError: the stream is closed. Either way there is nobody left to tell.
            with contextlib.suppress(OSError, ValueError):
                for piece in ["".join(lines)] if self._worker is None else _pieces(lines):
                    self._stream.write(piece)
                    self._stream.flush()

    def _line(self, said: dict[str, Any] | tuple[float, AccessLine]) -> str:
        event = _of_request(*said) if isinstance(said, tuple) else said
        return self._written(event if self._worker is None else event | {"worker": self._worker})


def _pieces(lines: list[str]) -> Iterator[str]:
    """The lines, together as long as a pipe takes them in one go: workers must not get into each other's lines."""
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
    """What every room says goes to standard error while this is open; of other libraries, warnings and worse.

    Where there are several workers, `worker` says in each line which of them it is.
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
    """What a line holds, in the order in which it is written. Taken at once: arguments may change by and by."""
    event: dict[str, Any] = {
        "time": _written_time(record.created),
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
    else:  # what others attach may be anything, and the further lines of asyncio's words quote exceptions
        event["message"] = event["message"].partition("\n")[0]
    if record.exc_info and record.exc_info[1] is not None:
        event["exception"], event["traceback"] = _of_exception(record.exc_info[1])
    return event


def _of_exception(error: BaseException) -> tuple[str, list[str]]:
    """An exception's type, and the places it came by, the innermost last; an OSError's reason is the system's."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        name = f"{name}: {error.strerror}"
    frames = traceback.extract_tb(error.__traceback__)
    return name, [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]


def _of_request(at: float, line: AccessLine) -> dict[str, Any]:
    path = _REDACTION.path(line.target.partition(b"?")[0].decode("latin-1"))
    path = path if len(path) <= PATH_MOST else f"{path[:PATH_MOST]}…"
    return {
        "time": _written_time(at),
        "level": "info",
        "logger": "shadowproxy.access",
        "event": "access",
        "message": f"{line.method} {path} {line.status or '-'} {line.outcome} {line.milliseconds:.1f} ms "
        f"{line.sent} bytes {line.request_id}",
        "method": line.method,
        "path": path,
        "status": line.status,
        "outcome": line.outcome,
        "ms": round(line.milliseconds, 3),
        "bytes": line.sent,
        "request_id": line.request_id,
    }


def _dropped(count: int) -> dict[str, Any]:
    return {
        "time": _written_time(time.time()),
        "level": "warning",
        "logger": __name__,
        "event": "lines_dropped",
        "message": f"{count} lines of this log were dropped: nobody read it fast enough",
        "count": count,
    }


def _written_time(seconds: float) -> str:
    """UTC, as in the records of the log, so that the two can be laid side by side."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- plain values as a line ------------------------------------------------------------------------------------------


def _as_json(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"), default=str) + "\n"


def _as_text(event: dict[str, Any]) -> str:
    speaker = f"worker {event['worker']}: " if "worker" in event else ""
    lines = [f"{event['time']} {event['level'].upper()} {speaker}{event['message']}"]
    if "exception" in event:
        # Indented, so that nothing in them can look like a line of its own.
        lines += [f"    at {place}" for place in event["traceback"]] + [f"    {event['exception']}"]
    return "".join(f"{_escaped(line)}\n" for line in lines)


def _escaped(text: str) -> str:
    """`text` on one line, and harmless to a terminal: what is not printable in the sense of Unicode is spelled out."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
