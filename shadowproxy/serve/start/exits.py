"""How a start that fails ends: its exit statuses, and its line on standard error."""

import sys

KILLED = 1
UNUSABLE = 2
INTERRUPTED = 130


def say(line: str) -> None:
    if sys.stderr is not None:  # it may have been closed when the program began
        sys.stderr.write(f"shadowproxy: {line}\n")
