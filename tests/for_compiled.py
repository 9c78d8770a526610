"""`--for-compiled` leaves out the files of tests that the compiled program cannot make fail, as CI's time is short.

A file that is not named here is run: so is each new one. None that is named imports a compiled module; what these test
(the page, the commands' texts, the configuration, the project's own files) is interpreted in the compiled program too.
`make test-compiled` without QUICK runs all.
"""

import pytest

INTERPRETED = {
    *("access", "advice", "apart", "balance", "betting", "changes", "channel", "check", "checks", "ci", "cli"),
    *("compilable", "completion", "config", "container", "dependencies", "distribution_name", "docs", "fakes", "gates"),
    *("guarantees", "judge", "judged_report", "layers", "left_open", "llm_page", "names", "only_parties", "operations"),
    *("passing", "report_types", "schema", "second_try", "watch"),
}
"""tests/test_NAME.py for each."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--for-compiled", action="store_true", help="only the files of tests that the compiled program can make fail"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("for_compiled"):
        left_out = [item for item in items if is_interpreted(item)]
        items[:] = [item for item in items if not is_interpreted(item)]
        config.hook.pytest_deselected(items=left_out)


def is_interpreted(item: pytest.Item) -> bool:
    return item.path.stem.removeprefix("test_") in INTERPRETED
