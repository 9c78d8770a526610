"""What 0.1.0 wrote is read: its configuration, its log, and a summary beside one of today.

tests/data/0.1.0/ was written by that program itself, of commit 9094bae: `serve -c config.yaml` in front of three
servers, which answered 401 requests, then `summarise` and `report --json` of the log.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from shadowproxy import cli, config, read_log
from shadowproxy.config.changes import changed

OLD = Path(__file__).parent / "data" / "0.1.0"
LOG = OLD / "log"
FILE = OLD / "config.yaml"
REPORT = json.loads((OLD / "report.json").read_text())
RECORDS = 401


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    """The exit status of a command, and what it printed."""
    status: object = 0
    try:
        cli.commands.main([*map(str, words)], prog_name="shadowproxy", standalone_mode=False)
    except SystemExit as ended:
        status = ended.code
    return int(str(status or 0)), capsys.readouterr().out


def figures(report: Any, shadow: str) -> dict[str, Any]:
    """What both versions' reports have of a shadow: a report of today has more keys."""
    old, new = REPORT["shadows"][shadow], report["shadows"][shadow]
    return {
        "coverage": {key: new["coverage"][key] for key in old["coverage"]},
        "statuses": new["statuses"],
        "agreement": {key: new["agreement"][key] for key in ("verdicts", "incomparable", "whole", "anytime")},
        "latency": {key: new["latency"][key] for key in ("pairs", "timeouts", "live", "shadow", "at_least", "ratio")},
        "control": new["control"]["pairs"],
        "fields": {each["path"]: (each["exchanges"], each["kinds"], each["nature"]) for each in new["fields"]},
    }


def test_the_configuration_means_the_same_and_check_names_what_is_new() -> None:
    loaded = config.read(FILE, environment={})
    made = loaded.config
    assert made.live.timeout == 60.0
    assert made.limits.memory == 64 << 20
    assert made.log.rotate.size == 64 << 10
    assert made.compare.prediction == "/label"
    assert made.sampling.key == "header:X-User"
    challenger, slow = made.shadows["challenger"], made.shadows["slow_one"]
    assert (challenger.timeout, challenger.headers.set, challenger.headers.remove) == (
        5.0,
        {"X-Tenant": "shadow"},
        ("X-Internal",),
    )
    assert (slow.percent, slow.lane, slow.timeout) == (20.0, 16, 0.3)
    told = changed(made, loaded.given)
    assert 'shadows.*.match.methods was ["*"]' in told
    assert not [line for line in told if line.startswith(("live.timeout", "limits.memory", "log.redact.query"))]


def test_every_record_is_read_whichever_segment_it_is_in() -> None:
    names = sorted(path.name for path in LOG.iterdir())
    assert len([name for name in names if name.endswith(".jsonl.zst")]) > 5
    assert names[-1].endswith(".jsonl")
    records = list(read_log(LOG))
    assert len(records) == RECORDS
    assert len({each.id for each in records}) == RECORDS


@pytest.mark.parametrize("shadow", sorted(REPORT["shadows"]))
@pytest.mark.parametrize("what", [LOG, OLD / "summary.json"], ids=["log", "summary"])
def test_a_report_has_the_same_figures(capsys: pytest.CaptureFixture[str], shadow: str, what: Path) -> None:
    rules: list[str | Path] = ["-c", FILE] if what == LOG else []
    status, text = run(capsys, "report", what, *rules, "--json")
    report = json.loads(text)
    assert report["log"] == REPORT["log"]
    assert figures(report, shadow) == figures(REPORT, shadow)
    assert status == 1  # as it was: a check of slow_one fails


def test_a_summary_adds_up_with_one_of_today(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    today = tmp_path / "today.json"
    status, _ = run(capsys, "summarise", LOG, "-c", FILE, "-o", today)
    assert status == 0
    status, text = run(capsys, "report", OLD / "summary.json", today, "--json")
    report = json.loads(text)
    assert status == 1
    assert report["log"]["records"] == 2 * RECORDS
    for name, old in REPORT["shadows"].items():
        both = report["shadows"][name]
        assert both["coverage"]["chosen"] == 2 * old["coverage"]["chosen"]
        assert both["agreement"]["verdicts"] == {key: 2 * n for key, n in old["agreement"]["verdicts"].items()}
    # What only today's counts is not there for all of them, so nothing is called READY on it.
    assert report["result"] != "pass"


def test_a_summary_alone_is_never_ready(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = run(capsys, "report", OLD / "summary.json")
    assert "saved by an earlier version" in text
    assert "READY" not in text.replace("NOT READY", "")


def test_the_other_commands_read_the_log_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, text = run(capsys, "show", LOG, "request-387")
    assert (status, "late" in text) == (0, True)
    status, _ = run(capsys, "export", LOG, "-o", tmp_path / "log.csv")
    assert status == 0
    assert len((tmp_path / "log.csv").read_text().splitlines()) > RECORDS
