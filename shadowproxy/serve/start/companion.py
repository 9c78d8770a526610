"""The start of a companion: what an application runs beside itself, and finds again by the path of a Unix socket.

`python -m shadowproxy.serve.start.companion FILE [LEVEL]`: FILE describes it (config/companion.py), LEVEL is that of
the operator's log on standard error, by default `warning`.

It is the program that `shadowproxy serve` is, with an intake in place of the callers' port (serve/intake/). It has a
process group of its own, so Ctrl-C in a notebook or a terminal is not for it, and it ends by itself, with status 0,
once nobody has been connected for two seconds: also where all that used it were killed. Told to stop by SIGTERM, as
every process of a service is, it waits for those that are connected to leave, up to `drain`.

A description that cannot be used is a line on standard error and exit status 2.
"""

import contextlib
import os
import sys

from shadowproxy.serve.start import split
from shadowproxy.serve.start.exits import UNUSABLE, say


def main() -> int:
    """Returns the exit status."""
    with contextlib.suppress(OSError):  # it leads a session: then it is in a group of its own already
        os.setpgid(0, 0)
    match sys.argv[1:]:
        case [file]:
            return _serve(file, "warning")
        case [file, "debug" | "info" | "warning" | "error" as level]:
            return _serve(file, level)
        case _:
            say("usage: python -m shadowproxy.serve.start.companion FILE [debug|info|warning|error]")
            return UNUSABLE


def _serve(file: str, level: str) -> int:
    status = split.main([file, level], is_companion=True)
    with contextlib.suppress(OSError, ValueError):
        _remove_left(file)
    return status


def _remove_left(file: str) -> None:
    """Remove the application's private directory if the process that made it has ended, as one that was killed has."""
    import json
    import shutil

    with open(file) as described:
        owner, directory = json.load(described).get("owner"), os.path.dirname(os.path.abspath(file))
    if not isinstance(owner, int) or not os.path.basename(directory).startswith("shadowproxy-"):
        return
    try:
        os.kill(owner, 0)
    except ProcessLookupError:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
