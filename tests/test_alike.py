"""Two answers of known envelopes: what is set aside, what of two forms is compared, which places a difference names."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.answers import ALONE, About, answer_value
from shadowproxy.answers.alike import alike, common_forms
from shadowproxy.answers.body import of_json
from shadowproxy.answers.envelopes import ENVELOPES, envelope_of
from shadowproxy.answers.value import in_one_form
from shadowproxy.compare.judge.rules import Rules, Tolerance
from shadowproxy.compare.judge.verdict import judge
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, Judgement, RecordedLeg

RULES = Rules()


def said(value: Any, status: int = 200) -> RecordedLeg:
    body = Body("json", value, len(json.dumps(value)))
    return RecordedLeg(Outcome.OK, status, {"content-type": "application/json"}, body)


def sse(*events: Any, done: bool = False) -> RecordedLeg:
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in events) + ("data: [DONE]\n\n" if done else "")
    return RecordedLeg(Outcome.OK, 200, {"content-type": "text/event-stream"}, Body("text", text, len(text)))


def judged(one: RecordedLeg, other: RecordedLeg, rules: Rules = RULES, **about: Any) -> Judgement:
    return judge(one, other, rules, None, About(**about))


def places(judgement: Judgement) -> list[tuple[str, str, str | None]]:
    return [(each.path, each.kind, each.shadow_path) for each in judgement.differences]


# --- envelopes


def chat(text: str | None = "Hi", at: int = 1, **more: Any) -> dict[str, Any]:
    """As llama.cpp's server gives it."""
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": more.pop("reason", "stop")}
    return {
        "id": f"chatcmpl-{at}", "object": "chat.completion", "created": 1764000000 + at, "model": "m",
        "system_fingerprint": f"b{at}", "choices": [choice],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        "timings": {"predicted_ms": 1.5 * at, "cache_n": at}, **more,
    }  # fmt: skip


def message(text: str = "Hi", at: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": f"msg_{at}", "type": "message", "role": "assistant", "model": "m",
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": at}, **more,
    }  # fmt: skip


def response(text: str = "Hi", at: int = 1, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": f"it_{at}", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "id": f"resp_{at}", "object": "response", "created_at": 1764000000 + at, "status": "completed", "model": "m",
        "output": [item], "usage": {"input_tokens": 5, "output_tokens": 2}, **more,
    }  # fmt: skip


def ollama(text: str = "Hi", at: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "model": "m", "created_at": f"2026-11-28T00:00:0{at}Z", "message": {"role": "assistant", "content": text},
        "done": True, "done_reason": "stop", "total_duration": 100 + at, "load_duration": at,
        "prompt_eval_duration": at, "eval_count": 2, "eval_duration": at, **more,
    }  # fmt: skip


def gemini(text: str = "Hi", at: int = 1, **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": f"r{at}", **more}


def converse(text: str = "Hi", at: int = 1, **more: Any) -> dict[str, Any]:
    """Bedrock's."""
    return {
        "metrics": {"latencyMs": 100 + at}, "stopReason": "end_turn",
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7, "cacheReadInputTokens": at}, **more,
    }  # fmt: skip


def inference(data: list[Any], at: int = 1, **more: Any) -> dict[str, Any]:
    """As MLServer 1.7.1 gives it: n numbers as [n, 1], and an ID of its own."""
    output = {"name": "predict", "shape": [len(data), 1], "datatype": "FP64", "data": data}
    return {"model_name": "iris", "id": f"1c9{at}", "parameters": {}, "outputs": [output], **more}


def seldon(rows: Any, at: int = 1) -> dict[str, Any]:
    return {"data": {"names": [], "ndarray": rows}, "meta": {"puid": f"p{at}"}}


