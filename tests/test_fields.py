"""Where in a payload the answer is: the envelopes of real servers, and payloads of nobody's making."""

import json
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from logs import answer

from shadowproxy.compare.answers import answer_value, unwrapped
from shadowproxy.compare.answers.value import reshaped
from shadowproxy.compare.fields import Field, detect, extract, field_at, ranking_of, vector_of
from shadowproxy.exchange import Outcome
from shadowproxy.record import Answer, Body

Maker = Callable[[random.Random], Any]


def found(make: Maker, other: Maker | None = None, count: int = 200) -> list[tuple[str, str, str]]:
    source = random.Random(4)
    pairs = [(unwrapped(make(source)), unwrapped((other or make)(source))) for _ in range(count)]
    return [(each.live, each.shadow, each.kind) for each in detect(pairs)]


def noise(source: random.Random) -> dict[str, Any]:
    return {
        "id": str(uuid.UUID(int=source.getrandbits(128))),
        "model_version": "7",
        "created": 1_769_860_800 + source.randrange(1000),
        "latency_ms": source.random() * 10,
    }


def proba(source: random.Random, size: int = 3) -> list[float]:
    weights = [source.random() for _ in range(size)]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        # MLflow, TensorFlow Serving, KServe v1
        (lambda r: {"predictions": [r.random() * 100]}, ("/predictions/*", "number")),
        (lambda r: {"predictions": [r.choice("ab")]}, ("/predictions/*", "class")),
        (lambda r: {"predictions": [proba(r)]}, ("/predictions/*", "vector")),
        (
            lambda r: {"predictions": [{"label": r.choice("ab"), "score": r.random()}]},
            ("/predictions/*/label", "class"),
        ),
        # SageMaker
        (lambda r: {"predictions": [{"score": r.random() * 9}], **noise(r)}, ("/predictions/*/score", "number")),
        # Open Inference Protocol: by name, reshaped
        (
            lambda r: {
                "model_name": "m",
                "id": str(uuid.UUID(int=r.getrandbits(128))),
                "outputs": [{"name": "probs", "datatype": "FP32", "shape": [1, 3], "data": proba(r)}],
            },
            ("/outputs/probs/*", "vector"),
        ),
        (lambda r: {"outputs": {"price": [[r.random() * 100]]}}, ("/outputs/price/*/*", "number")),
        (lambda r: {"results": [{"class": r.choice("ab"), **noise(r)}]}, ("/results/*/class", "class")),
        # Seldon
        (
            lambda r: {"data": {"names": ["p"], "ndarray": [[r.random() * 7]]}, "meta": {}},
            ("/data/ndarray/*/*", "number"),
        ),
        (
            lambda r: {"data": {"tensor": {"shape": [2, 2], "values": [r.random() * 9 for _ in range(4)]}}},
            ("/data/tensor/*/*", "number"),
        ),
        # free forms
        (lambda r: {**noise(r), "late": r.random() < 0.5}, ("/late", "class")),
        (lambda r: {**noise(r), "result": {"price": r.random() * 100}}, ("/result/price", "number")),
        (lambda r: {**noise(r), "scores": {"cat": r.random(), "dog": r.random()}}, ("/scores", "vector")),
        (lambda r: [r.random() * 50], ("/*", "number")),
        (lambda r: r.random() * 50, ("", "number")),
        (lambda r: proba(r, 10), ("", "vector")),
        (
            lambda r: {"items": [{"id": n, "score": r.random()} for n in r.sample(range(50), 5)], **noise(r)},
            ("/items", "ranking"),
        ),
        (lambda r: {"answer": f"it is {r.random()}, I believe, and that is all there is to say"}, ("/answer", "text")),
    ],
)
def test_the_answer_is_found_first(make: Maker, expected: tuple[str, str]) -> None:
    place, shadow, kind = found(make)[0]
    assert (place, kind) == expected
    assert shadow == place


def test_ids_times_and_versions_are_never_answers() -> None:
    assert found(noise) == []


def test_what_is_named_as_about_the_answer_is_not_the_answer() -> None:
    def make(source: random.Random) -> dict[str, Any]:
        return {"role": source.choice("xy"), "model": source.choice("mn"), "late": source.random() < 0.5}

    assert [place for place, _, _ in found(make)] == ["/late"]


def test_at_most_three_fields_are_taken_and_none_within_another() -> None:
    fields = found(lambda r: {"predictions": [{"probs": proba(r), **{f"score{n}": r.random() * 9 for n in range(6)}}]})
    assert len(fields) == 3
    assert not any(one[0].startswith(f"{other[0]}/") for one in fields for other in fields)


def test_live_and_the_shadow_may_answer_at_different_places() -> None:
    fields = found(lambda r: {"prediction": r.choice("ab")}, lambda r: {"output": {"label": r.choice("ab")}})
    assert fields[0] == ("/prediction", "/output/label", "class")


def chat(source: random.Random) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"The answer is {source.random()}."}
    return {
        "id": f"chatcmpl-{source.getrandbits(64):016x}",
        "object": "chat.completion",
        "created": 1_769_860_800,
        "choices": [{"index": 0, "message": message, "finish_reason": source.choice(["stop", "length"])}],
        "usage": {"prompt_tokens": 9, "completion_tokens": source.randrange(500)},
    }


