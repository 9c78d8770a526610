"""What came of one look at something."""

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad it is: `FAIL` keeps the proxy from doing what the configuration says, `WARN` likely was not meant."""

    OK = 0
    WARN = 1
    FAIL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """`words` stand alone, on one line, and hold no secret."""

    level: Level
    words: str


def ok(words: str) -> Finding:
    return Finding(Level.OK, words)


def warn(words: str) -> Finding:
    return Finding(Level.WARN, words)


def fail(words: str) -> Finding:
    return Finding(Level.FAIL, words)
