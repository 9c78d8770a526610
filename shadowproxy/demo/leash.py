"""`python -m shadowproxy.demo.leash MODULE ARGUMENTS` runs a module as a program that ends with its starter.

The starter holds the other end of standard input. However it ends, even by kill -9, the pipe ends with it, and the
program then sends itself a SIGTERM.
"""

import os
import runpy
import signal
import sys
import threading


def _stop_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    # A daemon: the program may end first, while this read still waits.
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
