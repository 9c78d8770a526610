"""Opens standard input, output and error where the program was started without one of them.

Their numbers would else be given to the next files that are opened, connections among them: what is written to standard
error would go there, and uvloop ends the process where it closes one. Forks and child processes keep them open.
"""

import os
import sys

_NOTHING = "/dev/null"


def fill() -> None:
    """Call before anything is opened. Writing to a standard output that was closed is an error, as before."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            try:
                opened = os.open(_NOTHING, flags)  # the lowest free number: this one
                os.set_inheritable(opened, True)
            except OSError:
                return  # a container without /dev
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  # for as long as the process lives
