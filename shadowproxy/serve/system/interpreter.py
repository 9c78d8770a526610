"""Settings of the interpreter and of the system for a process that forwards requests."""

import contextlib
import gc
import resource
import sys

SWITCH = 0.0005
"""Seconds that the journal's thread may keep the interpreter from the event loop, each time the loop wants it back. It
is Python's switch interval, 5 ms by default: longer than most live systems take to answer."""


COLLECT = 10_000
"""Objects made and not freed again after which Python looks for cyclic garbage. Its 700 are what a few exchanges that
wait to be written have, none of it garbage: looking through these took a twentieth of the recorder's CPU."""


def prepare_process() -> None:
    """Set the thread switch interval and the collector's threshold, and raise the limit of open files."""
    sys.setswitchinterval(SWITCH)
    gc.set_threshold(COLLECT, *gc.get_threshold()[1:])
    # The soft limit of open files is often 1024, and a request needs several.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # where it may not be raised, it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
