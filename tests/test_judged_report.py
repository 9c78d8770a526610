"""What the report makes of a judge: its check, its word, and which files it accepts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from judges import FakeJudge
from test_docs import ROOT
from test_engines import line
from test_judge import Run, chat, differing, honest, question, run, written

from shadowproxy.compare.report.preferences import Head, JudgedError, Preference, Said, WinRate, read_preferences
from shadowproxy.judge.prompt import SYSTEM, USER

__all__ = ["run"]


def head(**changes: Any) -> Head:
    values: dict[str, Any] = {
        "shadow": "s", "model": "m", "to": "http://a", "prompt": "1", "records": 10, "sketch": (), "equal": 0,
        "differing": 10, "left_out": {}, "drawn": 10, "mean_probability": 1.0, "least_probability": 1.0,
    } | changes  # fmt: skip
    return Head(**values)


def preference(place: int | None, winner: str = "shadow", probability: float = 1.0, **more: Any) -> Preference:
    said: dict[str, tuple[Said | None, Said | None]]
    said = {"shadow": ("B", "A"), "live": ("A", "B"), "tie": ("tie", "tie"), "none": (None, None)}
    first, second = said[winner]
    return Preference(f"id-{place}", f"r-{place}", place, probability, first, second, 2, **more)


def judged(run: Run, log: Path, wins: str, budget: int = 1000) -> Path:
    """The file of a judge for whom the shadow always, never or by worth gives the better answer."""
    script = {"worth": honest, "shadow": prefers("of the shadow"), "live": prefers("from the live")}[wins]
    file = log.with_name(f"{wins}.judged.jsonl")
    with FakeJudge(script) as judge:
        assert run("judge", log, "--to", judge.url, "--model", "m", "--budget", budget, "--out", file)[0] == 0
    return file


def prefers(words: str) -> Any:
    return lambda asked: json.dumps({"better": "A" if words in asked.a else "B"})


def shadow_of(run: Run, log: Path, *words: object) -> Any:
    return json.loads(run("report", log, "--json", *words)[1])["shadows"]["s"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Chats of which a fifth differ; all other checks pass."""
    source = iter(differing(2000))
    pairs = [next(source) if n % 5 == 0 else (f"answer {n % 7}", f"answer {n % 7}") for n in range(2000)]
    return written(tmp_path / "log.jsonl", pairs)


# --- the check -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_judge_decides_the_word_of_the_report(run: Run, log: Path) -> None:
    alone = shadow_of(run, log)
    assert (alone["judged"], alone["verdict"]["headline"]) == (None, "NOT SURE YET")
    assert "nothing here says who is right: give --labels, --judged" in alone["verdict"]["sentence"]
    better = shadow_of(run, log, "--judged", judged(run, log, "shadow"))
    assert better["verdict"]["headline"] == "READY"
    assert better["verdict"]["questions"]["performance"] == "pass"
    assert "unexplained" not in {check["name"] for check in better["checks"]}
    (check,) = [check for check in better["checks"] if check["name"] == "judge"]
    assert check["low"] >= check["allowed"] == 0.45
    assert check["low"] <= check["value"] <= check["high"]
    worse = shadow_of(run, log, "--judged", judged(run, log, "live"))
    assert worse["verdict"]["headline"] == "NOT READY"
    assert "judge" in {check["name"] for check in worse["checks"] if check["result"] == "fail"}
    few = shadow_of(run, log, "--judged", judged(run, log, "worth", budget=40))
    (check,) = [check for check in few["checks"] if check["name"] == "judge"]
    assert few["verdict"]["headline"] == "NOT SURE YET"
    assert re.search(r"about [\d,]+ more calls of shadowproxy judge would settle it", check["said"])
    assert few["advice"]["next"]["said"] == "let the judge see more pairs: run shadowproxy judge with a larger --budget"
    assert (few["blind_spots"]["otherwise"], alone["blind_spots"]["otherwise"] < 0.05) == (0.1, True)
    assert few["judged"]["pairs"] == 2000
    assert few["judged"]["equal"] == 1600


@pytest.mark.slow
def test_the_gate_says_how_much_worse_it_may_be_or_turns_the_check_off(run: Run, log: Path, tmp_path: Path) -> None:
    file, gates = judged(run, log, "live"), tmp_path / "gates.yaml"
    for text, result in (("judge: 0.2\n", "pass"), ("judge: 0\n", "fail")):
        gates.write_text(text)
        checks = shadow_of(run, log, "--judged", file, "--gates", gates)["checks"]
        assert [check["result"] for check in checks if check["name"] == "judge"] == [result]
    gates.write_text("judge: null\n")
    names = {check["name"] for check in shadow_of(run, log, "--judged", file, "--gates", gates)["checks"]}
    assert "judge" not in names
    assert "unexplained" in names


