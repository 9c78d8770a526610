"""Which program is this application's Python, and which file is its script."""

import os
import sys


def interpreter() -> str:
    """`sys.executable`, but where another program embeds Python, as uWSGI does."""
    name = os.path.basename(sys.executable or "")
    if name.startswith(("python", "pypy")):
        return sys.executable
    return os.path.join(sys.prefix, "bin", "python3")


def main_file() -> str | None:
    """The file of `__main__`, which another process can run; None where there is none, as in a notebook."""
    given = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(given) if isinstance(given, str) and os.path.isfile(given) else None
