"""The programs of docs/how-to/in-code.md that need no other package, run as users run them.

test_parties_incode.py runs the others.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from incode_programs import FUNCTION, PYTEST, programs, written

from shadowproxy import record
from shadowproxy.exchange import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.timing]  # a late event loop sheds what is to be mirrored


def run(directory: Path, *command: str | Path) -> str:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [sys.executable, *command], cwd=directory, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def records(directory: Path) -> list[record.Record]:
    return [entry for entry in record.read([directory / "shadow-log"]) if isinstance(entry, record.Record)]


def test_the_page_has_five_programs() -> None:
    assert [name for name, _ in programs()] == ["service.py", "service.py", "ask.py", "flights.py", "test_flights.py"]


def test_a_function_is_mirrored_to_a_candidate(tmp_path: Path) -> None:
    run(tmp_path, written(tmp_path, FUNCTION))
    found = records(tmp_path)
    assert {(entry.request.method, entry.request.path) for entry in found} == {("CALL", "__main__.is_late")}
    judgements = [entry.shadows["new_rule"].judgement for entry in found]
    verdicts = [judgement.verdict for judgement in judgements if judgement is not None]
    assert (len(verdicts), verdicts.count(Verdict.MISMATCH)) == (30, 2)  # for delays of 14 and 15 minutes


def test_the_fixture_has_a_tests_records(tmp_path: Path) -> None:
    assert "1 passed" in run(
        tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", written(tmp_path, PYTEST)
    )
