"""`python -m shadowproxy.demo.leash MODULE ARGUMENTS`: that module as a program that does not outlive its starter.

The starter holds the other end of standard input. However it ends, kill -9 included, the pipe ends with it, and the
program gets the SIGTERM that nobody is left to send.
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
    # A daemon: the program may end first, and this read ends never.
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
