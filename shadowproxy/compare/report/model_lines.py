"""The lines of a language model's answer, streamed or whole: what it wrote and called first, then why it stopped, what
it took, and its other members.

One walk for all APIs: the members that hold texts, calls and reasons have few names, wherever they stand. Members that
say nothing of their own are left out: null, empty, and the type, the role and the number of a choice or a block.
"""

from collections.abc import Iterator
from typing import Any, Final

from shadowproxy.answers.leaves import Blob, Vector
from shadowproxy.answers.texts import UNREADABLE, json_in
from shadowproxy.compare.judge.visible import one_line, visible
from shadowproxy.compare.report.lines import LONGEST_TEXT, Line
from shadowproxy.pointers import pointer_token

_HOLDERS: Final = frozenset({"choices", "candidates", "content", "output", "message", "response"})
"""Members of an answer that hold what the model wrote. The others are one line each."""

_TEXTS: Final = {
    "content": "text",
    "text": "text",
    "response": "text",
    "refusal": "refusal",
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
}
"""Members that are texts of the model, with the word for each."""

_ARGUMENTS: Final = ("arguments", "input", "args")  # what a call is made with, beside its `name`
_REASONING: Final = frozenset({"reasoning", "thinking", "summary_text", "reasoning_text"})  # types of blocks
_REASONS: Final = ("finish_reason", "stop_reason", "done_reason", "finishReason")
_USAGE: Final = ("usage", "usageMetadata")
_SAME_IN_ALL: Final = frozenset({"type", "role", "object", "index", "thought"})
_DEEPEST: Final = 12
_LONGEST: Final = 200  # characters of another member
_MOST: Final = 2_000  # lines


def model_lines(value: dict[str, Any]) -> list[Line]:
    """The lines of an answer in an envelope of a language model."""
    made = _Lines()
    for name in sorted(value):
        member = value[name]
        pointer = f"/{pointer_token(name)}"
        if name in _HOLDERS:
            made.walk(name, member, pointer, 0)
        elif name in _REASONS:
            made.note_reason(member, pointer, "")
        elif name in _USAGE and isinstance(member, dict):
            made.usage.append(Line(f"usage: {visible(_in_usage(member))}", pointer, whole=True, key="#usage"))
        else:
            made.note_other(name, member, pointer)
    return [*made.spoken, *made.reasons, *made.usage, *made.others][:_MOST]


class _Lines:
    """Lines by what they are of, in the order of the answer."""

    def __init__(self) -> None:
        self.spoken: list[Line] = []
        self.reasons: list[Line] = []
        self.usage: list[Line] = []
        self.others: list[Line] = []
        self._choice = ""  # said before a line, if there are several choices
        self._answer = "/answer"  # the place of what was written and called, in the answer's one form
        self._count: dict[str, int] = {}

    def walk(self, name: str, value: Any, pointer: str, depth: int, *, reasoning: bool = False) -> None:
        """Note the lines of one member and of all below it."""
        if depth > _DEEPEST or len(self.spoken) > _MOST:
            self.note_other(pointer[1:], value, pointer)
        elif isinstance(value, list):
            for at, each in enumerate(value):
                if name in ("choices", "candidates"):
                    self._choice = f"{at}: " if len(value) > 1 else ""
                    self._answer = f"{pointer}/{at}/answer"
                self.walk(name, each, f"{pointer}/{at}", depth + 1, reasoning=reasoning)
        elif isinstance(value, dict):
            self._walk_members(value, pointer, depth, reasoning)
        elif isinstance(value, str) and name in _TEXTS:
            if value:
                self._note_text("reasoning" if reasoning else _TEXTS[name], value, pointer)
        elif name not in _SAME_IN_ALL:
            self.note_other(pointer[1:], value, pointer)

    def _walk_members(self, value: dict[str, Any], pointer: str, depth: int, reasoning: bool) -> None:
        reasoning = reasoning or value.get("type") in _REASONING or value.get("thought") is True
        arguments = next((each for each in _ARGUMENTS if each in value), None) if "name" in value else None
        for name in sorted(value):
            inner = f"{pointer}/{pointer_token(name)}"
            if name == arguments:
                self._note_call(value["name"], value[name], inner)
            elif name in _REASONS:
                self.note_reason(value[name], inner, self._choice)
            elif name != "name" or arguments is None:
                self.walk(name, value[name], inner, depth + 1, reasoning=reasoning)

    def _note_text(self, word: str, text: str, pointer: str) -> None:
        key = self._key(word)
        for at, line in enumerate(text[: _MOST * LONGEST_TEXT].split("\n")):
            begins = f"{self._choice}{word}: " if at == 0 else "  "
            self.spoken.append(
                Line(
                    begins + visible(line),
                    pointer,
                    key=key,
                    answer=None if word == "reasoning" else self._answer,
                    block=True,
                    longest=LONGEST_TEXT,
                )
            )

    def _note_call(self, name: Any, arguments: Any, pointer: str) -> None:
        value = json_in(arguments) if isinstance(arguments, str) else arguments
        shown = one_line(arguments if value is UNREADABLE else value, LONGEST_TEXT)
        text = f"{self._choice}call {visible(str(name))}: {shown}"
        line = Line(text, pointer, whole=True, key=self._key("call"), answer=self._answer, longest=LONGEST_TEXT)
        self.spoken.append(line)

    def note_reason(self, reason: Any, pointer: str, choice: str) -> None:
        if reason is not None:
            self.reasons.append(Line(f"{choice}stopped: ", pointer, reason, key=self._key("stopped")))

    def note_other(self, name: str, value: Any, pointer: str) -> None:
        """Note a member that is none of the above, in one line."""
        if value is None or value in ("", [], {}):
            return
        begins = f"{visible(name)}: "
        if isinstance(value, Vector | Blob):
            self.others.append(Line(begins + visible(value.line()), pointer, whole=True, leaf=value))
        elif isinstance(value, dict | list):
            self.others.append(Line(begins + one_line(value, _LONGEST), pointer, whole=True))
        else:
            self.others.append(Line(begins, pointer, value))

    def _key(self, word: str) -> str:
        """What lines this up with the same of another answer, which may be in another envelope."""
        at = self._count[word] = self._count.get(word, -1) + 1
        return f"#{word} {at}"


def _in_usage(usage: dict[str, Any]) -> str:
    return ", ".join(_counts(usage, "", 0))


def _counts(usage: dict[str, Any], above: str, depth: int) -> Iterator[str]:
    for name in sorted(usage):
        value = usage[name]
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _counts(value, f"{above}{name}/", depth + 1)
        elif value is not None:
            yield f"{above}{name} {one_line(value)}"
