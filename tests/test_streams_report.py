"""TTFT, TPOT, ITL and E2E in the report: planted times come out, arm by arm and on the same requests."""

import random
from typing import Any

import pytest
from adding_up import assert_adds_up, without
from logs import answer, failed, record, report_json
from test_losses_in_forms import form
from test_streams import chunk, stream

from shadowproxy.compare.fold.summary import Summary, merge, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, Events, Gaps, Record, RecordedLeg

MEASURES = ("ttft_ms", "tpot_ms", "itl_p50_ms", "itl_p99_ms", "e2e_ms")


def timed(first: float, per_token: float, tokens: int = 11, gap: float = 5.0, total: float = 3000.0) -> RecordedLeg:
    """A stream whose head came after 20 ms, and its tokens at these times."""
    leg = stream(chunk("a"), chunk("b", "stop"), "[DONE]", first=20.0, total=total)
    last = first + per_token * (tokens - 1)
    return leg._replace(events=Events(21.0, first, last, tokens, "usage", Gaps(gap, 4 * gap, 9 * gap)))


def of(records: list[Record]) -> Any:
    return report_json(summarise(records, Rules()))["shadows"]["s"]["streams"]


def near(value: float) -> Any:
    return pytest.approx(value, rel=0.021)


def planted(count: int = 120) -> list[Record]:
    """The shadow is late with its first token by a half, and takes twice as long for each of the others."""
    return [
        record(
            n,
            timed(400.0 + n, 10.0 + n % 7, total=1000.0),
            7.0 * n,
            s=timed(1.5 * (400.0 + n), 2 * (10.0 + n % 7), gap=10.0, total=2000.0),
        )
        for n in range(count)
    ]


def test_planted_times_come_out_in_each_arm_and_paired() -> None:
    streams = of(planted())
    live, shadow, paired = streams["live"], streams["shadow"], streams["paired"]
    assert (live["ttft_ms"]["p50"], shadow["ttft_ms"]["p50"]) == (near(459.5), near(1.5 * 459.5))
    assert (live["tpot_ms"]["p50"], shadow["tpot_ms"]["p50"]) == (near(13), near(26))
    assert (live["tokens_per_second"]["p50"], shadow["tokens_per_second"]["p50"]) == (near(1000 / 13), near(1000 / 26))
    assert (live["itl_p50_ms"]["p50"], live["itl_p99_ms"]["p50"]) == (near(5), near(20))
    assert (live["first_byte_ms"]["p50"], live["ttft_from"]) == (near(20), {"token": 120})
    assert (live["tpot_from_bytes"], live["finished"]) == (0, 1.0)
    for name, ratio in zip(MEASURES, (1.5, 2, 2, 2, 2), strict=True):
        measure = paired[name]
        assert (measure["requests"], measure["ratio"]["p50"]["value"]) == (120, near(ratio)), name
        low, high = measure["ratio"]["p50"]["low"], measure["ratio"]["p50"]["high"]
        assert low <= measure["ratio"]["p50"]["value"] <= high
        assert high - low < 0.2
    assert paired["ttft_ms"]["gap"]["p50"] == near(0.5 * 459.5)


def test_one_server_beside_itself_differs_by_nothing() -> None:
    source = random.Random(3)
    records = []
    for n in range(150):
        leg = timed(source.uniform(50, 900), source.uniform(5, 50), source.randrange(2, 300), source.uniform(1, 9))
        records.append(record(n, leg, 5.0 * n, s=leg))
    streams = of(records)
    assert streams["live"] == streams["shadow"]
    for name in MEASURES:
        measure = streams["paired"][name]
        assert measure["live"] == measure["shadow"]
        assert set(measure["gap"].values()) == {0.0}
        assert {(each["low"], each["value"], each["high"]) for each in measure["ratio"].values()} == {(1.0, 1.0, 1.0)}


