"""Gemini's generateContent, streamed with `alt=sse`: its chunks put together.

Each chunk is a whole answer with a part of the text. The usage in each counts up, so that the last one counts; a
model's thoughts are parts of their own (`thought: true`); a call of a function comes in one piece.
"""

from collections.abc import Iterable
from typing import Any

from shadowproxy.answers.pieces import Assembled, index_of, objects, tokens_in


def knows(event: Any) -> bool:
    if not isinstance(event, dict):
        return False
    first = next(iter(objects(event.get("candidates"))), None)
    return first is not None and ("content" in first or "finishReason" in first)


def has_piece(event: Any) -> bool:
    """Whether a chunk holds anything that the model generated."""
    if not isinstance(event, dict):
        return False
    for candidate in objects(event.get("candidates")):
        content = candidate.get("content")
        if isinstance(content, dict) and any(map(_is_spoken, objects(content.get("parts")))):
            return True
    return False


def _is_spoken(part: dict[str, Any]) -> bool:
    text = part.get("text")
    return bool(text) if isinstance(text, str) else True


def assembled(events: Iterable[Any]) -> Assembled:
    """Put these chunks together to their answer."""
    made: dict[str, Any] = {}
    candidates: dict[int, _Candidate] = {}
    pieces = 0
    for event in events:
        if not isinstance(event, dict):
            continue
        made.update({name: value for name, value in event.items() if name != "candidates" and value is not None})
        for at, candidate in enumerate(objects(event.get("candidates"))):
            index = index_of(candidate.get("index"), at)
            found = candidates.get(index)
            if found is None:
                found = candidates[index] = _Candidate()
            pieces += found.add(candidate)
    made["candidates"] = [candidates[index].whole() for index in sorted(candidates)]
    ended = any(each.ended for each in candidates.values())
    return Assembled(made, ended, tokens_in(made.get("usageMetadata"), "candidatesTokenCount") or pieces or None)


class _Candidate:
    """One candidate, put together from its pieces."""

    __slots__ = ("_content", "_members", "_parts", "_texts", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._members: dict[str, Any] = {}
        self._content: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []
        self._texts: list[list[str]] = []  # of each part

    def add(self, candidate: dict[str, Any]) -> bool:
        """Add a chunk's part of this candidate. Returns whether it holds anything that the model generated."""
        self.ended = self.ended or bool(candidate.get("finishReason"))
        self._members.update({name: value for name, value in candidate.items() if name != "content"})
        content = candidate.get("content")
        if not isinstance(content, dict):
            return False
        self._content.update({name: value for name, value in content.items() if name != "parts"})
        generated = False
        for part in objects(content.get("parts")):
            generated |= self._part(part)
        return generated

    def _part(self, part: dict[str, Any]) -> bool:
        text = part.get("text")
        if not isinstance(text, str):
            self._parts.append(part)
            self._texts.append([])
            return True
        members = {name: value for name, value in part.items() if name != "text"}
        if self._parts and self._texts[-1] and _same_kind(self._parts[-1], members):
            self._parts[-1].update(members)
            self._texts[-1].append(text)
        elif text or not self._parts:  # a last piece without a word, with the reason, is no part
            self._parts.append(members)
            self._texts.append([text])
        return bool(text)

    def whole(self) -> dict[str, Any]:
        parts = [
            {**part, "text": "".join(texts)} if texts else part
            for part, texts in zip(self._parts, self._texts, strict=True)
        ]
        return {**self._members, "content": {**self._content, "parts": parts}}


def _same_kind(part: dict[str, Any], members: dict[str, Any]) -> bool:
    return bool(part.get("thought")) == bool(members.get("thought"))
