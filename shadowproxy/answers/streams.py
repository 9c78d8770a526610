"""A stream put together to one answer, in the form that the same API gives without streaming.

So a pointer names the same thing in both, and a streamed answer can be compared with a whole one. Each API has its
module: `chat` (OpenAI chat and completions), `messages` (Anthropic), `responses` (OpenAI), `ollama`, `gemini`,
`converse` (Bedrock), `gradio`. A stream of anything else is the list of its events' data, and lines of JSON are the
list of their values.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

from shadowproxy.answers import (
    chat_stream,
    converse_stream,
    gemini_stream,
    gradio_stream,
    messages_stream,
    ollama_stream,
    responses_stream,
)
from shadowproxy.answers.errors import error_in, says_error
from shadowproxy.answers.pieces import Assembled
from shadowproxy.answers.sse import DONE, Event

Api = Literal["chat", "messages", "responses", "ollama", "gemini", "converse", "gradio", "events", "lines"]

_ERROR_NAMES: Final = frozenset({"error", "exception", "failed"})
KEEP_ALIVE: Final = frozenset({"ping", "heartbeat", "keepalive", "keep-alive"})


class Stream(NamedTuple):
    """A stream's answer and how it ended.

    Attributes:
        ended: it has its last event, or its API has none and nothing failed.
        error: what the event that reports the failure says, if `failed`.
        tokens: how many tokens it had; None if that cannot be known.
    """

    api: Api
    value: Any
    ended: bool
    failed: bool = False
    error: Any = None
    tokens: int | None = None


def of_events(events: Sequence[Event]) -> Stream:
    """A stream of server-sent events, put together."""
    done = any(event.data == DONE for event in events)
    spoken = [event for event in events if event.data != DONE and event.name not in KEEP_ALIVE]
    failed, error = _failure(spoken)
    data = [event.data for event in spoken]
    for api, module in _APIS:
        if any(module.knows(each) for each in data):
            return _with_texts(_stream(api, module.assembled(data), done, failed, error), data)
    if any(map(converse_stream.knows, spoken)):
        return _stream("converse", converse_stream.assembled(spoken), done, failed, error)
    if any(map(gradio_stream.knows, spoken)):
        return _stream("gradio", gradio_stream.assembled(spoken), done, failed, error)
    return Stream("events", data, not failed, failed, error)


def _with_texts(stream: Stream, data: Sequence[Any]) -> Stream:
    """A stream of an API whose events are objects, with what came as plain text between them, such as an error's."""
    texts = [each for each in data if isinstance(each, str) and each.strip()]
    return stream._replace(value={**stream.value, "texts": texts}) if texts else stream


def _stream(api: Api, made: Assembled, done: bool, failed: bool, error: Any) -> Stream:
    failed = failed or made.failed
    error = made.error if error is None else error
    value = made.value if not failed or "error" in made.value else {**made.value, "error": error}
    return Stream(api, value, (done or made.ended) and not failed, failed, error, made.tokens)


def of_lines(values: Sequence[Any]) -> Stream:
    """Lines of JSON, put together."""
    if any(ollama_stream.knows(each) for each in values):
        made = ollama_stream.assembled(values)
        return _stream("ollama", made, False, made.failed, made.error)
    return Stream("lines", list(values), True)


class _Module(NamedTuple):
    knows: Callable[[Any], bool]
    assembled: Callable[[Sequence[Any]], Assembled]


_APIS: Final[tuple[tuple[Api, _Module], ...]] = (
    ("chat", _Module(chat_stream.knows, chat_stream.assembled)),
    ("messages", _Module(messages_stream.knows, messages_stream.assembled)),
    ("responses", _Module(responses_stream.knows, responses_stream.assembled)),
    ("ollama", _Module(ollama_stream.knows, ollama_stream.assembled)),
    ("gemini", _Module(gemini_stream.knows, gemini_stream.assembled)),
)


def _failure(events: Sequence[Event]) -> tuple[bool, Any]:
    """Whether one of the events reports a failure, by its name or by its data; and what it says."""
    for name, data in events:
        if name.lower() in _ERROR_NAMES:
            return True, data.get("error", data) if isinstance(data, dict) else data
        if isinstance(data, dict):
            if data.get("type") == "error":
                return True, data.get("error", data)
            if error_in(data) is not None or ("choices" in data and says_error(data.get("error"))):
                return True, data.get("error") or data
    return False, None