@pytest.mark.slow
def test_every_form_names_the_judge_and_a_summary_reports_as_its_log(run: Run, log: Path, tmp_path: Path) -> None:
    file, saved = judged(run, log, "shadow"), tmp_path / "s.json"
    run("summarise", log, "-o", saved)
    whole = run("report", log, "--json", "--judged", file)
    assert run("report", saved, "--json", "--judged", file) == whole
    page = tmp_path / "page.html"
    for words in ((), ("--markdown",), ("--html", page)):
        out = run("report", log, "--judged", file, *words)[1]
        assert re.search(r"win rate 60\s%", page.read_text() if words[:1] == ("--html",) else out)


def test_the_judge_counts_on_logs_whose_routes_are_judged_one_by_one(run: Run, tmp_path: Path) -> None:
    pairs = [("same", "same") if n % 4 else (f"{n} of live", f"{n} of the shadow") for n in range(800)]
    rows = [
        line(n, chat(one), chat(other), question(n), b"/a" if n < 400 else b"/b")
        for n, (one, other) in enumerate(pairs)
    ]
    (tmp_path / "log.jsonl").write_bytes(b"".join(rows))
    file = judged(run, tmp_path / "log.jsonl", "shadow", budget=40)
    found = shadow_of(run, tmp_path / "log.jsonl", "--judged", file)
    assert [route["gated"] for route in found["routes"]] == [True, True]
    names = [check["name"] for check in found["checks"]]
    assert names.count("judge") == 1
    assert "unexplained" not in names
    assert not any(check["name"] in ("judge", "unexplained") for route in found["routes"] for check in route["checks"])


def test_replies_that_could_not_be_used_withhold_a_pass() -> None:
    from test_checks import figures

    from shadowproxy.compare.report.checks.check import Result, Subject
    from shadowproxy.compare.report.checks.judge import judge
    from shadowproxy.compare.report.gates import Gates
    from shadowproxy.compare.report.preferences import judged_figures

    def result(unreadable: int, decided: int = 200) -> tuple[Result, str]:
        rows = [preference(n, "none", why="unreadable") for n in range(unreadable)]
        rows += [preference(n) for n in range(unreadable, unreadable + decided)]
        found = judge(Subject(figures(judged=judged_figures(head(differing=999), rows)), Gates()), 0.05)
        assert found is not None
        return found.result, found.sentence

    assert result(10)[0] is Result.PASS
    assert result(20)[0] is Result.INCONCLUSIVE
    assert "9.1 % of what it said could not be used" in result(20)[1]


# --- the win rate ----------------------------------------------------------------------------------------------------


def test_equal_pairs_are_ties_of_the_win_rate() -> None:
    rate = WinRate(head(equal=30))
    assert (rate.value, rate.low, rate.high) == (None, 0.375, 0.625)
    for place in range(10):
        rate.add(preference(place))
    assert rate.value == 0.625
    assert rate.high == 0.625
    assert WinRate(head(equal=30, differing=0)).value == 0.5
    assert WinRate(head(differing=0)).value is None


