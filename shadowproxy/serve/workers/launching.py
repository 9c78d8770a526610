"""Launches the supervisor's processes. Imports little: the first one is launched before the event loop is imported."""

import contextlib
import os
import socket
import subprocess
import sys
from typing import NamedTuple


class Launched(NamedTuple):
    """A process that nobody calls yet: it imports its modules meanwhile. A Child takes it over, or `close` ends it."""

    process: "subprocess.Popen[bytes]"
    ours: socket.socket
    over: socket.socket

    def close(self) -> None:
        """End it, whether a Child has taken it over or not. Does nothing where it has ended."""
        self.process.kill()
        self.process.wait()
        self.ours.close()
        self.over.close()


def launch(module: str, *inherited: int) -> Launched:
    """Start `python -m MODULE CALLS SOCKETS INHERITED...`, each a descriptor. Raises OSError."""
    ours, theirs = socket.socketpair()
    over, under = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    over.setblocking(False)
    with theirs, under, contextlib.ExitStack() as unused:
        unused.callback(ours.close)
        unused.callback(over.close)
        given = (theirs.fileno(), under.fileno(), *inherited)
        # -P and this process's own path: no module in the working directory becomes part of the program.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *map(str, given)],
            stdin=subprocess.DEVNULL,
            pass_fds=given,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            # Ctrl-C goes to the terminal's foreground group: the supervisor, which then stops its processes. No new
            # session: Linux schedules each session as one, and on a busy machine a request that passed from one to the
            # next waited 3 ms there.
            process_group=0,
        )
        unused.pop_all()
    return Launched(process, ours, over)
