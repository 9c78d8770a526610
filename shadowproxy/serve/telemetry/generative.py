"""What a span says of a call of a language model: `gen_ai.*` attributes, from a request and an answer. Pure.

The names are those of the semantic conventions for generative AI, as of commit 002c8a6 of their repository,
open-telemetry/semantic-conventions-genai. There they have the status "development", so they may still change. No text
of a prompt or of an answer is among them.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, TypeAlias

from shadowproxy.answers.envelopes import (
    CHAT,
    CONVERSE,
    GEMINI,
    LIST,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    Envelope,
    envelope_of,
)
from shadowproxy.usage import usage_in

Attributes: TypeAlias = Mapping[str, str | int | float | bool | tuple[str, ...]]

EVALUATION: Final = "gen_ai.evaluation.result"
"""The name of the event that has a verdict."""

EVALUATION_NAME: Final = "shadowproxy.verdict"
"""What is evaluated: whether the shadow's answer is live's."""

_OPERATIONS: Final = {
    CHAT: "chat",
    MESSAGES: "chat",
    RESPONSES: "chat",
    CONVERSE: "chat",
    OLLAMA: "chat",
    GEMINI: "generate_content",
    LIST: "embeddings",
}
_PROVIDERS: Final = (  # by the end of the server's name: the conventions' own names
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".inference.ai.azure.com", "azure.ai.inference"),
    ("api.anthropic.com", "anthropic"),
    (".amazonaws.com", "aws.bedrock"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.cohere.com", "cohere"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
)
_OF_ENVELOPES: Final = {MESSAGES: "anthropic", CONVERSE: "aws.bedrock", GEMINI: "gcp.gemini", OLLAMA: "ollama"}
_ASKED: Final = (  # each attribute with the type of its value, and its names in requests
    ("gen_ai.request.model", str, ("model",)),
    ("gen_ai.request.max_tokens", int, ("max_tokens", "max_completion_tokens", "max_output_tokens")),
    ("gen_ai.request.temperature", float, ("temperature",)),
    ("gen_ai.request.top_p", float, ("top_p",)),
    ("gen_ai.request.top_k", float, ("top_k",)),
    ("gen_ai.request.frequency_penalty", float, ("frequency_penalty",)),
    ("gen_ai.request.presence_penalty", float, ("presence_penalty",)),
    ("gen_ai.request.seed", int, ("seed",)),
    ("gen_ai.request.stream", bool, ("stream",)),
)
_LONGEST: Final = 256
"""Characters of a text: a model's name or an ID is shorter."""

_MOST_REASONS: Final = 64


def may_generate(body: bytes) -> bool:
    """Whether a request may be one to a language model, before it is parsed: it has a prompt, or a text to embed."""
    return any(name in body for name in (b'"messages"', b'"prompt"', b'"input"', b'"contents"'))


def attributes(asked: Any, answered: Any, address: str) -> Attributes:
    """The attributes of one leg, by the JSON of its request and of its answer; empty if it is no call of a model.

    `answered` is None where there was no answer; the request alone does not say which API it is, so nothing is said.
    `address` is the endpoint's name.
    """
    envelope = envelope_of(answered)
    if envelope not in _OPERATIONS:
        return {}
    found: dict[str, Any] = {
        "gen_ai.operation.name": _operation(envelope, answered),
        "gen_ai.provider.name": _provider(envelope, address),
    }
    if type(asked) is dict:
        _add_asked(found, asked)
    _add_answered(found, answered)
    return found


def _operation(envelope: Envelope, answered: dict[str, Any]) -> str:
    choices = answered.get("choices")
    writes_on = envelope is CHAT and type(choices) is list and any(type(c) is dict and "text" in c for c in choices)
    if writes_on or (envelope is OLLAMA and "response" in answered):
        return "text_completion"
    return _OPERATIONS[envelope]


def _provider(envelope: Envelope, address: str) -> str:
    for end, name in _PROVIDERS:
        if address.endswith(end):
            return name
    return _OF_ENVELOPES.get(envelope, "openai")  # the others are forms of OpenAI's, whoever serves them


def _add_asked(found: dict[str, Any], asked: dict[str, Any]) -> None:
    options = asked.get("options")  # Ollama's; Gemini and Bedrock have others
    places = [asked, *(each for each in (options, asked.get("generationConfig")) if type(each) is dict)]
    for attribute, kind, names in _ASKED:
        for value in (place.get(name) for place in places for name in names):
            if (fit := _fit(value, kind)) is not None:
                found[attribute] = fit
                break
    count = asked.get("n")
    if type(count) is int and 1 < count < 1 << 31:
        found["gen_ai.request.choice.count"] = count


def _fit(value: Any, kind: type) -> str | int | float | bool | None:
    """The value, if it is of this kind and an attribute can hold it."""
    if kind is str:
        return value[:_LONGEST] or None if isinstance(value, str) else None
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else None
    if isinstance(value, int) and abs(value) < 1 << 53:
        return float(value) if kind is float else value
    return value if kind is float and isinstance(value, float) and isfinite(value) else None


def _add_answered(found: dict[str, Any], answered: dict[str, Any]) -> None:
    for attribute, names in (
        ("gen_ai.response.id", ("id", "responseId")),
        ("gen_ai.response.model", ("model", "modelVersion")),
    ):
        for name in names:
            if (value := _fit(answered.get(name), str)) is not None:
                found[attribute] = value
    if reasons := tuple(_reasons(answered))[:_MOST_REASONS]:
        found["gen_ai.response.finish_reasons"] = reasons
    usage = usage_in(answered)
    counts = {
        "gen_ai.usage.input_tokens": usage.tokens_in,
        "gen_ai.usage.output_tokens": usage.tokens_out,
        "gen_ai.usage.cache_read.input_tokens": usage.cached,
    }
    found |= {attribute: count for attribute, count in counts.items() if count is not None}


def _reasons(answered: dict[str, Any]) -> list[str]:
    several = answered.get("choices", answered.get("candidates"))
    every = several if type(several) is list else [answered]
    names = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason")
    found = [each.get(name) for each in every if type(each) is dict for name in names]
    return [reason[:_LONGEST] for reason in found if type(reason) is str]
