"""Why a leg failed, as one line by which equal failures are counted together."""

from http import HTTPStatus

from shadowproxy.answers.body import Content, content_of
from shadowproxy.answers.failed import failed_reason, failure_of
from shadowproxy.answers.failure_text import message_in, message_of_text
from shadowproxy.answers.masking import LONGEST, masked
from shadowproxy.exchange import Outcome
from shadowproxy.record import RecordedLeg


def reason_of(answer: RecordedLeg, content: Content | None = None) -> str:
    """Why a leg failed: its outcome and error, or its status and what its body says.

    `content` is the leg's content if the caller has it already.
    """
    if answer.outcome is not Outcome.OK:
        why = masked(answer.error or "")
        return _joined(str(answer.outcome), "" if why == answer.outcome else why)
    content = content_of(answer) if content is None else content
    why = failed_reason(answer, content) or masked(_message(answer, content)) or _without_message(answer)
    return _joined(_status(answer.status), why)


def _status(status: int | None) -> str:
    return "no status" if status is None else str(status)


def _message(answer: RecordedLeg, content: Content) -> str:
    if content.kind == "json":
        failure = failure_of(content)
        return message_in(content.value if failure is None else failure)
    if content.kind == "text":
        return message_of_text(content.value)
    body = answer.body
    if body is not None and body.kind == "text" and body.value:  # its beginning is in the log
        return message_of_text(body.value)
    return "its body is not in the log" if content.kind == "unknown" else ""


def _without_message(answer: RecordedLeg) -> str:
    try:
        phrase = HTTPStatus(answer.status or 0).phrase
    except ValueError:
        phrase = ""
    return f"{phrase}, no reason given" if phrase else "no reason given"


def _joined(first: str, why: str) -> str:
    line = f"{first}: {why}" if why else first
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"
