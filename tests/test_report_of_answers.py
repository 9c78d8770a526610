"""What a report says of answers that are no plain JSON: streams, tool calls, lines, plain texts."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from logs import chosen, report_json, said

from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.gates import Gates
from shadowproxy.record import RecordedLeg

WORDS = ["the", "flight", "is", "late", "early", "on", "time", "delayed", "gate", "weather", "crew"]

Say = Callable[[random.Random, int], tuple[Any, Any]]


def report(say: Say, count: int = 2000, seed: int = 7, **gates: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The report on one shadow, and the results of its checks by name."""
    shadow = report_json(summarise(chosen(count, seed, say), Rules()), Gates(**gates))["shadows"]["s"]
    return shadow, {each["name"]: each["result"] for each in shadow["checks"]}


def sse(*events: Any) -> RecordedLeg:
    text = ""
    for each in events:
        named = f"event: {each['type']}\n" if isinstance(each, dict) and "type" in each else ""
        text += f"{named}data: {each if isinstance(each, str) else json.dumps(each)}\n\n"
    return said(text, "text/event-stream")


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def chat(text: str, pieces: int = 3) -> RecordedLeg:
    size = max(1, len(text) // pieces)
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    return sse(*(chunk({"content": each}) for each in parts), chunk({}, "stop"), "[DONE]")


def call(name: str, arguments: str) -> RecordedLeg:
    head = {"index": 0, "id": "c", "type": "function", "function": {"name": name, "arguments": ""}}
    piece = {"index": 0, "function": {"arguments": arguments}}
    deltas: list[dict[str, Any]] = [{"content": None}, {"tool_calls": [head]}, {"tool_calls": [piece]}]
    return sse(*(chunk(each) for each in deltas), chunk({}, "tool_calls"), "[DONE]")


def message(text: str) -> RecordedLeg:
    return sse(
        {"type": "message_start", "message": {"type": "message", "content": [], "usage": {"output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    )


def words(source: random.Random) -> str:
    return " ".join(source.choice(WORDS) for _ in range(8))


def city(source: random.Random) -> str:
    return json.dumps({"city": source.choice(["Paris", "Rome", "Oslo"])})


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("done", [True, False])
def test_streams_that_end_in_an_error_are_failures(share: float, done: bool) -> None:
    def say(source: random.Random, number: int) -> tuple[Any, Any]:
        text = words(source)
        bad = [chunk({"content": text}), {"error": {"message": f"worker {number} died"}}, *(["[DONE]"] if done else [])]
        return chat(text), sse(*bad) if source.random() < share else chat(text)

    shadow, results = report(say, 2000 if share < 0.1 else 600)
    assert results["errors"] == "fail"
    assert shadow["verdict"]["headline"] == "NOT READY"
    assert shadow["streams"]["shadow"]["finished"] == pytest.approx(1 - share, abs=0.05)
    assert [each["reason"] for each in shadow["errors"]["reasons"]["shadow"]] == ["200: worker # died"]


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_streams_that_are_cut_short_are_failures(share: float) -> None:
    def say(source: random.Random, number: int) -> tuple[Any, Any]:
        text = words(source)
        return chat(text), sse(chunk({"content": text[:9]})) if source.random() < share else chat(text)

    _, results = report(say, 2000 if share < 0.1 else 600)
    assert results["errors"] == "fail"


@pytest.mark.parametrize("answered", [chat, message], ids=["chat", "messages"])
def test_texts_that_all_differ_are_not_ready_though_they_end_alike(answered: Callable[[str], RecordedLeg]) -> None:
    def say(source: random.Random, number: int) -> tuple[Any, Any]:
        return answered(words(source)), answered(words(source))

    shadow, results = report(say, 600, min_agreement=0.95)
    assert results["agreement"] == "fail"
    assert shadow["outputs"][0]["agreement"]["value"] < 0.01
    assert shadow["verdict"]["headline"] == "NOT READY"


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("other", [lambda given: call("time", given), lambda given: chat("It is fine.")])
def test_another_tool_or_a_text_in_its_place_differs(share: float, other: Callable[[str], RecordedLeg]) -> None:
    def say(source: random.Random, number: int) -> tuple[Any, Any]:
        given = city(source)
        return call("weather", given), other(given) if source.random() < share else call("weather", given)

    shadow, results = report(say, 600, min_agreement=0.95)
    assert results["agreement"] == "fail"
    assert shadow["outputs"][0]["live_path"] == "/choices/*/answer"
    assert shadow["verdict"]["headline"] == "NOT READY"


@pytest.mark.parametrize("answered", [chat, message], ids=["chat", "messages"])
def test_the_same_answers_in_other_pieces_are_ready(answered: Callable[[str], RecordedLeg]) -> None:
    def say(source: random.Random, number: int) -> tuple[Any, Any]:
        text = words(source)
        return answered(text), chat(text, pieces=5) if answered is chat else answered(text)

    shadow, _ = report(say)
    assert shadow["verdict"]["headline"] == "READY"
    assert shadow["agreement"]["whole"]["value"] == 1


def test_a_stream_agrees_with_the_whole_answer_that_it_makes_up() -> None:
    def say(source: random.Random, number: int) -> tuple[Any, Any]:
        text = words(source)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return chat(text), {"object": "chat.completion", "choices": [choice]}

    shadow, _ = report(say)
    assert shadow["agreement"]["whole"]["value"] == 1
    assert shadow["verdict"]["headline"] == "READY"


@pytest.mark.parametrize(
    "form", ["{}", "{}\n", '{{"late": {}}}\n'], ids=["a number", "a line", "one line of JSON lines"]
)
def test_zero_is_an_answer(form: str) -> None:
    """A plain 0 was once taken for no answer at all."""

    def say(source: random.Random, number: int) -> tuple[Any, Any]:
        one = source.choice([0, 1])
        other = 1 - one if source.random() < 0.02 else one
        kind = "application/jsonlines" if "late" in form else "text/plain"
        return said(form.format(one), kind), said(form.format(other), kind)

    shadow, results = report(say, 4000)
    assert shadow["verdict"]["headline"] == "READY", shadow["verdict"]["sentence"]
    assert shadow["outputs"][0]["agreement"]["value"] == pytest.approx(0.98, abs=0.01)
    assert results["answered"] == results.get("structure", "pass") == "pass"  # a plain text has no structure


def test_the_same_nan_on_both_sides_is_no_fault() -> None:
    def say(source: random.Random, number: int) -> tuple[Any, Any]:
        text = json.dumps({"prediction": source.choice([float("nan"), 0.25, 0.5, 0.75]), "n": source.random()})
        return said(text), said(text)

    shadow, results = report(say)
    assert results["structure"] == "pass"
    assert shadow["agreement"]["whole"]["value"] == 1
    assert shadow["verdict"]["headline"] != "NOT READY"


def test_an_event_whose_choices_is_a_number_ends_no_report_in_a_traceback() -> None:
    shadow, _ = report(lambda source, number: (chat("a"), sse({"choices": 7}, {"choices": [3, None]}, "[DONE]")), 60)
    assert shadow["verdict"]["headline"] != "READY"
