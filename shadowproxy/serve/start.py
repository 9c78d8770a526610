"""Starts `serve` anew, in the same process, without what read its configuration.

The process keeps its ID, its files and its environment; YAML, pydantic and the command line are out of its memory. A
reload reads the file in a process of its own (`sidecar/reading.py`).
"""

# First of all: importing the rest takes a while, and a signal during it would end the process by its default.
from shadowproxy.serve.system import signals

if __name__ == "__main__":
    signals.prepare()

import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shadowproxy.serve.sidecar.specs import Specs
    from shadowproxy.serve.telemetry.operator_log import OperatorLogSettings

MODULE = "shadowproxy.serve.start"


def start(specs: "Specs", file: Path | None, log_settings: "OperatorLogSettings") -> int:
    """Serve, as `run` does, in this process begun anew. Returns the exit status where it could not be begun anew."""
    content = pickle.dumps((specs, file, log_settings))
    try:
        descriptor = os.memfd_create("shadowproxy-specs", 0)
    except (AttributeError, OSError):  # not Linux, or forbidden
        return _run(content)
    with open(descriptor, "r+b", buffering=0, closefd=False) as given:
        given.write(content)
        given.seek(0)
    # -P and this process's own path: no module in the working directory becomes part of the program.
    words = [sys.executable, "-P", "-m", MODULE, str(descriptor), *sys.argv[1:]]  # the last ones are for people
    signals.hold_back()  # until they are handled again
    try:
        os.execve(sys.executable, words, {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    except OSError:  # no memory, or no right to do so
        os.close(descriptor)
        return _run(content)


def main() -> None:
    descriptor = int(sys.argv[1])
    with open(descriptor, "rb") as given:
        content = given.read()
    try:
        status = _run(content)
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _run(content: bytes) -> int:
    """The exit status. An address in use, and every other reason not to start, is one line on standard error."""
    import gc

    from shadowproxy.serve.callers.addresses import StartError
    from shadowproxy.serve.run import run

    specs, file, log_settings = pickle.loads(content)  # of this very program
    gc.freeze()  # imported objects stay for good: the garbage collector need not scan them
    try:
        return run(specs, file, log_settings)
    except StartError as error:
        if sys.stderr is not None:  # it may have been closed when the program began
            sys.stderr.write(f"shadowproxy: {error}\n")
        return 2


if __name__ == "__main__":
    main()
