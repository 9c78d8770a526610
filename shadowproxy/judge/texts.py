"""A request and its answers as texts that a judge can read."""

import json
from collections.abc import Iterator
from typing import Any, Final

from shadowproxy.answers import Content, content_of
from shadowproxy.answers.body import value_in
from shadowproxy.answers.leaves import without_leaves
from shadowproxy.answers.pieces import objects
from shadowproxy.answers.value import value_of
from shadowproxy.record import Body, Record, RecordedLeg

LONGEST: Final = 12_000
"""Characters of one text: about 3,000 tokens."""

EMPTY: Final = "(an empty answer)"


def request_text(record: Record) -> str:
    """The request: its method and path, and the messages of a chat or else its body."""
    request = record.request
    query = f"?{request.query}" if request.query else ""
    return shortened(f"{request.method} {request.path}{query}\n\n{_body_text(request.body, record)}".strip())


def _body_text(body: Body, record: Record) -> str:
    value = without_leaves(value_in(body, record.request.headers))
    if isinstance(value, dict) and isinstance(messages := value.get("messages"), list):
        rest = {name: value[name] for name in ("system", "tools", "response_format") if name in value}
        return "\n".join([*([_json(rest)] if rest else []), *map(_message, messages)])
    if value is not None:
        return value if isinstance(value, str) else _json(value)
    if body.kind == "text" and not body.truncated:
        return str(body.value)
    return "" if body.size == 0 else f"(a body of {body.size:,} bytes that cannot be shown)"


def _message(message: Any) -> str:
    """A message of a chat; one with more than a role and a text as JSON."""
    if isinstance(message, dict) and message.keys() == {"role", "content"} and isinstance(message["content"], str):
        return f"{message['role']}: {message['content']}"
    return _json(message)


def answer_text(answer: RecordedLeg, content: Content | None = None) -> str | None:
    """What an answer says: a model's text and calls, or else its JSON; None if it is no text, or not whole in the log.

    A stream is the answer that it was put together to. `content` is the answer's, if it has been read.
    """
    content = content or content_of(answer)
    if content.kind in ("unknown", "bytes"):
        return None
    if content.kind == "empty":
        return EMPTY
    value = value_of(answer, content)
    answers = list(_model_answers(value))
    if not answers:
        return shortened(value if isinstance(value, str) else _json(value))
    if len(answers) == 1:
        return shortened(answers[0] or EMPTY)
    return shortened("\n\n".join(f"{at}. {text or EMPTY}" for at, text in enumerate(answers, 1)))


def _model_answers(value: Any) -> Iterator[str | None]:
    """The answers of a language model in its envelope (see `answers.value`)."""
    if not isinstance(value, dict):
        return
    for one in (value, *objects(value.get("choices")), *objects(value.get("candidates"))):
        if "answer" in one and isinstance(one["answer"], str | None):
            yield one["answer"]


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return "(JSON, nested too deeply to show)"


def shortened(text: str, longest: int = LONGEST) -> str:
    """A text that can be sent, with its middle left out if it is too long, and a note in its place."""
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out here …]\n{text[-half:]}"
    return text.encode(errors="replace").decode()  # half of a surrogate pair is no UTF-8
