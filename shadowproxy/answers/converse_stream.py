"""Bedrock's ConverseStream: its events put together to the answer of Converse.

An event is known by its frame's `:event-type`. Bedrock pads each event by a text of random length, `p`, so that its
size does not tell the words: it is no part of the answer. `metadata`, with the usage, comes after `messageStop`.
"""

from collections.abc import Sequence
from typing import Any, Final

from shadowproxy.answers.pieces import Assembled, Texts, index_of, tokens_in
from shadowproxy.answers.sse import Event
from shadowproxy.answers.texts import UNREADABLE, json_in

_EVENTS: Final = frozenset({"messageStart", "contentBlockStart", "contentBlockDelta", "messageStop"})
_PADDING: Final = "p"


def knows(event: Event) -> bool:
    return event.name in _EVENTS and isinstance(event.data, dict)


def assembled(events: Sequence[Event]) -> Assembled:
    """Put these events together to their answer."""
    made: dict[str, Any] = {}
    message: dict[str, Any] = {}
    blocks: dict[int, _Block] = {}
    highest = 0
    ended = False
    pieces = 0
    for name, data in events:
        if not isinstance(data, dict):
            continue
        said = {key: value for key, value in data.items() if key not in (_PADDING, "contentBlockIndex")}
        if name in ("contentBlockStart", "contentBlockDelta"):
            index = index_of(data.get("contentBlockIndex"), highest)
            highest = max(highest, index)
            pieces += blocks.setdefault(index, _Block()).add(
                said.get("start" if name == "contentBlockStart" else "delta")
            )
        elif name == "messageStart":
            message.update(said)
        elif name in ("messageStop", "metadata"):
            made.update(said)
            ended = ended or name == "messageStop"
    message["content"] = [blocks[index].whole() for index in sorted(blocks)]
    made["output"] = {"message": message}
    return Assembled(made, ended, tokens_in(made.get("usage"), "outputTokens") or pieces or None)


class _Block:
    """One block of a message: a text, a call of a tool, or a thought, put together from its pieces."""

    __slots__ = ("_members", "_texts")

    def __init__(self) -> None:
        self._members: dict[str, dict[str, Any]] = {}  # of a call and a thought, by their names
        self._texts: dict[str, Texts] = {}  # likewise; the block's own text by ""

    def add(self, piece: Any) -> bool:
        """Add a piece of this block. Returns whether it holds anything that the model generated."""
        if not isinstance(piece, dict):
            return False
        generated = False
        for kind, value in piece.items():
            if isinstance(value, str):
                generated |= self._texts.setdefault("", Texts()).add(kind, value)
            elif isinstance(value, dict):
                members = self._members.setdefault(kind, {})
                for name, each in value.items():
                    if isinstance(each, str) and name in _JOINED.get(kind, ()):
                        generated |= self._texts.setdefault(kind, Texts()).add(name, each)
                    else:
                        members[name] = each
        return generated

    def whole(self) -> dict[str, Any]:
        made: dict[str, Any] = dict(self._texts[""].joined()) if "" in self._texts else {}
        for kind, members in self._members.items():
            texts = self._texts[kind].joined() if kind in self._texts else {}
            made[kind] = _THE_SAME_WHOLE.get(kind, _unchanged)({**members, **texts})
        return made


_JOINED: Final[dict[str, tuple[str, ...]]] = {"toolUse": ("input",), "reasoningContent": ("text", "signature")}


def _unchanged(value: dict[str, Any]) -> dict[str, Any]:
    return value


def _call(value: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments: pieces of JSON in a stream, a value in Converse's answer."""
    given = value.get("input")
    if not isinstance(given, str):
        return value
    said = json_in(given)
    return {**value, "input": given if said is UNREADABLE else said}


def _thought(value: dict[str, Any]) -> dict[str, Any]:
    """A thought's text and signature: beside each other in a stream, in `reasoningText` in Converse's answer."""
    inner = {name: value[name] for name in ("text", "signature") if name in value}
    rest = {name: each for name, each in value.items() if name not in inner}
    return {**rest, "reasoningText": inner} if inner else rest


_THE_SAME_WHOLE: Final = {"toolUse": _call, "reasoningContent": _thought}