ANEW: dict[str, tuple[Callable[[int], dict[str, Any]], list[str]]] = {
    "chat": (lambda at: chat("Hi", at), ["/id", "/created", "/system_fingerprint", "/timings"]),
    "messages": (lambda at: message("Hi", at), ["/id", "/usage/cache_read_input_tokens"]),
    "responses": (lambda at: response("Hi", at), ["/id", "/created_at", "/output/*/id"]),
    "ollama": (
        lambda at: ollama("Hi", at),
        ["/created_at", "/total_duration", "/load_duration", "/prompt_eval_duration", "/eval_duration"],
    ),
    "gemini": (lambda at: gemini("Hi", at), ["/responseId"]),
    "converse": (lambda at: converse("Hi", at), ["/metrics/latencyMs", "/usage/cacheReadInputTokens"]),
    "open inference": (lambda at: inference([0.5], at), ["/id"]),
    "seldon": (lambda at: seldon([[0.5]], at), ["/meta/puid"]),
    "seldon tensor": (
        lambda at: {"data": {"tensor": {"shape": [1], "values": [0.5]}}, "meta": {"puid": at}},
        ["/meta/puid"],
    ),
    "list": (
        lambda at: {"object": "list", "data": [{"embedding": [0.5]}], "id": f"e{at}", "created": at},
        ["/id", "/created"],
    ),
    "gradio": (lambda at: {"event_id": f"e{at}"}, ["/event_id"]),
    "gradio outputs": (  # POST /gradio_api/run/NAME of gradio 6.31
        lambda at: {
            "data": [{"scores": [[-0.67, 1.84]]}], "is_generating": False, "duration": 0.0004 * at,
            "average_duration": 0.0003 * at, "render_config": None, "changed_state_ids": [], "used_cache": None,
        },
        ["/duration", "/average_duration"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANEW)
def test_what_an_envelope_has_anew_for_every_call_is_set_aside(name: str) -> None:
    made, aside = ANEW[name]
    found = envelope_of(made(1))
    assert found is not None
    assert found.name == name
    judgement = judged(said(made(1)), said(made(2)))
    assert (judgement.verdict, judgement.differences) == ("match", ())
    assert sorted(judgement.set_aside) == sorted(aside)
    assert judged(said(made(1)), said(made(1))).set_aside == ()
    switched_off = judged(said(made(1)), said(made(2)), Rules(set_aside=False))
    assert switched_off.verdict == "mismatch"
    assert switched_off.set_aside == ()


def test_every_envelope_that_sets_something_aside_is_tried() -> None:
    assert {each.name for each in ENVELOPES if each.set_aside} == set(ANEW)


def test_what_was_said_is_compared_beside_what_is_set_aside() -> None:
    judgement = judged(said(chat("yes", 1)), said(chat("no", 2)))
    assert places(judgement) == [("/choices/0/message/content", "value", None)]
    assert judgement.set_aside == ("/id", "/created", "/system_fingerprint", "/timings")


def test_an_id_in_no_known_envelope_is_an_answer() -> None:
    values: list[dict[str, Any]] = [
        {"id": 1, "score": 2}, {"id": 1, "choices": ["a"]}, {"created": 1, "data": [1]}, {"id": 1},
    ]  # fmt: skip
    for value in values:
        assert envelope_of(value) is None
        other = {name: each if name != "id" and name != "created" else each + 1 for name, each in value.items()}
        assert judged(said(value), said(other)).verdict == "mismatch"


def test_what_the_configuration_ignores_stays_ignored() -> None:
    judgement = judged(said(chat("Hi", 1)), said(chat("Hi", 2)), Rules(ignore=("/id",)))
    assert judgement.verdict == "ignored"
    assert "/id" not in judgement.set_aside


def test_an_id_that_the_caller_sent_is_compared() -> None:
    one, other = said(inference([0.5], 1)), said(inference([0.5], 2))
    assert judged(one, other, asked_for=lambda: {"inputs": []}).verdict == "match"
    assert judged(one, other, asked_for=lambda: {"id": "", "inputs": []}).verdict == "match"
    judgement = judged(one, other, asked_for=lambda: {"id": "mine", "inputs": []})
    assert places(judgement) == [("/id", "value", None)]


@pytest.mark.parametrize("more", [{"id": "x"}, {"id": ["x"]}, {"id": {"a": 1}}, {"id": None}, {}])
def test_whatever_stands_in_its_place_is_set_aside_whole(more: dict[str, Any]) -> None:
    one = chat("Hi", 1)
    other = {**{name: each for name, each in chat("Hi", 1).items() if name != "id"}, **more}
    judgement = judged(said(one), said(other))
    assert (judgement.verdict, judgement.set_aside) == ("match", ("/id",))


# --- streams


def chunk(delta: Any, at: int, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    head = {"id": f"chatcmpl-{at}", "object": "chat.completion.chunk", "created": 1764000000 + at, "model": "m"}
    return {**head, "choices": [choice], **more}


def streamed(*pieces: str, at: int = 1, usage: bool = False) -> RecordedLeg:
    events = [chunk({"role": "assistant", "content": None}, at), *(chunk({"content": each}, at) for each in pieces)]
    events.append(chunk({}, at, "stop"))
    if usage:
        counted = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
        events.append({**chunk({}, at), "choices": [], "usage": counted})
    return sse(*events, done=True)


def test_streams_of_the_same_words_match_whatever_their_pieces_and_ids() -> None:
    assert judged(streamed("Hel", "lo"), streamed("Hello", at=2)).verdict == "match"
    assert judged(streamed("Hel", "lo", usage=True), streamed("H", "ello", at=2, usage=True)).verdict == "match"
    judgement = judged(streamed("Hel", "lo"), streamed("Help", at=2))
    assert places(judgement) == [("/choices/0/message/content", "value", None)]


def test_a_stream_matches_the_whole_answer_of_the_same_words() -> None:
    """As vLLM and llama.cpp give whole answers: with nulls and empty lists that no stream has."""
    whole = chat("Hello", 2, service_tier=None, prompt_logprobs=None, message={"refusal": None, "tool_calls": []})
    for leg in (streamed("Hel", "lo"), streamed("Hel", "lo", usage=True)):
        for one, other in ((leg, said(whole)), (said(whole), leg)):
            assert judged(one, other).verdict == "match", judged(one, other)
    assert "/usage" in judged(streamed("Hello"), said(whole)).set_aside
    different = {**whole, "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}
    judgement = judged(streamed("Hello", usage=True), said(different))
    assert [each.path for each in judgement.differences] == ["/usage/completion_tokens", "/usage/total_tokens"]
    assert judged(streamed("Help"), said(whole)).verdict == "mismatch"


def test_null_and_empty_members_of_one_server_are_absent_in_anothers() -> None:
    """vLLM beside llama.cpp; a call beside which one says null and the other an empty text."""
    nulls = chat("Hi", 2, service_tier=None, prompt_logprobs=None, message={"refusal": None, "tool_calls": []})
    assert judged(said(chat("Hi", 1)), said(nulls)).verdict == "match"
    assert places(judged(said(chat("Hi", 1)), said({**nulls, "service_tier": "flex"}))) == [
        ("/service_tier", "extra", None)
    ]
    assert (
        judged(
            said(called("{}")),
            said(
                {
                    **called("{}"),
                    "choices": [
                        {
                            **called("{}")["choices"][0],
                            "message": {**called("{}")["choices"][0]["message"], "content": ""},
                        }
                    ],
                }
            ),
        ).verdict
        == "match"
    )
    nothing = chat("Hi", 1, message={"content": None})
    assert places(judged(said(chat("Hi", 1)), said(nothing))) == [("/choices/0/message/content", "missing", None)]


def test_null_elsewhere_is_a_value() -> None:
    assert judged(said({"predictions": [1], "a": None}), said({"predictions": [1]})).verdict == "mismatch"
    one, other = chat("Hi", 1, extra={"a": None}), chat("Hi", 1, extra={})
    assert judged(said(one), said(other)).verdict == "mismatch"


def test_two_whole_answers_of_which_one_lacks_a_member_differ() -> None:
    without = {name: each for name, each in chat("Hi", 2).items() if name != "usage"}
    assert places(judged(said(chat("Hi", 1)), said(without))) == [("/usage", "missing", None)]


def test_pointers_of_rules_name_places_of_the_stream_put_together() -> None:
    rules = Rules(ignore=("/choices/*/message/content",))
    assert judged(streamed("yes"), streamed("n", "o", at=2), rules).verdict == "ignored"
    assert judged(streamed("yes"), said(chat("no", 2)), rules).verdict == "ignored"


def gemini_stream(*pieces: str, at: int = 1) -> RecordedLeg:
    """As `alt=sse` gives it: the reason comes with a last piece that has no word."""
    events = []
    for number, piece in enumerate([*pieces, ""]):
        event = gemini(piece, at)
        event["usageMetadata"] = {"promptTokenCount": 5, "candidatesTokenCount": number, "totalTokenCount": 5 + number}
        if piece:
            del event["candidates"][0]["finishReason"]
        events.append(event)
    return sse(*events)


def test_a_stream_of_geminis_is_put_together() -> None:
    assert judged(gemini_stream("Hel", "lo"), gemini_stream("H", "ello", at=2)).verdict == "match"
    assert judged(gemini_stream("Hel", "lo"), said(gemini("Hello", 2))).verdict == "match"
    judgement = judged(gemini_stream("Hel", "lo"), gemini_stream("Hel", "p", at=2))
    assert places(judgement) == [("/candidates/0/content/parts/0/text", "value", None)]
    assert judged(gemini_stream("Hel", "lo"), said(message("Hello", 2))).verdict == "match"
    cut = gemini("Hello", 1)
    del cut["candidates"][0]["finishReason"]
    assert judged(sse(cut), gemini_stream("Hello")).differences[0].kind == "failed"


def test_thoughts_and_calls_of_geminis_are_parts_of_their_own() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}}

    def event(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}], "responseId": "r"}

    streamed = sse(
        event({"text": "Hm", "thought": True}), event({"text": "m.", "thought": True}), event({"text": "I "}),
        event({"text": "look."}), event(call, finishReason="STOP"),
    )  # fmt: skip
    whole = event({"text": "Hmm.", "thought": True}, {"text": "I look."}, call, finishReason="STOP")
    assert judged(streamed, said(whole)).verdict == "match"
    assert answer_value(said(whole))["candidates"][0]["answer"] == 'I look.\nf({"a":1})'


