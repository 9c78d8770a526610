"""Reads a configuration file into specs, in a process of its own.

That process has YAML and pydantic in memory, and ends with them. One that hangs, as on a lost mount or on a pipe, is
killed when its time is over.

`python -m shadowproxy.serve.sidecar.reading FILE` writes the specs, or why there are none, to standard output.
"""

import asyncio
import contextlib
import os
import pickle
import sys
from pathlib import Path

from shadowproxy.serve.sidecar.specs import Specs

MODULE = "shadowproxy.serve.sidecar.reading"


class Unreadable(Exception):
    """The file has no usable configuration. One line for each error."""


def read_specs(file: Path) -> Specs:
    """Read it in this process. Raises Unreadable."""
    from shadowproxy.config import ConfigError, load
    from shadowproxy.serve.sidecar.specify import specify

    try:
        return specify(load(file))
    except ConfigError as error:
        raise Unreadable(str(error)) from error


async def read_specs_apart(file: Path) -> Specs:
    """Read it in another process. Raises Unreadable; cancelling kills that process."""
    reader = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", MODULE, str(file),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,  # Ctrl-C is for the program
    )  # fmt: skip
    try:
        content, _ = await reader.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            reader.kill()
        await reader.wait()
        raise
    if reader.returncode != 0 or not content:
        raise Unreadable(f"{file}: the process that reads it has ended with status {reader.returncode}")
    specs, why = pickle.loads(content)  # of this very program
    if why is not None:
        raise Unreadable(why)
    assert isinstance(specs, Specs)
    return specs


def main() -> None:
    specs, why = None, None
    try:
        specs = read_specs(Path(sys.argv[1]))
    except Unreadable as error:
        why = str(error)
    # By the name under which it is read: here this module is `__main__`.
    sys.stdout.buffer.write(pickle.dumps((specs, why)))


if __name__ == "__main__":
    main()
