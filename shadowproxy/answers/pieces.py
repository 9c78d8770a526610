"""What the modules that put streams together have in common. No content of a stream makes them raise."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

_MOST_TOKENS: Final = 1_000_000_000
_LONGEST_INDEX: Final = 9  # digits
_MOST_INDEX: Final = 1 << 60  # beyond it many numbers have one hash, and indices are keys of dicts


class Assembled(NamedTuple):
    """A stream's answer; whether it ended with its last event, or failed; how many tokens it had."""

    value: dict[str, Any]
    ended: bool
    tokens: int | None
    failed: bool = False
    error: Any = None


def index_of(value: Any, otherwise: int) -> int:
    """An index that is a number or, from some servers, text; `otherwise` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_INDEX:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _LONGEST_INDEX:
        return int(value)
    return otherwise


def tokens_in(usage: Any, name: str) -> int | None:
    """The number of tokens in an answer's usage, if it is plausible."""
    count = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(count, int) and not isinstance(count, bool) and 0 < count < _MOST_TOKENS:
        return count
    return None


def objects(values: Any) -> list[dict[str, Any]]:
    """The objects among a list's elements; empty if it is no list."""
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def calls_tools(message: Any) -> bool:
    """Whether a message of a chat, or of Ollama's, calls a tool or a function."""
    return isinstance(message, dict) and bool(message.get("tool_calls") or message.get("function_call"))


def keep_first(made: dict[str, Any], more: Mapping[str, Any], names: Iterable[str]) -> None:
    """Keep the first value of members that every event repeats."""
    for name in names:
        if made.get(name) is None and name in more:
            made[name] = more[name]


class Texts:
    """Texts received in pieces, by name. A name without pieces stays absent; one with only nulls is null."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: dict[str, list[str]] = {}

    def add(self, name: str, piece: Any) -> bool:
        """Add a piece. Returns whether it holds any text."""
        pieces = self._pieces.setdefault(name, [])
        text = piece if isinstance(piece, str) else text_of_parts(piece)
        if text is None:
            return False
        pieces.append(text)
        return bool(text)

    def joined(self) -> dict[str, str | None]:
        return {name: "".join(pieces) if pieces else None for name, pieces in self._pieces.items()}


def has_text(piece: Any) -> bool:
    """Whether a piece of a text is not empty, as a text or as a list of parts."""
    return bool(piece if isinstance(piece, str) else text_of_parts(piece))


def text_of_parts(value: Any) -> str | None:
    """The text of a content that is a list of parts; None if it has no text."""
    texts = [each["text"] for each in objects(value) if isinstance(each.get("text"), str)]
    return "".join(texts) if texts else None


CALLS_OF_RESPONSES: Final = ("function_call", "custom_tool_call", "computer_call")
"""The items of a Responses answer that are calls for the caller to make. `web_search_call`, `mcp_call` and their like
are made by the server, as Anthropic's `server_tool_use` is."""
