"""Which places hold the answer and what kind it is: decided from sums, for the envelopes of real servers and others."""

import random
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from answers import FAILED, place_values

from shadowproxy.answers.value import in_one_form
from shadowproxy.compare.fold.outputs import OutputsByField
from shadowproxy.compare.fold.outputs_builder import PlacesBuilder
from shadowproxy.compare.fold.places import field_key
from shadowproxy.compare.fold.rows import lengths_of
from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.report.kinds import AnswerPlace, answer_places

Maker = Callable[[random.Random], Any]
Pairs = Iterable[tuple[Any, Any]]


def outputs_of(pairs: Pairs, asked: Any = None, given: tuple[tuple[str, str], ...] = ()) -> tuple[OutputsByField, int]:
    builders = PlacesBuilder()
    count = 0
    lengths = lengths_of(asked)
    for number, (live, shadow) in enumerate(pairs):
        count += 1
        for key, _, _, ones, others in place_values(live, shadow, given):
            size = len(ones) if len(ones) != 1 or not isinstance(ones[0], list) else len(ones[0])
            rows = size if size > 1 and size in lengths else None
            builders.part(key).add(number // 20, ones, others, digest=hashed(str(number)), rows=rows)
    return builders.finish(), count


def judged(pairs: Pairs, asked: Any = None) -> list[AnswerPlace]:
    return answer_places(*outputs_of(pairs, asked))


def found(make: Maker, other: Maker | None = None, count: int = 200) -> list[tuple[str, str, str]]:
    source = random.Random(4)
    pairs = [(in_one_form(make(source)), in_one_form((other or make)(source))) for _ in range(count)]
    return [(each.live, each.shadow, each.kind) for each in judged(pairs)]


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
        (lambda r: {"predictions": [r.randrange(10)]}, ("/predictions/*", "class")),
        (lambda r: {"predictions": [r.randrange(1000)]}, ("/predictions/*", "number")),
        (lambda r: {"predictions": [proba(r)]}, ("/predictions/*", "vector")),
        (lambda r: {"predictions": [[r.gauss(0, 1) for _ in range(32)]]}, ("/predictions/*", "embedding")),
        (
            lambda r: {"predictions": [{"label": r.choice("ab"), "score": r.random()}]},
            ("/predictions/*/label", "class"),
        ),
        (lambda r: {"predictions": [{"class": r.randrange(50)}]}, ("/predictions/*/class", "class")),
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
        # OpenAI's embeddings
        (
            lambda r: {"object": "list", "data": [{"index": 0, "embedding": [r.gauss(0, 1) for _ in range(64)]}]},
            ("/data/*/embedding", "embedding"),
        ),
        # free forms
        (lambda r: {**noise(r), "late": r.random() < 0.5}, ("/late", "class")),
        (lambda r: {**noise(r), "result": {"price": r.random() * 100}}, ("/result/price", "number")),
        (lambda r: {**noise(r), "scores": {"cat": r.random(), "dog": r.random()}}, ("/scores", "vector")),
        (lambda r: {"prediction": r.random(), "confidence": r.random()}, ("/prediction", "number")),
        (lambda r: [r.random() * 50], ("/*", "number")),
        (lambda r: r.random() * 50, ("", "number")),
        (lambda r: proba(r, 10), ("", "vector")),
        (
            lambda r: {"items": [{"id": n, "score": r.random()} for n in r.sample(range(50), 5)], **noise(r)},
            ("/items", "ranking"),
        ),
        (lambda r: {"recommended": r.sample(["a", "b", "c", "d", "e", "f"], 4)}, ("/recommended", "ranking")),
        (lambda r: {"answer": f"it is {r.random()}, I believe, and that is all there is to say"}, ("/answer", "text")),
        (lambda r: {"predictions": [r.random()], "amount": r.random() * 99}, ("/predictions/*", "number")),
        (lambda r: {"amount": r.random() * 99, "prediction": r.random()}, ("/prediction", "number")),
    ],
)
def test_the_answer_is_found_first(make: Maker, expected: tuple[str, str]) -> None:
    place, shadow, kind = found(make)[0]
    assert (place, kind) == expected
    assert shadow == place


def test_ids_times_and_versions_are_never_answers() -> None:
    assert found(noise) == []


def test_ids_that_look_like_no_uuid_are_no_answers_either() -> None:
    def make(source: random.Random) -> dict[str, Any]:
        return {"ref": f"ord-{source.getrandbits(40)}", "late": source.random() < 0.5}

    assert [place for place, _, _ in found(make)] == ["/late"]


def test_what_is_named_as_about_the_answer_is_not_the_answer() -> None:
    def make(source: random.Random) -> dict[str, Any]:
        return {"role": source.choice("xy"), "model": source.choice("mn"), "late": source.random() < 0.5}

    assert [place for place, _, _ in found(make)] == ["/late"]


