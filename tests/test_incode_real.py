"""A Shadow with its real companion: candidates of every kind beside a function, and the fixture with the records."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import incode_candidates as candidates
import pytest

from shadowproxy import Shadow, record
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.incode.shadow_log import ShadowLog

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shadow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shadow]:
    log = tmp_path_factory.mktemp("shadow") / "log"
    with Shadow(log=log, drain="2s", overload={"loop_lag": "1h"}) as running:  # the tests' own machine may be busy
        yield running


def test_each_candidates_leg_is_in_the_record(shadow: Shadow, shadow_log: ShadowLog) -> None:
    def score(features: dict[str, Any]) -> dict[str, Any]:
        return {"score": features["x"] + 0.5}

    def mirrored(name: str, **keys: Any) -> Any:
        return shadow.function(candidate=getattr(candidates, name), name=name, timeout="20s", **keys)(score)

    live = {name: mirrored(name) for name in ("same", "other", "changing", "ending")}
    live["hanging"] = shadow.function(candidate=candidates.hanging, timeout="100ms")(score)
    live["threaded"] = shadow.function(candidate=candidates.same, name="threaded", thread=True)(score)
    given = {"x": 1}
    for function in live.values():
        assert function(given) == {"score": 1.5}
    assert given == {"x": 1}
    found = shadow_log.records(60)
    assert [list(each.shadows) for each in found] == [[name] for name in live]
    legs = {name: leg for each in found for name, leg in each.shadows.items()}
    verdicts = {name: leg.judgement.verdict for name, leg in legs.items() if leg.judgement is not None}
    assert verdicts == {
        "same": Verdict.MATCH,
        "other": Verdict.MISMATCH,
        "changing": Verdict.MISMATCH,
        "threaded": Verdict.MATCH,
    }
    assert legs["ending"].error == "its process has ended (status 3)"
    assert legs["hanging"].outcome is Outcome.TIMEOUT
    [first, *_] = found
    assert (first.request.method, first.request.path) == (
        "CALL", "test_incode_real.test_each_candidates_leg_is_in_the_record.score"
    )  # fmt: skip
    assert first.request.body.value == {"args": [{"x": 1}], "kwargs": {}}


def test_another_test_has_records_of_its_own(shadow: Shadow, shadow_log: ShadowLog) -> None:
    shadow.function(candidate=candidates.same, name="again")(candidates.same)({"x": 2})
    [one] = shadow_log.records(60)
    assert one.live.body is not None
    assert one.live.body.value == {"score": 2.5}


SCRIPT = """
import os
import signal
import sys
import incode_candidates
from shadowproxy import Shadow

shadow = Shadow(log=sys.argv[1], overload={"loop_lag": "1h"})

@shadow.function(candidate=incode_candidates.same)
def live(features):
    return {"score": 0}

if __name__ == "__main__":
    live({"x": 1})
    print(shadow._process.directory)
    if len(sys.argv) > 2:
        shadow.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("words", [[], ["killed"]])
def test_a_script_that_ends_at_once_or_is_killed_is_recorded_and_leaves_nothing(
    tmp_path: Path, words: list[str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-u", script, log, *words],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == (-9 if words else 0)
    deadline = time.monotonic() + 30
    while not log.is_dir() or not list(record.read([log])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    [one] = record.read([log])
    assert isinstance(one, record.Record)
    assert one.request.path == "__main__.live"
    assert one.shadows["same"].outcome is Outcome.OK
    while os.path.exists(done.stdout.strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
