"""OpenAI's chat completions and completions, as many servers speak them: their streams put together.

Seen: usage in a last chunk whose `choices` is empty or holds an empty delta; a first delta with `content` null, "" or
none; `created` that changes from chunk to chunk; tool calls whose pieces all have the index 0 and another `id`.
"""

from collections.abc import Iterable
from typing import Any, Final

from shadowproxy.answers.pieces import Assembled, Texts, has_text, index_of, keep_first, objects, tokens_in
from shadowproxy.answers.texts import dumped

_SAME_IN_EACH: Final = ("id", "object", "created", "model")
_TEXTS: Final = frozenset({"content", "refusal", "reasoning_content", "reasoning", "thinking"})
_WHOLE: Final = {"chat.completion.chunk": "chat.completion"}


def knows(event: Any) -> bool:
    """Whether an event is a chunk of a completion."""
    if not isinstance(event, dict):
        return False
    return any(map(_is_choice, objects(event.get("choices")))) or event.get("object") == "chat.completion.chunk"


def _is_choice(choice: dict[str, Any]) -> bool:
    return "delta" in choice or isinstance(choice.get("text"), str) or "finish_reason" in choice


def has_piece(event: Any) -> bool:
    """Whether a chunk holds anything that the model generated."""
    return isinstance(event, dict) and any(map(_is_spoken, objects(event.get("choices"))))


def _is_spoken(choice: dict[str, Any]) -> bool:
    if has_text(choice.get("text")):
        return True
    delta = choice.get("delta", choice.get("message"))
    if not isinstance(delta, dict):
        return False
    for name, value in delta.items():
        if name in _TEXTS:
            if has_text(value):
                return True
        elif name == "tool_calls":
            if any(_is_called(each.get("function")) for each in objects(value)):
                return True
        elif name == "function_call" and _is_called(value):
            return True
    return False


def _is_called(function: Any) -> bool:
    return isinstance(function, dict) and bool(function.get("name") or function.get("arguments"))


def assembled(events: Iterable[Any]) -> Assembled:
    """Put these chunks together to their completion."""
    made: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    pieces = 0
    error: Any = None
    for event in events:
        if not isinstance(event, dict):
            continue
        keep_first(made, event, _SAME_IN_EACH)
        for name, value in event.items():
            if name == "choices" or name in _SAME_IN_EACH:
                continue
            if value is not None or name not in made:
                made[name] = value
        for at, choice in enumerate(objects(event.get("choices"))):
            index = index_of(choice.get("index"), at)
            found = choices.get(index)
            if found is None:
                found = choices[index] = _Choice()
            pieces += found.add(choice)
            error = error or choice.get("error")
    made["object"] = (
        _WHOLE.get(made["object"], made["object"]) if isinstance(made.get("object"), str) else "chat.completion"
    )
    made["choices"] = [choices[index].whole(index) for index in sorted(choices)]
    ended = any(choice.reason is not None for choice in choices.values())
    failed = bool(error) or any(choice.reason == "error" for choice in choices.values())
    return Assembled(made, ended, tokens_in(made.get("usage"), "completion_tokens") or pieces or None, failed, error)


