"""Calls by OpenAI's SDK: `python openai_calls.py URL MODEL TIMES CALL...`. Prints one JSON value for each answer.

The SDK closes a streamed answer's connection at `data: [DONE]`.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import openai

TEXTS = ["The flight is late.", "The gate has changed.", "Boarding begins at noon."]
TOOL = {
    "type": "function",
    "function": {
        "name": "delay_of",
        "description": "The delay of a flight in minutes.",
        "parameters": {
            "type": "object",
            "properties": {"flight": {"type": "string"}, "day": {"type": "integer"}},
            "required": ["flight", "day"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"late": {"type": "boolean"}, "minutes": {"type": "integer"}},
    "required": ["late", "minutes"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "delay", "strict": True, "schema": SCHEMA}}

url, model, times, *calls = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-of-the-test-0123456789abcdef", max_retries=0, timeout=120)


def asked(number: int) -> list[Any]:
    return [{"role": "user", "content": f"{TEXTS[number % len(TEXTS)]} Number {number}. Say why."}]


def chat(number: int, **options: Any) -> Any:
    return client.chat.completions.create(
        model=model, messages=asked(number), temperature=0, max_tokens=24, **options
    ).model_dump()


def chat_stream(number: int, **options: Any) -> Any:
    stream = client.chat.completions.create(
        model=model,
        messages=asked(number),
        temperature=0,
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
        **options,
    )
    return [chunk.model_dump() for chunk in stream]


def completion(number: int) -> Any:
    prompt = TEXTS[number % len(TEXTS)]
    return client.completions.create(model=model, prompt=prompt, temperature=0, max_tokens=16).model_dump()


def completion_stream(number: int) -> Any:
    prompt = TEXTS[number % len(TEXTS)]
    stream = client.completions.create(model=model, prompt=prompt, temperature=0, max_tokens=16, stream=True)
    return [chunk.model_dump() for chunk in stream]


def responses(number: int) -> Any:
    text = TEXTS[number % len(TEXTS)]
    return client.responses.create(model=model, input=text, temperature=0, max_output_tokens=24).model_dump()


def responses_stream(number: int) -> Any:
    text = TEXTS[number % len(TEXTS)]
    stream = client.responses.create(model=model, input=text, temperature=0, max_output_tokens=24, stream=True)
    return [event.model_dump() for event in stream]


def embeddings(number: int) -> Any:
    """The SDK asks for base64 where nothing is said of it."""
    return client.embeddings.create(model=model, input=TEXTS[: number % 3 + 1]).model_dump()


def embeddings_floats(number: int) -> Any:
    return client.embeddings.create(model=model, input=TEXTS[: number % 3 + 1], encoding_format="float").model_dump()


def tools(number: int) -> Any:
    return chat(number, tools=[TOOL], tool_choice="required")


def tools_stream(number: int) -> Any:
    return chat_stream(number, tools=[TOOL], tool_choice="required")


def structured(number: int) -> Any:
    return chat(number, response_format=FORMAT)


def structured_stream(number: int) -> Any:
    return chat_stream(number, response_format=FORMAT)


CALLS: list[Callable[[int], Any]] = [
    chat,
    chat_stream,
    completion,
    completion_stream,
    responses,
    responses_stream,
    embeddings,
    embeddings_floats,
    tools,
    tools_stream,
    structured,
    structured_stream,
]
BY_NAME = {call.__name__: call for call in CALLS}

for name in calls:
    for number in range(int(times)):
        try:
            answer = BY_NAME[name](number)
        except openai.APIError as error:
            answer = {"error": str(error)}
        print(json.dumps({"call": name, "answer": answer}, default=str), flush=True)