def test_how_a_vector_is_written_is_no_part_of_it() -> None:
    """xllamacpp 2026.10 says `encoding_format` beside each vector in base64, and nothing beside one in numbers."""
    one = {"embedding": [0.5, 0.25], "index": 0, "object": "embedding"}
    coded = {**one, "embedding": "AAAAPwAAgD4=", "encoding_format": "base64"}
    judgement = judged(said({"object": "list", "data": [coded]}), said({"object": "list", "data": [one]}))
    assert (judgement.verdict, judgement.set_aside) == ("match", ("/data/*/encoding_format",))


def called(arguments: str, at: int = 1) -> dict[str, Any]:
    call = {"id": f"call_{at}", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return chat(None, at, message={"tool_calls": [call]}, reason="tool_calls")


def test_arguments_of_calls_are_values_to_the_rules() -> None:
    """llama-cpp-python 0.3.36 writes them with blanks."""
    one, other = said(called('{"a":1,"b":2}')), said(called('{ "a": 1, "b": 2 } ', 2))
    judgement = judged(one, other)
    assert judgement.verdict == "match"
    assert "/choices/*/message/tool_calls/*/id" in judgement.set_aside
    judgement = judged(one, said(called('{"a":1,"b":3}', 2)))
    assert places(judgement) == [("/choices/0/message/tool_calls/0/function/arguments/b", "value", None)]


# --- two envelopes of the same thing


TEXTS: dict[str, Callable[..., dict[str, Any]]] = {
    "chat": chat,
    "messages": message,
    "responses": response,
    "ollama": ollama,
    "converse": converse,
}


@pytest.mark.parametrize("one", TEXTS)
@pytest.mark.parametrize("other", TEXTS)
def test_the_same_words_match_in_the_envelopes_of_two_apis(one: str, other: str) -> None:
    assert judged(said(TEXTS[one]("Hi", 1)), said(TEXTS[other]("Hi", 2))).verdict == "match"
    judgement = judged(said(TEXTS[one]("Hi", 1)), said(TEXTS[other]("Ho", 2)))
    assert judgement.verdict == "mismatch"
    if one != other:
        answers = {**dict.fromkeys(TEXTS, "/answer"), "chat": "/choices/0/answer", "gemini": "/candidates/0/answer"}
        assert places(judgement) == [(answers[one], "value", answers[other])]
        assert [(each.live, each.shadow) for each in judgement.differences] == [("Hi", "Ho")]


def test_a_stream_of_one_api_matches_the_whole_answer_of_another() -> None:
    assert judged(streamed("H", "i"), said(message("Hi", 2))).verdict == "match"
    assert judged(said(message("Hi", 2)), streamed("H", "i")).verdict == "match"
    assert judged(streamed("H", "o"), said(message("Hi", 2))).verdict == "mismatch"


def test_why_a_model_stopped_is_compared_in_the_words_of_all() -> None:
    cut = message("Hi", 2, stop_reason="max_tokens")
    judgement = judged(said(chat("Hi", 1)), said(cut))
    assert places(judgement) == [("/choices/0/finish_reason", "value", "/stop_reason")]
    assert [(each.live, each.shadow) for each in judgement.differences] == [("stop", "max_tokens")]
    assert judged(said(chat("Hi", 1, reason="length")), said(cut)).verdict == "match"
    incomplete = response("Hi", 1, status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert judged(said(incomplete), said(cut)).verdict == "match"


PREDICTIONS: dict[str, Callable[[list[Any]], dict[str, Any]]] = {
    "predictions": lambda row: {"predictions": row},
    "columns": lambda row: {"outputs": row},
    "open inference": inference,
    "seldon": lambda row: seldon([[each] for each in row]),
    "seldon's tensor": lambda row: {"data": {"tensor": {"shape": [len(row), 1], "values": row}}},
}


@pytest.mark.parametrize("one", PREDICTIONS)
@pytest.mark.parametrize("other", PREDICTIONS)
def test_the_same_predictions_match_in_two_envelopes(one: str, other: str) -> None:
    live = said(PREDICTIONS[one]([0.1, 0.25, 3]))
    assert judged(live, said(PREDICTIONS[other]([0.1, 0.25000001, 3]))).verdict == "match"
    judgement = judged(live, said(PREDICTIONS[other]([0.1, 0.5, 3])))
    assert judgement.verdict == "mismatch"
    assert [(each.live, each.shadow) for each in judgement.differences] == [(0.25, 0.5)]


def test_a_difference_names_the_place_in_both() -> None:
    judgement = judged(said({"predictions": [0.1, 0.2]}), said(inference([0.1, 0.3])))
    assert places(judgement) == [("/predictions/1", "value", "/outputs/0/data/1")]
    judgement = judged(said(inference([0.1, 0.3])), said({"predictions": [0.1]}))
    assert places(judgement) == [("/outputs/0/data", "length", "/predictions")]


def test_several_outputs_are_paired_by_their_names() -> None:
    rows = {"predictions": [{"label": "a", "score": 0.5}, {"label": "b", "score": 0.25}]}

    def outputs(*scores: float) -> dict[str, Any]:
        label = {"name": "label", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}
        score = {"name": "score", "shape": [2], "datatype": "FP64", "data": list(scores)}
        return {"model_name": "m", "outputs": [score, label]}

    assert judged(said(rows), said(outputs(0.5, 0.25))).verdict == "match"
    judgement = judged(said(rows), said(outputs(0.5, 0.75)))
    assert places(judgement) == [("/predictions/1/score", "value", "/outputs/0/data/1")]
    assert judged(said({"predictions": [{"score": 0.5}]}), said(outputs(0.5, 0.25))).verdict == "mismatch"


@pytest.mark.parametrize("one", PREDICTIONS)
@pytest.mark.parametrize("other", PREDICTIONS)
def test_lives_values_are_counted_where_they_are_whatever_the_shadow_answers(one: str, other: str) -> None:
    live, shadow = of_json(PREDICTIONS[one]([0.1, 0.25])), of_json(PREDICTIONS[other]([0.3]))
    forms = common_forms(alike(live, shadow, ALONE, None), live, shadow)
    if one != other:
        assert forms is not None
        in_both, alone = (list(_leaves(value)) for value in (forms[0], in_one_form(live.value)))
        assert in_both == [each for each in alone if isinstance(each[1], float)]
        assert list(_leaves(forms[1])) == [(in_both[0][0], 0.3)]


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield place, value
    for name, each in inner:
        yield from _leaves(each, f"{place}/{name}")


def test_rules_for_lives_place_hold_in_another_envelope() -> None:
    rules = Rules(tolerance={"/predictions/*": Tolerance(0.5, 0)})
    assert judged(said({"predictions": [1.0, 2.0]}), said(inference([1.4, 2.0])), rules).verdict == "match"
    assert judged(said({"predictions": [1.0, 2.0]}), said(inference([1.6, 2.0])), rules).verdict == "mismatch"


# --- places that the configuration names


def test_the_named_places_alone_are_compared() -> None:
    rules = Rules(predictions={"s": ("/result/*/score", "/outputs/0/data")})
    live = said({"result": [{"score": 0.5, "id": 1}, {"score": 0.25, "id": 2}], "took": 3})
    assert judged(live, said(inference([0.5, 0.25])), rules, shadow="s").verdict == "match"
    judgement = judged(live, said(inference([0.5, 0.75])), rules, shadow="s")
    assert places(judgement) == [("/result/1/score", "value", "/outputs/0/data/1")]
    assert judged(live, said(inference([0.5, 0.25])), rules, shadow="t").verdict == "mismatch", "of another shadow"


@pytest.mark.parametrize(("live", "shadow", "kind"), [({"a": 1}, {"c": 1}, "missing"), ({"c": 1}, {"b": 1}, "extra")])
def test_a_named_place_that_one_lacks_is_a_difference(live: Any, shadow: Any, kind: str) -> None:
    rules = Rules(predictions={"s": ("/a", "/b")})
    assert places(judged(said(live), said(shadow), rules, shadow="s")) == [("/a", kind, "/b")]


def test_answers_that_both_lack_the_named_place_are_compared_whole() -> None:
    rules = Rules(predictions={"s": ("/a", "/b")})
    assert judged(said({"detail": "x"}, 422), said({"detail": "x"}, 422), rules, shadow="s").verdict == "match"
    assert judged(said({"detail": "x"}, 422), said({"detail": "y"}, 422), rules, shadow="s").verdict == "mismatch"


def test_a_named_place_may_be_one_number_of_a_tensor_as_it_was_sent() -> None:
    flat = inference([1.0, 2.0, 3.0, 4.0])
    flat["outputs"][0]["shape"] = [2, 2]
    rules = Rules(predictions={"s": ("/first/0/0", "/outputs/0/data/2")})
    assert judged(said({"first": [[3.0]]}), said(flat), rules, shadow="s").verdict == "match"
    rules = Rules(predictions={"s": ("/rows", "/outputs/0/data")})
    assert judged(said({"rows": [[1.0, 2.0], [3.0, 4.0]]}), said(flat), rules, shadow="s").verdict == "match"


def test_named_places_may_be_those_of_the_one_form() -> None:
    rules = Rules(predictions={"s": ("/predictions", "/outputs/predict")})
    assert judged(said({"predictions": [0.5]}), said(inference([0.5])), rules, shadow="s").verdict == "match"


def test_rules_that_name_other_places_have_another_digest() -> None:
    digests = {
        each.digest
        for each in (
            Rules(),
            Rules(set_aside=False),
            Rules(predictions={"s": ("/a", "/b")}),
            Rules(predictions={"s": ("/a", "/c")}),
            Rules(predictions={"t": ("/a", "/b")}),
        )
    }
    assert len(digests) == 5
    assert Rules().beside(("/id",)).digest == Rules().digest


# --- whatever servers send


WORDS = st.sampled_from(
    ["choices", "message", "content", "outputs", "name", "datatype", "data", "shape", "predictions", "id", "object",
     "response", "output", "done", "tensor", "values", "ndarray", "usage", "tool_calls", "function", "arguments"]
)  # fmt: skip
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(WORDS, below, max_size=5),
    max_leaves=20,
)


@given(TREES, TREES)
def test_no_answer_makes_it_raise_and_both_directions_agree(one: Any, other: Any) -> None:
    rules = Rules(predictions={"s": ("/data/*/name", "/outputs/0/data")})
    for name in ("", "s"):
        assert judged(said(one), said(one), shadow=name).verdict == "match"
        judged(said(one), said(other), rules, shadow=name)
    assert judged(said(one), said(other)).verdict == judged(said(other), said(one)).verdict


@pytest.mark.parametrize("value", [{"predictions": [[[1.0]]] * 3}, {"choices": [{"message": {}}]}])
def test_deep_answers_are_compared(value: dict[str, Any]) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = {"message": deep, "content": [deep]} if isinstance(deep, int) else {"message": deep}
    assert judged(said({**value, "message": deep}), said({**value, "message": deep})).verdict == "match"
    assert judged(streamed("a"), said(chat("a", message={"content": "a", "message": deep}))).verdict == "mismatch"
