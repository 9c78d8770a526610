"""A report on answers that say the same in different forms: it passes, and a fault in them is seen."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from logs import chosen, report_json, said
from test_alike import chat, inference, message, response, seldon, streamed
from test_report_of_answers import WORDS
from test_report_of_answers import message as message_stream

from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.record import RecordedLeg

Say = Callable[[random.Random, int], tuple[Any, Any]]


def report(say: Say, rules: Rules = Rules(), count: int = 2000) -> tuple[dict[str, Any], dict[str, str]]:  # noqa: B008
    shadow = report_json(summarise(chosen(count, 7, say), rules))["shadows"]["s"]
    return shadow, {each["name"]: each["result"] for each in shadow["checks"]}


def row_of(source: random.Random) -> list[float]:
    return [source.gauss(0, 1), source.gauss(0, 1)]


def words_of(source: random.Random) -> str:
    return " ".join(source.choice(WORDS) for _ in range(8))


NUMBERS: dict[str, Callable[[list[float], int], RecordedLeg]] = {
    "predictions": lambda row, _: said({"predictions": row}),
    "open inference": lambda row, at: said(inference(row, at)),
    "seldon": lambda row, at: said(seldon([[each] for each in row], at)),
}
TEXTS: dict[str, Callable[[str, int], RecordedLeg]] = {
    "chat": lambda text, at: said(chat(text, at)),
    "vLLM's chat": lambda text, at: said(chat(text, at, prompt_logprobs=None, message={"tool_calls": [], "x": None})),
    "chat's stream": lambda text, at: streamed(text[: at % 9], text[at % 9 :], at=at)._replace(total_ms=2.0),
    "message": lambda text, at: said(message(text, at)),
    "message's stream": lambda text, at: message_stream(text),
    "response": lambda text, at: said(response(text, at)),
}
PAIRS: list[tuple[Any, Any, str, str]] = [
    (NUMBERS, row_of, "predictions", "open inference"),
    (NUMBERS, row_of, "open inference", "seldon"),
    (TEXTS, words_of, "chat's stream", "chat's stream"),
    (TEXTS, words_of, "vLLM's chat", "chat's stream"),
    (TEXTS, words_of, "vLLM's chat", "chat"),
    (TEXTS, words_of, "chat's stream", "message"),
    (TEXTS, words_of, "message's stream", "response"),
]


@pytest.mark.parametrize(("forms", "draw", "live", "shadow"), PAIRS)
def test_the_same_answers_in_another_form_pass_every_check(forms: Any, draw: Any, live: str, shadow: str) -> None:
    def say(source: random.Random, at: int) -> tuple[Any, Any]:
        answer = draw(source)
        return forms[live](answer, at), forms[shadow](answer, at + 1)

    figures, checks = report(say)
    assert figures["agreement"]["verdicts"]["match"] == 2000
    assert "fail" not in checks.values(), checks
    assert checks["structure"] == checks["answered"] == checks["related"] == "pass"
    assert figures["outputs"][0]["agreement"]["value"] == 1.0
    assert figures["verdict"]["result"] == "pass", figures["verdict"]


@pytest.mark.parametrize(("forms", "draw", "live", "shadow"), PAIRS)
def test_answers_of_other_requests_in_another_form_fail(forms: Any, draw: Any, live: str, shadow: str) -> None:
    def say(source: random.Random, at: int) -> tuple[Any, Any]:
        return forms[live](draw(source), at), forms[shadow](draw(source), at + 1)

    _, checks = report(say)
    assert checks["related"] != "pass"


def test_a_shadow_that_lacks_the_answer_in_its_own_form_fails() -> None:
    def say(source: random.Random, at: int) -> tuple[Any, Any]:
        row = row_of(source)
        return said({"predictions": row}), said(inference(row if at % 10 else [None, None], at))

    _, checks = report(say)
    assert checks["answered"] == "fail"
    assert checks["structure"] == "fail"


def test_places_that_the_configuration_names_are_judged_with_each_other() -> None:
    rules = Rules(predictions={"s": ("/result/*/score", "/rated")})

    def say(source: random.Random, at: int) -> tuple[Any, Any]:
        row = row_of(source)
        return said({"result": [{"score": each} for each in row], "took": at}), said({"rated": row})

    figures, checks = report(say, rules)
    assert figures["agreement"]["verdicts"]["match"] == 2000
    assert [(each["live_path"], each["shadow_path"]) for each in figures["outputs"]] == [("/result/*/score", "/rated")]
    assert "fail" not in checks.values(), checks
