"""With `--second-try`, a failed test that may fail by chance is run once more at the end, and its second result counts.

Such a test measures time, takes long, or meets whole programs or sockets (`by_chance`): a busy machine makes it fail
once, while a defect makes it fail twice. Every other test that fails has failed, and so has one that is skipped the
second time. The summary names each test that was tried twice, with the line that failed first.

It works under `pytest -n` too. Each worker runs its own failed tests again, one worker at a time, once no worker has
others left: the machine is as quiet then as it can be.
"""

import fcntl
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

TRIED_TWICE = "tried twice"  # pytest prints this word in its closing line, with the number of such tests

MARKS = ("timing", "slow", "soak")
FIXTURES = {"proxy"}
STARTS_PROGRAMS = re.compile(rb"\bsubprocess\b|\bcreate_subprocess_|\bProgram\(|^(from|import) program\b", re.MULTILINE)

MOST = 20
"""Tests that a process runs again at most: where more fail, chance is not the cause, and the time is better saved."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--second-try", action="store_true", help="run each failed test that may fail by chance once more, at the end"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("second_try"):
        config.pluginmanager.register(SecondTry(config))
        if not is_worker(config):
            config.pluginmanager.register(Named())


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for another one, which prints what came of them: `pytest -n`."""
    return hasattr(config, "workerinput")


class SecondTry:
    """In each process that runs tests: runs them again."""

    def __init__(self, config: pytest.Config) -> None:
        self.worker = cast(Any, config).workerinput["testrunuid"] if is_worker(config) else None
        self.failed_first: list[pytest.Item] = []  # in the order in which they failed
        self.running_again: pytest.Item | None = None
        self._sources: dict[Path, bool] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if item is self.running_again:
            if report.skipped and not hasattr(report, "wasxfail"):
                report.outcome = "failed"  # it has not passed, so the first failure stands
        elif report.failed and self._may_run_again(item):
            # pytest counts a report as a failure by this word alone; a setup that has not passed runs no test.
            cast(Any, report).outcome = TRIED_TWICE
            if item not in self.failed_first:
                self.failed_first.append(item)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        with turns(self.worker) as wait_for_turn:
            result = yield
            if self.failed_first:
                wait_for_turn()
            for item in self.failed_first:
                self.running_again = item
                for plugin in session.config.pluginmanager.get_plugins():
                    if type(plugin).__name__ == "WorkerInteractor":  # it sends reports of the test with this number
                        plugin.item_index = session.items.index(item)
                item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        return result

    def _may_run_again(self, item: pytest.Item) -> bool:
        return item in self.failed_first or (len(self.failed_first) < MOST and self.by_chance(item))

    def by_chance(self, item: pytest.Item) -> bool:
        """Whether the machine may have made it fail."""
        if any(map(item.get_closest_marker, MARKS)) or FIXTURES.intersection(getattr(item, "fixturenames", ())):
            return True
        if item.path not in self._sources:
            self._sources[item.path] = STARTS_PROGRAMS.search(item.path.read_bytes()) is not None
        return self._sources[item.path]


@contextmanager
def turns(run: str | None) -> Generator[Any, None, None]:
    """Yields a function that waits until no other worker of this run is in its first tests or in its second ones."""
    if run is None:
        yield lambda: None
        return
    path = Path(tempfile.gettempdir(), f"pytest-second-try-{run}")
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as long as this worker is in its first tests

        def wait() -> None:
            fcntl.flock(file, fcntl.LOCK_UN)  # or two that wait for a turn would wait for each other
            fcntl.flock(file, fcntl.LOCK_EX)

        try:
            yield wait
        finally:
            path.unlink(missing_ok=True)  # who waits for a turn has it open


class Named:
    """In the process that prints: names the tests that were tried twice."""

    def __init__(self) -> None:
        self._first_failures: dict[str, str] = {}  # by the test's name, in the order in which they failed
        self._second: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if cast(str, report.outcome) == TRIED_TWICE:
            self._first_failures.setdefault(report.nodeid, cause(report))
        elif report.nodeid in self._first_failures and report.failed:
            self._second[report.nodeid] = "failed"
        elif report.nodeid in self._first_failures and report.when == "call":
            self._second.setdefault(report.nodeid, "passed")

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        return (TRIED_TWICE, "T", TRIED_TWICE.upper()) if cast(str, report.outcome) == TRIED_TWICE else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """A test that failed and could not be tried again has failed: its worker may have crashed meanwhile."""
        if exitstatus == pytest.ExitCode.OK and self._first_failures.keys() - self._second.keys():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._first_failures:
            terminalreporter.section(TRIED_TWICE)
        for name, first in self._first_failures.items():
            second = self._second.get(name, "did not run")
            terminalreporter.line(f"{name} {second} the second time; the first failure: {first}")


def cause(report: pytest.TestReport) -> str:
    """The line that failed, and what it said."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return f"{report.when}: {str(crash or report.longreprtext).splitlines()[0]}"
