"""An answer as a tree in which places can be named: the same for every API, streamed or not.

It is the JSON of the body, or of the stream put together, with these things in one form:

- tensors of the Open Inference Protocol and of Seldon are nested arrays, outputs of the former by name;
- vectors (`leaves`) are arrays of numbers, unless they are huge, and a blob is a text with its size and hash;
- a plain text is the text at the place ``, or the number that it is;
- for a known API of language models, `answer` is added: the model's text and its calls, as one text. So a text and a
  tool call, or the calls of two functions, differ at one place. It is the text, else the refusal, then each call as
  `name({"argument": 1})` on a line of its own, with sorted arguments; null if the model wrote and called nothing.
  Its reasoning is not part of it.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from shadowproxy.answers.body import Content, content_of
from shadowproxy.answers.leaves import Vector, in_shape, without_leaves
from shadowproxy.answers.pieces import CALLS_OF_RESPONSES, calls_tools, objects, text_of_parts
from shadowproxy.answers.texts import UNREADABLE, dumped, json_in, plain_value
from shadowproxy.record import RecordedLeg

ENVELOPE_PLACES: Final = (
    "/choices/*/answer",  # OpenAI chat and completions
    "/answer",  # Anthropic's Messages, OpenAI's Responses, Ollama, Bedrock's Converse
    "/choices/*/finish_reason",
    "/stop_reason",
    "/done_reason",
    "/usage/completion_tokens",
    "/usage/output_tokens",
    "/eval_count",
    "/candidates/*/answer",  # Gemini
    "/candidates/*/finishReason",
    "/usageMetadata/candidatesTokenCount",
)
"""Places of the answers of language models, the most important first."""

ANSWER_PARTS: Final = (
    "/choices/*/message",
    "/choices/*/text",
    "/content",
    "/output",
    "/message",
    "/response",
    "/candidates/*/content",
)
"""What `answer` is made of: beside an `answer`, these places add nothing."""


def answer_value(answer: RecordedLeg) -> Any:
    """What an answer says, as a tree; None if it is empty or cannot be read."""
    return value_of(answer, content_of(answer))


def value_of(answer: RecordedLeg, content: Content) -> Any:
    """The same if the caller has the content already."""
    if content.kind == "json":
        value = in_one_form(content.value)
        return without_leaves(value) if content.leaves else value
    if content.kind == "text":
        found = plain_value(content.value)
        return None if found == "" else found
    return None


def in_one_form(value: Any) -> Any:
    """A payload with its API's own forms put into one form."""
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("choices"), list):
        return {**value, "choices": [_choice(each) for each in value["choices"]]}
    if isinstance(candidates := value.get("candidates"), list):
        return {**value, "candidates": [_candidate(each) for each in candidates]}
    if value.get("type") == "message" and isinstance(value.get("content"), list):
        return _with_answer(value, _text_of_blocks(value["content"]))
    if value.get("object") == "response" and isinstance(value.get("output"), list):
        return _with_answer(value, _text_of_items(value["output"]))
    if isinstance(value.get("stopReason"), str) and isinstance(blocks := _blocks_of_converse(value), list):
        return _with_answer(value, _text_of_converse(blocks))
    if isinstance(value.get("done"), bool):
        if isinstance(message := value.get("message"), dict):
            return _with_answer({**value, "message": _message(message)}, _text_of_message(message))
        if isinstance(text := value.get("response"), str):
            return _with_answer(value, text or None)
    return unwrapped(value)


def _with_answer(value: dict[str, Any], answer: str | None) -> dict[str, Any]:
    return value if "answer" in value else {**value, "answer": answer}


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if isinstance(message := choice.get("message"), dict):
        return _with_answer({**choice, "message": _message(message)}, _text_of_message(message))
    text = choice.get("text")
    return _with_answer(choice, text or None) if isinstance(text, str) else choice


