"""CI's parts: what must run, what runs where there is time, and what is said of the rest (.ci/parts)."""

import re
import subprocess
import time
from pathlib import Path

import pytest
from side_by_side import NO_TIME_LEFT

pytest_plugins = ("pytester",)

ROOT = Path(__file__).parent.parent
CLOSING = "== 3 passed in 1.00s =="
OTHER = "\x1b[32m== \x1b[1m1 passed\x1b[0m, 2 tried twice in 61.00s (0:01:01) =="
PASSES = f"echo '{CLOSING}'"


def run(*lines: str, passed: int = 0) -> tuple[int, list[str]]:
    """The exit status and the lines of a script of these lines, which begins so many seconds after its start."""
    script = "\n".join(("set -euo pipefail", "source .ci/parts", f"SECONDS={passed}", *lines))
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_the_last_line_is_pytests_closing_line() -> None:
    status, lines = run(f'must 10 bash -c "{PASSES}"', f"may 10 echo '{OTHER}'", "finish")
    assert (status, lines[-1]) == (0, OTHER)
    assert (
        sum(re.match(r"\.ci/run: \d s for .* \(usually 10 s\), \d s up to now", line) is not None for line in lines)
        == 2
    )


def test_a_part_that_fails_ends_the_script() -> None:
    status, lines = run(
        "must 10 bash -c 'echo 1 failed in 2.0s; echo make: Error; exit 2'", "must 10 echo more", "finish"
    )
    assert (status, lines[-1]) == (2, "1 failed in 2.0s")
    assert "more" not in lines


@pytest.mark.parametrize(("passed", "runs"), [(4_349, True), (4_351, False)])
def test_a_part_runs_if_half_as_much_again_as_its_usual_time_is_left(passed: int, runs: bool) -> None:
    status, lines = run(f'must 10 bash -c "{PASSES}"', "may 100 echo it ran", "finish", passed=passed)
    assert status == 0
    assert ("it ran" in lines) == runs
    assert any("NOT RUN FOR LACK OF TIME" in line for line in lines) != runs
    assert runs or lines[-1] == CLOSING


def test_what_must_run_runs_however_late() -> None:
    assert "it ran" in run("must 10 echo it ran", passed=4_600)[1]


def test_a_part_that_does_not_end_is_ended_and_named() -> None:
    status, lines = run("END=1", "must 10 sleep 30")
    assert status == 124
    assert any("FAILED" in line and '"sleep 30" was ended' in line for line in lines)


def test_tests_that_had_no_time_left_are_named() -> None:
    status, lines = run(f"may 10 echo '{NO_TIME_LEFT}'", f'may 10 bash -c "{PASSES}"', "finish")
    assert (status, lines[-1]) == (0, CLOSING)
    assert f'.ci/run: NOT RUN FOR LACK OF TIME: some of "echo {NO_TIME_LEFT}"' in lines


def test_only_a_part_that_need_not_run_has_a_time_by_which_tests_begin() -> None:
    _, lines = run(
        "export PYTEST_ADDOPTS=--second-try", *(f"{how} 10 printenv PYTEST_ADDOPTS" for how in ("must", "may"))
    )
    must, may = [line for line in lines if line.startswith("--second-try")]
    assert must == "--second-try"
    assert may.startswith("--second-try -rs --begin-until=")
    assert 4_000 < int(may.rpartition("=")[2]) - time.time() < 4_500


def test_a_test_that_has_not_begun_by_a_time_is_skipped(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile("def test_passes(): pass")
    pytester.makeconftest('pytest_plugins = ("side_by_side",)')
    for until, outcomes in ((time.time() + 60, {"passed": 1}), (time.time() - 1, {"skipped": 1})):
        done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs", f"--begin-until={until}")
        done.assert_outcomes(**outcomes)
        assert (NO_TIME_LEFT in done.stdout.str()) == ("skipped" in outcomes)
