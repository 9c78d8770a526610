"""What a shadow loses, in every form of the report: missing, lacking, failed, rejected, by route and part."""

import io
import json
import random
import re
from typing import Any, TypeAlias
from xml.etree import ElementTree

import pytest
from logs import answer, chosen, record, report_json
from rich.console import Console

from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.html.page import MOST_BYTES
from shadowproxy.compare.report.junit import to_junit
from shadowproxy.compare.report.markdown import to_markdown
from shadowproxy.compare.report.text import print_figures
from shadowproxy.record import Body, Record, RecordedLeg, RecordedRequest

Figures: TypeAlias = Any

FORMS = ("text", "html", "markdown")
ROUTES = ("/predict", "/orders/7/score")


def text_of(figures: Figures) -> str:
    out = io.StringIO()
    print_figures(figures, Console(file=out, width=100))
    return out.getvalue()


def form(figures: Figures, name: str) -> str:
    """One form of the report as its reader sees it: without what Markdown and HTML are marked up by."""
    if name == "text":
        return text_of(figures).replace("`", "")
    if name == "markdown":
        return to_markdown(figures).replace("\\", "").replace("`", "")
    text = to_html(figures).replace("\u00a0", " ").replace("`", "")
    for sign, written in (("'", "&#x27;"), ('"', "&quot;"), ("&", "&amp;")):
        text = text.replace(written, sign)
    return text


def shadows() -> list[Record]:
    """2,400 requests on two routes and a rare third, and shadows that each lose something else."""
    source = random.Random(4)
    made = []
    for n in range(2400):
        said: dict[str, Any] = {
            "label": source.choice(["late", "early"]),
            "score": source.random() + 1,
            "at": {"zone": n % 5},
        }
        carrier = source.choice(["UA", "AA", "B6"])
        live = answer(said, ms=source.lognormvariate(1, 0.3))
        error = answer({"error": f"ValueError: row {n}: 'x{n}'"}, status=500)
        legs: dict[str, RecordedLeg] = {
            "crashing": error if carrier == "UA" and n % 3 == 0 else live,
            "cutting": answer({"label": None, "score": said["score"]}) if n % 10 == 0 else live,
            "near": answer({**said, "score": said["score"] * (1 + 3e-4 * source.random())}),
            "rejecting": answer({"detail": "field required"}, status=422) if n % 15 == 0 else live,
            "twin": live._replace(total_ms=source.lognormvariate(1, 0.3)),
        }
        path = "/rare" if n % 100 == 0 else ROUTES[n % 2]
        request = RecordedRequest("POST", path, "", {}, Body("json", {"carrier": carrier, "n": n}, 8))
        made.append(record(n, live, n, **legs)._replace(request=request))
    return made


@pytest.fixture(scope="module")
def figures() -> Figures:
    return report_json(summarise(shadows(), Rules()))


def same(value: Any) -> tuple[Any, Any]:
    return value, value


def alone(figures: Figures, name: str) -> Figures:
    return {**figures, "shadows": {name: figures["shadows"][name]}}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("shadow", "words"),
    [
        ("cutting", ["answers that live has at /label are missing", "null 240"]),
        ("cutting", ["lack what live's answers always have", "/at/zone"]),
        ("crashing", ["500: ValueError: row #: '…'", "100 % of them where /carrier is UA", "id-"]),
        ("crashing", ["POST /rare", "not judged: under 300 requests"]),
        ("crashing", ["POST /orders/*/score", "FAIL", "errors"]),
        ("crashing", ["FAILS", "/carrier"]),
        ("rejecting", ["160 that live answered with 2xx it rejects with 4xx"]),
        ("near", ["/score", "apart, relative to the larger; tolerance: {rel: 0.001} would settle 100 %"]),
    ],
)
def test_every_form_says_what_is_lost(figures: Figures, shadow: str, words: list[str], name: str) -> None:
    text = form(alone(figures, shadow), name).replace("Not judged", "not judged")
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("name", FORMS)
def test_every_check_is_named_with_the_place_and_the_route_that_it_judged(figures: Figures, name: str) -> None:
    text = form(alone(figures, "crashing"), name)
    for check in figures["shadows"]["crashing"]["checks"]:
        assert check["name"] in text
    assert "/label on POST /predict" in text or "/label on POST /orders/*/score" in text


def test_junit_says_the_place_and_why_answers_failed(figures: Figures) -> None:
    (suite,) = ElementTree.fromstring(to_junit(alone(figures, "crashing")))
    cases = {case.attrib["name"]: case for case in suite}
    assert "/label on POST" in str(cases["answered"][0].attrib["message"])
    assert [each.tag for each in cases["errors"]] == ["failure", "system-err"]
    assert "500: ValueError: row #: '…': " in str(cases["errors"][1].text)


def test_with_several_shadows_every_form_opens_with_a_table_of_them(figures: Figures) -> None:
    names = list(figures["shadows"])
    lines = text_of(figures).splitlines()
    assert lines[2].split() == ["Verdict", "Shadow", "requests", "missing", "failed", "accuracy", "p99"]
    assert [re.split(r" {2,}", line)[1] for line in lines[3 : 3 + len(names)]] == names
    assert lines[3].startswith("NOT READY")
    html, markdown = to_html(figures), to_markdown(figures)
    for number, name in enumerate(names, 1):
        assert f"<a href='#shadow-{number}'>{name}</a>" in html
        assert html.count(f"id='shadow-{number}'") == 1
        assert f"[{name}](#shadow-{number})" in markdown
        assert f'<a id="shadow-{number}"></a>' in markdown
    for text in (html, markdown, "\n".join(lines)):
        assert text.index("missing") < text.index("live has one")
        assert "best" not in text.partition("names")[0]
    assert "Verdict" not in text_of(alone(figures, "twin"))


