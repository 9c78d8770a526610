"""Faults in the text of a language model stand where its API has the text."""

from typing import Any

import pytest
from logs import said

from shadowproxy.answers import answer_value
from shadowproxy.answers.value import in_one_form
from shadowproxy.selftest.plants.edit import changed
from shadowproxy.selftest.plants.envelopes import as_sent

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ENVELOPES: list[tuple[Any, str]] = [
    ({"choices": [{"index": 0, "message": {"role": "assistant", "content": "a b"}}]}, "/choices/*/answer"),
    ({"choices": [{"index": 0, "message": {"content": None, "tool_calls": [CALL]}}]}, "/choices/*/answer"),
    ({"choices": [{"index": 0, "text": "a b"}, {"index": 1, "text": "c"}]}, "/choices/*/answer"),
    ({"type": "message", "content": [{"type": "text", "text": "a b"}]}, "/answer"),
    ({"object": "response", "output": [{"type": "message", "content": [{"text": "a b"}]}]}, "/answer"),
    ({"done": True, "message": {"role": "assistant", "content": "a b"}}, "/answer"),
    ({"done": True, "response": "a b"}, "/answer"),
    ({"candidates": [{"content": {"role": "model", "parts": [{"text": "a b"}]}}]}, "/candidates/*/answer"),
]


@pytest.mark.parametrize(("payload", "place"), ENVELOPES)
@pytest.mark.parametrize("planted", ["other words", None])
def test_a_planted_text_is_read_again(payload: Any, place: str, planted: str | None) -> None:
    wanted = changed(in_one_form(payload), place, lambda _: planted)
    sent = as_sent(wanted)
    assert "answer" not in str(sent)
    again = answer_value(said(sent))
    holders = again.get("choices") or again.get("candidates") or [again]
    assert [each["answer"] for each in holders] == [planted] * len(holders)


@pytest.mark.parametrize(("payload", "place"), ENVELOPES)
def test_a_text_that_is_not_changed_stays_as_it_was(payload: Any, place: str) -> None:
    assert in_one_form(as_sent(in_one_form(payload))) == in_one_form(payload)


def test_an_answer_of_its_own_is_left() -> None:
    for value in ({"answer": "b"}, {"answer": 3, "choices": 2}, [1], None, "x"):
        assert as_sent(value) == value