def test_what_never_varies_comes_after_what_does() -> None:
    fields = found(lambda r: {"value": 7, "y": r.random()})
    assert [place for place, _, _ in fields] == ["/y", "/value"]


def test_at_most_three_fields_are_taken_and_none_within_another() -> None:
    fields = found(lambda r: {"predictions": [{"probs": proba(r), **{f"score{n}": r.random() * 9 for n in range(6)}}]})
    assert len(fields) == 3
    assert not any(one[0].startswith(f"{other[0]}/") for one in fields for other in fields)


def test_live_and_the_shadow_may_answer_at_different_places() -> None:
    fields = found(lambda r: {"prediction": r.choice("ab")}, lambda r: {"output": {"label": r.choice("ab")}})
    assert fields[0] == ("/prediction", "/output/label", "class")


def test_a_shadow_that_seldom_answers_elsewhere_is_judged_where_live_answers() -> None:
    def other(source: random.Random) -> dict[str, Any]:
        return {"output": {"label": "a"}} if source.random() < 0.1 else {"prediction": "a"}

    assert found(lambda r: {"prediction": r.choice("ab")}, other)[0] == ("/prediction", "/prediction", "class")


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
        ("/choices/*/answer", "/choices/*/answer", "text"),
        ("/choices/*/finish_reason", "/choices/*/finish_reason", "class"),
        ("/usage/completion_tokens", "/usage/completion_tokens", "number"),
    ]


def called(source: random.Random, name: str = "") -> dict[str, Any]:
    function = {"name": name or source.choice(["weather", "time"]), "arguments": f'{{"n": {source.random()}}}'}
    message = {"content": None, "tool_calls": [{"id": "call_1", "function": function}]}
    return {"choices": [{"message": message, "finish_reason": "tool_calls"}]}


def test_a_call_of_a_tool_is_the_answer_where_nothing_is_said_and_another_tool_another_answer() -> None:
    source = random.Random(1)
    (first, *_) = judged(
        (in_one_form(chat(source) if n % 2 else called(source, "weather")), in_one_form(called(source, "time")))
        for n in range(100)
    )
    assert (first.live, first.kind) == ("/choices/*/answer", "text")
    assert (first.pairs.total(), first.same.total(), first.lost.total()) == (100, 0, 0)


@pytest.mark.parametrize(
    ("live", "shadow", "kind"),
    [
        (lambda r: int(r.random() < 0.5), lambda r: int(r.random() < 0.5), "class"),
        (lambda r: int(r.random() < 0.5), lambda r: r.random(), "number"),
        (lambda r: 0.5, lambda r: r.random(), "number"),
        (lambda r: 1, lambda r: r.choice([1, 2]), "class"),
        (lambda r: r.random() < 0.5, lambda r: "yes", "class"),
        (lambda r: r.choice(["a", 1, True]), lambda r: "a", "class"),
        (lambda r: r.choice("ab"), lambda r: None, "class"),
    ],
)
def test_an_if_statement_may_stand_beside_a_probability(live: Maker, shadow: Maker, kind: str) -> None:
    assert found(lambda r: {"p": live(r)}, lambda r: {"p": shadow(r)})[0] == ("/p", "/p", kind)


def test_a_kind_is_that_of_nearly_all_answers_and_not_of_the_first() -> None:
    source = random.Random(1)
    values = [*([1] * 30), *(source.random() for _ in range(300))]
    (first,) = judged(({"p": value}, {"p": value}) for value in values)
    assert first.kind == "number"


def test_what_is_no_answer_of_the_kind_is_missing_and_named() -> None:
    shadows = [{"p": 1.5}, {"p": None}, {"p": "1.5"}, {"p": float("nan")}, {"p": []}, {}, [], None, FAILED, {"p": [1]}]
    (first,) = judged(({"p": 1.5}, shadow) for shadow in shadows * 10)
    assert (first.pairs.total(), first.same.total(), first.lost.total()) == (100, 10, 90)
    assert first.missing == {
        "null": 10,
        "another type": 20,
        "NaN": 10,
        "empty": 10,
        "absent": 30,
        "failed": 10,
    }
    assert first.odd("shadow") == {"null": 10, "another type": 20, "NaN": 10, "empty": 10}


def test_answers_that_live_has_not_are_gained_and_no_pairs() -> None:
    lives: list[Any] = [{"prediction": 1.5}] * 8 + [{"prediction": None}, {}]
    (first,) = judged((live, {"prediction": 1.5}) for live in lives)
    assert (first.pairs.total(), first.gained.total(), first.lost.total()) == (8, 2, 0)


def test_identical_nan_of_both_is_neither_an_answer_nor_a_loss() -> None:
    nan = float("nan")
    (first,) = judged(({"p": nan if n % 5 == 0 else n / 7}, {"p": nan if n % 5 == 0 else n / 7}) for n in range(100))
    assert (first.pairs.total(), first.same.total(), first.lost.total(), first.gained.total()) == (80, 80, 0, 0)


