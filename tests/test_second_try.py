"""Only a failed test that may fail by chance is run again, in one process as in several, and each one is named."""

import re
from pathlib import Path

import pytest
import second_try

pytest_plugins = ("pytester",)

INI = """
[pytest]
addopts = --strict-markers
asyncio_default_fixture_loop_scope = function
markers =
    timing: measures time
    slow: takes long
    soak: takes minutes
"""

CONFTEST = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})  # for workers
pytest_plugins = ("second_try",)
"""

BEGINNING = """
import pytest
from pathlib import Path

RUNS = Path(__file__).with_name("runs")

def runs(name: str) -> int:
    with RUNS.open("a") as file:
        file.write(name + "\\n")
    return RUNS.read_text().split().count(name)
"""
PASSES = """
def test_passes():
    runs("passes")
"""
FAILS_ONCE = """
@pytest.mark.timing
def test_fails_once():
    assert runs("fails_once") == 2
"""
FAILS_TWICE = """
@pytest.mark.timing
def test_fails_twice():
    assert runs("fails_twice") == 0
"""
UNMARKED = """
def test_unmarked():
    assert runs("unmarked") == 2
"""
SKIPPED_THEN = """
@pytest.mark.timing
def test_skipped_then():
    if runs("skipped_then") == 2:
        pytest.skip("its port is in use")
    assert False
"""
SETUP_FAILS_ONCE = """
@pytest.fixture(scope="module")
def prepared():
    assert runs("prepared") == 2

@pytest.mark.timing
def test_prepared(prepared):
    runs("test_prepared")
"""
TEARDOWN_FAILS_ONCE = """
@pytest.fixture
def cleared():
    yield
    assert runs("cleared") == 2

@pytest.mark.timing
def test_cleared(cleared):
    pass
"""
SLOW = FAILS_ONCE.replace("timing", "slow").replace("fails_once", "slow")
SOAK = FAILS_ONCE.replace("timing", "soak").replace("fails_once", "soak")
PROXY = """
@pytest.fixture
def proxy():
    pass

def test_proxy(proxy):
    assert runs("proxy") == 2
