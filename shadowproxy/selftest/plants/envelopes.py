"""An answer of a language model whose text was changed, as its API would send it.

Its `answer` is put together from texts and calls when an answer is read, and no API sends it. So what was planted
there goes back to where the text stands; the calls are text as well then.
"""

from typing import Any

from shadowproxy.answers.value import in_one_form

_CALLS = ("tool_calls", "function_call", "refusal")


def as_sent(value: Any) -> Any:
    """The payload without `answer`, and with its text where the API has it."""
    if not isinstance(value, dict):
        return value
    for name in ("choices", "candidates"):
        if isinstance(each := value.get(name), list):
            return {**value, name: [_choice(one, name) for one in each]}
    return _whole(value)


def _choice(choice: Any, name: str) -> Any:
    if not isinstance(choice, dict) or "answer" not in choice:
        return choice
    without = {key: each for key, each in choice.items() if key != "answer"}
    said = choice["answer"]
    again = in_one_form({name: [without]})[name][0]
    if again.get("answer", said) == said:
        return without
    if name == "candidates":
        return {**without, "content": {**_members(without.get("content")), "parts": _parts(said)}}
    if isinstance(without.get("message"), dict):
        return {**without, "message": _message(without["message"], said)}
    return {**without, "text": "" if said is None else said}


def _whole(value: dict[str, Any]) -> dict[str, Any]:
    if "answer" not in value:
        return value
    without = {key: each for key, each in value.items() if key != "answer"}
    said, again = value["answer"], in_one_form(without)
    if "answer" not in again:
        return value  # a member of its own
    if again["answer"] == said:
        return without
    if isinstance(without.get("content"), list):
        return {**without, "content": _parts(said, type="text")}
    if isinstance(without.get("output"), list):
        content = _parts(said, type="output_text")
        return {**without, "output": [{"type": "message", "role": "assistant", "content": content}] if content else []}
    if isinstance(without.get("message"), dict):
        return {**without, "message": _message(without["message"], said)}
    return {**without, "response": "" if said is None else said}


def _message(message: dict[str, Any], said: Any) -> dict[str, Any]:
    return {**{key: each for key, each in message.items() if key not in _CALLS}, "content": said}


def _parts(said: Any, **more: Any) -> list[Any]:
    return [] if said is None else [{**more, "text": said}]


def _members(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
