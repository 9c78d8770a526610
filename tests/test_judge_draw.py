"""Which pairs are drawn for a judge, and that the win rate of those that are is that of all."""

import random
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from logs import answer, record, said
from test_engines import line
from test_judge import chat, question

from shadowproxy.compare.fold.filters import EVERYTHING, Only
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.preferences import Head, Preference, Said, WinRate
from shadowproxy.judge.draw import Candidate, DrawError, draw, survey, texts_of
from shadowproxy.judge.texts import EMPTY, LONGEST, answer_text, request_text, shortened
from shadowproxy.record import Body, RecordedRequest


def candidates(count: int, seed: int) -> list[Candidate]:
    source = random.Random(seed)
    return [
        Candidate(f"id-{n}", f"{seed}-{n}", 0.25 + source.random() / 2, ("GET /", "", n % 3 and 5))
        for n in range(count)
    ]


def asked(pairs: list[Candidate], winners: dict[str, tuple[Said, Said]], most: int) -> WinRate:
    """The win rate by a judge that prefers as `winners` says, of a draw of about so many."""
    drawn = draw(pairs, most)
    head = Head(
        "s", "m", "u", "p", len(pairs), (), 0, len(pairs), {}, len(drawn.pairs),
        drawn.mean_probability, drawn.least_probability,
    )  # fmt: skip
    rate = WinRate(head)
    for place, pair in enumerate(drawn.pairs):
        rate.add(Preference(pair.id, pair.record, place, pair.probability, *winners[pair.record], 2))
    return rate


SHADOW: tuple[Said, Said] = ("B", "A")
LIVE: tuple[Said, Said] = ("A", "B")
TIE: tuple[Said, Said] = ("A", "A")
WORTH = {SHADOW: 1.0, LIVE: 0.0, TIE: 0.5}


def test_the_win_rate_of_a_draw_is_that_of_all_pairs_on_average() -> None:
    """The shadow wins where it is of interest: an estimate without the probabilities would be far too high."""
    errors, naive, within = [], [], 0
    for seed in range(150):
        pairs = candidates(300, seed)
        source = random.Random(seed)
        winners = {
            each.record: SHADOW if each.interest > 0.5 and source.random() < 0.9 else source.choice([LIVE, LIVE, TIE])
            for each in pairs
        }
        truth = fmean(WORTH[each] for each in winners.values())
        rate = asked(pairs, winners, 60)
        assert rate.value is not None
        errors.append(rate.value - truth)
        naive.append(fmean(WORTH[winners[each.record]] for each in rate.used) - truth)
        within += rate.low <= truth <= rate.high
    assert abs(fmean(errors)) < 3 * stdev(errors) / 150**0.5
    assert fmean(naive) > 5 * stdev(naive) / 150**0.5
    assert within >= 143  # 95 % of 150


def test_the_draw_follows_from_the_log_and_the_budget_and_a_larger_one_draws_more() -> None:
    pairs = candidates(400, 1)
    small, large, whole = draw(pairs, 40), draw(pairs[::-1], 120), draw(pairs, 400)
    assert draw(pairs, 40) == small
    records = [{each.record for each in found.pairs} for found in (small, large, whole)]
    assert records[0] < records[1] < records[2]
    assert abs(len(small.pairs) - 40) < 25
    assert abs(len(large.pairs) - 120) < 40
    assert [each.probability for each in whole.pairs] == [1.0] * 400
    order = [each.record for each in whole.pairs if each.record in records[0]]
    assert order == [each.record for each in small.pairs]
    assert draw([], 10).pairs == ()


@pytest.mark.parametrize("most", [1, 7, 60, 99])
def test_the_probabilities_add_up_to_what_may_be_asked(most: int) -> None:
    pairs = [Candidate(str(n), str(n), 0.25 if n % 10 else 0.75, ("", "", 0)) for n in range(100)]
    found = draw(pairs, most)
    assert found.mean_probability * 100 == pytest.approx(most)
    assert 0 < found.least_probability <= found.mean_probability <= 1


def test_pairs_that_differ_more_or_are_long_or_of_a_rare_slice_are_drawn_more_often(tmp_path: Path) -> None:
    rows = [line(n, chat("one two three"), chat("one two four"), question(1)) for n in range(60)]
    rows.append(line(60, chat("one two three"), chat("five six seven"), question(1)))
    rows.append(line(61, chat("one two three " * 200), chat("one two four " * 200), question(1)))
    rows.append(line(62, chat("one two three"), chat("one two four"), {"model": "rare", "messages": []}))
    (tmp_path / "log.jsonl").write_bytes(b"".join(rows))
    _, found = survey([tmp_path / "log.jsonl"], None, Rules())
    chances = {each.id: each.probability for each in draw_all(found.candidates, 20)}
    for special in ("id-60", "id-61", "id-62"):
        assert chances[special] > 1.2 * chances["id-0"]


def draw_all(pairs: list[Candidate], most: int) -> list[Any]:
    """The probabilities of all pairs, drawn or not."""
    from shadowproxy.judge.draw import Drawn, _in_proportion, _interests

    shares = _in_proportion(_interests(pairs), most)
    return [Drawn(each.id, each.record, share) for each, share in zip(pairs, shares, strict=True)]