def _candidate(candidate: Any) -> Any:
    """A candidate of Gemini's with the texts and calls in its parts; thoughts are no part of them."""
    content = candidate.get("content") if isinstance(candidate, dict) else None
    if not isinstance(content, dict) or not isinstance(content.get("parts"), list):
        return candidate
    parts = [each for each in objects(content["parts"]) if not each.get("thought")]
    texts = [each["text"] for each in parts if isinstance(each.get("text"), str)]
    functions = [each.get("functionCall") for each in parts]
    calls = [_call(each.get("name"), each.get("args")) for each in functions if isinstance(each, dict)]
    return _with_answer(candidate, _lines("".join(texts), calls))


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose calls have their arguments as values: equal arguments are written in many ways."""
    made = dict(message)
    if isinstance(calls := message.get("tool_calls"), list):
        made["tool_calls"] = [
            {**call, "function": _with_parsed_arguments(call["function"])}
            if isinstance(call, dict) and isinstance(call.get("function"), dict)
            else call
            for call in calls
        ]
    if isinstance(function := message.get("function_call"), dict):
        made["function_call"] = _with_parsed_arguments(function)
    return made


def with_parsed_calls(value: Any) -> Any:
    """An answer of a language model whose calls have their arguments as values; itself, if it calls nothing."""
    if isinstance(choices := value.get("choices"), list):
        if any(calls_tools(each.get("message")) for each in objects(choices)):
            return {**value, "choices": [_with_parsed_message(each) for each in choices]}
    elif calls_tools(value.get("message")):
        return {**value, "message": _message(value["message"])}
    elif any("arguments" in each for each in objects(value.get("output"))):
        made = [_with_parsed_arguments(each) if isinstance(each, dict) else each for each in value["output"]]
        return {**value, "output": made}
    return value


def _with_parsed_message(choice: Any) -> Any:
    if isinstance(choice, dict) and isinstance(message := choice.get("message"), dict):
        return {**choice, "message": _message(message)}
    return choice


def _with_parsed_arguments(function: dict[str, Any]) -> dict[str, Any]:
    return {**function, "arguments": _arguments(function["arguments"])} if "arguments" in function else function


def _arguments(given: Any) -> Any:
    """A call's arguments as a value, or as text if they are not JSON."""
    if not isinstance(given, str):
        return given
    value = json_in(given)
    return given.strip() if value is UNREADABLE else value


def _text_of_message(message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    text = content if isinstance(content, str) else text_of_parts(content)
    if not text and isinstance(message.get("refusal"), str):
        text = message["refusal"]
    functions = [call.get("function") for call in objects(message.get("tool_calls"))]
    functions.append(message.get("function_call"))
    calls = [_call(each.get("name"), each.get("arguments")) for each in functions if isinstance(each, dict)]
    return _lines(text, calls)


def _text_of_blocks(blocks: list[Any]) -> str | None:
    """The texts and calls in the blocks of Anthropic's message."""
    texts = [each["text"] for each in objects(blocks) if isinstance(each.get("text"), str)]
    calls = [_call(each.get("name"), each.get("input")) for each in objects(blocks) if each.get("type") == "tool_use"]
    return _lines("".join(texts), calls)


def _text_of_items(items: list[Any]) -> str | None:
    """The texts and calls in the items of OpenAI's response."""
    texts: list[str] = []
    calls: list[str] = []
    for item in objects(items):
        for part in objects(item.get("content")) if item.get("type") == "message" else ():
            text = part.get("text") or part.get("refusal")
            texts += [text] if isinstance(text, str) else []
        if item.get("type") in CALLS_OF_RESPONSES and isinstance(item.get("name"), str):
            calls.append(_call(item["name"], item.get("arguments", item.get("input"))))
    return _lines("".join(texts), calls)


def _blocks_of_converse(value: dict[str, Any]) -> Any:
    """The blocks of the message in an answer of Bedrock's Converse; None if it has none."""
    output = value.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    return message.get("content") if isinstance(message, dict) else None


def _text_of_converse(blocks: list[Any]) -> str | None:
    texts = [each["text"] for each in objects(blocks) if isinstance(each.get("text"), str)]
    uses = [each.get("toolUse") for each in objects(blocks)]
    calls = [_call(each.get("name"), each.get("input")) for each in uses if isinstance(each, dict)]
    return _lines("".join(texts), calls)


def _call(name: Any, arguments: Any) -> str:
    value = _arguments(arguments)
    return f"{name if isinstance(name, str) else ''}({'' if value is None else dumped(value)})"


def _lines(text: str | None, calls: list[str]) -> str | None:
    return "\n".join([*([text] if text else []), *calls]) or None


def unwrapped(value: Any) -> Any:
    """A payload with the tensors of the Open Inference Protocol and of Seldon as nested arrays, by name."""
    if not isinstance(value, dict):
        return value
    outputs = value.get("outputs")
    if isinstance(outputs, list) and outputs and all(isinstance(each, dict) and "data" in each for each in outputs):
        named = {
            str(each.get("name", at)): reshaped(each["data"], each.get("shape")) for at, each in enumerate(outputs)
        }
        return {**value, "outputs": named}
    data = value.get("data")
    if isinstance(data, dict) and isinstance(tensor := data.get("tensor"), dict) and "values" in tensor:
        return {**value, "data": {**data, "tensor": reshaped(tensor["values"], tensor.get("shape"))}}
    return value


def reshaped(data: Any, shape: Any) -> Any:
    """Flat row-major data as nested arrays, or as a vector of that shape; unchanged if the shape does not fit."""
    fits = isinstance(shape, list) and all(isinstance(size, int) and size > 0 for size in shape)
    if not fits or len(shape) < 2 or len(shape) > _MOST_AXES or not isinstance(data, list | Vector):
        return data
    if math.prod(shape) != len(data):
        return data
    return in_shape(data, shape) if isinstance(data, list) else Vector(data.numbers, data.dtype, tuple(shape))


_MOST_AXES: Final = 8
