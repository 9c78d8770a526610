"""What a report says of what language models wrote: planted counts come out exactly, in any order of merging."""

import json
import random
from typing import Any

import pytest
from adding_up import assert_adds_up, without
from logs import answer, failed, record, report_json, said
from test_losses_in_forms import form
from test_usage import chat

from shadowproxy.answers.texts import UNREADABLE
from shadowproxy.answers.written import MOST_CALLS, Call, Written, written_in
from shadowproxy.compare.fold.rouge import MOST_WORDS, common_length, rouge_l
from shadowproxy.compare.fold.summary import Summary, merge, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.exchange import Outcome
from shadowproxy.record import Record, RecordedLeg


def calling(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


def message(*blocks: Any, stop: str = "end_turn") -> dict[str, Any]:
    return {"type": "message", "content": list(blocks), "stop_reason": stop}


def response(*items: Any, **more: Any) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "output": list(items), **more}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (chat(None, content="hi"), Written("hi")),
        (chat(None, content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), Written("ab")),
        (chat(None, content=None, refusal="I cannot."), Written("", (), "refusal")),
        (chat(None, content=[{"type": "refusal", "refusal": "no"}]), Written("", (), "refusal")),
        (chat(None, "content_filter", content="so"), Written("so", (), "content_filter")),
        (chat(None, content="I'm sorry, I can't help with that."), Written("I'm sorry, I can't help with that.")),
        (chat(None, content=None, tool_calls=[calling("f", '{"a": 1}')]), Written("", (Call("f", {"a": 1}),))),
        (chat(None, content=None, tool_calls=[calling("f", "")]), Written("", (Call("f", {}),))),
        (chat(None, content=None, tool_calls=[calling("f", '{"a": ')]), Written("", (Call("f", UNREADABLE),))),
        (chat(None, content=None, function_call={"name": "f", "arguments": "[1]"}), Written("", (Call("f", [1]),))),
        (chat(None, content=None, tool_calls=[7, {"function": 7}, {"function": {}}]), Written("", (Call("", {}),))),
        ({"choices": [{"text": "so", "finish_reason": "stop"}]}, Written("so")),
        ({"choices": [{"finish_reason": "stop"}]}, Written("")),
        (message({"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}), Written("a")),
        (message({"type": "tool_use", "name": "f", "input": {"a": 1}}), Written("", (Call("f", {"a": 1}),))),
        (message({"type": "text", "text": "no"}, stop="refusal"), Written("no", (), "refusal")),
        (response({"type": "message", "content": [{"type": "output_text", "text": "a"}]}), Written("a")),
        (response({"type": "message", "content": [{"type": "refusal", "refusal": "n"}]}), Written("", (), "refusal")),
        (response({"type": "function_call", "name": "f", "arguments": "{}"}), Written("", (Call("f", {}),))),
        (response({"type": "custom_tool_call", "name": "f", "input": "ls -l"}), Written("", (Call("f", "ls -l"),))),
        (response({"type": "web_search_call", "name": "s"}), Written("")),
        (response(incomplete_details={"reason": "content_filter"}), Written("", (), "content_filter")),
        ({"done": True, "response": "a"}, Written("a")),
        (
            {"done": True, "message": {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}},
            Written("", (Call("f", {}),)),
        ),
        ({"candidates": [{"finishReason": "SAFETY"}]}, Written("", (), "content_filter")),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, Written("", (), "blocked_prompt")),
        (
            {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]}}]},
            Written("", (Call("f", {"a": 1}),)),
        ),
        ({"candidates": [{"content": {"parts": [{"text": "t", "thought": True}, {"text": "a"}]}}]}, Written("a")),
        (
            {"output": {"message": {"content": [{"toolUse": {"name": "f", "input": {}}}]}}, "stopReason": "tool_use"},
            Written("", (Call("f", {}),)),
        ),
        ({"output": {}, "stopReason": "guardrail_intervened"}, Written("", (), "content_filter")),
        ({"promptFeedback": {}}, None),
        ({"choices": ["a"]}, None),
        ({"label": "a"}, None),
        ([1], None),
        (None, None),
    ],
)
def test_what_a_model_wrote(value: Any, written: Written | None) -> None:
    assert written_in(value) == written


def test_calls_beyond_a_bound_are_not_looked_at() -> None:
    found = written_in(chat(None, content=None, tool_calls=[calling("f", "{}")] * 500))
    assert found is not None
    assert len(found.calls) == MOST_CALLS


