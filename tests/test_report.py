"""A summary as figures and as text."""

import io
import random
import re

import orjson
import pytest
from logs import answer, failed, mixed, record, report_json
from rich.console import Console

from shadowproxy.compare.fold.summary import Summary, merge, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.text import print_figures
from shadowproxy.compare.report.words import percent
from shadowproxy.exchange import Outcome
from shadowproxy.record import Record


def text_of(summary: Summary, *, terminal: bool = False) -> str:
    out = io.StringIO()
    print_figures(report_json(summary), Console(file=out, width=100, force_terminal=terminal))
    return out.getvalue()


def flights(count: int = 2000) -> list[Record]:
    """Answers with an ID, a model's version and a class that differs now and then."""
    source = random.Random(9)
    made = []
    for number in range(count):
        late = source.random() < 0.3
        flipped = late if source.random() > 0.04 else not late
        live = {"late": late, "model": "rule", "trace": f"{source.getrandbits(128):032x}"}
        shadow = {"late": flipped, "model": "gbm", "trace": f"{source.getrandbits(128):032x}"}
        legs = answer(live, ms=source.lognormvariate(1, 0.3)), answer(shadow, ms=source.lognormvariate(1.4, 0.3))
        made.append(record(number, legs[0], number / 2, gbm=legs[1]))
    return made


def test_coverage_balances() -> None:
    summary = summarise(mixed(400), Rules())
    coverage = report_json(summary)["shadows"]["challenger"]["coverage"]
    assert sum(coverage["outcomes"].values()) == coverage["chosen"] == 400
    assert coverage["answered"] == coverage["outcomes"]["ok"]
    assert coverage["share"] == coverage["answered"] / 400


def test_ids_and_versions_are_set_aside_and_do_not_drown_the_rest() -> None:
    figures = report_json(summarise(flights(), Rules()))["shadows"]["gbm"]
    natures = {row["path"]: row["nature"] for row in figures["fields"]}
    assert natures == {"/trace": "volatile", "/model": "constant", "/late": "real"}
    assert figures["agreement"]["whole"]["value"] == 0
    settled = figures["agreement"]["settled"]
    late = next(row for row in figures["fields"] if row["path"] == "/late")
    assert settled["value"] == pytest.approx(1 - late["exchanges"] / 2000)
    assert settled["low"] < settled["value"] < settled["high"]
    assert settled["method"] == "blocks"
    assert all(example["differences"][0]["path"] == "/late" for example in figures["examples"])


def test_numbers_and_classes_that_differ_everywhere_are_not_called_volatile() -> None:
    source = random.Random(2)
    records = [
        record(n, answer({"price": source.random() * 100, "text": f"answer {source.random()}"}), n, s=answer(other))
        for n in range(200)
        for other in [{"price": source.random() * 100, "text": f"answer {source.random()}"}]
    ]
    rows = report_json(summarise(records, Rules()))["shadows"]["s"]["fields"]
    assert {row["path"]: row["nature"] for row in rows} == {"/price": "real", "/text": "real"}


def test_latency_is_reported_with_its_ratio_and_interval() -> None:
    latency = report_json(summarise(flights(), Rules()))["shadows"]["gbm"]["latency"]
    assert latency["live"]["p50"] == pytest.approx(2.72, rel=0.05)
    assert latency["ratio"]["p50"]["low"] < 1.49 < latency["ratio"]["p50"]["high"]
    assert latency["ratio"]["p50"]["high"] - latency["ratio"]["p50"]["low"] < 0.2
    assert latency["at_least"] == []


def test_timeouts_make_the_tail_at_least_their_limit() -> None:
    records = [
        each._replace(shadows={"gbm": failed(Outcome.TIMEOUT, 2000.0)}) if number % 50 == 0 else each
        for number, each in enumerate(flights())
    ]
    summary = summarise(records, Rules())
    latency = report_json(summary)["shadows"]["gbm"]["latency"]
    assert latency["at_least"] == ["p99", "p999"]
    assert latency["shadow"]["p99"] == pytest.approx(2000, rel=0.02)
    assert "≥ 2," in text_of(summary) or "≥ 1,9" in text_of(summary)
    assert "40 timed out" in text_of(summary)


def test_errors_are_paired_with_live_and_say_why() -> None:
    good = answer({"x": 1})
    records = [record(n, good, n * 60, s=good if n % 10 else answer({"x": 1}, status=500)) for n in range(600)]
    figures = report_json(summarise(records, Rules()))["shadows"]["s"]
    errors = figures["errors"]
    assert (errors["live"]["value"], errors["shadow"]["value"]) == (0, 0.1)
    assert errors["difference"]["value"] == pytest.approx(0.1)
    assert (figures["structure"]["n"], figures["structure"]["lost"]) == (540, 0)
    assert [(row["reason"], row["count"]) for row in errors["reasons"]["shadow"]] == [
        ("500: Internal Server Error, no reason given", 60)
    ]
    assert figures["advice"]["next"]["do"] == "mend"


def test_the_figures_are_the_same_however_the_log_was_divided() -> None:
    records = flights(600)
    parts = [summarise(records[start::3], Rules()) for start in range(3)]
    whole = orjson.dumps(report_json(summarise(records, Rules())))
    assert orjson.dumps(report_json(merge(parts[2], merge(parts[0], parts[1])))) == whole


def test_the_text_fits_a_screen_and_needs_no_terminal() -> None:
    text = text_of(summarise(flights(), Rules()))
    assert "\x1b" not in text
    assert len(text.splitlines()) <= 40
    assert "2,000 requests, 2026-01-31 12:00:00 to 2026-01-31 12:16:39 UTC" in text
    assert "Coverage  2,000 chosen, 2,000 answered by both (100 %)" in text
    assert "/trace" in text
    assert "(volatile)" in text


def test_a_terminal_gets_the_same_words() -> None:
    summary = summarise(flights(200), Rules())
    plain = text_of(summary)
    coloured = text_of(summary, terminal=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_hostile_names_and_values_cannot_act_on_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[31m\u202e"
    records = [record(1, answer({evil: "x"}), 0, **{evil: answer({evil: f"{evil}y"})})]
    text = text_of(summarise(records, Rules()), terminal=False)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "\\x1b" in text


@pytest.mark.parametrize("records", [[], [record(1, answer(1))]])
def test_a_log_without_shadows_says_so(records: list[Record]) -> None:
    assert "nothing to compare" in text_of(summarise(records, Rules()))


def test_a_shadow_that_never_answered_is_reported_without_figures() -> None:
    text = text_of(summarise([record(1, answer(1), s=failed(Outcome.LANE_FULL))], Rules()))
    assert "lane_full 1" in text
    assert "nothing could be compared" in text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "–"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50 %"),
        (0.00001, "< 0.01 %"),
        (0.005, "0.50 %"),
        (0.9999, "99.99 %"),
        (0.999999, "> 99.99 %"),
    ],
)
def test_shares_never_round_to_all_or_nothing(share: float | None, text: str) -> None:
    assert percent(share) == text
