"""OpenAI's Responses: their streams put together.

The last event holds the whole response again. If a stream was cut before it, the pieces are put together.
"""

from collections.abc import Iterable
from typing import Any, Final

from shadowproxy.answers.pieces import Assembled, index_of, objects, tokens_in

_LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_PIECES: Final = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
    }
)


def knows(event: Any) -> bool:
    return isinstance(event, dict) and isinstance(event.get("type"), str) and event["type"].startswith("response.")


def has_piece(event: Any) -> bool:
    """Whether an event holds anything that the model generated."""
    if not isinstance(event, dict) or not isinstance(kind := event.get("type"), str) or kind not in _PIECES:
        return False
    return isinstance(event.get("delta"), str) and bool(event["delta"])


def assembled(events: Iterable[Any]) -> Assembled:
    """Put these events together to their response."""
    made: dict[str, Any] = {}
    items: dict[int, dict[str, Any]] = {}
    texts: dict[tuple[int, str, int], list[str]] = {}
    pieces = 0
    last = ""
    for event in events:
        kind = event.get("type") if isinstance(event, dict) else None
        if not isinstance(kind, str):
            continue
        if isinstance(event.get("response"), dict):
            made = dict(event["response"])
        if kind in _LAST:
            last = kind
        item = event.get("item")
        at = index_of(event.get("output_index"), 0)
        if kind in ("response.output_item.added", "response.output_item.done") and isinstance(item, dict):
            items[at] = item
        elif kind in _PIECES and isinstance(event.get("delta"), str):
            pieces += bool(event["delta"])
            texts.setdefault((at, kind, index_of(event.get("content_index"), 0)), []).append(event["delta"])
    if not last or not objects(made.get("output")):
        made["output"] = _output(items, texts)
    failed = last == "response.failed" or made.get("status") == "failed"
    tokens = tokens_in(made.get("usage"), "output_tokens") or pieces or None
    return Assembled(made, bool(last), tokens, failed, made.get("error") if failed else None)


def _output(items: dict[int, dict[str, Any]], texts: dict[tuple[int, str, int], list[str]]) -> list[dict[str, Any]]:
    """The items of a response without its last event, put together from their pieces."""
    output = {at: dict(item) for at, item in items.items()}
    whole = {at for at, item in output.items() if item.get("status") != "in_progress" and objects(item.get("content"))}
    own: set[int] = set()
    for (at, kind, _), pieces in sorted(texts.items(), key=lambda each: each[0]):
        text = "".join(pieces)
        if kind == "response.function_call_arguments.delta":
            item = output.setdefault(at, {"type": "function_call"})
            item["arguments"] = item.get("arguments") or text
        elif kind == "response.custom_tool_call_input.delta":
            item = output.setdefault(at, {"type": "custom_tool_call"})
            item["input"] = item.get("input") or text
        elif kind in ("response.output_text.delta", "response.refusal.delta"):
            item = output.setdefault(at, {"type": "message", "role": "assistant"})
            if at not in whole and (at not in own or item.get("status") == "in_progress"):
                refusal = kind == "response.refusal.delta"
                part = {"type": "refusal", "refusal": text} if refusal else {"type": "output_text", "text": text}
                if at not in own:  # a copy, and of each item only one: its parts may be many
                    own.add(at)
                    item["content"] = objects(item.get("content"))
                item["content"].append(part)
    return [output[at] for at in sorted(output)]
