"""Anthropic's Messages: their streams put together.

Usage is in `message_start` and `message_delta`; the last number of each name counts.
"""

from collections.abc import Iterable
from typing import Any, Final

from shadowproxy.answers.pieces import Assembled, index_of, tokens_in
from shadowproxy.answers.texts import UNREADABLE, json_in

_TYPES: Final = frozenset(
    {"message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop"}
)
_PIECES: Final = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_SPOKEN: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def knows(event: Any) -> bool:
    return isinstance(event, dict) and isinstance(event.get("type"), str) and event["type"] in _TYPES


def has_piece(event: Any) -> bool:
    """Whether an event holds anything that the model generated."""
    delta = event.get("delta") if isinstance(event, dict) and event.get("type") == "content_block_delta" else None
    if not isinstance(delta, dict):
        return False
    kind = delta.get("type")
    name = _SPOKEN.get(kind) if isinstance(kind, str) else None
    return name is not None and isinstance(delta.get(name), str) and bool(delta[name])


def assembled(events: Iterable[Any]) -> Assembled:
    """Put these events together to their message."""
    made: dict[str, Any] = {}
    blocks: dict[int, _Block] = {}
    usage: dict[str, Any] = {}
    pieces = 0
    ended = False
    for event in events:
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "message_start" and isinstance(event.get("message"), dict):
            made = dict(event["message"])
            _add_usage(usage, made.get("usage"))
        elif kind == "content_block_start":
            block = event.get("content_block")
            blocks[index_of(event.get("index"), len(blocks))] = _Block(block if isinstance(block, dict) else {})
        elif kind == "content_block_delta" and isinstance(event.get("delta"), dict):
            index = index_of(event.get("index"), max(0, len(blocks) - 1))
            if index not in blocks:
                blocks[index] = _Block({})
            pieces += blocks[index].add(event["delta"])
        elif kind == "message_delta":
            if isinstance(event.get("delta"), dict):
                made.update(event["delta"])
            _add_usage(usage, event.get("usage"))
        elif kind == "message_stop":
            ended = True
    made.setdefault("type", "message")
    made.setdefault("role", "assistant")
    made["content"] = [blocks[index].whole() for index in sorted(blocks)]
    made.setdefault("stop_reason", None)
    if usage:
        made["usage"] = usage
    tokens = tokens_in(usage, "output_tokens")
    return Assembled(made, ended, max(tokens or 0, pieces if not ended else 0) or pieces or None)


def _add_usage(usage: dict[str, Any], more: Any) -> None:
    if isinstance(more, dict):
        usage.update({name: value for name, value in more.items() if value is not None or name not in usage})


class _Block:
    """One block of a message's content, put together from its pieces."""

    __slots__ = ("_citations", "_input", "_members", "_texts")

    def __init__(self, start: dict[str, Any]) -> None:
        self._members = dict(start)
        self._texts: dict[str, list[str]] = {}
        self._input: list[str] = []
        self._citations: list[Any] = []

    def add(self, delta: dict[str, Any]) -> bool:
        """Add a piece. Returns whether it holds anything that the model generated."""
        kind = delta.get("type")
        name = _PIECES.get(kind) if isinstance(kind, str) else None
        if name is not None:
            piece = delta.get(name)
            if not isinstance(piece, str):
                return False
            self._members.setdefault("type", "thinking" if name == "signature" else name)
            self._texts.setdefault(name, []).append(piece)
            return bool(piece) and name != "signature"
        if kind == "input_json_delta" and isinstance(delta.get("partial_json"), str):
            self._members.setdefault("type", "tool_use")
            self._input.append(delta["partial_json"])
            return bool(delta["partial_json"])
        if kind == "citations_delta":
            self._citations.append(delta.get("citation"))
        return False

    def whole(self) -> dict[str, Any]:
        made = dict(self._members)
        for name, pieces in self._texts.items():
            before = made.get(name)
            made[name] = (before if isinstance(before, str) else "") + "".join(pieces)
        if text := "".join(self._input):
            value = json_in(text)
            made["input"] = text if value is UNREADABLE else value
        if self._citations:
            made["citations"] = self._citations
        return made
