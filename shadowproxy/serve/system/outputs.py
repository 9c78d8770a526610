"""Standard error and standard output where they are files: opened again by name, as log rotation asks for.

The names are those that the files had at the start: rotation gives a file another name and then asks for a new one.
They are what the system says, so only where there is /proc. Elsewhere nothing is opened again.
"""

import logging
import os
import stat
import sys
from collections.abc import Mapping

_log = logging.getLogger("shadowproxy")


def find() -> dict[int, str]:
    """Which of the two are files, and the files' names."""
    streams = {1: sys.stdout, 2: sys.stderr}
    # One that was closed when Python began is None, and its number may stand for anything by now.
    return {number: name for number, stream in streams.items() if stream is not None and (name := _name(number))}


def reopen(outputs: Mapping[int, str]) -> None:
    """Have what follows written to the files that have these names now, made anew where there is none."""
    refused = {name: _reopen(number, name) for number, name in outputs.items()}
    for name, why in refused.items():  # all of it in the new files
        if why is None:
            _log.info("%s was opened again", name, extra={"event": "output_reopened", "path": name})
        else:
            extra = {"event": "output_not_reopened", "path": name, "error": why}
            _log.error("%s cannot be opened again, the old file is written on: %s", name, why, extra=extra)


def _reopen(number: int, name: str) -> str | None:
    """Why it could not be, if it could not."""
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
