"""Standard output as a screen for what a person reads."""

import errno
import os

from rich.console import Console


class Screen(Console):
    """Standard output. A reader that leaves early, as `head` does, is a BrokenPipeError: rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
