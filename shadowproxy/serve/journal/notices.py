"""What the journal's threads report to the operator, by way of the keeper's thread."""

import queue
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Notice:
    """One line of the operator's log: the name of the event, the line, and the values in it."""

    event: Literal[
        "records_lost",
        "log_recovered",
        "log_trouble",
        "upload_trouble",
        "upload_recovered",
        "upload_lost",
        "verdict_changed",
        "verdict_trouble",
        "verdict_recovered",
    ]
    line: str
    values: Mapping[str, str | int] = field(default_factory=dict)


_Tidy = Literal[""]
TIDY: _Tidy = ""
"""Asks the keeper to compress and remove closed segments now."""

Notices: TypeAlias = "queue.SimpleQueue[Notice | _Tidy | None]"
"""The keeper's queue: notices in their order, TIDY, and None as the last."""


def defect(error: Exception) -> str:
    """What went wrong and where, without the exception's own words: they may quote a body."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