def test_texts_of_the_same_words_are_the_same_text_and_another_class() -> None:
    (first, *_) = judged(({"label": "ab"[n % 2]}, {"label": "AB"[n % 2]}) for n in range(100))
    assert (first.kind, first.pairs.total(), first.same.total()) == ("class", 100, 0)
    (text, *_) = judged(({"reply": f"well {n} then"}, {"reply": f"Well, {n} then!"}) for n in range(100))
    assert (text.kind, text.pairs.total(), text.same.total()) == ("text", 100, 100)


@pytest.mark.parametrize(
    ("live", "asked", "unit", "pairs"),
    [
        ({"predictions": ["a", "b", "c"]}, None, "rows", 300),
        ({"outputs": {"label": ["a", "b", "c"]}}, None, "rows", 300),
        (["a", "b", "c"], None, "rows", 300),
        ({"labels": ["a", "b", "b"]}, None, "answers", 100),
        ({"labels": ["a", "b", "b"]}, {"instances": [[1], [2], [3]]}, "rows", 300),
    ],
)
def test_rows_of_a_batch_count_one_by_one_and_what_is_one_answer_as_one(
    live: Any, asked: Any, unit: str, pairs: int
) -> None:
    (first, *_) = judged(((live, live) for _ in range(100)), asked)
    assert (first.unit, first.pairs.total()) == (unit, pairs)


def test_an_embedding_that_differs_in_one_element_is_one_answer_that_differs() -> None:
    source = random.Random(5)

    def pair() -> tuple[Any, Any]:
        live = [source.gauss(0, 1) for _ in range(384)]
        return {"embedding": live}, {"embedding": [live[0] + 0.5, *live[1:]]}

    (first,) = judged(pair() for _ in range(60))
    assert (first.kind, first.unit, first.pairs.total(), first.same.total()) == ("embedding", "answers", 60, 0)


def test_rows_that_carry_the_ids_of_the_request_are_no_ranking() -> None:
    def pair(number: int) -> tuple[Any, Any]:
        rows = [{"id": 3 * number + row, "label": "ab"[row % 2]} for row in range(3)]
        return {"results": rows}, {"results": [{**row, "label": "c"} for row in rows]}

    (first, *_) = judged((pair(number) for number in range(100)), {"rows": [1, 2, 3]})
    assert (first.live, first.kind, first.same.total()) == ("/results/*/label", "class", 0)


def test_a_ranking_of_the_things_that_were_asked_about_is_one() -> None:
    source = random.Random(2)

    def ranked() -> Any:
        return {"results": [{"id": thing} for thing in source.sample("abc", 3)]}

    (first, *_) = judged(((ranked(), ranked()) for _ in range(100)), {"things": ["a", "b", "c"]})
    assert (first.live, first.kind, first.unit) == ("/results", "ranking", "answers")


def test_named_fields_are_taken_whatever_they_are_called_in_the_order_given() -> None:
    pairs = [({"p": n / 7, "c": "ab"[n % 2], "v": [0.5, 0.5]}, {"q": n / 7, "c": "a", "v": 1}) for n in range(100)]
    given = (("/v", "/v"), ("/p", "/q"), ("/c", "/c"))
    table, count = outputs_of(pairs, given=given)
    found = answer_places(table, count, [field_key(*each) for each in given])
    assert [(each.live, each.shadow, each.kind) for each in found] == [
        ("/v", "/v", "vector"),
        ("/p", "/q", "number"),
        ("/c", "/c", "class"),
    ]
    assert answer_places(table, count, [field_key("/no", "/no")]) == []


def test_what_is_decided_does_not_depend_on_who_counted_what_first() -> None:
    source = random.Random(8)
    pairs = [(in_one_form(chat(source)), in_one_form(chat(source))) for _ in range(60)]
    pairs += [({"predictions": [source.random()], "amount": source.random()}, {"predictions": [1.5]})] * 70
    whole, count = outputs_of(pairs)
    parts = [outputs_of(pairs[at::3])[0] for at in range(3)]
    total = OutputsByField()
    for part in parts[::-1]:
        total = total.merged(OutputsByField.from_json(part.to_json()))
    one, other = answer_places(whole, count), answer_places(total, count)
    assert [(each.key, each.kind, each.unit, each.forms) for each in one] == [
        (each.key, each.kind, each.unit, each.forms) for each in other
    ]
    assert one[0].live == "/predictions/*"


@pytest.mark.parametrize("name", ["*a", "a*", "**"])
def test_an_asterisk_in_a_name_is_no_step_into_an_array(name: str) -> None:
    def answers(source: random.Random) -> dict[str, Any]:
        return {name: source.random() * 100}

    assert [kind for _, _, kind in found(answers)] == ["number"]
    assert [each.unit for each in judged([({"predictions": {name: 0.5 + n}},) * 2 for n in range(60)])] == ["answers"]
