"""Reopens standard error and standard output by name where they are files, as log rotation needs.

The names are those of the start: rotation renames the file and then asks for a new one. They are read from /proc;
where there is none, nothing is reopened.
"""

import logging
import os
import stat
import sys
from collections.abc import Mapping

_log = logging.getLogger("shadowproxy")


def find() -> dict[int, str]:
    """The names of those of the two that are files, by descriptor."""
    streams = {1: sys.stdout, 2: sys.stderr}
    # A stream that was closed when Python began is None, and its number may belong to another file by now.
    return {number: name for number, stream in streams.items() if stream is not None and (name := _name(number))}


def reopen(outputs: Mapping[int, str], level: int = logging.INFO) -> None:
    """Write from now on to the files that have these names now; a missing file is created.

    What was reopened is logged at `level`: of several processes with the same files, one says so to operators.
    """
    errors = {name: _reopen(number, name) for number, name in outputs.items()}
    for name, error in errors.items():  # after both are reopened, so that these lines are in the new files
        if error is None:
            _log.log(level, "reopened %s", name, extra={"event": "output_reopened", "path": name})
        else:
            extra = {"event": "output_not_reopened", "path": name, "error": error}
            _log.error("cannot reopen %s, so the old file is still written: %s", name, error, extra=extra)


def _reopen(number: int, name: str) -> str | None:
    """The error, or None where it was reopened."""
    try:
        mode = stat.S_IMODE(os.fstat(number).st_mode)
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
    except OSError as error:
        return error.strerror or str(error)
    os.dup2(opened, number)
    os.close(opened)
    return None


def _name(number: int) -> str | None:
    try:
        own = os.fstat(number)
        if not stat.S_ISREG(own.st_mode):
            return None
        name = os.readlink(f"/proc/self/fd/{number}")
        return name if os.path.samestat(own, os.stat(name)) else None
    except OSError:
        return None
