"""Has another process read a configuration file into specs.

One that hangs, as on a lost mount or on a pipe, is killed when its time is over.
"""

import asyncio
import contextlib
import os
import pickle
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from shadowproxy.serve.sidecar.reading import COMPANION, SIDECAR, Unreadable
from shadowproxy.serve.sidecar.specs import Specs

MODULE = "shadowproxy.serve.sidecar.reading"


async def read_specs_apart(file: Path, options: Sequence[tuple[str, str]] = (), *, is_companion: bool = False) -> Specs:
    """Read it in another process, with options of the command line over it.

    Raises Unreadable; cancelling kills that process.
    """
    reader = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", MODULE, COMPANION if is_companion else SIDECAR, str(file), *chain(*options),
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
