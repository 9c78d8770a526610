"""Answers that say that they failed although their status says success.

| Answer with a status below 400 | failed |
|---|---|
| a stream with an event named `error`, with `{"type": "error"}`, with a non-empty `error`, or `response.failed` | yes |
| a chat whose `finish_reason` is `error` | yes |
| a stream of a known API that ended without its last event: the caller got a part | yes |
| an Ollama line with `error`; a last line that only reports a failure | yes |
| `{"error": "boom"}`, `{"error": {"message": …}}`, `{"errors": […]}`, `{"data": null, "errors": […]}` | yes |
| `{"error_code": "…", "message": …}` (MLflow), `{"errorMessage": …, "errorType": …}` (Lambda) | yes |
| `{"status": {"status": "FAILURE", "info": …}}` (Seldon), `{"status": "failed", "message": …}` | yes |
| `{"code": 500, "message": …}`, `{"success": false, "message": …}` | yes |
| `{"detail": [{"loc": …, "msg": …}]}` (FastAPI's refusal of the input) | yes |
| a list of nothing but such objects | yes |
| an empty 200 that has neither a length nor a type: a stream that broke off before its first piece (LitServe) | yes |
| bytes that are not what their format asks for, such as an npy file that was cut | yes |
| a Python traceback, or a page whose title is an error status, as text | yes |
| `{"prediction": 3, "error": null}`, `{"error": ""}`, `{"error": false}`, `{"errors": []}` | no |
| `{"prediction": 3, "error": "boom"}`: it has an answer too | no |
| `{"error": 0.02}`: a number is a value, such as how far off a prediction is | no |
| `{"detail": "…"}` alone, `{"status": "failed"}` alone: words that may be the prediction | no |
| `content` null beside `tool_calls` or `refusal`; a refusal; `response.incomplete` | no |
| any answer with a status of 400 or more: its status says it, and is counted by it | no |

A value is an answer if it has a member that is not empty and whose name is not one for the request, the server or the
failure (`id`, `model`, `message`, `code`, `timestamp`, …). Otherwise it only reports a failure.
"""

import re
from typing import Any, Final

from shadowproxy.answers.body import Content, content_of
from shadowproxy.answers.errors import error_in
from shadowproxy.answers.failure_text import TRACEBACK, message_in, message_of_text
from shadowproxy.answers.masking import masked
from shadowproxy.record import RecordedLeg

_PHRASES: Final = frozenset({"internal server error", "bad gateway", "service unavailable", "gateway timeout"})
_ERROR_TITLE: Final = re.compile(r"(?i)<title[^>]{0,200}>\s*(?:error\s*)?[45]\d\d\b")
_LOOKED_AT: Final = 4000  # characters of a text


def failed_reason(answer: RecordedLeg, content: Content | None = None) -> str | None:
    """How an answer says that it failed, as one masked line; None if it does not say so.

    `content` is the leg's content if the caller has it already.
    """
    if answer.status is not None and answer.status >= 400:
        return None
    content = content_of(answer) if content is None else content
    if content.kind == "unknown":
        return answer.failed  # the record knows it of the whole answer
    if content.kind == "empty" and _is_broken_stream(answer):
        return "the stream ended without a word"
    return reason_in(content)


def reason_in(content: Content) -> str | None:
    """The same for what an answer says, whatever its status."""
    found = failure_of(content)
    if found is None:
        return None
    message = message_of_text(found) if isinstance(found, str) else message_in(found)
    return masked(message) or "says only that it failed"


def _is_broken_stream(answer: RecordedLeg) -> bool:
    """Whether an empty answer was to be streamed, and broke off before its first piece.

    LitServe ends such a stream as if it were whole. Servers that mean an empty answer (Triton's health, a model that
    was loaded) give its length, or its type.
    """
    return answer.status == 200 and not any(name in answer.headers for name in ("content-length", "content-type"))


def failure_of(content: Content) -> Any:
    """What a content says about its failure; None if it is an answer."""
    if content.broken is not None:
        return {"error": content.broken}
    stream = content.stream
    if stream is not None:
        if stream.failed:
            return {"error": stream.error} if stream.error is not None else {}
        if not stream.ended:
            return {"error": "the stream ended before it was complete"}
        if stream.api == "lines" and stream.value and error_in(stream.value[-1]) is not None:
            return stream.value[-1]
    if content.kind == "json":
        value = content.value
        if isinstance(value, dict) and isinstance(choices := value.get("choices"), list) and choices:
            return _failed_choice(choices)
        if isinstance(value, dict) and value.get("object") == "response" and value.get("status") == "failed":
            return {"error": value.get("error")}
        return error_in(value)
    if content.kind == "text":
        start: str = content.value[:_LOOKED_AT]
        if TRACEBACK in start or start.strip().lower() in _PHRASES or _ERROR_TITLE.search(start) is not None:
            return content.value
    return None


def _failed_choice(choices: list[Any]) -> Any:
    """A choice that ended in an error, as gateways report an upstream's failure."""
    for choice in choices[:100]:
        if isinstance(choice, dict) and choice.get("finish_reason") == "error":
            return choice if choice.get("error") else {"error": "finish_reason is error"}
    return None
