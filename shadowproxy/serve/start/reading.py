"""The fork that reads the command line and the configuration, and hands over what they mean."""

import contextlib
import os
import pickle
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from shadowproxy.serve.sidecar.reading import Unreadable, read_specs
from shadowproxy.serve.sidecar.specs import Specs
from shadowproxy.serve.start import words as plain
from shadowproxy.serve.start.exits import UNUSABLE, say
from shadowproxy.serve.telemetry.log_settings import OperatorLogSettings

WATCHING = 0.5
"""Seconds between two looks at whether the supervisor is still there."""


def run(words: Sequence[str], sending: int, supervisor: int, *, is_companion: bool = False) -> int:
    """The exit status of a command line or a configuration that cannot be used, after saying why.

    `is_companion`: the words are the file that an application describes, and the level of the operator's log.

    Does not return where both can be used. Ends once the process `supervisor` has ended.
    """
    threading.Thread(target=_end_with, args=(supervisor,), daemon=True).start()
    # pydantic would search every installed package for plugins of its own: a thirtieth of a start, for nothing.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")

    def hand_over(specs: Specs, file: Path | None, log_settings: OperatorLogSettings) -> NoReturn:
        content = pickle.dumps((specs, file, log_settings), pickle.HIGHEST_PROTOCOL)
        with contextlib.suppress(BrokenPipeError), open(sending, "wb") as pipe:  # the start may have been stopped
            pipe.write(len(content).to_bytes(8) + content)
        os._exit(0)  # at once: taking the modules down would keep a processor from those that callers wait for

    if is_companion:
        file, level = words
        chosen: tuple[Path, OperatorLogSettings] | None = Path(file), OperatorLogSettings(plain.LEVELS[level])
    else:
        chosen = plain.read(words, os.environ)
    if chosen is None:
        from shadowproxy import cli

        cli.main(hand_over)
    path, log_settings = chosen
    try:
        specs = read_specs(path, is_companion=is_companion)
    except Unreadable as error:
        for line in str(error).splitlines():
            say(line)
        return UNUSABLE
    hand_over(specs, path, log_settings)


def _end_with(supervisor: int) -> None:
    """The file may be a pipe that never gives anything, or on a lost mount: then nothing else would end this fork."""
    while os.getppid() == supervisor:
        time.sleep(WATCHING)
    os._exit(0)
