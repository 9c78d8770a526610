"""What the modules that put streams together have in common. Whatever a stream says, none of it raises."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

_MOST_TOKENS: Final = 1_000_000_000
_LONGEST_INDEX: Final = 9  # digits


class Assembled(NamedTuple):
    """The answer that a stream made up; whether it said that it is complete, or failed; how many tokens it had."""

    value: dict[str, Any]
    ended: bool
    tokens: int | None
    failed: bool = False
    error: Any = None


def index_of(value: Any, otherwise: int) -> int:
    """An index that came as a number or, from some servers, as text; `otherwise` for what is none."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _LONGEST_INDEX:
        return int(value)
    return otherwise


def tokens_in(usage: Any, name: str) -> int | None:
    """A number of tokens that an answer's usage gives, if it is one to believe."""
    count = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(count, int) and not isinstance(count, bool) and 0 < count < _MOST_TOKENS:
        return count
    return None


def objects(values: Any) -> list[dict[str, Any]]:
    """The objects among the elements of a list; none where it is no list."""
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def keep_first(made: dict[str, Any], more: Mapping[str, Any], names: Iterable[str]) -> None:
    """Of members that come again in each event and say the same, or should, keep the first."""
    for name in names:
        if made.get(name) is None and name in more:
            made[name] = more[name]


class Texts:
    """Texts that come in pieces, by name. One that never came stays absent, one that was only null is null."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: dict[str, list[str]] = {}

    def add(self, name: str, piece: Any) -> bool:
        """Add a piece. Gives whether it holds any text."""
        pieces = self._pieces.setdefault(name, [])
        text = piece if isinstance(piece, str) else text_of_parts(piece)
        if text is None:
            return False
        pieces.append(text)
        return bool(text)

    def said(self) -> dict[str, str | None]:
        return {name: "".join(pieces) if pieces else None for name, pieces in self._pieces.items()}


def text_of_parts(value: Any) -> str | None:
    """The text of a content that comes as a list of parts; None where there is none."""
    texts = [each["text"] for each in objects(value) if isinstance(each.get("text"), str)]
    return "".join(texts) if texts else None