def test_a_stream_beside_a_whole_answer_is_no_pair_of_streams() -> None:
    whole = answer({"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]})
    records = [
        record(n, timed(400.0, 10.0), 3.0 * n, s=timed(600.0, 10.0) if n % 4 == 0 else whole) for n in range(100)
    ]
    streams = of(records)
    assert (streams["live"]["streams"], streams["shadow"]["streams"]) == (100, 25)
    for name in MEASURES:
        assert streams["paired"][name]["requests"] == 25
    alone = of([record(n, timed(400.0, 10.0), n, s=whole) for n in range(50)])
    assert set(alone["paired"].values()) == {None}
    assert alone["shadow"]["ttft_ms"]["p50"] is None


def test_logs_without_the_times_of_events_have_the_first_byte_and_say_so() -> None:
    old = stream(chunk("a"), *(chunk("b") for _ in range(10)), chunk(None, "stop"), first=100.0, total=1100.0)
    records = [record(n, old, 3.0 * n, s=old) for n in range(100)]
    figures = report_json(summarise(records, Rules()))
    streams = figures["shadows"]["s"]["streams"]
    assert streams["live"]["ttft_from"] == {"byte": 100}
    assert (streams["live"]["ttft_ms"]["p50"], streams["live"]["tpot_ms"]["p50"]) == (near(100), near(100))
    assert (streams["live"]["tpot_from_bytes"], streams["live"]["itl_p50_ms"]["p50"]) == (100, None)
    assert streams["paired"]["ttft_ms"]["requests"] == 100
    for name in ("text", "html", "markdown"):
        text = form(figures, name)
        assert "TTFT is the time to the first byte in 100 of 100 of live's streams" in text
        assert "TPOT is from the first byte to the end in 100 of 100 of the shadow's streams" in text
        assert "ITL p50" not in text


def test_a_first_byte_is_not_compared_with_a_first_token() -> None:
    """A server may send its head long before it has a token."""
    old = stream(chunk("a"), chunk("b"), chunk(None, "stop"), first=20.0, total=1100.0)
    streams = of([record(n, old, n, s=timed(1800.0, 10.0)) for n in range(60)])
    assert (streams["live"]["ttft_from"], streams["shadow"]["ttft_from"]) == ({"byte": 60}, {"token": 60})
    assert (streams["paired"]["ttft_ms"], streams["paired"]["tpot_ms"]) == (None, None)
    assert streams["paired"]["e2e_ms"]["requests"] == 60


def test_a_stream_of_an_unknown_api_has_the_first_event() -> None:
    other = stream({"any": 1}, {"thing": 2})._replace(events=Events(30.0, None, None, None, None, Gaps(7.0, 8.0, 9.0)))
    figures = report_json(summarise([record(n, other, 3.0 * n, s=other) for n in range(40)], Rules()))
    streams = figures["shadows"]["s"]["streams"]
    assert (streams["live"]["ttft_from"], streams["live"]["ttft_ms"]["p50"]) == ({"event": 40}, near(30))
    assert (streams["live"]["tpot_ms"]["p50"], streams["live"]["itl_p50_ms"]["p50"]) == (None, near(7))
    assert "TTFT is the time to the first event in 40 of 40 of live's streams" in form(figures, "text")


@pytest.mark.parametrize(
    ("events", "per_token"),
    [
        (Events(1.0, 10.0, 110.0, 11, "pieces", None), 10.0),
        (Events(1.0, 10.0, 10.0, 11, "pieces", None), None),  # all in one piece
        (Events(1.0, 10.0, 110.0, 1, "usage", None), None),
        (Events(1.0, 10.0, 110.0, None, None, None), None),
        (Events(1.0, 10.0, None, 5, "usage", None), None),
    ],
)
def test_the_time_per_token_is_known_only_with_two_tokens_and_their_times(
    events: Events, per_token: float | None
) -> None:
    leg = stream(chunk("a"), chunk("b", "stop"))._replace(events=events)
    streams = of([record(n, leg, n, s=leg) for n in range(20)])
    found = streams["live"]["tpot_ms"]["p50"]
    assert found == (None if per_token is None else near(per_token))


def test_streams_whose_bodies_are_not_in_the_log_are_measured() -> None:
    """Ollama's lines have no type of streams: their tokens' times tell."""
    leg = timed(400.0, 10.0)._replace(
        headers={"content-type": "application/x-ndjson"}, body=Body("none", None, 900, truncated=True, sha256="0" * 64)
    )
    figures = report_json(summarise([record(n, leg, 3.0 * n, s=leg) for n in range(60)], Rules()))["shadows"]["s"]
    assert (figures["streams"]["live"]["streams"], figures["streams"]["live"]["tpot_ms"]["p50"]) == (60, near(10))
    assert figures["usage"]["live"]["tokens_out"] == {
        "answers": 60,
        "total": 660,
        "quantiles": dict.fromkeys(("p50", "p90", "p99"), near(11)),
    }


def test_a_stream_that_broke_off_counts_with_the_tokens_that_came() -> None:
    broken = timed(400.0, 10.0)._replace(outcome=Outcome.INCOMPLETE)
    late = failed(Outcome.TIMEOUT, 900.0)
    records = [record(n, timed(400.0, 10.0), n, s=broken if n % 2 else late) for n in range(60)]
    streams = of(records)
    assert (streams["shadow"]["streams"], streams["shadow"]["finished"]) == (30, 0.0)
    assert (streams["paired"]["ttft_ms"]["requests"], streams["paired"]["e2e_ms"]) == (30, None)


@pytest.mark.parametrize("seed", range(4))
def test_any_cut_and_order_gives_the_one_report(seed: int) -> None:
    source = random.Random(seed)
    old = stream(chunk("a"), chunk("b"), chunk(None, "stop"))
    records = [*planted(), *(record(500 + n, old, 11.0 * n, s=timed(300.0 + n, 9.0)) for n in range(40))]
    assert_adds_up(records, source)


def test_a_summary_from_before_has_first_bytes_and_can_be_read_and_added_to() -> None:
    later = {"streamed", "ttft", "tpot", "itl_p50", "itl_p99", "e2e"}
    loaded = Summary.from_json(without(summarise(planted(), Rules()).to_json(), *later))
    streams = report_json(loaded)["shadows"]["s"]["streams"]
    assert (streams["live"]["streams"], streams["live"]["first_byte_ms"]["p50"]) == (120, near(20))
    assert (streams["live"]["ttft_ms"]["p50"], streams["paired"]["ttft_ms"]) == (None, None)
    both = report_json(merge(loaded, summarise(planted(), Rules())))["shadows"]["s"]["streams"]
    assert (both["live"]["streams"], both["paired"]["ttft_ms"]["requests"]) == (240, 120)


@pytest.mark.parametrize("name", ["text", "html", "markdown"])
def test_every_form_shows_them_by_their_names(name: str) -> None:
    text = form(report_json(summarise(planted(), Rules())), name)
    names = {
        "TTFT p50": ", to first token",
        "TPOT p99": ", per output token",
        "ITL p50": ", gap between tokens",
        "ITL p99": ", gap between tokens",
        "E2E p99": ", whole answer",
    }
    legend = "TTFT: to the first token; TPOT: per output token; ITL: gap between tokens; E2E: whole answer"
    for words in (
        *([*names, legend] if name == "text" else map("".join, names.items())),
        "100 % of 120",
        "1.50×",
        "2.00×",
    ):
        assert words in text, words