def test_the_text_has_about_forty_lines_a_shadow(figures: Figures) -> None:
    for name in figures["shadows"]:
        assert len(text_of(alone(figures, name)).splitlines()) <= 45


def test_a_page_with_many_shadows_stays_small_and_says_that_it_is_cut(figures: Figures) -> None:
    for count in (8, 40, 120):
        many = {f"{name}-{at}": shadow for at in range(count) for name, shadow in figures["shadows"].items()}
        cut: Figures = {**figures, "shadows": dict(list(many.items())[:count])}
        text = to_html(cut)
        assert len(text.encode()) < MOST_BYTES
        assert text.count("<section") == text.count("<strong>NOT") == count
    assert "Less is shown of each shadow" in text
    assert "Less is shown of each shadow" not in to_html(alone(figures, "twin"))


def test_a_member_that_is_missing_is_not_shown_as_null(figures: Figures) -> None:
    for name in FORMS:
        assert "missing" in form(alone(figures, "cutting"), name)
    gone = report_json(summarise(chosen(60, 1, lambda source, n: ({"a": 1, "b": n}, {"a": 1})), Rules()))
    for name in FORMS:
        text = form(gone, name)
        assert "shadow missing" in text
        assert "shadow null" not in text


# --- words -----------------------------------------------------------------------------------------------------------


def undecided(figures: Figures) -> list[str]:
    return [
        shadow["verdict"]["sentence"]
        for shadow in figures["shadows"].values()
        if "SURE" in shadow["verdict"]["headline"]
    ]


def test_an_undecided_headline_says_what_is_missing_and_how_much() -> None:
    twin = report_json(summarise(chosen(400, 1, lambda source, n: same({"label": source.choice("ab")})), Rules()))
    (said,) = undecided(twin)
    assert said.startswith("400 requests so far; ")
    assert "needs about" in said
    assert "100 %" not in said
    assert twin["shadows"]["s"]["advice"]["next"]["do"] == "wait"
    assert "more requests would settle" in twin["shadows"]["s"]["advice"]["next"]["said"]


@pytest.mark.parametrize("count", [60, 400, 3000])
def test_nothing_is_ready_of_which_all_answers_differ(count: int) -> None:
    def differing(source: random.Random, n: int) -> tuple[Any, Any]:
        return {"score": source.random(), "trace": source.random()}, {"score": source.random() * 0.1, "trace": n}

    figures = report_json(summarise(chosen(count, 1, differing), Rules()))
    shadow = figures["shadows"]["s"]
    assert shadow["verdict"]["headline"] != "READY"
    assert "READY:" not in text_of(figures).replace("NOT READY:", "")


# --- advice ----------------------------------------------------------------------------------------------------------


def advice(records: list[Record], gates: Gates | None = None) -> Figures:
    (shadow,) = report_json(summarise(records, Rules()), gates)["shadows"].values()
    found: Figures = shadow["advice"]
    return found


def test_advice_names_what_to_do_and_stands_in_every_form(figures: Figures) -> None:
    for name, do in (("crashing", "mend"), ("twin", "wait")):
        found = figures["shadows"][name]["advice"]
        assert found["next"]["do"] == do
        for each in FORMS:
            assert found["next"]["said"] in form(alone(figures, name), each)
    points = figures["shadows"]["crashing"]["advice"]["in_short"]
    assert [(point["about"], point["word"]) for point in points][1:] == [("agreement", "differ"), ("slices", "fails")]


def test_advice_without_enough_of_live_is_to_send_requests() -> None:
    refused = chosen(400, 1, lambda source, n: same(answer({"detail": "no"}, status=404)))
    assert advice(refused)["next"]["do"] == "send"


def test_advice_where_nobody_says_who_is_right_is_to_bring_labels() -> None:
    def differing(source: random.Random, n: int) -> tuple[Any, Any]:
        label = source.choice("ab")
        return {"label": label}, {"label": label if n % 5 else "a"}

    assert advice(chosen(6000, 1, differing))["next"]["do"] == "label"


def test_advice_for_a_twin_is_to_promote_it() -> None:
    found = advice(chosen(6000, 1, lambda source, n: same({"label": source.choice("ab")})))
    assert found["next"]["do"] == "promote"
    assert "--labels" in found["next"]["said"]


def test_the_figures_of_a_route_are_judged_as_its_checks_say(figures: Figures) -> None:
    routes = {route["route"]: route for route in figures["shadows"]["crashing"]["routes"]}
    assert routes["POST /rare"]["checks"] is None
    assert routes["POST /rare"]["why"] == "not judged: under 300 requests"
    for name in ("POST /predict", "POST /orders/*/score"):
        assert routes[name]["result"] == "fail"
        assert routes[name]["why"] is None
        assert "errors" in {check["name"] for check in routes[name]["checks"] if check["result"] == "fail"}
    json.dumps(figures, allow_nan=False)


def test_all_requests_are_no_part_of_them(figures: Figures) -> None:
    shadow = figures["shadows"]["cutting"]
    every = [shadow, *(route["figures"] for route in shadow["routes"] if route["figures"] is not None)]
    failing = [row for one in every for row in one["slices"] if row["fails"]]
    assert failing
    assert [row["path"] for row in failing if row["share_of_requests"] == 1] == []
