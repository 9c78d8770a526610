"""With `--second-try`, a failed test that is marked `timing` is run once more at the end, and its second result counts.

A busy machine makes such a test fail once; a defect makes it fail twice. Every other test that fails has failed, and
so has one that is skipped the second time. The summary names each test that was tried twice, with the line that failed
first.
"""

from collections.abc import Generator
from typing import Any, cast

import pytest

TRIED_TWICE = "tried twice"  # pytest prints this word in its closing line, with the number of such tests


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--second-try", action="store_true", help="run each failed test marked `timing` once more, at the end"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("second_try"):
        config.pluginmanager.register(SecondTry())


class SecondTry:
    def __init__(self) -> None:
        self.first_failures: dict[pytest.Item, str] = {}  # in the order in which they failed
        self.running_again: pytest.Item | None = None
        self.failed_again: set[pytest.Item] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if item is self.running_again:
            if report.skipped and not hasattr(report, "wasxfail"):
                report.outcome = "failed"  # it has not passed, so the first failure stands
            if report.failed:
                self.failed_again.add(item)
        elif report.failed and item.get_closest_marker("timing"):
            # pytest counts a report as a failure by this word alone; a setup that has not passed runs no test.
            cast(Any, report).outcome = TRIED_TWICE
            self.first_failures.setdefault(item, cause(report))
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield
        for item in self.first_failures:
            self.running_again = item
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        return result

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        return (TRIED_TWICE, "T", TRIED_TWICE.upper()) if cast(str, report.outcome) == TRIED_TWICE else None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.first_failures:
            terminalreporter.section(TRIED_TWICE)
        for item, first in self.first_failures.items():
            second = "failed" if item in self.failed_again else "passed"
            terminalreporter.line(f"{item.nodeid} {second} the second time; the first failure: {first}")


def cause(report: pytest.TestReport) -> str:
    """The line that failed, and what it said."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return f"{report.when}: {str(crash or report.longreprtext).splitlines()[0]}"