class _Choice:
    """One choice, put together from its pieces."""

    __slots__ = ("_calls", "_chat", "_function", "_latest", "_logprobs", "_members", "_others", "_texts", "reason")

    def __init__(self) -> None:
        self._chat = False
        self._others: dict[str, list[Any]] = {}  # of the message, by name
        self._texts = Texts()
        self._calls: list[_Call] = []
        self._latest: dict[int, _Call] = {}  # by index
        self._function: _Call | None = None
        self._members: dict[str, Any] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self.reason: Any = None

    def add(self, choice: dict[str, Any]) -> bool:
        """Add a chunk's part of this choice. Returns whether it holds anything that the model generated."""
        generated = False
        for name, value in choice.items():
            if name == "delta" or (name == "message" and "delta" not in choice):
                self._chat = True
                generated |= self._delta(value) if isinstance(value, dict) else False
            elif name == "text":
                generated |= self._texts.add("text", value)
            elif name == "finish_reason":
                self.reason = self.reason if value is None else value
            elif name == "logprobs" and isinstance(value, dict):
                for kind, each in value.items():
                    if isinstance(each, list):
                        self._logprobs.setdefault(kind, []).extend(each)
            elif name != "index" and (value is not None or name not in self._members):
                self._members[name] = value
        return generated

    def _delta(self, delta: dict[str, Any]) -> bool:
        generated = False
        for name, value in delta.items():
            if name in _TEXTS:
                generated |= self._texts.add(name, value)
            elif name == "tool_calls":
                for at, piece in enumerate(objects(value)):
                    generated |= self._call(piece, index_of(piece.get("index"), at))
            elif name == "function_call" and isinstance(value, dict):
                self._function = self._function or _Call(0)
                generated |= self._function.add({"function": value})
            else:
                self._others.setdefault(name, []).append(value)
        return generated

    def _call(self, piece: dict[str, Any], index: int) -> bool:
        call = self._latest.get(index)
        if call is None or call.is_another(piece):
            call = self._latest[index] = _Call(index)
            self._calls.append(call)
        return call.add(piece)

    def whole(self, index: int) -> dict[str, Any]:
        texts = self._texts.joined()
        made: dict[str, Any] = {"index": index}
        text = texts.pop("text", None)
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": None, **_joined(self._others), **texts}
            if self._calls:
                message["tool_calls"] = [call.whole() for call in sorted(self._calls, key=lambda call: call.index)]
            if self._function is not None:
                message["function_call"] = self._function.whole()["function"]
            if message["content"] == "" and any(
                message.get(name) for name in ("tool_calls", "function_call", "refusal")
            ):
                message["content"] = None
            made["message"] = message
        else:
            made["text"] = text or ""
        if self._logprobs:
            made["logprobs"] = self._logprobs
        return {**made, **self._members, "finish_reason": self.reason}


_PIECES_OF_AUDIO: Final = frozenset({"data", "transcript"})


def _joined(pieces: dict[str, list[Any]], always: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Members of which each chunk has a piece. Lists go on, and so do objects (`audio`) and texts; but a text that is
    the same in each chunk, as `role` may be, is repeated, unless it `always` goes on. Of anything else the last counts.
    """
    made: dict[str, Any] = {}
    for name, values in pieces.items():
        given = [each for each in values if each is not None]
        kinds = {type(each) for each in given}
        if kinds == {list}:
            made[name] = [element for each in given for element in each]
        elif kinds == {dict}:
            inner: dict[str, list[Any]] = {}
            for each in given:
                for key, value in each.items():
                    inner.setdefault(key, []).append(value)
            made[name] = _joined(inner, _PIECES_OF_AUDIO) if len(given) > 1 else given[0]
        elif kinds == {str} and name != "role" and (name in always or len(set(given)) > 1):
            made[name] = "".join(given)
        else:
            made[name] = given[-1] if given else None
    return made


class _Call:
    """A tool call, put together from its pieces."""

    __slots__ = ("_arguments", "_length", "_members", "_names", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self._members: dict[str, Any] = {}
        self._names: list[str] = []
        self._length = 0
        self._arguments: list[str] = []

    def is_another(self, piece: dict[str, Any]) -> bool:
        """Whether a piece with this call's index begins another: it has an ID of its own."""
        mine, its = self._members.get("id"), piece.get("id")
        return bool(mine) and isinstance(its, str) and bool(its) and its != mine

    def add(self, piece: dict[str, Any]) -> bool:
        for name, value in piece.items():
            if name not in ("function", "index") and value is not None:
                self._members.setdefault(name, value)
        function = piece.get("function")
        if not isinstance(function, dict):
            return False
        called, arguments = function.get("name"), function.get("arguments")
        if isinstance(called, str) and called and not self._is_named(called):  # some servers repeat it in each piece
            self._names.append(called)
            self._length += len(called)
        if isinstance(arguments, str):
            self._arguments.append(arguments)
        elif arguments is not None:
            self._arguments.append(dumped(arguments))
        return bool(called or arguments)

    def _is_named(self, called: str) -> bool:
        return len(called) == self._length and called == "".join(self._names)

    def whole(self) -> dict[str, Any]:
        return {**self._members, "function": {"name": "".join(self._names), "arguments": "".join(self._arguments)}}
