"""Labels with the real command: joined to a log, and weeks later to the answers that were kept beside its summaries."""

import errno
import json
import os
import random
import stat
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from shadowproxy import cli
from shadowproxy.compare.fold import kept
from shadowproxy.exchange import Exchange, Failure, Outcome, Reply, Request
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy

JSON = ((b"Content-Type", b"application/json"),)
START = 1_769_860_800_000_000_000

Run = Callable[..., tuple[int, str, str]]
Case = tuple[str, Any, dict[str, Any]]
"""The path and the body of a request, and what each arm answers."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shadowproxy", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return command


def leg(value: Any, number: int) -> Reply | Failure:
    if isinstance(value, Outcome):
        return Failure(value, str(value), 9.0)
    status, value = value if isinstance(value, tuple) else (200, value)
    body = orjson.dumps(value)
    return Reply(status, JSON, body, len(body), 1.0, 2.0 + number % 5)


def written(number: int, case: Case) -> bytes:
    path, asked, said = case
    body = orjson.dumps(asked)
    at = START + number * 700_000_000 + number % 7 * 1_000
    request = Request(f"id-{number}", f"r-{number}", at, "POST", path.encode(), JSON, body, len(body))
    legs = {name: leg(value, number) for name, value in said.items()}
    return encode(Exchange(request, legs.pop("live"), legs), proxy="h/1", policy=Policy(), judge=None)


def log_of(file: Path, cases: list[Case], first: int = 0) -> Path:
    file.write_bytes(b"".join(written(first + at, case) for at, case in enumerate(cases)))
    return file


def labels_of(file: Path, rows: Iterator[tuple[Any, ...]] | list[tuple[Any, ...]], head: str = "id,label") -> Path:
    file.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return file


def classes(count: int, wrong: float = 0.0, gone: float = 0.0, seed: int = 4) -> tuple[list[Case], list[str]]:
    """Requests with what is true of each; live is right in 90 %, the shadow wrong as often as told or silent."""
    source = random.Random(seed)
    cases: list[Case] = []
    truths = []
    for number in range(count):
        truth = source.choice(["cat", "dog", "owl"])
        live = truth if source.random() < 0.9 else "eel"
        shadow: Any = {"label": "eel" if source.random() < wrong else live}
        if source.random() < gone:
            shadow = source.choice([{"label": None}, {"error": "boom"}, {}, {"label": []}, (500, {"error": "boom"})])
        cases.append(("/predict", {"order_id": 5000 + number}, {"live": {"label": live}, "s": shadow}))
        truths.append(truth)
    return cases, truths


def check(out: str, name: str = "labels", shadow: str = "s") -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(out)["shadows"][shadow]["checks"]
    (one,) = (each for each in found if each["name"] == name)
    return one


# --- labels with the log ---------------------------------------------------------------------------------------------


def test_a_shadow_that_leaves_answers_out_is_wrong_there(run: Run, tmp_path: Path) -> None:
    cases, truths = classes(3000, gone=0.1)
    log = log_of(tmp_path / "log.jsonl", cases)
    labels = labels_of(tmp_path / "labels.csv", [(f"id-{n}", truth) for n, truth in enumerate(truths)])
    code, out, _ = run("report", log, "--labels", labels, "--json")
    assert code == 1
    assert check(out)["result"] == "fail"
    figures = json.loads(out)["shadows"]["s"]["outputs"][0]["labels"]
    assert (figures["labelled"], figures["labelled_requests"], figures["coverage"]) == (3000, 3000, 1.0)
    assert figures["shadow"]["value"] < 0.9 * figures["live"]["value"] + 0.01


def test_rows_of_a_batch_are_joined_by_their_number(run: Run, tmp_path: Path) -> None:
    source = random.Random(3)
    cases: list[Case] = []
    rows: list[tuple[Any, ...]] = []
    for number in range(400):
        truth = [source.choice("ab") for _ in range(3)]
        live = [each if source.random() < 0.9 else "c" for each in truth]
        shadow = live[:2] if number % 4 == 0 else live  # the third row left out
        cases.append(
            ("/batch", {"instances": [1, 2, 3]}, {"live": {"predictions": live}, "s": {"predictions": shadow}})
        )
        rows += [(f"id-{number}", at, each) for at, each in enumerate(truth)]
    log = log_of(tmp_path / "log.jsonl", cases)
    labels = labels_of(tmp_path / "labels.csv", rows, "id,row,label")
    _, out, _ = run("report", log, "--labels", labels, "--json")
    figures = json.loads(out)["shadows"]["s"]["outputs"][0]
    assert (figures["unit"], figures["labels"]["labelled"], figures["labels"]["labelled_requests"]) == (
        "rows",
        1200,
        400,
    )
    assert figures["labels"]["live"]["value"] - figures["labels"]["shadow"]["value"] > 0.05
    as_lists = tmp_path / "labels.jsonl"
    as_lists.write_text(
        "".join(
            json.dumps({"id": f"id-{n}", "label": [row[2] for row in rows[3 * n : 3 * n + 3]]}) + "\n"
            for n in range(400)
        )
    )
    assert run("report", log, "--labels", as_lists, "--json")[1] == out


def test_labels_that_are_not_as_many_as_the_rows_are_said(run: Run, tmp_path: Path) -> None:
    case: Case = ("/batch", {"rows": [1, 2]}, {"live": {"predictions": ["a", "b"]}, "s": {"predictions": ["a", "b"]}})
    log = log_of(tmp_path / "log.jsonl", [case] * 200)
    labels = labels_of(tmp_path / "labels.csv", [(f"id-{n}", "a") for n in range(200)])
    code, out, _ = run("report", log, "--labels", labels, "--json")
    assert code == 3
    assert check(out)["said"] == (
        "200 requests have more or fewer labels than their answers have rows: give `row`, or a list of labels"
    )
    for form in ((), ("--markdown",), ("--html", tmp_path / "report.html")):
        assert run("report", log, "--labels", labels, *form)[0] == 3
    half = tmp_path / "half.jsonl"
    half.write_text("".join(json.dumps({"id": f"id-{n}", "label": ["a", "b"][: 1 + n % 2]}) + "\n" for n in range(200)))
    found = check(run("report", log, "--labels", half, "--json")[1])
    assert found["said"].endswith(
        "on 200 of 300 labels (100 requests have more or fewer labels than their answers have rows, and are left out)"
    )


def test_labels_of_one_route_say_nothing_of_another(run: Run, tmp_path: Path) -> None:
    cases, truths = classes(3000)
    others: list[Case] = [
        ("/other", {}, {"live": {"label": "xy"[n % 2]}, "s": {"label": "xy"[n % 2]}}) for n in range(3000)
    ]
    log = log_of(tmp_path / "log.jsonl", [*cases, *others])
    labels = labels_of(tmp_path / "labels.csv", [(f"id-{n}", truth) for n, truth in enumerate(truths)])
    code, out, _ = run("report", log, "--labels", labels, "--json")
    found = json.loads(out)["shadows"]["s"]
    assert [route["gated"] for route in found["routes"]] == [True, True]
    assert check(out)["result"] == "pass"
    assert all("labels matched" not in each["said"] for route in found["routes"] for each in route["checks"])
    assert code == 0


def test_a_mean_error_that_leaves_out_what_is_missing_decides_nothing(run: Run, tmp_path: Path) -> None:
    source = random.Random(5)
    cases: list[Case] = []
    rows = []
    for number in range(3000):
        truth = source.gauss(20, 5)
        live = truth + source.gauss(0, 2)
        shadow: Any = {"minutes": truth + source.gauss(0, 1)} if source.random() < 0.95 else {"minutes": None}
        cases.append(("/predict", {"n": number}, {"live": {"minutes": live}, "s": shadow}))
        rows.append((f"id-{number}", truth))
    log = log_of(tmp_path / "log.jsonl", cases)
    labels = labels_of(tmp_path / "labels.csv", rows)
    code, out, _ = run("report", log, "--labels", labels, "--json")
    assert code == 1  # the answers that are missing fail it
    found = check(out)
    assert (found["result"], "leaves out what is missing" in found["said"]) == ("inconclusive", True)


@pytest.mark.parametrize("form", ["text", "json", "markdown", "html"])
def test_labels_that_match_no_request_are_said_in_every_form(run: Run, tmp_path: Path, form: str) -> None:
    cases, truths = classes(600)
    log = log_of(tmp_path / "log.jsonl", cases)
    labels = labels_of(tmp_path / "labels.csv", [(f"other-{n}", truth) for n, truth in enumerate(truths)])
    page = tmp_path / "report.html"
    options = {"text": (), "json": ("--json",), "markdown": ("--markdown",), "html": ("--html", page)}[form]
    code, out, _ = run("report", log, "--labels", labels, *options)
    assert code == 3
    said = page.read_text() if form == "html" else " ".join(out.split())
    assert "0 of 600 labels matched a request" in said
    assert "no labels supplied" not in said


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_how_many_of_the_labels_matched_is_said(run: Run, tmp_path: Path, form: str) -> None:
    cases, truths = classes(900)
    log = log_of(tmp_path / "log.jsonl", cases)
    labels = labels_of(tmp_path / "labels.csv", [(f"id-{n + 100}", truth) for n, truth in enumerate(truths)])
    page = tmp_path / "report.html"
    options = {"text": (), "markdown": ("--markdown",), "html": ("--html", page)}[form]
    out = run("report", log, "--labels", labels, *options)[1]
    said = page.read_text() if form == "html" else " ".join(out.split())
    assert "on 800 of 900 labels" in said


def test_labels_are_joined_by_a_field_of_the_request_and_the_newest_wins(run: Run, tmp_path: Path) -> None:
    cases, truths = classes(600)
    log = log_of(tmp_path / "log.jsonl", cases)
    by_id = labels_of(tmp_path / "id.csv", [(f"id-{n}", truth) for n, truth in enumerate(truths)])
    rows = [(5000 + n, truth, "2026-03-01T00:00:00Z") for n, truth in enumerate(truths)]
    rows += [
        (5000 + n, "owl", "2026-02-01T00:00:00Z") for n in range(600)
    ]  # a correction came before, in the file after
    by_order = labels_of(tmp_path / "order.tsv", rows, "order_id,label,at")
    by_order.write_text(by_order.read_text().replace(",", "\t"))
    ones = json.loads(run("report", log, "--labels", by_id, "--json")[1])["shadows"]["s"]["outputs"][0]["labels"]
    others = json.loads(run("report", log, "--labels", by_order, "--label-key", "/order_id", "--json")[1])
    found = others["shadows"]["s"]["outputs"][0]["labels"]
    assert found["delay_seconds"]["p50"] > 20 * 86400
    assert {**found, "delay_seconds": None} == {**ones, "delay_seconds": None}


# --- labels weeks after the log --------------------------------------------------------------------------------------

LONG = "a class may be said in as many words as somebody likes, and still be one class and not another: " * 2


def mixed(count: int, seed: int) -> list[Case]:
    """Requests of every kind: routes, batches, several shadows, failures, missing answers, long texts, vectors."""
    source = random.Random(seed)
    cases: list[Case] = []
    for _ in range(count):
        order = {"order_id": source.randrange(10_000), "carrier": source.choice(["UA", "DL"])}
        kind = source.choice([0, 0, 0, 1, 2, 3, 4, 4, 4])
        if kind == 0:
            live: Any = {"predictions": [source.choice("ab") for _ in range(3)]}
            shadow: Any = {"predictions": [source.choice("ab") for _ in range(source.choice([1, 3, 3, 3, 4]))]}
            path, asked = "/batch", {**order, "instances": [1, 2, 3]}
        elif kind == 1:
            live, shadow = ({"label": LONG + source.choice(["!", "?"])} for _ in range(2))
            path, asked = f"/texts/{source.randrange(999)}", order
        elif kind == 2:
            p, q = source.random(), source.random()
            live, shadow = {"probabilities": {"cat": p, "dog": 1 - p}}, {"probabilities": {"cat": q, "dog": 1 - q}}
            path, asked = "/vector", order
        elif kind == 3:
            live, shadow = {"price": source.gauss(9, 1), "n": 3}, {"price": source.choice([3, 9.25, None]), "n": 3}
            path, asked = "/price", order
        else:
            live, shadow = {"label": source.choice([1, 2])}, {"label": source.choice([1, 2, "2", True, []])}
            path, asked = "/label", order
        draw = source.random()
        if draw < 0.05:
            shadow = Outcome.TIMEOUT
        elif draw < 0.08:
            shadow = (500, {"error": "boom"})
        elif draw < 0.1:
            shadow = Outcome.LANE_FULL
        elif draw < 0.12:
            live = (422, {"detail": "no"})
        elif draw < 0.14:
            live = Outcome.TIMEOUT
        said = {"live": live, "s": shadow}
        if source.random() < 0.3:
            said["t"] = live if source.random() < 0.5 else shadow
        cases.append((path, asked, said))
    return cases


def truths_of(cases: list[Case], place: str, seed: int = 6) -> str:
    """A file of labels for most of the requests, and for some that never came."""
    source = random.Random(seed)
    rows: list[dict[str, Any]] = [{"id": f"never-{n}", "label": "x"} for n in range(20)]
    for number, (path, asked, _) in enumerate(cases):
        label: Any = source.choice(["a", "b", 1, 2, "cat", LONG + "!", 9.0])
        if path == "/batch":
            label = [source.choice(["a", "b", None]) for _ in range(source.choice([2, 3, 3, 3]))]
        key = asked["order_id"] if place else f"id-{number}"
        if source.random() < 0.8:
            at = "2026-02-01T00:00:00Z" if source.random() < 0.7 else "2026-03-01T00:00:00Z"
            rows.append({"id": key, "label": label, "at": at})
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("place", ["", "/order_id"])
def test_labels_that_come_late_give_the_report_of_the_log_byte_for_byte(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kept, "_MOST_HELD", 4000)  # many runs, and
    monkeypatch.setattr(kept, "_MOST_MERGED", 3)  # more than are merged at once
    cases = mixed(1600, 8)
    for part in range(4):
        log_of(Path(f"{part}.jsonl"), cases[400 * part : 400 * part + 400], 400 * part)
    Path("labels.jsonl").write_text(truths_of(cases, place))
    by = ("--label-key", place) if place else ()
    with_labels = ("--labels", "labels.jsonl", *by, "--json")
    whole = run("report", "0.jsonl", "1.jsonl", "2.jsonl", "3.jsonl", *with_labels)
    figures = json.loads(whole[1])["shadows"]["s"]
    routes = {each["route"]: each["figures"] for each in figures["routes"] if each["gated"]}
    assert {"POST /batch", "POST /label", "other routes"} <= routes.keys()
    for route in ("POST /batch", "POST /label"):
        assert routes[route]["outputs"][0]["labels"]["labelled"] > 100
    keep = ("--keep-answers", *by)
    assert run("summarise", "0.jsonl", "1.jsonl", *keep, "-o", "pod-1.json") == (0, "", "")
    assert run("summarise", "3.jsonl", "2.jsonl", *keep, "--jobs", 2, "-o", "pod-2.json") == (0, "", "")
    assert run("report", "pod-2.json", "pod-1.json", *with_labels, "--jobs", 2) == whole
    assert run("report", "3.jsonl", "pod-1.json", "2.jsonl", *with_labels) == whole
    # Summaries of summaries, beside a log that is read for the first time.
    assert run("summarise", "pod-1.json", "2.jsonl", *keep, "-o", "three.json") == (0, "", "")
    assert run("summarise", "3.jsonl", "three.json", *keep, "-o", "all.json") == (0, "", "")
    assert run("report", "all.json", *with_labels) == whole
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(".")) == []
    logs = [f"{part}.jsonl" for part in range(4)]
    assert run("summarise", "all.json", *with_labels[:-1]) == run("summarise", *logs, *with_labels[:-1])
    chosen = (*with_labels, "--shadow", "t")
    assert run("report", "all.json", *chosen) == run("report", *logs, *chosen)
    # Without labels the summary is what it is without answers beside it.
    assert run("summarise", "0.jsonl", "1.jsonl")[1].encode() == Path("pod-1.json").read_bytes()


def test_labels_that_were_counted_before_are_replaced_by_those_that_come_now(run: Run, tmp_path: Path) -> None:
    cases, truths = classes(600, wrong=0.1)
    log = log_of(tmp_path / "log.jsonl", cases)
    some = labels_of(tmp_path / "some.csv", [(f"id-{n}", "owl") for n in range(50)])
    all_ = labels_of(tmp_path / "all.csv", [(f"id-{n}", truth) for n, truth in enumerate(truths)])
    saved = tmp_path / "pod.json"
    run("summarise", log, "-o", saved, "--keep-answers", "--labels", some)
    assert run("report", saved, "--json") == run("report", log, "--labels", some, "--json")
    for chosen in ((), ("--field", "/label")):
        words = ("--labels", all_, "--json", *chosen)
        assert run("report", saved, *words) == run("report", log, *words)


def test_the_answers_are_the_same_file_in_whatever_order_the_log_is_read(run: Run, tmp_path: Path) -> None:
    cases = mixed(300, 2)
    for part in range(3):
        log_of(tmp_path / f"{part}.jsonl", cases[100 * part : 100 * part + 100], 100 * part)
    ones, others = tmp_path / "ones.json", tmp_path / "others.json"
    run("summarise", *(tmp_path / f"{part}.jsonl" for part in (0, 1, 2)), "-o", ones, "--keep-answers")
    run("summarise", *(tmp_path / f"{part}.jsonl" for part in (2, 0, 1)), "-o", others, "--keep-answers", "--jobs", 2)
    assert kept.beside(ones).read_bytes() == kept.beside(others).read_bytes()
    assert stat.S_IMODE(os.stat(kept.beside(ones)).st_mode) == 0o600
    rows = [orjson.loads(row) for row in unpacked(kept.beside(ones)).splitlines()]
    assert rows[0]["shadowproxy_answers"] == 1
    assert rows[-1][:2] == ["end", len(rows) - 2]
    assert [row[0] for row in rows[1:-1]] == sorted(row[0] for row in rows[1:-1])


def test_what_is_kept_of_a_long_text_is_a_digest(run: Run, tmp_path: Path) -> None:
    said = "the secret of a long answer " * 400
    log = log_of(tmp_path / "log.jsonl", [("/p", {}, {"live": {"text": said}, "s": {"text": said}})] * 50)
    run("summarise", log, "-o", tmp_path / "pod.json", "--keep-answers")
    raw = unpacked(tmp_path / "pod.answers.zst")
    assert b"secret" not in raw
    assert len(raw) < 50 * 250


def unpacked(file: Path) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read()


@pytest.fixture
def pod(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    log_of(Path("log.jsonl"), classes(100)[0])
    labels_of(Path("labels.csv"), [(f"id-{n}", "cat") for n in range(100)])
    run("summarise", "log.jsonl", "-o", "pod.json", "--keep-answers")
    return Path("pod.json")


def test_answers_that_were_not_kept_are_said_in_one_line(run: Run, pod: Path) -> None:
    pod.rename("lone.json")
    refused = (
        2,
        "",
        "shadowproxy: lone.json was saved without --keep-answers, or lone.answers.zst is not beside it: labels cannot "
        "be joined; give them to summarise, or the log\n",
    )
    assert run("report", "lone.json", "--labels", "labels.csv") == refused
    assert run("report", "log.jsonl", "lone.json", "--labels", "labels.csv", "--jobs", "2") == refused
    assert run("summarise", "lone.json", "-o", "again.json", "--keep-answers") == refused
    assert sorted(path.name for path in Path().iterdir()) == ["labels.csv", "log.jsonl", "lone.json", "pod.answers.zst"]


def test_answers_of_another_summary_are_refused(run: Run, pod: Path) -> None:
    log_of(Path("log.jsonl"), classes(101)[0])
    run("summarise", "log.jsonl", "-o", pod)
    code, out, err = run("report", pod, "--labels", "labels.csv")
    assert (code, out) == (2, "")
    assert err == (
        "shadowproxy: pod.answers.zst: these answers belong to another summary; save both again from the log\n"
    )


def test_a_field_that_was_not_kept_cannot_be_joined_by(run: Run, pod: Path) -> None:
    code, _, err = run("report", pod, "--labels", "labels.csv", "--label-key", "/order_id")
    assert code == 2
    assert err == (
        "shadowproxy: pod.answers.zst has no /order_id: give --label-key /order_id to summarise --keep-answers, or "
        "give the log to report\n"
    )


def test_answers_are_no_log(run: Run, pod: Path) -> None:
    code, _, err = run("report", "pod.answers.zst")
    assert (code, err.count("\n")) == (2, 1)
    assert "pod.answers.zst holds the answers beside a summary" in err
    assert run("report", "pod*", "--json")[1] == run("report", pod, "--json")[1]


@pytest.mark.parametrize(
    "harm",
    [
        lambda raw: raw[:-10],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: b"not what it was",
        lambda raw: changed(raw, lambda rows: rows[:-1]),
        lambda raw: changed(raw, lambda rows: [*rows, rows[-1]]),
        lambda raw: changed(raw, lambda rows: rows[:1] + rows[2:]),
        lambda raw: changed(raw, lambda rows: [rows[0].replace(b'answers":1', b'answers":2'), *rows[1:]]),
        lambda raw: changed(raw, lambda rows: [rows[0], rows[1].replace(b"tcat", b"tdog", 1) + b" ", *rows[2:]]),
        lambda raw: changed(raw, lambda rows: [rows[0], b"[]", *rows[2:]]),
        lambda raw: changed(raw, lambda rows: [rows[0], b"{}", *rows[2:]]),
        lambda raw: changed(raw, lambda rows: [rows[0], b'["0","id-1",null,"x","s","POST /predict",[7]]', *rows[2:]]),
        lambda raw: changed(raw, lambda rows: [rows[0], b'["0","id-1",null,5,"s","POST /predict",[["k",["?"],1]]]']),
    ],
)
def test_answers_that_are_broken_or_changed_are_refused_in_one_line(run: Run, pod: Path, harm: Any) -> None:
    answers = kept.beside(pod)
    answers.write_bytes(harm(answers.read_bytes()))
    code, out, err = run("report", pod, "--labels", "labels.csv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("shadowproxy: pod.answers.zst: ")


def changed(raw: bytes, edit: Callable[[list[bytes]], list[bytes]]) -> bytes:
    rows = zstandard.ZstdDecompressor().stream_reader(raw).read().splitlines()
    return zstandard.compress(b"".join(row + b"\n" for row in edit(rows)))


def test_options_that_do_nothing_are_refused(run: Run, pod: Path) -> None:
    assert run("summarise", "log.jsonl", "--keep-answers")[0] == 2
    assert "--keep-answers needs -o FILE" in run("summarise", "log.jsonl", "--keep-answers")[2]
    assert "--label-key needs --labels or --keep-answers" in run("summarise", "log.jsonl", "--label-key", "/a")[2]
    assert "--label-key needs --labels" in run("report", "log.jsonl", "--label-key", "/a")[2]
    code, _, err = run("summarise", "log.jsonl", "-o", "nowhere/pod.json", "--keep-answers")
    assert (code, err) == (2, "shadowproxy: cannot write nowhere/pod.answers.zst: No such file or directory\n")


@pytest.mark.parametrize(
    ("summary", "answers"),
    [
        ("pod-1.json", "pod-1.answers.zst"),
        ("a/pod-1.json", "a/pod-1.answers.zst"),
        ("pod-1", "pod-1.answers.zst"),
        ("pod-1.json.zst", "pod-1.answers.zst"),
        ("pod-1.json.gz", "pod-1.answers.zst"),
        (".json", ".json.answers.zst"),
    ],
)
def test_the_answers_are_called_as_their_summary_is(summary: str, answers: str) -> None:
    assert str(kept.beside(summary)) == answers


# --- bounds and borders ----------------------------------------------------------------------------------------------


def test_keeping_and_joining_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_MOST_HELD", 500_000)
    runs = tmp_path / "runs"
    runs.mkdir()
    keeper = kept.Keeper(str(runs))
    places = [[f"key {n}", [f"tclass {n}"] * 8, 1] for n in range(6)]
    tracemalloc.start()
    for number in range(40_000):  # 35 MB of lines
        keeper.put(kept.KeptPair(f"id-{number}", None, number, "s", "POST /p", places))
    keeper.write(tmp_path / "pod.answers.zst", "digest")
    assert sum(1 for _ in kept.pairs_in(tmp_path / "pod.answers.zst", "digest", None)) == 40_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_a_run_that_cannot_be_written_is_no_error_of_the_log(
    run: Run, pod: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kept, "mkstemp", full)
    before = sorted(path.name for path in Path().iterdir())
    code, _, err = run("summarise", "log.jsonl", "-o", "new.json", "--keep-answers")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("shadowproxy: cannot write the answers in ")
    assert err.endswith("No space left on device\n")
    assert sorted(path.name for path in Path().iterdir()) == before


def test_a_summary_from_standard_input_has_no_answers(run: Run, pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pod.open() as saved:
        monkeypatch.setattr(sys, "stdin", saved)
        code, _, err = run("report", "-", "--labels", "labels.csv")
    assert (code, err.count("\n")) == (2, 1)
    assert "a summary from standard input has no answers beside it" in err


def test_a_summary_that_was_compressed_finds_its_answers(run: Run, pod: Path) -> None:
    plain = run("report", pod, "--labels", "labels.csv", "--json")
    Path("pod.json.zst").write_bytes(zstandard.compress(pod.read_bytes()))
    pod.unlink()
    assert run("report", "pod.json.zst", "--labels", "labels.csv", "--json") == plain
    assert plain[0] != 2


def test_a_log_without_a_pair_keeps_no_answers_and_is_joined_to(run: Run, pod: Path) -> None:
    Path("empty.jsonl").write_bytes(b"")
    assert run("summarise", "empty.jsonl", "-o", "empty.json", "--keep-answers") == (0, "", "")
    both = run("report", pod, "empty.json", "--labels", "labels.csv", "--json")
    assert both == run("report", "log.jsonl", "--labels", "labels.csv", "--json")
