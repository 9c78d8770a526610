"""Ollama's chat and generate: lines of JSON, the last with `done: true`, put together."""

from collections.abc import Iterable
from typing import Any, Final

from shadowproxy.answers.pieces import Assembled, Texts, has_text, objects, tokens_in

_JOINED: Final = frozenset({"content", "thinking", "tool_calls"})


def knows(line: Any) -> bool:
    return isinstance(line, dict) and isinstance(line.get("done"), bool) and ("message" in line or "response" in line)


def has_piece(line: Any) -> bool:
    """Whether a line holds anything that the model generated."""
    if not isinstance(line, dict):
        return False
    if has_text(line.get("response")) or has_text(line.get("thinking")):
        return True
    message = line.get("message")
    if not isinstance(message, dict):
        return False
    calls = objects(message.get("tool_calls"))
    return has_text(message.get("content")) or has_text(message.get("thinking")) or bool(calls)


def assembled(lines: Iterable[Any]) -> Assembled:
    """Put these lines together to their answer: the last line's members, and the texts joined."""
    made: dict[str, Any] = {}
    message: dict[str, Any] | None = None
    in_message, texts = Texts(), Texts()
    calls: list[Any] = []
    pieces = 0
    for line in lines:
        if not isinstance(line, dict):
            continue
        for name, value in line.items():
            if name in ("response", "thinking"):
                pieces += texts.add(name, value)
            elif name == "message" and isinstance(value, dict):
                message = message or {}
                calls += objects(value.get("tool_calls"))
                message.update({key: each for key, each in value.items() if key not in _JOINED})
                for key in ("content", "thinking"):
                    if key in value:
                        pieces += in_message.add(key, value[key])
            elif value is not None or name not in made:
                made[name] = value
    made.update(texts.joined())
    if message is not None:
        message.update(in_message.joined())
        if calls:
            message["tool_calls"] = calls
        made["message"] = message
    ended = made.get("done") is True
    error = made.get("error")
    return Assembled(made, ended, tokens_in(made, "eval_count") or pieces or None, bool(error), error)
