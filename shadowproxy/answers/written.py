"""What a language model wrote: its text, its calls of tools, and whether the answer says that it refused.

A refusal is one where the API has a field for it, never by the words of the text:

| Word | Where |
|---|---|
| `refusal` | `message.refusal` (chat), a part `refusal` (Responses), `stop_reason: refusal` (Messages) |
| `content_filter` | a finish reason that means a filter: `content_filter` (chat, Responses), `SAFETY` (Gemini) |
| `blocked_prompt` | `promptFeedback.blockReason` (Gemini) |

Of several choices the first counts. A model's reasoning is no part of its text.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from shadowproxy.answers.envelopes import CHAT, GEMINI, MESSAGES, OLLAMA, envelope_of
from shadowproxy.answers.finish import finish_of
from shadowproxy.answers.pieces import objects, text_of_parts
from shadowproxy.answers.texts import json_in

MOST_CALLS: Final = 64
"""Calls of one answer that are looked at."""

Refusal = Literal["", "refusal", "content_filter", "blocked_prompt"]
"""How an answer says that it refused; empty where it does not."""


class Call(NamedTuple):
    """One call of a tool. Its arguments are a value, or UNREADABLE if they are a text that is no JSON."""

    name: str
    arguments: Any


class Written(NamedTuple):
    """What a model wrote and called."""

    text: str
    calls: tuple[Call, ...] = ()
    refusal: Refusal = ""


def written_in(value: Any) -> Written | None:
    """What the model wrote that gave an answer with this value; None if it is not the answer of a language model."""
    if type(value) is not dict:
        return None
    feedback = value.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason"):
        return Written("", (), "blocked_prompt")
    output = value.get("output")
    if isinstance(value.get("stopReason"), str) and isinstance(output, dict):
        message = output.get("message")
        blocks = message.get("content") if isinstance(message, dict) else None
        return _written(text_of_parts(blocks), _calls_in(blocks, "toolUse", "input"), value["stopReason"])
    envelope = envelope_of(value)
    if envelope is None or not envelope.text:
        return None
    if envelope is CHAT:
        return _of_choice(objects(value["choices"])[0])
    if envelope is GEMINI:
        return _of_candidate(objects(value["candidates"])[0])
    if envelope is MESSAGES:
        blocks = value["content"]
        calls = [_call(each, "input") for each in objects(blocks) if each.get("type") == "tool_use"]
        return _written(text_of_parts(blocks), calls, value.get("stop_reason"))
    if envelope is OLLAMA:
        message = value.get("message")
        if isinstance(message, dict):
            return _of_message(message, value.get("done_reason"))
        text = value.get("response")
        return _written(text if isinstance(text, str) else None, (), value.get("done_reason"))
    return _of_response(value)


def _written(text: str | None, calls: Iterable[Call], reason: Any, refusal: Any = None) -> Written:
    said: Refusal = ""
    if (isinstance(refusal, str) and refusal) or reason == "refusal":
        said = "refusal"
    elif finish_of(reason) == "content_filter":
        said = "content_filter"
    return Written(text or "", tuple(calls)[:MOST_CALLS], said)


def _of_choice(choice: dict[str, Any]) -> Written:
    reason = choice.get("finish_reason")
    message = choice.get("message")
    if isinstance(message, dict):
        return _of_message(message, reason)
    text = choice.get("text")
    return _written(text if isinstance(text, str) else None, (), reason)


def _of_message(message: Mapping[str, Any], reason: Any) -> Written:
    content = message.get("content")
    text = content if isinstance(content, str) else text_of_parts(content)
    calls = _calls_in(message.get("tool_calls"), "function", "arguments")
    if isinstance(function := message.get("function_call"), dict):
        calls.append(_call(function, "arguments"))
    refusal = message.get("refusal") or next(
        (part.get("refusal") for part in objects(content) if part.get("type") == "refusal"), None
    )
    return _written(text, calls, reason, refusal)


def _of_candidate(candidate: dict[str, Any]) -> Written:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    said = [each for each in objects(parts) if not each.get("thought")]
    return _written(text_of_parts(said), _calls_in(said, "functionCall", "args"), candidate.get("finishReason"))


def _of_response(value: Mapping[str, Any]) -> Written:
    texts: list[str] = []
    calls: list[Call] = []
    refusal = ""
    for item in objects(value["output"]):
        if item.get("type") == "message":
            for part in objects(item.get("content")):
                if part.get("type") == "refusal":
                    refusal = "refusal"
                elif isinstance(part.get("text"), str):
                    texts.append(part["text"])
        elif item.get("type") == "function_call":
            calls.append(_call(item, "arguments"))
        elif item.get("type") == "custom_tool_call":  # its input is a text by definition
            calls.append(Call(_name(item), item.get("input")))
    details = value.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return _written("".join(texts), calls, reason, refusal)


def _calls_in(values: Any, member: str, arguments: str) -> list[Call]:
    return [_call(each[member], arguments) for each in objects(values) if isinstance(each.get(member), dict)]


def _call(function: Mapping[str, Any], arguments: str) -> Call:
    given = function.get(arguments)
    if isinstance(given, str):
        # Servers write the arguments of a function that takes none as "" or "{}".
        given = json_in(given) if given.strip() else {}
    return Call(_name(function), {} if given is None else given)


def _name(function: Mapping[str, Any]) -> str:
    name = function.get("name")
    return name if isinstance(name, str) else ""
