"""`python -m shadowproxy.demo.leash MODULE ARGUMENTS` runs a module as a program that ends with its starter.

The starter holds the other end of standard input. However it ends, even by kill -9, the pipe ends with it, and the
program then gets a SIGTERM. A process of its own waits for that: a thread would end at an exec of the program.
"""

import os
import runpy
import select
import signal
import sys

LOOK = 1.0
"""Seconds after which it is seen that the program has ended first."""


def _stop_at_end_of_input(program: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program
    os.closerange(1, 3)  # or who reads the program's output would wait for this process too
    while os.getppid() == program:
        if select.select([0], [], [], LOOK)[0] and not os.read(0, 4096):
            if os.getppid() == program:
                os.kill(program, signal.SIGTERM)
            return


if __name__ == "__main__":
    own = os.getpid()
    if os.fork() == 0:
        try:
            _stop_at_end_of_input(own)
        finally:
            os._exit(0)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
