"""`report`, `summarise`, `tail` and `show --curl` as commands: words in, forms and exit statuses out."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_engines import line, log

from shadowproxy import cli
from shadowproxy.compare.fold.progress import reading

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shadowproxy", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return command


@pytest.fixture
def same(tmp_path: Path) -> Path:
    """A log of a twin, long enough to pass every check."""
    file = tmp_path / "same.jsonl"
    file.write_bytes(b"".join(line(n, {"label": "ab"[n % 2]}, {"label": "ab"[n % 2]}) for n in range(900)))
    return file


@pytest.fixture
def other(tmp_path: Path) -> Path:
    file = tmp_path / "other.jsonl"
    file.write_bytes(log(0, 400))
    return file


LENIENT = "answered: 0.02\nstructure: 0.02\nerrors: 0.02\n"


def gates(tmp_path: Path, text: str = LENIENT) -> Path:
    (tmp_path / "gates.yaml").write_text(text)
    return tmp_path / "gates.yaml"


def test_the_exit_status_is_the_verdict(run: Run, same: Path, other: Path, tmp_path: Path) -> None:
    assert run("report", same, "--gates", gates(tmp_path))[0] == 0
    assert run("report", other, "--gates", gates(tmp_path), "--min-agreement", "0.99")[0] == 1
    assert run("report", same)[0] == 3
    assert run("report", same, "--fail-on", "fail")[0] == 0
    assert run("report", tmp_path / "nowhere")[0] == 2


def test_every_form_is_written_where_it_is_asked_for(run: Run, other: Path, tmp_path: Path) -> None:
    page, checks = tmp_path / "page.html", tmp_path / "checks.xml"
    _, out, _ = run("report", other, "--html", page, "--junit", checks, "--markdown")
    assert out.startswith("# Shadow report")
    assert page.read_text().startswith("<!doctype html>")
    assert ElementTree.parse(checks).getroot().tag == "testsuites"
    assert json.loads(run("report", other, "--json")[1])["shadowproxy_report"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ("report", "LOG", "--html", "LOG"),
        ("report", "FOLDER", "--junit", "LOG"),
        ("report", "OTHER", "--labels", "LOG", "--html", "LOG"),
        ("summarise", "LOG", "-o", "LOG"),
        ("summarise", "FOLDER", "-o", "LINK"),
        ("judge", "LOG", "--to", "http://127.0.0.1:9", "--model", "m", "--out", "LOG"),
    ],
)
def test_nothing_is_written_over_what_is_read(run: Run, same: Path, other: Path, words: tuple[str, ...]) -> None:
    link = same.with_name("link")
    link.symlink_to(same)
    before = same.read_bytes()
    places = {"LOG": same, "FOLDER": same.parent, "OTHER": other, "LINK": link}
    status, _, error = run(*[places.get(word, word) for word in words])
    assert status == 2
    assert "is one of the files to read" in error
    assert same.read_bytes() == before


def test_saved_summaries_report_as_their_logs_do(run: Run, same: Path, other: Path, tmp_path: Path) -> None:
    for file in (same, other):
        assert run("summarise", file, "-o", file.with_suffix(".json"))[0] == 0
    whole = run("report", same, other, "--json")
    assert run("report", same.with_suffix(".json"), other.with_suffix(".json"), "--json") == whole
    assert run("summarise", same)[1] == same.with_suffix(".json").read_text()


def test_what_is_asked_for_is_what_is_counted(run: Run, other: Path, tmp_path: Path) -> None:
    def records(*words: object) -> int:
        count: int = json.loads(run("report", other, "--json", *words)[1])["log"]["records"]
        return count

    assert records() == 400
    assert records("--where", "/n=3") == 80
    assert records("--path", "/q") == 0
    assert records("--since", "2026-01-31T12:01:40") == 300
    assert records("--until", "2026-01-31T12:01:40") == 100


def test_rules_fields_and_labels_can_be_given(run: Run, other: Path, tmp_path: Path) -> None:
    def shadow(*words: object) -> dict[str, dict[str, dict[str, int]]]:
        found: dict[str, dict[str, dict[str, int]]] = json.loads(run("report", other, "--json", *words)[1])["shadows"][
            "s"
        ]
        return found

    assert shadow()["agreement"]["verdicts"]["mismatch"] == 40
    assert shadow("--ignore", "/label")["agreement"]["verdicts"]["ignored"] == 40
    assert shadow("--tolerance", "/x=0.5", "--unordered", "/y")["agreement"]["verdicts"]["mismatch"] == 40
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(f"id-{n},{'ab'[n % 2]}\n" for n in range(400)))
    labelled = shadow("--labels", tmp_path / "labels.csv", "--field", "/label")
    assert labelled["outputs"][0]["labels"]["live_only"] == 40  # type: ignore[index]
    both = shadow("--live-field", "/label", "--shadow-field", "/label")
    assert both["outputs"][0]["pairs"] == 400  # type: ignore[index]
    assert [row["path"] for row in shadow("--slice", "/n")["slices"]] == ["/n"] * 5  # type: ignore[index]
    assert [row["path"] for row in shadow("--slice", "@method")["slices"]] == ["@method"]  # type: ignore[index]


def test_where_the_answer_is_can_be_said_by_the_configuration(run: Run, other: Path, tmp_path: Path) -> None:
    def places(*words: object) -> list[str]:
        report = json.loads(run("report", other, "--json", *words)[1])
        return [output["live_path"] for output in report["shadows"]["s"]["outputs"]]

    (tmp_path / "config.yaml").write_text("live: {url: http://a}\ncompare: {prediction: /x}\n")
    assert places() == ["/label"]
    assert places("-c", tmp_path / "config.yaml") == ["/x"]
    assert places("-c", tmp_path / "config.yaml", "--field", "/label") == ["/label"]


def test_a_slice_that_is_named_is_kept_beyond_the_fields_of_a_request_that_are(run: Run, tmp_path: Path) -> None:
    rows = []
    for n in range(400):
        row = json.loads(line(n, {"label": "a"}, {"label": "b" if n % 4 == 0 else "a"}))
        row["request"]["body"] = {**{f"f{at}": n for at in range(200)}, "deep": {"down": {"city": "xyzw"[n % 4]}}}
        rows.append(json.dumps(row).encode() + b"\n")
    (tmp_path / "wide.jsonl").write_bytes(b"".join(rows))

    def slices(log: Path) -> list[tuple[str, str, int, int]]:
        found = json.loads(run("report", log, "--json", "--slice", "/deep/down/city")[1])["shadows"]["s"]["slices"]
        return [(row["path"], row["value"], row["requests"], row["differing"]) for row in found]

    expected = [("/deep/down/city", f'"{city}"', 100, 100 if city == "x" else 0) for city in "xwyz"]
    assert sorted(slices(tmp_path / "wide.jsonl")) == sorted(expected)
    saved = tmp_path / "saved.json"
    run("summarise", tmp_path / "wide.jsonl", "--slice", "/deep/down/city", "-o", saved)
    assert sorted(slices(saved)) == sorted(expected)
    run("summarise", tmp_path / "wide.jsonl", "-o", saved)
    assert slices(saved) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--slice", "city"),
        ("--where", "nonsense"),
        ("--where", "/a>>1"),
        ("--where", "/a=1=2"),
        ("--where", "/a==1"),
        ("--where", '/a="1"=2'),
        ("--since", "yesterday"),
        ("--field", "no-pointer"),
        ("--live-field", "/x"),
        ("--tolerance", "/x"),
        ("--tolerance", "/x=-1"),
        ("--ignore", "x"),
        ("--min-agreement", "95"),
        ("--labels", "/nowhere/labels.csv"),
        ("--gates", "/nowhere/gates.yaml"),
        ("--html", "/nowhere/page.html"),
        ("--json", "--markdown"),
    ],
)
def test_a_wrong_option_is_one_line_and_2(run: Run, other: Path, words: tuple[str, ...]) -> None:
    status, _, err = run("report", other, *words)
    assert (status, len(err.splitlines())) == (2, 1)
    assert err.startswith("shadowproxy: ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--where", "/n=3"), "--where cannot be applied to it, give it to summarise"),
        (("--since", "2026-01-31T12:01:40"), "--since cannot be applied to it, give it to summarise"),
        (("--until", "2026-01-31T12:01:40"), "--until cannot be applied to it, give it to summarise"),
        (("--path", "/q"), "--path cannot be applied to it, give it to summarise"),
        (("--ignore", "/label"), "--ignore cannot be applied to it, give it to summarise"),
        (("--tolerance", "/x=0.5"), "--tolerance cannot be applied to it, give it to summarise"),
        (("--unordered", "/y"), "--unordered cannot be applied to it, give it to summarise"),
        (("--field", "/x"), "--field cannot be applied to it, give it to summarise"),
        (("--field", "/label", "--field", "/x"), "--field cannot be applied to it, give it to summarise"),
        (
            ("--live-field", "/label", "--shadow-field", "/x"),
            "--live-field, --shadow-field cannot be applied to it, give them to summarise",
        ),
        (("-c", "rules.yaml"), "-c cannot be applied to it, give it to summarise"),
        (("-c", "prediction.yaml"), "-c cannot be applied to it, give it to summarise"),
        (("--where", "/n=3", "--path", "/q"), "--path, --where cannot be applied to it, give them to summarise"),
    ],
)
def test_what_comes_too_late_for_a_summary_is_refused_in_one_line(
    run: Run, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rules.yaml").write_text("live: {url: http://a}\ncompare: {ignore: [/label]}\n")
    Path("prediction.yaml").write_text("live: {url: http://a}\ncompare: {prediction: /x}\n")
    run("summarise", other, "-o", "s.json")
    refused = (2, "", f"shadowproxy: s.json is a summary: {told}\n")
    assert run("report", "s.json", *words) == refused
    assert run("report", other, "s.json", "--jobs", "2", *words) == refused
    assert run("summarise", "s.json", *words) == refused


def test_a_summary_heeds_what_its_counts_still_tell(run: Run, other: Path, tmp_path: Path) -> None:
    saved, plain = tmp_path / "s.json", tmp_path / "plain.yaml"
    plain.write_text("live: {url: http://a}\n")
    run("summarise", other, "-o", saved)
    whole = run("report", saved, "--json")
    assert whole[0] != 2
    same_fields = ("--live-field", "/label", "--shadow-field", "/label")
    for words in (("--shadow", "s"), ("--field", "/label"), same_fields, ("-c", plain), ("--max-p99", "9")):
        assert run("report", saved, "--json", *words)[2] == ""
    assert run("report", saved, "--json", "--field", "/label") == whole
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    run("summarise", empty, "-o", tmp_path / "empty.json")
    assert run("report", saved, tmp_path / "empty.json", "--json", "--field", "/label") == whole


def test_a_broken_summary_is_one_line_and_2(run: Run, other: Path, tmp_path: Path) -> None:
    saved = tmp_path / "s.json"
    run("summarise", other, "-o", saved)
    whole = saved.read_text()
    for damaged in (
        '{"shadowproxy_summary":1}\n',
        whole.replace('"width":', '"width":"a lot","was":'),
        re.sub(r'"chosen":{[^}]*}', '"chosen":[1,2]', whole, count=1),
        re.sub(r'"outcomes":{"ok":(\d+)', r'"outcomes":{"ok":"\1"', whole, count=1),
    ):
        assert damaged != whole
        saved.write_text(damaged)
        status, out, err = run("report", saved)
        assert (status, out) == (2, "")
        assert re.fullmatch(rf"shadowproxy: {re.escape(str(saved))}: not a whole summary: [^\n]+\n", err)


def test_a_request_can_be_had_as_a_command(run: Run, other: Path) -> None:
    status, out, _ = run("show", other, "id-7", "--curl", "http://127.0.0.1:9")
    assert status == 0
    assert out == (
        "curl --path-as-is -X POST -H 'content-type: application/json' --data-raw '{\"n\":2}' http://127.0.0.1:9/p\n"
    )


def test_tail_begins_with_the_last(run: Run, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shadowproxy.compare.report.tail._wait", interrupted)
    status, out, _ = run("tail", other, "-n", 3)
    assert status == 130
    assert [row.split()[-1] for row in out.splitlines()] == ["id-397", "id-398", "id-399"]
    _, out, _ = run("tail", other, "-n", 100, "--mismatches", "--where", "/n=0")
    assert len(out.splitlines()) == 10


def test_progress_is_shown_on_a_terminal_only(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reading([str(other)]) as told:
        assert told is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with reading([str(other), "-"]) as told:
        assert told is not None
        told(100, 200)
