"""What a report says of tokens, cost and finish reasons: planted counts come out exactly, in any order of merging."""

import random
from typing import Any

import pytest
from adding_up import assert_adds_up, without
from logs import answer, chosen, failed, pair_of, record, report_json, said
from test_losses_in_forms import form
from test_streams import chunk, stream
from test_usage import ANTHROPIC, COST, MESSAGE, chat

from shadowproxy.compare.fold.summary import Summary, merge, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, Record, RecordedLeg


def completion(tokens_in: int, tokens_out: int, reason: str = "stop", cost: float | None = None) -> RecordedLeg:
    leg = said(chat({"prompt_tokens": tokens_in, "completion_tokens": tokens_out}, reason))
    return leg if cost is None else leg._replace(headers={**leg.headers, COST: str(cost)})


def streamed(tokens_in: int, tokens_out: int, cached: int) -> RecordedLeg:
    usage = {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return stream(chunk("a"), chunk("b", "length"), {"choices": [], "usage": usage}, "[DONE]")


def planted(count: int = 120) -> list[Record]:
    """Live answers whole, the shadow in streams, with twice the tokens; every tenth of the shadow's fails."""
    made = []
    for n in range(count):
        live = completion(10 + n % 3, 20 + n, cost=0.25)
        shadow = streamed(10 + n % 3, 2 * (20 + n), 4) if n % 10 else failed(Outcome.TIMEOUT, 900.0)
        made.append(record(n, live, 7.0 * n, s=shadow))
    return made


def usage_of(records: list[Record]) -> Any:
    return report_json(summarise(records, Rules()))["shadows"]["s"]["usage"]


def test_planted_tokens_and_costs_come_out_exactly_for_whole_answers_beside_streams() -> None:
    usage = usage_of(planted())
    lives, kept = range(120), [n for n in range(120) if n % 10]
    assert (usage["live"]["tokens_in"]["answers"], usage["shadow"]["tokens_in"]["answers"]) == (120, 108)
    assert usage["live"]["tokens_in"]["total"] == sum(10 + n % 3 for n in lives)
    assert usage["live"]["tokens_out"]["total"] == sum(20 + n for n in lives)
    assert usage["shadow"]["tokens_out"]["total"] == sum(2 * (20 + n) for n in kept)
    assert usage["shadow"]["cached"] == {
        "answers": 108,
        "total": 4 * 108,
        "quantiles": {name: pytest.approx(4, rel=0.01) for name in ("p50", "p90", "p99")},
    }
    assert (usage["live"]["cached"], usage["shadow"]["cost"]) == (None, None)
    assert (usage["live"]["cost"]["answers"], usage["live"]["cost"]["total"]) == (120, 30.0)
    paired = usage["paired"]
    assert (paired["cached"], paired["cost"]) == (None, None)
    out = paired["tokens_out"]
    assert (out["requests"], out["live_total"]) == (108, sum(20 + n for n in kept))
    assert out["totals"]["value"] == 2.0
    assert (out["totals"]["low"], out["totals"]["high"], out["totals"]["n"]) == (2.0, 2.0, 108)
    assert out["ratio"]["p50"]["value"] == pytest.approx(2, rel=0.03)
    assert out["gap"]["p50"] == pytest.approx(20 + 60, rel=0.03)
    assert usage["finish"] == [
        {"live": "stop", "shadow": "length", "count": 108},
        {"live": "stop", "shadow": "failed", "count": 12},
    ]


def test_one_model_beside_itself_differs_by_nothing() -> None:
    """Both arms have the same answers: all ratios are 1, and their intervals hold nothing else."""
    source = random.Random(4)
    records = []
    for n in range(200):
        leg = completion(source.randrange(1, 4000), source.randrange(1, 900), cost=source.random())
        records.append(record(n, leg, 3.0 * n, s=leg))
    usage = usage_of(records)
    assert usage["live"] == usage["shadow"]
    for name in ("tokens_in", "tokens_out", "cost"):
        measure = usage["paired"][name]
        assert measure["live"] == measure["shadow"]
        assert set(measure["gap"].values()) == {0.0}
        for estimate in (measure["totals"], *measure["ratio"].values()):
            assert (estimate["value"], estimate["low"], estimate["high"]) == (1.0, 1.0, 1.0), name
    assert usage["finish"] == [{"live": "stop", "shadow": "stop", "count": 200}]


def test_two_apis_are_counted_in_one_form() -> None:
    message = said({**MESSAGE, "stop_reason": "max_tokens", "usage": ANTHROPIC})
    usage = usage_of([record(n, completion(325, 7, "length"), n, s=message) for n in range(20)])
    for name in ("tokens_in", "tokens_out"):
        assert usage["paired"][name]["totals"]["value"] == 1.0
    assert usage["finish"] == [{"live": "length", "shadow": "length", "count": 20}]


def test_a_sum_beyond_what_a_float_counts_exactly_is_exact() -> None:
    records = [record(n, completion(999_999_999, 1), n, s=completion(1, 0)) for n in range(50)]
    summary = summarise(records, Rules())
    assert pair_of(summary).usage.live.totals["tokens_in"] == 50 * 999_999_999
    usage = report_json(summary)["shadows"]["s"]["usage"]
    assert usage["paired"]["tokens_out"]["totals"]["value"] == 0.0
    assert usage["shadow"]["tokens_out"]["total"] == 0


@pytest.mark.parametrize(
    ("live", "shadow"),
    [
        (answer({"class": "a"}), answer({"class": "b"})),
        (answer({"class": "a"}), failed(Outcome.TIMEOUT, 900.0)),
        (completion(3, 4), failed(Outcome.LANE_FULL)),  # it was never asked
        (failed(Outcome.CALLER_LEFT), answer({"class": "b"})),
    ],
)
def test_a_report_on_other_answers_does_not_speak_of_tokens(live: RecordedLeg, shadow: RecordedLeg) -> None:
    figures = report_json(summarise([record(n, live, n, s=shadow) for n in range(60)], Rules()))
    assert figures["shadows"]["s"]["usage"] is None
    for name in ("text", "html", "markdown"):
        assert "Tokens and cost" not in form(figures, name)


@pytest.mark.parametrize("seed", range(6))
def test_any_cut_and_order_gives_the_one_report(seed: int) -> None:
    source = random.Random(seed)
    records = [
        *planted(),
        *(record(500 + n, completion(n, n, cost=source.random()), 11.0 * n, s=completion(n, 1)) for n in range(40)),
    ]
    assert_adds_up(records, source)


def test_a_summary_from_before_has_no_tokens_and_can_be_read() -> None:
    loaded = Summary.from_json(without(summarise(planted(), Rules()).to_json(), "usage"))
    assert report_json(loaded)["shadows"]["s"]["usage"] is None
    both = merge(loaded, summarise(planted(), Rules()))
    usage = report_json(both)["shadows"]["s"]["usage"]
    assert usage["live"]["cost"]["total"] == 30.0


@pytest.mark.parametrize("name", ["text", "html", "markdown"])
def test_every_form_shows_them(name: str) -> None:
    text = form(report_json(summarise(planted(), Rules())), name)
    for words in ("Tokens and cost", "tokens out, all", "2.00× (2.00 to 2.00)", "Finish reason", "17,280", "length"):
        assert words in text, words


def test_one_finish_reason_is_a_line_in_the_terminal() -> None:
    records = [record(n, completion(3, 4), n, s=completion(3, 4)) for n in range(60)]
    assert "Finish reason  live stop, shadow stop: all 60" in form(report_json(summarise(records, Rules())), "text")


def test_what_an_answer_took_that_is_not_in_the_log_is_not_counted() -> None:
    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        whole = completion(3, 4)
        return whole, whole._replace(body=Body("none", None, 90, truncated=True))

    usage = usage_of(chosen(20, 1, answers))
    assert usage["live"]["tokens_out"]["answers"] == 20
    assert usage["shadow"]["tokens_out"] is None
