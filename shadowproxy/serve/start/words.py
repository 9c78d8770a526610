"""The plain form of `serve`'s command line, read without click: importing that takes a sixth of a start.

Everything else is left to the command in `cli/sidecar.py`: flags instead of a file, help, mistakes. What is read here
means the same there (tests/test_starting.py).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from shadowproxy.serve.telemetry.log_settings import Form, Level, OperatorLogSettings

LEVELS: Mapping[str, Level] = {each: each for each in get_args(Level)}
FORMS: Mapping[str, Form] = {each: each for each in get_args(Form)}
VARIABLES = ("SHADOWPROXY_LOG_LEVEL", "SHADOWPROXY_LOG_FORMAT", "SHADOWPROXY_ACCESS_LOG")
"""With any of them set, or another option of `serve`'s, click reads the command line."""

PREFIX = "SHADOWPROXY_SERVE__"


def read(words: Sequence[str], environment: Mapping[str, str]) -> tuple[Path, OperatorLogSettings] | None:
    """The configuration file and how to log, of words each of which is written out; None for any other line."""
    if any(name in VARIABLES or name.startswith(PREFIX) for name in environment):
        return None
    file: Path | None = None
    settings = OperatorLogSettings()
    rest = list(words)
    while rest:
        match rest:
            case ["-c" | "--config", name, *after] if name and not name.startswith("-"):
                file = Path(name)
            case ["--log-level", level, *after] if level in LEVELS:
                settings = OperatorLogSettings(LEVELS[level], settings.form, settings.access)
            case ["--log-format", form, *after] if form in FORMS:
                settings = OperatorLogSettings(settings.level, FORMS[form], settings.access)
            case ["--access-log", *after]:
                settings = OperatorLogSettings(settings.level, settings.form, True)
            case _:
                return None
        rest = after
    return None if file is None else (file, settings)
