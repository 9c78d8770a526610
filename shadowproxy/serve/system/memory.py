"""The memory of the recorder: it is the first that the system ends when memory runs out, and ends before that itself.

A container's limit may end every process in it at once (cgroup v2 with `memory.oom.group`, as Kubernetes sets it). So
the recorder watches what it holds and what the container has left, and ends beyond its bound, or where little is left
and it is the one that took it: callers are served on, and the supervisor starts it again.
"""

import contextlib
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from shadowproxy import container

FIRST = 500
"""Added to the recorder's score: the system ends the process with the highest one. Live processes keep theirs."""

OWN = 256 << 20
"""Bytes for the program itself, the latest records, and what the allocator keeps."""

EVERY, EVERY_GROWN = 0.05, 0.02
"""Seconds between two looks; the second is of a recorder that has grown."""

GROWN = 32 << 20
"""Bytes beyond those of its start that the recorder must hold to end for the container's sake: to end would otherwise
help nobody."""

ONE_MORE = 32 << 20
"""Bytes for receiving a large exchange and making its line, beside judging it."""

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


def reserve(queued: int) -> int:
    """The bytes that a container should have left: judging and writing one exchange takes them before the next look."""
    return queued // 2 + ONE_MORE


@contextlib.contextmanager
def watched(
    most: int, keep: int, every: float = EVERY, below: Callable[[int], tuple[int, int] | None] | None = None
) -> Iterator[None]:
    """End this process where it holds more than `most` bytes, or where it has grown and its container has less than
    `keep` left. What it has not written then counts as lost.

    Owns a thread: the event loop may be waiting for the very work that takes the memory. `below` is that of a
    `container.MemoryLeft`.
    """
    over = threading.Event()
    first = resident() or 0
    below = below or container.MemoryLeft().below

    def look() -> None:
        wait = every
        while not over.wait(wait):
            held = resident()
            if held is None:
                continue  # there is no descriptor to look with
            grown = held > first + GROWN
            wait = min(every, EVERY_GROWN) if grown else every
            if held > most:
                why = f"its bound of {most >> 20} MiB"
            elif grown and (found := below(keep)) is not None:
                limit, left = found
                why = f"its container has room for: {left >> 20} of {limit >> 20} MiB are left"
            else:
                continue
            extra = {"event": "recorder_too_large", "bytes": held, "most": most}
            line = "the recorder ends and is restarted: it holds %d MiB of memory, more than %s"
            _log.error(line, held >> 20, why, extra=extra)
            os._exit(TOO_LARGE)

    watching = threading.Thread(target=look, name="shadowproxy-memory", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