def test_a_chat_completion_is_what_was_said_why_it_ended_and_how_long_it_was() -> None:
    assert found(chat) == [
        ("/choices/*/message/content", "/choices/*/message/content", "text"),
        ("/choices/*/finish_reason", "/choices/*/finish_reason", "class"),
        ("/usage/completion_tokens", "/usage/completion_tokens", "number"),
    ]


def test_tool_calls_are_the_answer_where_nothing_is_said() -> None:
    def called(source: random.Random) -> dict[str, Any]:
        calls = [{"id": "call_1", "function": {"name": source.choice(["weather", "time"]), "arguments": "{}"}}]
        return {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}

    assert found(called)[0] == ("/choices/*/message/tool_calls/*/function/name",) * 2 + ("class",)


def sse(*events: Any, done: bool = True) -> Answer:
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + ("data: [DONE]\n\n" if done else "")
    return Answer(Outcome.OK, 200, {"content-type": "text/event-stream"}, Body("text", text, len(text)), 1.0, 2.0)


def delta(text: str | None, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text} if text is not None else {}, "finish_reason": reason}]}


def test_a_stream_is_put_together_to_the_completion_it_makes_up() -> None:
    stream = sse(delta("Hel"), delta("lo"), delta(None, "stop"), {"choices": [], "usage": {"completion_tokens": 2}})
    value = answer_value(stream)
    assert extract(value, "/choices/*/message/content") == ["Hello"]
    assert extract(value, "/choices/*/finish_reason") == ["stop"]
    assert extract(value, "/usage/completion_tokens") == [2]
    assert answer_value(sse(delta("Hello"), delta(None, "stop"))) == {
        name: each for name, each in value.items() if name != "usage"
    }


def test_a_stream_of_anything_else_is_its_events() -> None:
    assert answer_value(sse({"token": 1}, {"token": 2})) == [{"token": 1}, {"token": 2}]


@pytest.mark.parametrize("event", [{"choices": None}, {"choices": [None]}, {"choices": [{"delta": 3}]}, [], 3, None])
def test_odd_events_do_no_harm(event: Any) -> None:
    assert answer_value(sse(event)) is not None


def test_a_plain_text_is_the_answer_itself() -> None:
    plain = Answer(Outcome.OK, 200, {}, Body("text", "hello", 5), 1.0, 2.0)
    assert answer_value(plain) == "hello"
    assert answer_value(answer({"x": 1})) == {"x": 1}


@pytest.mark.parametrize(
    ("pointer", "values"),
    [
        ("", [{"a": [{"b": 1}, {"b": 2}, {}], "c": {"x": 5, "y": 6}}]),
        ("/a/*/b", [1, 2]),
        ("/a/1/b", [2]),
        ("/a/9/b", []),
        ("/a/²/b", []),
        ("/c/*", [5, 6]),
        ("/nowhere/x", []),
        ("/c/x/deeper", []),
    ],
)
def test_extracting_spreads_stars_and_leaves_out_what_is_absent(pointer: str, values: list[Any]) -> None:
    assert extract({"a": [{"b": 1}, {"b": 2}, {}], "c": {"x": 5, "y": 6}}, pointer) == values


@pytest.mark.parametrize(
    ("data", "shape", "made"),
    [
        ([1, 2, 3, 4, 5, 6], [2, 3], [[1, 2, 3], [4, 5, 6]]),
        ([1, 2, 3, 4], [1, 2, 2], [[[1, 2], [3, 4]]]),
        ([1, 2, 3], [3], [1, 2, 3]),
        ([1, 2, 3], [2, 2], [1, 2, 3]),
        ([1, 2], ["x", -1], [1, 2]),
        ([1, 2], None, [1, 2]),
        (5, [1, 1], 5),
    ],
)
def test_tensors_are_reshaped_where_the_shape_fits(data: Any, shape: Any, made: Any) -> None:
    assert reshaped(data, shape) == made


@pytest.mark.parametrize(
    ("value", "is_vector"),
    [
        ([0.1, 0.9], True),
        ([0, 1], True),
        ([0.5, 0.6], False),
        ([1.0], False),
        ([0.1, "x"], False),
        ([True, False], False),
        ({"a": 0.9, "b": 0.8}, True),
        ({"a": 0, "b": 1}, False),
        ({"a": 0.9, "b": 3.0}, False),
        ("ab", False),
    ],
)
def test_probability_vectors_are_known(value: Any, is_vector: bool) -> None:
    assert (vector_of(value) is not None) == is_vector


def test_rankings_carry_each_id_once() -> None:
    assert ranking_of([{"id": 3}, {"id": 1}]) == ["3", "1"]
    assert ranking_of([{"id": 3}, {"id": 3}]) is None
    assert ranking_of([{"x": 3}, {"x": 1}]) is None
    assert ranking_of([{"id": 3}]) is None
    assert ranking_of([{"id": 3}, 4]) is None


def test_a_field_told_of_gets_its_kind_from_the_sample() -> None:
    pairs = [({"p": n / 7, "c": "ab"[n % 2], "v": [0.5, 0.5]}, {"q": n / 7}) for n in range(100)]
    assert field_at(pairs, "/p", "/q") == Field("/p", "/q", "number")
    assert field_at(pairs, "/c", "/c").kind == "class"
    assert field_at(pairs, "/v", "/v").kind == "vector"
    assert field_at([], "/p", "/p").kind == "class"
