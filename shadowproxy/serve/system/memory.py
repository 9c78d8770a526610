"""The memory of the recorder: it is the first that the system ends when memory runs out, and ends before that itself.

A container's limit may end every process in it at once (cgroup v2 with `memory.oom.group`, as Kubernetes sets it). So
the recorder watches what it holds, and ends beyond its bound: callers are served on, and the supervisor starts it anew.
"""

import contextlib
import logging
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

FIRST = 500
"""Added to the recorder's score: the system ends the process with the highest one. Live processes keep theirs."""

OWN = 256 << 20
"""Bytes for the program itself, the latest records, and what the allocator keeps."""

EVERY = 0.1
"""Seconds between two looks."""

TOO_LARGE = 70
"""The exit status of a recorder that has passed its bound."""

_log = logging.getLogger("shadowproxy")


def volunteer() -> None:
    """Be the first process that the system ends when memory runs out."""
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + FIRST)))


def bound(queued: int) -> int:
    """The most bytes that a recorder holds of which `queued` may wait to be written: judging takes half as many."""
    return OWN + queued + queued // 2


def resident() -> int | None:
    """The bytes of memory that this process holds; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


@contextlib.contextmanager
def watched(most: int, every: float = EVERY) -> Iterator[None]:
    """End this process where it holds more than `most` bytes: what it has not written then counts as lost.

    Owns a thread: the event loop may be waiting for the very work that takes the memory.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(every):
            held = resident()
            if held is not None and held > most:
                extra = {"event": "recorder_too_large", "bytes": held, "most": most}
                line = "the recorder holds %d MiB of memory, more than its bound of %d MiB, and ends; it is restarted"
                _log.error(line, held >> 20, most >> 20, extra=extra)
                os._exit(TOO_LARGE)

    watching = threading.Thread(target=look, name="shadowproxy-memory", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