# --- which pairs there are -------------------------------------------------------------------------------------------


def test_a_pair_is_equal_or_asked_or_left_out(tmp_path: Path) -> None:
    rows = [
        line(0, chat("same"), chat("same")),
        line(1, chat("same"), {**chat("same"), "usage": {"completion_tokens": 3}}),  # the words are the same
        line(2, chat("one"), chat("other")),
        line(2, chat("one"), chat("other")),  # the same record again
        line(3, chat("one"), {"error": {"message": "no"}}),
        b"no record\n",
    ]
    (tmp_path / "log.jsonl").write_bytes(b"".join(rows))
    name, found = survey([tmp_path / "log.jsonl"], None, Rules())
    assert (name, found.records, found.equal) == ("s", 5, 2)
    assert [each.id for each in found.candidates] == ["id-2"]
    assert dict(found.left_out) == {"the shadow gave no answer": 1}
    assert dict(found.unreadable) == {"not JSON": 1}
    ignoring = survey([tmp_path / "log.jsonl"], "s", Rules(ignore=("/choices",)))[1]
    assert (ignoring.equal, ignoring.candidates) == (3, [])
    assert survey([tmp_path / "log.jsonl"], "s", Rules(), EVERYTHING)[1].records == 5
    with pytest.raises(DrawError, match="no record has a shadow's answer"):
        survey([tmp_path / "log.jsonl"], "s", Rules(), Only(path="/other"))
    texts = texts_of([tmp_path / "log.jsonl"], "s", draw(found.candidates, 5).pairs)
    assert (texts["r-2"].live, texts["r-2"].shadow) == ("one", "other")


def test_a_log_of_several_shadows_needs_a_name_and_a_summary_is_refused(tmp_path: Path) -> None:
    import orjson

    from shadowproxy.compare.fold.summary import Summary, save

    row = orjson.loads(line(0, chat("a"), chat("b")))
    row["shadows"]["t"] = row["shadows"]["s"]
    (tmp_path / "log.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    with pytest.raises(DrawError, match="give --shadow, one of s, t"):
        survey([tmp_path / "log.jsonl"], None, Rules())
    assert survey([tmp_path / "log.jsonl"], "t", Rules())[0] == "t"
    (tmp_path / "saved.json").write_bytes(save(Summary()))
    with pytest.raises(DrawError, match="is a summary, which has no answers"):
        survey([tmp_path / "saved.json"], None, Rules())


# --- what a judge is shown -------------------------------------------------------------------------------------------

STREAM = "".join(
    f'data: {{"object": "chat.completion.chunk", "choices": [{{"index": 0, "delta": {{"content": "{word} "}}}}]}}\n\n'
    for word in ("put", "together")
)


@pytest.mark.parametrize(
    ("leg", "text"),
    [
        (answer(chat("hello")), "hello"),
        (answer(chat("")), EMPTY),
        (answer({"prediction": [1, 0.5], "é": None}), '{"prediction": [1, 0.5], "é": null}'),
        (answer({"choices": [*chat("a")["choices"], *chat("b")["choices"]]}), "1. a\n\n2. b"),
        (said("plain words", "text/plain"), "plain words"),
        (said("", "text/plain"), EMPTY),
        (said(STREAM + "data: [DONE]\n\n", "text/event-stream"), "put together "),
        (answer(None)._replace(body=Body("json", {"a": 1}, 10, truncated=True)), None),
        (answer(None)._replace(body=Body("bytes", b"\x89PNG\r\n\x1a\n\0\0", 10)), None),
        (answer(chat("x" * 50_000)), shortened("x" * 50_000)),
        (answer({"text": "half of a pair: \ud83d"}), '{"text": "half of a pair: ?"}'),
    ],
)
def test_an_answer_is_shown_as_what_it_says(leg: Any, text: str | None) -> None:
    assert answer_text(leg) == text


def test_a_request_is_shown_with_its_messages() -> None:
    def shown(value: Any, query: str = "") -> str:
        asked = RecordedRequest("POST", "/v1/chat", query, {}, Body("json", value, 10))
        return request_text(record(0, answer(1))._replace(request=asked))

    assert shown({"messages": [{"role": "user", "content": "hi"}], "model": "m"}) == "POST /v1/chat\n\nuser: hi"
    tools = {"messages": [{"role": "user", "content": [{"type": "text"}]}], "tools": [{"name": "f"}]}
    assert shown(tools) == (
        'POST /v1/chat\n\n{"tools": [{"name": "f"}]}\n{"role": "user", "content": [{"type": "text"}]}'
    )
    assert shown({"x": 1}, "a=b") == 'POST /v1/chat?a=b\n\n{"x": 1}'
    long = shown({"x": "y" * 99_999})
    assert LONGEST < len(long) < LONGEST + 100
    assert "characters left out here" in long
    body = Body("bytes", b"\xff\xfe\x00", 3)
    asked = RecordedRequest("GET", "/img", "", {}, body)
    assert request_text(record(0, answer(1))._replace(request=asked)).startswith("GET /img")
