"""Tests marked `parties_all(NAME, ...)` need the environments .parties/NAME, which tests/parties/install makes.

`--only-parties "NAME NAME"` leaves out the tests that need any other environment. A test whose environment is not
installed fails, and says how to install it.
"""

import pytest
from parties import installed

MARK = "parties_all"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-parties", default="", help=f"only the tests marked `{MARK}` that need no others than these"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = set(config.getoption("only_parties").split())
    if not named:
        return
    left_out = [item for item in items if not needed(item) <= named]
    items[:] = [item for item in items if needed(item) <= named]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in sorted(needed(item)):
        installed.python(name)


def needed(item: pytest.Item) -> set[str]:
    return {name for mark in item.iter_markers(MARK) for name in mark.args}
