"""Reads a configuration file into specs. The process that does it has YAML and pydantic in memory, and ends with them.

`python -m shadowproxy.serve.sidecar.reading FILE` writes the specs, or why there are none, to standard output.
"""

import pickle
import sys
from pathlib import Path

from shadowproxy.serve.sidecar.specs import Specs


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