"""


class Run:
    """A run of pytest on a folder with these tests: its exit status, what it printed, and what ran in which order."""

    def __init__(self, pytester: pytest.Pytester, *tests: str, options: tuple[str, ...] = ("--second-try",)) -> None:
        pytester.makeconftest(CONFTEST)
        pytester.makeini(INI)
        file = pytester.makepyfile(test_invented=BEGINNING + "".join(tests))
        done = pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)
        self.status = int(done.ret)
        self.output = done.stdout.str()
        self.closing = done.outlines[-1].strip("= ")
        self.named: list[tuple[str, str]] = re.findall(
            r"^test_invented\.py::(\w+) (passed|failed) the second time; the first failure: ", self.output, re.MULTILINE
        )
        runs: Path = file.with_name("runs")
        self.runs = runs.read_text().split() if runs.exists() else []


def test_a_run_without_failures_is_as_it_is_without_the_option(pytester: pytest.Pytester) -> None:
    done = Run(pytester, PASSES)
    assert (done.status, done.runs, done.named) == (0, ["passes"], [])
    assert re.fullmatch(r"1 passed in [\d.]+s", done.closing)


def test_a_marked_test_that_fails_once_is_run_after_the_others_and_named(pytester: pytest.Pytester) -> None:
    done = Run(pytester, FAILS_ONCE, PASSES)
    assert (done.status, done.runs) == (0, ["fails_once", "passes", "fails_once"])
    assert done.named == [("test_fails_once", "passed")]
    assert "the first failure: call: " in done.output
    assert "assert 1 == 2" in done.output
    assert re.fullmatch(r"2 passed, 1 tried twice in [\d.]+s", done.closing)


def test_a_marked_test_that_fails_twice_has_failed(pytester: pytest.Pytester) -> None:
    done = Run(pytester, FAILS_TWICE, FAILS_ONCE)
    assert (done.status, done.runs) == (1, ["fails_twice", "fails_once", "fails_twice", "fails_once"])
    assert done.named == [("test_fails_twice", "failed"), ("test_fails_once", "passed")]
    assert re.fullmatch(r"1 failed, 1 passed, 2 tried twice in [\d.]+s", done.closing)


def test_a_marked_test_that_is_skipped_the_second_time_has_failed(pytester: pytest.Pytester) -> None:
    done = Run(pytester, SKIPPED_THEN, PASSES)
    assert (done.status, done.runs) == (1, ["skipped_then", "passes", "skipped_then"])
    assert done.named == [("test_skipped_then", "failed")]
    assert "its port is in use" in done.output


def test_an_unmarked_test_that_fails_is_not_run_again(pytester: pytest.Pytester) -> None:
    done = Run(pytester, UNMARKED, FAILS_ONCE)
    assert (done.status, done.runs) == (1, ["unmarked", "fails_once", "fails_once"])
    assert done.named == [("test_fails_once", "passed")]
    assert re.fullmatch(r"1 failed, 1 passed, 1 tried twice in [\d.]+s", done.closing)


@pytest.mark.parametrize(("test", "name"), [(SLOW, "slow"), (SOAK, "soak"), (PROXY, "proxy")])
def test_a_test_that_meets_programs_or_takes_long_is_run_again_without_that_mark(
    pytester: pytest.Pytester, test: str, name: str
) -> None:
    done = Run(pytester, test)
    assert (done.status, done.runs, done.named) == (0, [name, name], [(f"test_{name}", "passed")])


@pytest.mark.parametrize("line", ["import subprocess", "from program import PATIENCE", "async with Program(", "@wraps"])
def test_every_test_of_a_file_that_starts_programs_may_be_run_again(pytester: pytest.Pytester, line: str) -> None:
    done = Run(pytester, UNMARKED, f'"""\n{line}\n"""')
    assert (done.status == 0) == (line != "@wraps")


def test_no_more_than_so_many_are_run_again(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_try, "MOST", 1)
    done = Run(pytester, FAILS_ONCE, SLOW)
    assert (done.status, done.runs) == (1, ["fails_once", "slow", "fails_once"])


@pytest.mark.parametrize(
    ("test", "name", "phase"),
    [(SETUP_FAILS_ONCE, "test_prepared", "setup"), (TEARDOWN_FAILS_ONCE, "test_cleared", "teardown")],
)
def test_a_fixture_that_fails_is_set_up_a_second_time(
    pytester: pytest.Pytester, test: str, name: str, phase: str
) -> None:
    done = Run(pytester, test)
    assert (done.status, done.named) == (0, [(name, "passed")])
    assert f"the first failure: {phase}: " in done.output


def test_without_the_option_nothing_is_run_again(pytester: pytest.Pytester) -> None:
    done = Run(pytester, FAILS_ONCE, options=())
    assert (done.status, done.runs) == (1, ["fails_once"])


@pytest.mark.parametrize(("test", "status"), [("", 5), ("import nothing_of_this_name", 2)])
def test_pytest_keeps_its_other_exit_statuses(pytester: pytest.Pytester, test: str, status: int) -> None:
    assert Run(pytester, test).status == status


def test_a_run_that_ends_at_the_first_failure_runs_nothing_again(pytester: pytest.Pytester) -> None:
    done = Run(pytester, FAILS_ONCE, UNMARKED, PASSES, options=("--second-try", "-x"))
    assert (done.status, done.runs) == (1, ["fails_once", "unmarked"])


@pytest.mark.slow
def test_workers_run_their_own_failed_tests_again_and_all_are_named_once(pytester: pytest.Pytester) -> None:
    done = Run(pytester, PASSES, FAILS_ONCE, FAILS_TWICE, SLOW, UNMARKED, options=("--second-try", "-n2"))
    assert (done.status, sorted(done.named)) == (
        1,
        [("test_fails_once", "passed"), ("test_fails_twice", "failed"), ("test_slow", "passed")],
    )
    assert re.fullmatch(r"2 failed, 3 passed, 3 tried twice in [\d.]+s", done.closing)
    assert all(first in done.runs[:5] for first in ("fails_once", "fails_twice", "slow", "unmarked", "passes"))


CRASHES = """
@pytest.mark.timing
def test_crashes_then():
    import os
    os.kill(os.getpid(), 9) if runs("crashes_then") == 2 else 1 / 0
"""


@pytest.mark.slow
def test_a_worker_that_crashes_in_a_second_try_fails_the_run(pytester: pytest.Pytester) -> None:
    done = Run(pytester, CRASHES, options=("--second-try", "-n1", "--max-worker-restart=0"))
    assert done.status == 1
    assert ("test_crashes_then", "passed") not in done.named
