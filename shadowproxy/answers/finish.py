"""Why a language model stopped, in one word for all APIs.

| Word | chat | messages, converse | responses | ollama | gemini |
|---|---|---|---|---|---|
| `stop` | stop | end_turn, stop_sequence | completed | stop | STOP |
| `length` | length | max_tokens | max_output_tokens | length | MAX_TOKENS |
| `tool_calls` | tool_calls, function_call | tool_use | completed, with calls | stop, with calls | STOP, with calls |
| `content_filter` | content_filter | refusal | content_filter | | SAFETY and its like |

Not every API, and not every server of one, names a call: OpenAI itself says `stop` where the caller chose the function.
So an answer that stopped and calls a tool stopped for that.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from shadowproxy.answers.envelopes import CHAT, CONVERSE, GEMINI, MESSAGES, OLLAMA, Envelope, envelope_of
from shadowproxy.answers.pieces import CALLS_OF_RESPONSES, calls_tools, objects

Finish = Literal["stop", "length", "tool_calls", "content_filter", "other", "none"]
"""`other`: for a reason of its own. `none`: it does not say why."""

_WORDS: Final[Mapping[str, Finish]] = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence", "completed", "eos", "eos_token", "STOP"), "stop"),
    **dict.fromkeys(
        ("length", "max_tokens", "max_output_tokens", "model_context_window_exceeded", "MAX_TOKENS"), "length"
    ),
    **dict.fromkeys(("tool_calls", "function_call", "tool_use"), "tool_calls"),
    **dict.fromkeys(
        (
            "content_filter",
            "content_filtered",
            "guardrail_intervened",
            "refusal",
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
        ),
        "content_filter",
    ),
}  # fmt: skip


def finish_in(value: Any) -> Finish | None:
    """Why the model stopped that gave an answer with this value; None if it is not the answer of a language model.

    Of several choices that stopped for different reasons it is `other`.
    """
    if type(value) is not dict:
        return None
    envelope = envelope_of(value)
    if envelope is None or not envelope.text:
        return None
    found = {_with_calls(finish_of(reason), calls) for reason, calls in _reasons(value, envelope)}
    if not found:
        return "none"
    return found.pop() if len(found) == 1 else "other"


def finish_of(reason: Any) -> Finish:
    """The one word for an API's own."""
    if not isinstance(reason, str) or not reason:
        return "none"
    return _WORDS.get(reason, "other")


def is_same_reason(one: str, other: str) -> bool:
    """Whether two APIs' own words say the same. That a model called a tool shows in its answer, and not all name it."""
    if one == other:
        return True
    first, second = (_WITHOUT_CALLS.get(each) for each in (one, other))
    return first is not None and first == second


_WITHOUT_CALLS: Final = {word: "stop" if finish == "tool_calls" else finish for word, finish in _WORDS.items()}


def _with_calls(finish: Finish, calls: bool) -> Finish:
    return "tool_calls" if calls and finish == "stop" else finish


def _reasons(value: dict[str, Any], envelope: Envelope) -> Iterable[tuple[Any, bool]]:
    """Why each choice stopped in its API's own word, and whether it calls a tool."""
    if envelope is CHAT:
        return [(each.get("finish_reason"), calls_tools(each.get("message"))) for each in objects(value["choices"])]
    if envelope is GEMINI:
        return [(each.get("finishReason"), _calls_function(each)) for each in objects(value["candidates"])]
    if envelope is MESSAGES:
        return [(value.get("stop_reason"), any(each.get("type") == "tool_use" for each in objects(value["content"])))]
    if envelope is CONVERSE:
        blocks = objects(value["output"]["message"].get("content"))
        return [(value.get("stopReason"), any("toolUse" in each for each in blocks))]
    if envelope is OLLAMA:
        return [(value.get("done_reason"), calls_tools(value.get("message")))]
    reason, details = value.get("status"), value.get("incomplete_details")
    if reason == "incomplete" and isinstance(details, dict):
        reason = details.get("reason")
    return [(reason, any(each.get("type") in CALLS_OF_RESPONSES for each in objects(value["output"])))]


def _calls_function(candidate: dict[str, Any]) -> bool:
    content = candidate.get("content")
    return isinstance(content, dict) and any("functionCall" in each for each in objects(content.get("parts")))
