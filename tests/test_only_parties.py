"""`--only-parties` leaves out what needs other environments, and a missing environment is named."""

import pytest
from parties import installed

pytest_plugins = ("pytester",)

INI = """
[pytest]
addopts = --strict-markers
asyncio_default_fixture_loop_scope = function
markers =
    parties_all: needs environments
"""

TESTS = """
import pytest

@pytest.mark.parties_all("one")
def test_needs_one():
    pass

@pytest.mark.parties_all("one", "two")
def test_needs_both():
    pass

def test_needs_none():
    pass
"""


@pytest.fixture(autouse=True)
def _one_is_installed(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    monkeypatch.setattr(installed, "PARTIES", pytester.path)
    (pytester.path / "one").mkdir()
    (pytester.path / "one" / "ready").touch()
    pytester.makeini(INI)
    pytester.makepyfile(TESTS)


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "only_parties", "-p", "no:cacheprovider", *options)


@pytest.mark.parametrize(("named", "left"), [("one", 1), ("two", 2), ("one two three", 0), ("", 0)])
def test_tests_that_need_another_environment_are_left_out(pytester: pytest.Pytester, named: str, left: int) -> None:
    listed = run(pytester, "--collect-only", "--only-parties", named)
    listed.stdout.fnmatch_lines([f"*{3 - left}*test* collected*"])


def test_a_test_whose_environment_is_missing_fails_and_names_it(pytester: pytest.Pytester) -> None:
    told = run(pytester)
    told.assert_outcomes(passed=2, errors=1)
    told.stdout.fnmatch_lines(["*two is not installed: `tests/parties/install PYTHON two` does it"])
