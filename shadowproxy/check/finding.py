"""The result of one test."""

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """`FAIL`: the proxy could not do what the configuration says. `WARN`: likely a mistake."""

    OK = 0
    WARN = 1
    FAIL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """`words` is one line, complete in itself and without secrets."""

    level: Level
    words: str


def ok(words: str) -> Finding:
    return Finding(Level.OK, words)


def warn(words: str) -> Finding:
    return Finding(Level.WARN, words)


def fail(words: str) -> Finding:
    return Finding(Level.FAIL, words)
