"""Faults planted into live's own answers: what each changes, when it is seen, and how that is told."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from logs import answer, record, report_json, said
from test_cli import run

from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.summary import save, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.sensitivity import blind_spots, least_missing
from shadowproxy.demo import flights, rule
from shadowproxy.record import Body, Record, RecordedRequest
from shadowproxy.selftest.figures import Figures
from shadowproxy.selftest.forms import print_selftest, to_html
from shadowproxy.selftest.measure import SHARES, Twins, measure
from shadowproxy.selftest.planting import TWIN, Planting, cuts, prepare
from shadowproxy.selftest.plants import FAULTS
from shadowproxy.selftest.plants.edit import changed, filled, without
from shadowproxy.selftest.plants.fault import Fault
from shadowproxy.selftest.run import selftest
from shadowproxy.selftest.sample import NoSampleError, Sample, SampleError, draw_sample

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs" / "reference" / "selftest.schema.json").read_text())
READING = Reading(Rules())
WORDS = [
    "train",
    "late",
    "early",
    "flight",
    "delayed",
    "weather",
    "carrier",
    "pilot",
    "gate",
    "boarding",
    "crew",
    "plane",
    "runway",
    "fuel",
    "taxi",
    "tower",
]

Make = Callable[[random.Random, int], tuple[Any, Any]]
"""The request's payload and live's."""


def made(make: Make, count: int, seed: int = 1) -> list[Record]:
    source = random.Random(seed)
    records = []
    for number in range(count):
        asked, payload = make(source, number)
        ms = source.lognormvariate(1, 0.4)
        live = said(payload, "text/event-stream") if isinstance(payload, str) else answer(payload)
        request = RecordedRequest("POST", "/predict", "", {}, Body("json", asked, 10))
        records.append(record(number, live._replace(total_ms=ms), number)._replace(request=request))
    return records


def classes(source: random.Random, number: int) -> tuple[Any, Any]:
    label = source.choices("abc", (5, 3, 2))[0]
    return {"tier": source.choice("uvwxyz")}, {"predictions": [label], "model": "m-1"}


def regression(source: random.Random, number: int) -> tuple[Any, Any]:
    x = source.gauss(0, 1)
    return {"country": source.choice("ABCDEFGH"), "x": x}, {"predictions": [150 + 50 * x + source.gauss(0, 10)]}


def digits(source: random.Random, number: int) -> tuple[Any, Any]:
    rows = []
    for _ in range(source.choice((1, 3, 4))):
        weights = [source.random() ** 6 for _ in range(10)]
        rows.append([weight / sum(weights) for weight in weights])
    return {"kind": source.choice("abcdefghij"), "instances": [[1, 2]] * len(rows)}, {"predictions": rows}


def chats(source: random.Random, number: int) -> tuple[Any, Any]:
    text = " ".join(source.choices(WORDS, k=source.randrange(5, 60)))
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    payload = {"id": f"chatcmpl-{number}", "object": "chat.completion", "model": "m-1", "choices": [choice]}
    return {"tier": source.choice("uvwxyz"), "messages": [{"role": "user", "content": f"q {number}"}]}, payload


def probabilities(source: random.Random, number: int) -> tuple[Any, Any]:
    return {"country": source.choice("ABCDEFGH")}, {"predictions": [source.betavariate(1, 4)]}


def streams(source: random.Random, number: int) -> tuple[Any, Any]:
    words = source.choices(WORDS, k=source.randrange(5, 30))
    deltas = [{"choices": [{"index": 0, "delta": {"content": f"{word} "}}]} for word in words]
    return {"tier": source.choice("uvwxyz")}, "".join(f"data: {json.dumps(each)}\n\n" for each in deltas) + _DONE


def calls(source: random.Random, number: int) -> tuple[Any, Any]:
    function = {"name": source.choice(["look_up", "book"]), "arguments": json.dumps({"n": source.randrange(1000)})}
    call = {"id": f"c{number}", "type": "function", "function": function}
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]}}
    return {"n": number % 5}, {"object": "chat.completion", "choices": [choice]}


def rankings(source: random.Random, number: int) -> tuple[Any, Any]:
    items = [{"id": f"i{each}", "score": 0.5} for each in source.sample(range(500), 10)]
    return {"lang": source.choice(["de", "fr", "nl", "it", "es", "pl", "se"])}, {"items": items}


def embeddings(source: random.Random, number: int) -> tuple[Any, Any]:
    vector = [source.gauss(0, 1) for _ in range(32)]
    return {"lang": source.choice("abcdefg")}, {"data": [{"index": 0, "embedding": vector}], "object": "list"}


_DONE = "data: [DONE]\n\n"

KINDS: dict[str, Make] = {
    "class": classes,
    "number": regression,
    "vector": digits,
    "text": chats,
    "ranking": rankings,
    "embedding": embeddings,
}
"""Logs in which all faults that fit are measured."""

OTHERS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "probability": (probabilities, ("a probability turned round",)),
    "stream": (streams, ("a stream ends in an error event",)),
    "call": (calls, ("another tool is called", "the tool is called with other arguments")),
}
"""Logs in which only those faults are measured that fit none of the kinds above."""


def september() -> list[Record]:
    records = []
    for number, flight in enumerate(flights.flights()):
        asked = json.loads(flight.body)
        late = rule.departed_late(asked["instances"][0])
        made = record(number, answer({"predictions": [flights.LATE if late else flights.ON_TIME]}), number * 10)
        request = RecordedRequest("POST", "/invocations", "", {}, Body("json", asked, len(flight.body)))
        records.append(made._replace(id=flight.id, request=request))
    return records


def measured_on(records: list[Record], **given: Any) -> Figures:
    return selftest(Sample(records, len(records), len(records)), READING, Gates(), **given)


def fitting(planting: Planting) -> list[Fault]:
    return [fault for fault in FAULTS if planting.applies(fault)]


def named(*names: str) -> list[Fault]:
    found = [fault for fault in FAULTS if fault.name in names]
    assert len(found) == len(names)
    return found


# --- the plants ------------------------------------------------------------------------------------------------------


def test_there_are_at_least_thirty_faults_each_with_its_own_name() -> None:
    assert len(FAULTS) >= 30
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_that_fits_changes_the_shadows_answer_and_not_lives(kind: str) -> None:
    records = made(KINDS[kind], 100)
    before = copy.deepcopy([each.live for each in records])
    planting = prepare(records, READING, Gates())
    (known,) = planting.known.values()
    assert known.kind == kind
    for fault in fitting(planting):
        planted = [planting.planted(fault, 0, at) for at in sorted(planting.plantable(fault, 1.0, 0))]
        altered = [each for each in planted if each.shadows[TWIN] != each.live]
        assert 3 * len(altered) >= len(planted) > 0, fault.name
        again = [planting.planted(fault, 0, at) for at in sorted(planting.plantable(fault, 1.0, 0))]
        assert repr(again) == repr(planted), "a plant is a function of its seed"
    assert [each.live for each in records] == before


def planted_values(make: Make, name: str, count: int = 80) -> list[tuple[Any, Any]]:
    planting = prepare(made(make, count), READING, Gates())
    (fault,) = named(name)
    assert planting.applies(fault)
    pairs = []
    for at in sorted(planting.plantable(fault, 1.0, 0)):
        both = planting.planted(fault, 0, at)
        shadow = both.shadows[TWIN]
        assert both.live.body is not None
        pairs.append((both.live.body.value, shadow.body.value if shadow.body is not None else None))
    return pairs


@pytest.mark.slow
def test_the_plants_do_what_their_names_say() -> None:
    for live, shadow in planted_values(regression, "a thousandfold: another unit"):
        assert shadow["predictions"] == [live["predictions"][0] * 1000]
    top = max(live["predictions"][0] for live, _ in planted_values(regression, "the sign is turned"))
    assert all(
        shadow["predictions"][0] > top for _, shadow in planted_values(regression, "unclipped: far above live's range")
    )
    assert {
        (live["predictions"][0], shadow["predictions"][0])
        for live, shadow in planted_values(classes, "two classes swapped")
    } == {("a", "b"), ("b", "a"), ("c", "c")}
    rare = planted_values(classes, "the rarest class is never said")
    assert {(live["predictions"][0], shadow["predictions"][0]) for live, shadow in rare} == {("c", "a")}
    for live, shadow in planted_values(digits, "a batch is answered with its first row only"):
        assert shadow["predictions"] == live["predictions"][:1]
    for live, shadow in planted_values(digits, "probabilities turned round"):
        for one, other in zip(live["predictions"], shadow["predictions"], strict=True):
            assert sorted(one) == sorted(other)
            assert one.index(max(one)) == other.index(min(other))
    shifted = planted_values(classes, "answers shifted by one request")
    assert [shadow for _, shadow in shifted[1:]] == [live for live, _ in shifted[:-1]]
    for live, shadow in planted_values(rankings, "the ranking is turned round"):
        assert shadow["items"] == live["items"][::-1]
    for _, shadow in planted_values(calls, "another tool is called"):
        assert "_legacy(" in shadow["choices"][0]["message"]["content"]
    assert all("predictions" not in shadow for _, shadow in planted_values(classes, "the answer is missing"))


def test_an_answer_of_another_shape_than_most_is_left_as_it_is() -> None:
    """Every plant runs over vectors of two lengths, and embeddings that hold a null; none ends in an exception."""

    def ragged(source: random.Random, number: int) -> tuple[Any, Any]:
        return {"n": number % 5}, {"predictions": [[number / 60, 1 - number / 60][: 1 + number % 2]]}

    def holed(source: random.Random, number: int) -> tuple[Any, Any]:
        asked, payload = embeddings(source, number)
        return asked, {"data": [{"embedding": [None, "x"]}]} if number % 20 == 0 else payload

    for make in (ragged, holed):
        planting = prepare(made(make, 60), READING, Gates())
        for fault in fitting(planting):
            for at in sorted(planting.plantable(fault, 1.0, 0)):
                planting.planted(fault, 0, at)


def test_a_stream_is_cut_by_an_error_event() -> None:
    planting = prepare(made(streams, 60), READING, Gates())
    (fault,) = named("a stream ends in an error event")
    assert planting.applies(fault)
    planted = planting.planted(fault, 0, 3)
    figures = report_json(summarise([planted], READING))["shadows"][TWIN]
    assert figures["errors"]["shadow_only"] == 1


def test_what_stands_at_a_place_is_changed_and_nothing_else() -> None:
    value = {"a": [{"b": 1, "c": 2}, {"b": 3}], "d": 4}
    assert changed(copy.deepcopy(value), "/a/*/b", lambda old: old + 1) == {"a": [{"b": 2, "c": 2}, {"b": 4}], "d": 4}
    assert filled(copy.deepcopy(value), "/a/*/b", [7, 8]) == {"a": [{"b": 7, "c": 2}, {"b": 8}], "d": 4}
    assert without(copy.deepcopy(value), "/a/*/b") == {"a": [{"c": 2}, {}], "d": 4}
    assert without({"a": [1, 2], "d": 4}, "/a/*") == {"d": 4}
    assert without([1, 2], "/*") is None
    assert without(3, "") is None


# --- the sample ------------------------------------------------------------------------------------------------------


def line(each: Record) -> str:
    body = each.live.body
    assert body is not None
    leg = {"outcome": "ok", "status": 200, "headers": {"x": "1"}, "total_ms": each.live.total_ms}
    request = {"method": "POST", "path": "/predict", "query": "", "headers": {}, "body_bytes": 9}
    return json.dumps(
        {
            "schema": 1,
            "id": each.id,
            "record": each.record,
            "at": each.at,
            "proxy": "host/1",
            "request": request | {"body": each.request.body.value},
            "live": leg | {"body_bytes": 9, "body": body.value},
            "shadows": {"challenger": {"outcome": "lane_full"}},
        }
    )


def log_of(records: list[Record], directory: Path) -> Path:
    file = directory / "log.jsonl"
    file.write_text("".join(f"{line(each)}\n" for each in records))
    return file


def test_the_draw_depends_on_ids_alone_and_keeps_the_order_of_time(tmp_path: Path) -> None:
    records = made(classes, 300)
    whole = draw_sample([log_of(records, tmp_path)], most=100)
    backwards = draw_sample([log_of(records[::-1], tmp_path)], most=100)
    assert (whole.of, len(whole.records)) == (300, 100)
    assert backwards.records == whole.records
    assert [each.at for each in whole.records] == sorted(each.at for each in whole.records)
    assert all(not each.shadows for each in whole.records)
    assert len(draw_sample([log_of(records, tmp_path)], most_bytes=5_000).records) < 20


def test_a_summary_has_no_records_to_plant_in(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_bytes(save(summarise([], Rules())))
    with pytest.raises(SampleError, match="is a summary"):
        draw_sample([file])


def test_lines_that_are_no_records_are_counted(tmp_path: Path) -> None:
    file = log_of(made(classes, 60), tmp_path)
    file.write_text(file.read_text() + "nonsense\n" + '{"schema": 1')
    sample = draw_sample([file])
    assert len(sample.records) == 60
    assert dict(sample.unreadable) == {"not JSON": 1, "torn line": 1}


# --- measuring -------------------------------------------------------------------------------------------------------


def test_prefixes_grow_by_a_constant_factor_up_to_the_whole() -> None:
    assert cuts(50) == (50,)
    assert cuts(60) == (50, 60)
    assert cuts(1000) == (50, 80, 125, 200, 320, 500, 800, 1000)


def fault_at(planting: Planting, name: str, share: float) -> tuple[int | None, str | None, str | None]:
    (fault,) = named(name)
    found = measure(planting, Twins(planting), fault, share)
    return found.start, found.check, found.how


@pytest.mark.soak
def test_a_large_fault_is_seen_soon_and_a_small_one_late_or_not_at_all() -> None:
    planting = prepare(made(classes, 800), READING, Gates())
    assert fault_at(planting, "the answer is null", 0.3) == (50, "answered", "fails")
    late, check, how = fault_at(planting, "status 500", 0.03)
    assert late in (500, 800)
    assert (check, how) == ("errors", "fails")
    assert fault_at(planting, "status 500", 0.01) == (None, None, None)
    assert fault_at(planting, "a header field of the answer is changed", 0.3) == (None, None, None)


@pytest.mark.slow
def test_a_gate_that_is_switched_off_sees_nothing() -> None:
    off = Gates(answered=None, structure=None, slices=None, unexplained=None, related=None)
    planting = prepare(made(classes, 300), READING, off)
    assert fault_at(planting, "the answer is null", 0.3) == (None, None, None)


@pytest.mark.soak
def test_several_processes_measure_the_same() -> None:
    records, faults = made(classes, 60), FAULTS[::10]
    alone = measured_on(records, faults=faults)
    assert len(alone["faults"]) >= 3
    assert measured_on(records, faults=faults, jobs=4) == alone


@pytest.mark.parametrize(
    ("status", "count", "why"), [(200, 49, "at least 50 are needed"), (404, 60, "0 answers of live with a 2xx")]
)
def test_too_little_is_said_in_one_line(status: int, count: int, why: str) -> None:
    records = [record(n, answer({"label": "a"}, status), n) for n in range(count)]
    with pytest.raises(NoSampleError, match=why):
        measured_on(records)


# --- the sentence in every report ------------------------------------------------------------------------------------


def sentence_of(records: list[Record], gates: Gates | None = None) -> dict[str, Any]:
    twins = [each._replace(shadows={TWIN: each.live}) for each in records]
    found = report_json(summarise(twins, READING), gates)["shadows"][TWIN]
    assert found["blind_spots"] == blind_spots(found, gates or Gates())
    spots: dict[str, Any] = found["blind_spots"]
    return spots


@pytest.mark.slow
def test_every_report_says_what_it_would_see_and_what_not() -> None:
    spots = sentence_of(made(regression, 3000))
    assert spots["missing"] == 0.015
    assert 0.03 < spots["otherwise"] < 0.05
    assert spots["said"].startswith(
        "with these 3,000 requests and gates, a shadow that leaves out 1.5 % of its answers would be seen; one that "
    )
    assert "too few to call any shadow READY" in sentence_of(made(classes, 60))["said"]
    assert "not even" in sentence_of(made(classes, 3))["said"]
    assert "would not be seen" in sentence_of(made(classes, 60), Gates(answered=None))["said"]


@pytest.mark.slow
def test_the_part_that_is_named_is_one_that_may_differ_unseen() -> None:
    def make(source: random.Random, number: int) -> tuple[Any, Any]:
        carrier = "UA" if number % 40 == 0 else source.choice(["DL", "AA", "B6"])
        return {"carrier": carrier}, {"label": source.choice("ab")}

    spots = sentence_of(made(make, 4000))
    assert spots["part"] == {"path": "/carrier", "value": '"UA"', "requests": 100, "share": 0.025}
    assert spots["said"].endswith(
        'one that answers otherwise only where carrier is "UA" (2.5 % of the requests) would not'
    )
    assert sentence_of(made(make, 4000), Gates(min_agreement=0.99))["part"] is None


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["class", "number", "ranking"])
def test_the_sentence_agrees_with_what_is_measured(kind: str) -> None:
    """Within one of the prefixes looked at above or below: a factor of 1.6, and what 3 % of so few may be by chance."""
    records = made(KINDS[kind], 3200)
    planting = prepare(records, READING, Gates())
    start, *_ = fault_at(planting, "status 500", 0.03)
    assert start is not None
    worked_out = next(
        n for n in range(50, 5000) if least_missing(n, 1.0, Gates()) in (0.006, 0.008, 0.01, 0.015, 0.02, 0.03)
    )
    assert worked_out / 2 <= start <= worked_out * 2


# --- the golden table ------------------------------------------------------------------------------------------------


ENOUGH = 2_000
"""Requests of which a shadow without a fault is READY."""


def ends_ready(figures: Figures) -> list[str]:
    """The faults in 30 % of the answers that a report on all requests does not see, but those that may stay unseen."""
    jsonschema.validate(figures, SCHEMA)
    assert figures["twin"]["ready_from"] is not None
    assert figures["shares"] == [0.3]
    assert figures["faults"]
    return [row["name"] for row in figures["faults"] if row["seen"][0]["from"] is None and not row["unseen_by_default"]]


@pytest.mark.soak
@pytest.mark.parametrize("which", ["flights", *KINDS])
def test_no_fault_in_thirty_percent_of_the_answers_ends_ready_but_those_that_are_listed(which: str) -> None:
    records = september()[:ENOUGH] if which == "flights" else made(KINDS[which], ENOUGH)
    figures = measured_on(records, shares=(0.3,), jobs=2)
    assert ends_ready(figures) == []
    start: dict[str, Any] = {row["name"]: row["seen"][0]["from"] for row in figures["faults"]}
    assert start["the answer is missing"] <= 125
    assert start["status 500"] <= 125


@pytest.mark.soak
@pytest.mark.parametrize("which", OTHERS)
def test_no_fault_of_a_rarer_kind_of_answer_ends_ready(which: str) -> None:
    make, names = OTHERS[which]
    figures = measured_on(made(make, ENOUGH), faults=named(*names), shares=(0.3,))
    assert figures["not_planted"] == []
    assert ends_ready(figures) == []


@pytest.mark.slow
def test_every_fault_is_measured_in_some_log() -> None:
    planted = {name for _, names in OTHERS.values() for name in names}
    for make in KINDS.values():
        planted |= {fault.name for fault in fitting(prepare(made(make, 60), READING, Gates()))}
    assert {fault.name for fault in FAULTS} - planted == set()


def test_the_faults_that_may_stay_unseen_are_those_that_the_page_lists() -> None:
    page = (ROOT / "docs" / "explanation" / "selftest.md").read_text()
    listed = {fault.name for fault in FAULTS if fault.unseen_by_default}
    assert listed
    assert all(f"| {name} |" in page for name in listed)


# --- forms and the command -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures() -> Figures:
    return measured_on(made(classes, 50), faults=named("the answer is null", "status 500", "two columns swapped"))


@pytest.mark.slow
def test_the_json_is_as_its_schema_says(figures: Figures) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(figures, SCHEMA)
    assert {share["share"] for row in figures["faults"] for share in row["seen"]} == set(SHARES)


@pytest.mark.slow
def test_the_page_runs_nothing_and_loads_nothing(figures: Figures) -> None:
    evil = copy.deepcopy(figures)
    evil["part"] = evil["answers"][0]["place"] = "<script>alert(1)</script>"
    page = to_html(evil)
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_the_table_says_from_when_on_and_by_what(figures: Figures, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    print_selftest(figures, Console(width=160))
    text = capsys.readouterr().out
    assert "Not even a shadow that answers exactly as live does is READY with so few requests" in text
    row = next(row for row in text.splitlines() if row.startswith("status 500 "))
    assert "errors: NOT READY" in row
    assert "> 50" in row


@pytest.mark.soak
def test_the_command_writes_json_and_a_page_and_ends_with_0(tmp_path: Path) -> None:
    file = log_of(made(classes, 50), tmp_path)
    done = run("selftest", str(file), "--json", "--html", str(tmp_path / "out.html"), "--field", "/predictions/*")
    assert (done.returncode, done.stderr) == (0, "")
    jsonschema.validate(json.loads(done.stdout), SCHEMA)
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_the_command_ends_with_2_for_what_cannot_be_read_and_with_3_for_too_little(tmp_path: Path) -> None:
    few = log_of(made(classes, 20), tmp_path)
    done = run("selftest", str(few))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "shadowproxy: 20 answers of live with a 2xx to plant faults in; at least 50 are needed\n"
    summary = tmp_path / "summary.json"
    summary.write_bytes(save(summarise([], Rules())))
    for wrong in (
        [str(summary)],
        [str(tmp_path / "none")],
        [str(few), "--gates", "none.yaml"],
        [str(few), "--field", "a"],
    ):
        done = run("selftest", *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.soak
def test_the_commands_of_its_page_run(tmp_path: Path) -> None:
    log_of(made(classes, 50), tmp_path).rename(tmp_path / "shadow-log")
    (tmp_path / "gates.yaml").write_text("unexplained: 0.1\n")
    page = (ROOT / "docs" / "explanation" / "selftest.md").read_text()
    lines = [each.partition("#")[0].split() for each in page.splitlines() if each.startswith("shadowproxy selftest")]
    assert len(lines) == 4
    for words in lines:
        here = {"shadow-log", "gates.yaml", "selftest.html"}
        done = run(*(tmp_path / word if word in here else word for word in words[1:]))
        assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_is_no_log_is_said_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("garbage\nmore of it\n")
    done = run("selftest", str(file))
    assert done.returncode == 3
    assert done.stderr.endswith("at least 50 are needed; lines that could not be read: not JSON 2\n")
