"""Calls by Anthropic's SDK: `python anthropic_calls.py URL MODEL TIMES CALL...`. Prints JSON for each answer."""

import json
import sys
from typing import Any

import anthropic

TEXTS = ["The flight is late.", "The gate has changed.", "Boarding begins at noon."]
TOOL = {
    "name": "delay_of",
    "description": "The delay of a flight in minutes.",
    "input_schema": {
        "type": "object",
        "properties": {"flight": {"type": "string"}, "day": {"type": "integer"}},
        "required": ["flight", "day"],
    },
}

url, model, times, *calls = sys.argv[1:]
client = anthropic.Anthropic(base_url=url, api_key="sk-of-the-test-0123456789abcdef", max_retries=0, timeout=120)


def options(number: int) -> dict[str, Any]:
    content = f"{TEXTS[number % len(TEXTS)]} Number {number}. Say why."
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": 24, "extra_body": {"temperature": 0}}


def messages(number: int, **more: Any) -> Any:
    return client.messages.create(**options(number), **more).model_dump()


def messages_stream(number: int, **more: Any) -> Any:
    with client.messages.stream(**options(number), **more) as stream:
        return stream.get_final_message().model_dump()


def messages_tools(number: int) -> Any:
    return messages(number, tools=[TOOL], tool_choice={"type": "any"})


def messages_tools_stream(number: int) -> Any:
    return messages_stream(number, tools=[TOOL], tool_choice={"type": "any"})


BY_NAME = {call.__name__: call for call in (messages, messages_stream, messages_tools, messages_tools_stream)}

for name in calls:
    for number in range(int(times)):
        try:
            answer = BY_NAME[name](number)
        except anthropic.APIError as error:
            answer = {"error": str(error)}
        print(json.dumps({"call": name, "answer": answer}, default=str), flush=True)
