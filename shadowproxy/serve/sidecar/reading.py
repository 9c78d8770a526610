"""Reads a configuration file into specs. The process that does it has YAML and pydantic in memory, and ends with them.

`python -m shadowproxy.serve.sidecar.reading KIND FILE [OPTION VALUE]...` writes the specs, or why there are none, to
standard output. KIND is `companion` where the file is what an application describes, or else `sidecar`.
"""

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

from shadowproxy.serve.sidecar.specs import Specs

COMPANION = "companion"
SIDECAR = "sidecar"


class Unreadable(Exception):
    """The file has no usable configuration. One line for each error."""


def read_specs(file: Path, options: Sequence[tuple[str, str]] = (), *, is_companion: bool = False) -> Specs:
    """Read it in this process, with options of the command line over it. Raises Unreadable."""
    from shadowproxy.config import ConfigError, load_companion, read
    from shadowproxy.serve.sidecar.specify import specify, specify_companion

    try:
        if is_companion:
            return specify_companion(load_companion(file))
        return specify(read(file, options=options).config, options)
    except ConfigError as error:
        raise Unreadable(str(error)) from error


def main() -> None:
    specs, why = None, None
    kind, file, *words = sys.argv[1:]
    try:
        specs = read_specs(Path(file), tuple(zip(words[::2], words[1::2], strict=True)), is_companion=kind == COMPANION)
    except Unreadable as error:
        why = str(error)
    # By the name under which it is read: here this module is `__main__`.
    sys.stdout.buffer.write(pickle.dumps((specs, why)))


if __name__ == "__main__":
    main()
