"""Parts of the requests to language models: by the length of the prompt, and by the model that they name."""

import random
from typing import Any

import pytest
from logs import record, report_json, said
from test_losses_in_forms import form
from test_usage import chat

from shadowproxy.compare.fold.prompts import prompt_length
from shadowproxy.compare.fold.requests import asked_by
from shadowproxy.compare.fold.slices import MOST_SLICES, Fields, Observations, Slices, leaves
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.words import where_part
from shadowproxy.record import Body, Record


@pytest.mark.parametrize(
    ("payload", "length"),
    [
        ({"messages": [{"role": "system", "content": "ab"}, {"role": "user", "content": "cde"}]}, 5),
        ({"messages": [{"content": [{"type": "text", "text": "abc"}, {"type": "image_url", "image_url": {}}]}]}, 3),
        ({"system": [{"type": "text", "text": "ab"}], "messages": [{"content": "c"}]}, 3),
        ({"messages": [{"content": [{"type": "tool_result", "content": [{"type": "text", "text": "abcd"}]}]}]}, 4),
        ({"prompt": "abc"}, 3),
        ({"prompt": ["abc", "de"]}, 5),
        ({"prompt": [1, 2, 3]}, None),
        ({"input": "abc", "instructions": "de"}, 5),
        ({"input": [{"type": "message", "content": [{"type": "input_text", "text": "abc"}]}, {"output": "z"}]}, 4),
        ({"contents": [{"parts": [{"text": "ab"}]}], "systemInstruction": {"parts": [{"text": "c"}]}}, 3),
        ({"inputs": "abc"}, 3),
        ({"inputs": [{"name": "x", "datatype": "FP32", "data": [1.0]}]}, None),
        ({"input": {"carrier": "AA"}}, None),
        ({"prompt": ""}, 0),
        ({"model": "a"}, None),
        (["abc"], None),
        (None, None),
    ],
)
def test_the_length_of_a_prompt(payload: Any, length: int | None) -> None:
    assert prompt_length(payload) == length


def test_the_length_of_a_prompt_that_is_nested_deeply() -> None:
    deep: Any = "abc"
    for _ in range(5000):
        deep = [deep]
    assert prompt_length({"messages": deep}) == 3


def asking(number: int, payload: Any, equal: bool) -> Record:
    live = said(chat(None, content="yes"))
    made = record(number, live, number, s=live if equal else said(chat(None, content="no")))
    return made._replace(request=made.request._replace(body=Body("json", payload, 100)))


def planted() -> list[Record]:
    """600 requests; the shadow differs for prompts of 12,345 characters, and for the model `b`."""
    source = random.Random(3)
    records = []
    for number in range(600):
        long, other = number % 10 == 0, number % 10 == 1
        length = 12_345 if long else source.randrange(100, 900)
        payload = {"messages": [{"role": "user", "content": "x" * length}], "model": "b" if other else "a"}
        records.append(asking(number, payload, not (long or other)))
    return records


def test_parts_by_prompt_length_and_model_come_of_themselves() -> None:
    figures = report_json(summarise(planted(), Rules()))
    found = {row["path"]: row for row in figures["shadows"]["s"]["slices"]}
    length, model = found["@prompt_length"], found["/model"]
    assert (length["value"], length["requests"], length["differing"]) == ("12,000 to 12,999", 60, 60)
    assert (model["value"], model["requests"], model["differing"]) == ('"b"', 60, 60)
    for name in ("text", "markdown"):
        text = form(figures, name)
        assert "prompt length 12,000 to 12,999 characters: 100 % of 60 differ" in text
        assert 'model = "b": 100 % of 60 differ' in text
    page = form(figures, "html")
    assert "characters of the prompt" in page
    assert "12,000 to 12,999" in page
    assert 'where model is "b"' in figures["shadows"]["s"]["advice"]["in_short"][-1]["said"]
    assert where_part("@prompt_length", "1 to 9") == "where the prompt has 1 to 9 characters"


def test_the_model_is_counted_though_it_comes_after_more_values_than_are_looked_at() -> None:
    payload = {"messages": [{"role": "user", "content": str(n)} for n in range(2000)], "model": "a"}
    assert "/model" not in leaves(payload)
    assert asked_by(asking(1, payload, True)).fields.by_place["/model"] == ["a"]


def test_the_model_is_kept_however_many_fields_requests_have() -> None:
    slices = Slices()
    for number in range(40):
        observed = Observations()
        observed.add(Fields(leaves({"model": "a", **{f"k{number}-{n}": n for n in range(20)}})), (), {})
        slices.add(observed)
    assert len(slices) == MOST_SLICES
    assert slices["/model"].values["a"]["n"] == 40


def test_a_request_to_another_model_has_no_prompt() -> None:
    assert "@prompt_length" not in asked_by(record(1, said({"a": 1}))).fields.by_place
