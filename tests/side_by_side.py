"""Tests in several processes at once (`pytest -n`), and tests of which no more begin after a time.

All workers have to find the same tests by the same names. A name is made of the test's parameters: so the order of sets
is the same in all workers, though another in each run, and bytes that gzip made, which say when, are not in the name.

`--begin-until SECONDS`, since the epoch, skips each test that has not begun by then: one that fails meanwhile is seen,
and the run ends by itself. What runs a second time (tests/second_try.py) has begun before.
"""

import os
import random
import time

import pytest

NO_TIME_LEFT = "no time was left"
GZIPPED = b"\x1f\x8b\x08"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--begin-until", type=float, metavar="SECONDS", help="skip tests that have not begun at this time of the epoch"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None):
        os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(1 << 32)))  # the workers inherit it
    if config.getoption("begin_until") is not None:
        config.pluginmanager.register(Until(config.getoption("begin_until")))


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    return argname if isinstance(val, bytes) and val.startswith(GZIPPED) else None


class Until:
    """Skips what has not begun."""

    def __init__(self, until: float) -> None:
        self.until = until
        self._begun: set[pytest.Item] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if time.time() > self.until and item not in self._begun:
            pytest.skip(NO_TIME_LEFT)
        self._begun.add(item)
