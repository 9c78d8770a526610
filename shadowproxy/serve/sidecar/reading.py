"""Reads a configuration file into specs."""

from pathlib import Path

from shadowproxy.serve.sidecar.specs import Specs


class Unreadable(Exception):
    """The file has no usable configuration. One line for each error."""


def read_specs(file: Path) -> Specs:
    """Raises Unreadable. Takes milliseconds at best, and for ever on a lost mount."""
    # Imported here: a process that never reads a file again needs neither YAML nor pydantic.
    from shadowproxy.config import ConfigError, load
    from shadowproxy.serve.sidecar.specify import specify

    try:
        return specify(load(file))
    except ConfigError as error:
        raise Unreadable(str(error)) from error