def test_what_comes_after_a_pair_that_is_missing_does_not_count_yet() -> None:
    rate = WinRate(head())
    for place in (0, 2, None, 3):
        rate.add(preference(place))
    assert len(rate.used) == 1
    rate.add(preference(1, "none", why="unreadable"))
    assert [each.place for each in rate.used] == [0, 1, 2, 3]


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_file_reads_as_it_was_written_and_its_torn_end_is_left_out(tmp_path: Path) -> None:
    whole = head(sketch=(1, 2**64 - 1), left_out={"why": 3}, other_calls=4)
    rows = [preference(0), preference(None, "live"), preference(2, "none", why="no", failed=True)]
    file = tmp_path / "x.judged.jsonl"
    raw = whole.line() + b"".join(each.line(whole) for each in rows)
    file.write_bytes(raw + rows[0].line(whole)[:-9])
    assert read_preferences(file)[0] == whole
    assert sorted(read_preferences(file)[1], key=lambda each: each.record) == sorted(rows, key=lambda each: each.record)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"shadowproxy_judged":1', b'"shadowproxy_judged":9', ":1: this is not the first line of a judge's file: no"),
        (
            b'"differing":10',
            b'"differing":-1',
            ":1: this is not the first line of a judge's file: differing is no count",
        ),
        (b'"mean_probability":1.0', b'"mean_probability":2', "mean_probability is no probability"),
        (b'"mean_probability":1.0', b'"mean_probability":0.1', "least_probability is above mean_probability"),
        (b'"sketch":[]', b'"sketch":["x"]', "invalid literal"),
        (b'"sketch":[]', b'"sketch":[1]', "int()"),
        (
            b'"probability":1.0,"model"',
            b'"probability":0,"model"',
            ":2: this is not a judge's preference: probability is no",
        ),
        (b'"live_first":"B"', b'"live_first":"C"', "live_first is none of A, B, tie"),
        (b'"calls":2', b'"cells":2', "calls is missing"),
        (b'"calls":2', b'"calls":true', "calls is no count"),
        (b'{"id"', b'["id"', ":2: this is not a judge's preference: "),
    ],
)
def test_a_broken_file_is_one_line_that_says_where(tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    file = tmp_path / "x.judged.jsonl"
    raw = head().line() + preference(0).line(head())
    assert raw.count(old) == 1
    file.write_bytes(raw.replace(old, new))
    with pytest.raises(JudgedError) as caught:
        read_preferences(file)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_a_file_about_this_log_and_shadow_is_accepted(run: Run, tmp_path: Path) -> None:
    one = written(tmp_path / "one.jsonl", differing(60))
    other = written(tmp_path / "other.jsonl", differing(60), start=1000)
    file = judged(run, one, "worth", budget=20)

    def refused(*words: object) -> str:
        status, out, err = run("report", *words)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        return err

    assert "it judges records that are not in this log" in refused(other, "--judged", file)
    assert "it judges records that are not in this log" in refused(
        one, "--where", "/messages/0/content=question 1", "--judged", file
    )
    assert "a second file that judges the shadow s" in refused(one, "--judged", file, "--judged", file)
    assert "cannot read" in refused(one, "--judged", tmp_path / "none")
    text = file.read_text()
    file.write_text(text.replace('"shadow":"s"', '"shadow":"t"'))
    assert "it judges the shadow t, which is not in this log" in refused(one, "--judged", file)
    file.write_text(text)
    grown = written(tmp_path / "grown.jsonl", differing(100))
    assert run("report", grown, "--judged", file)[0] == 3
    assert "it judges 60 of this log's 121 records, too few" in refused(
        written(tmp_path / "more.jsonl", differing(121)), "--judged", file
    )


# --- the page --------------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "how-to" / "judge.md").read_text()


def test_the_page_has_the_prompt_as_it_is_sent() -> None:
    assert f"```\n{SYSTEM.format(code='CODE')}\n```" in PAGE
    texts = {"request": "REQUEST", "a": "ONE ANSWER", "b": "THE OTHER ANSWER"}
    assert f"```\n{USER.format(code='CODE', **texts)}\n```" in PAGE


@pytest.mark.slow
def test_the_commands_of_the_page_run_one_after_the_other(tmp_path: Path) -> None:
    pairs = [("equal", "equal") if n % 5 < 2 else pair for n, pair in enumerate(differing(300))]
    written(tmp_path / "rows.jsonl", pairs)
    (tmp_path / "shadow-log").mkdir()
    rows = (tmp_path / "rows.jsonl").read_bytes().replace(b'"shadows":{"s":', b'"shadows":{"challenger":')
    (tmp_path / "shadow-log" / "1.jsonl").write_bytes(rows)
    (tmp_path / "people.csv").write_text("id,label\n" + "".join(f"id-{n},live\n" for n in range(300)))
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    outputs = []
    with FakeJudge(honest) as judge:
        for how, command in re.findall(r"<!-- run(: report)? -->\n```sh\n(.*?)```", PAGE, re.DOTALL):
            done = subprocess.run(
                ["bash", "-euc", command.replace("http://127.0.0.1:11434/v1", judge.url)],
                cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.returncode in ({1, 3} if how else {0}), done.stdout + done.stderr
            outputs.append(done.stdout.replace(judge.url, "http://127.0.0.1:11434/v1"))
    assert len(outputs) == 4
    dry, asked, reported, people = outputs
    (shown,) = re.findall(r"^```\n(judge  .*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert dry == shown
    assert "win rate" in asked
    assert "judge" in reported
    assert "people      agree with it on" in people