def usual_length(one: list[str], other: list[str]) -> int:
    """The longest common subsequence by the table of the textbooks."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for at, each in enumerate(other, 1):
            before, row[at] = row[at], before + 1 if word == each else max(row[at], row[at - 1])
    return row[-1]


@pytest.mark.parametrize("seed", range(8))
def test_the_longest_common_subsequence_is_that_of_the_usual_table(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(40):
        one, other = ([source.choice("abcd") for _ in range(source.randrange(70))] for _ in range(2))
        assert common_length(one, other) == usual_length(one, other)


def test_rouge_l_is_that_of_its_paper() -> None:
    """Lin 2004, section 3.1: of the candidates beside `police killed the gunman` the first has 3 words in order."""
    reference = ["police", "killed", "the", "gunman"]
    assert rouge_l(["police", "kill", "the", "gunman"], reference) == 0.75
    assert rouge_l(["the", "gunman", "kill", "police"], reference) == 0.5
    assert (rouge_l([], reference), rouge_l([], []), rouge_l(["a"], ["b"])) == (0.0, 1.0, 0.0)


def test_words_beyond_a_bound_do_not_count() -> None:
    words = [str(n) for n in range(MOST_WORDS)]
    assert rouge_l([*words, "a"], [*words, *"bc" * 50_000]) == 1.0


TEXT = "The quick brown fox jumps over the lazy dog"


def wrote(text: str | None, *calls: Any, reason: str = "stop", **more: Any) -> RecordedLeg:
    return said(chat(None, reason, content=text, tool_calls=list(calls), **more))


def planted() -> list[Record]:
    """240 requests in which the two models differ in every way that is counted."""
    pairs: list[tuple[RecordedLeg, RecordedLeg]] = []
    pairs += [(wrote(TEXT), wrote(TEXT))] * 100
    pairs += [(wrote(TEXT), wrote(TEXT.upper() + " !"))] * 20
    pairs += [(wrote("a b c d"), wrote("d a b c"))] * 30  # the same words; three of four in order
    pairs += [(wrote("a b c d"), wrote("w x y z"))] * 10
    pairs += [(wrote("a"), wrote(None))] * 4
    call = calling("f", '{"a": 1, "b": [2]}')
    pairs += [(wrote(None, call), wrote(None, calling("f", '{ "b": [2.0], "a": 1 }')))] * 20
    pairs += [(wrote(None, call), wrote(None, calling("f", '{"a": 1}')))] * 10
    pairs += [(wrote(None, call), wrote(None, calling("g", '{"a": 1}')))] * 6
    pairs += [(wrote(None, call, calling("g", "{}")), wrote(None, calling("g", "{}"), call))] * 5
    pairs += [(wrote(None, call), wrote(None, calling("f", '{"a": 1,')))] * 3
    pairs += [(wrote(None, call), wrote("a"))] * 2
    pairs += [(wrote("a"), wrote(None, refusal="I will not"))] * 9
    pairs += [(wrote("a", reason="content_filter"), wrote(None, refusal="no"))] * 8
    pairs += [(wrote(None, refusal="no"), wrote("a"))] * 7
    pairs += [(wrote("a"), failed(Outcome.TIMEOUT, 900.0))] * 3
    pairs += [(wrote("a"), answer({"label": "a"}))] * 2
    pairs += [(answer({"label": "a"}), wrote("a"))] * 1
    random.Random(1).shuffle(pairs)
    return [record(n, live, 5.0 * n, s=shadow) for n, (live, shadow) in enumerate(pairs)]


def language_of(records: list[Record]) -> Any:
    return report_json(summarise(records, Rules()))["shadows"]["s"]["language"]


def test_planted_texts_calls_and_refusals_come_out_exactly() -> None:
    found = language_of(planted())
    assert (found["live"], found["shadow"], found["requests"]) == (239, 235, 234)
    assert (found["only_live"], found["only_shadow"]) == (4 + 9 + 8, 2 + 7)
    text = found["text"]
    assert text["requests"] == 160
    assert text["exact"]["value"] == 100 / 160
    assert text["same_words"]["value"] == 120 / 160
    assert text["token_f1"]["value"] == pytest.approx(150 / 160, abs=1e-6)
    assert text["rouge_l"]["value"] == pytest.approx((120 + 30 * 0.75) / 160, abs=1e-6)
    assert text["rouge_l_quantiles"]["p1"] == 0.0
    assert text["rouge_l_quantiles"]["p10"] == pytest.approx(0.75, rel=0.02)
    assert text["rouge_l_quantiles"]["p50"] == pytest.approx(1.0, rel=0.02)
    assert text["length"]["live_total"] == 120 * len(TEXT) + 40 * 7
    assert text["length"]["shadow_total"] == 100 * len(TEXT) + 20 * (len(TEXT) + 2) + 40 * 7
    calls = found["calls"]
    no_tools = {"unknown_tools": 0, "schema": {"checked": 0, "valid": 0, "not_checked": {}}}  # in the request
    assert calls["live"] == {"answers": 46, "calls": 51, "no_json": 0, **no_tools}
    assert calls["shadow"] == {"answers": 44, "calls": 49, "no_json": 3, **no_tools}
    assert calls["requests"] == 46
    assert calls["same_names"]["value"] == (20 + 10 + 5 + 3) / 46
    assert calls["same_arguments"]["value"] == (20 + 5) / 46
    assert found["refusals"] == {
        "live": {"content_filter": 8, "refusal": 7},
        "shadow": {"refusal": 17},
        "both": 8,
        "only_live": 7,
        "only_shadow": 9,
    }


def test_one_model_beside_itself_is_alike_in_everything() -> None:
    legs = [each.live for each in planted()]
    found = language_of([record(n, leg, 3.0 * n, s=leg) for n, leg in enumerate(legs)])
    assert found["live"] == found["shadow"] == found["requests"]
    for name in ("exact", "same_words", "token_f1", "rouge_l"):
        assert found["text"][name]["value"] == 1.0
    assert found["calls"]["same_arguments"]["value"] == found["calls"]["same_names"]["value"] == 1.0
    assert (found["refusals"]["only_live"], found["refusals"]["only_shadow"]) == (0, 0)
    assert found["text"]["length"]["totals"]["value"] == 1.0


def test_two_apis_that_say_the_same_are_alike() -> None:
    live = said(chat(None, content=TEXT, tool_calls=[calling("f", '{"a": 1}')]))
    blocks = ({"type": "text", "text": TEXT}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}})
    found = language_of([record(n, live, n, s=said(message(*blocks))) for n in range(20)])
    assert found["text"]["exact"]["value"] == 1.0
    assert found["calls"]["same_arguments"]["value"] == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_any_cut_and_order_gives_the_one_report(seed: int) -> None:
    source = random.Random(seed)
    records = planted()
    assert_adds_up(records, source)


def test_a_summary_from_before_counts_no_texts_and_can_be_read() -> None:
    whole = summarise(planted(), Rules())
    loaded = Summary.from_json(without(whole.to_json(), "language"))
    assert report_json(loaded)["shadows"]["s"]["language"] is None
    assert report_json(merge(loaded, whole))["shadows"]["s"]["language"] == language_of(planted())


def test_a_report_on_other_answers_does_not_speak_of_language_models() -> None:
    legs = answer({"class": "a"}), answer({"class": "b"})
    figures = report_json(summarise([record(n, legs[0], n, s=legs[1]) for n in range(60)], Rules()))
    assert figures["shadows"]["s"]["language"] is None
    for name in ("text", "html", "markdown"):
        assert "Language model" not in form(figures, name)


@pytest.mark.parametrize("name", ["text", "html", "markdown"])
def test_every_form_shows_them(name: str) -> None:
    text = form(report_json(summarise(planted(), Rules())), name)
    for words in (
        "Language model",
        "234 by both",
        "62.5 %",
        "ROUGE-L, mean",
        "the same tools",
        "of 46",
        "arguments that are no JSON",
        "refused: content_filter",
        "8 by both, 7 only by live, 9 only by the shadow",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    "hostile",
    [
        {"choices": [{"message": {"content": {"text": 1}, "tool_calls": {"function": 1}, "refusal": [1]}}]},
        {"choices": [{"message": {"tool_calls": [calling("\ud800", '{"\\ud800": 1e400}')], "content": "\ud800"}}]},
        {"choices": [{"message": {"tool_calls": [calling("f", "[" * 5000 + "]" * 5000)]}}]},
        {"choices": [{"message": {"tool_calls": [calling("f", json.dumps({"a": 10**400}))]}}]},
        {"type": "message", "content": [{"type": "tool_use", "name": {}, "input": float("nan")}]},
        {"object": "response", "output": [{"type": "function_call"}, {"type": "message", "content": 7}, None]},
        {"done": True, "message": {"content": None, "tool_calls": [None]}},
        {"candidates": [{"content": {"parts": [None, {"functionCall": {"name": 1, "args": None}}]}}]},
        {"output": {"message": []}, "stopReason": "x"},
        {"promptFeedback": {"blockReason": {"a": 1}}},
    ],
)
def test_no_answer_makes_the_report_fail(hostile: Any) -> None:
    legs = wrote("a"), said(hostile)
    for live, shadow in (legs, legs[::-1], (legs[1], legs[1])):
        figures = report_json(summarise([record(n, live, n, s=shadow) for n in range(3)], Rules()))
        assert figures["shadows"]["s"]["language"]["requests"] == 3
