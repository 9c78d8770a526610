"""Why a leg failed, as one line by which equal failures are counted together."""

from http import HTTPStatus

from shadowproxy.compare.judge.answers.body import Content, content
from shadowproxy.compare.judge.answers.failed import failure_of
from shadowproxy.compare.judge.answers.masking import LONGEST, masked
from shadowproxy.compare.judge.answers.message import message_in, message_of_text
from shadowproxy.exchange import Outcome
from shadowproxy.record import RecordedLeg


def reason_of(answer: RecordedLeg, said: Content | None = None) -> str:
    """Why a leg failed: its outcome and error, or its status and what its body says. `said` is its content, where that
    is known already."""
    if answer.outcome is not Outcome.OK:
        why = masked(answer.error or "")
        return _joined(str(answer.outcome), "" if why == answer.outcome else why)
    said = content(answer) if said is None else said
    return _joined(_status(answer.status), masked(_message(answer, said)) or _unsaid(answer))


def _status(status: int | None) -> str:
    return "no status" if status is None else str(status)


def _message(answer: RecordedLeg, said: Content) -> str:
    if said.kind == "json":
        failure = failure_of(said)
        return message_in(said.value if failure is None else failure)
    if said.kind == "text":
        return message_of_text(said.value)
    body = answer.body
    if body is not None and body.kind == "text" and body.value:  # its beginning is in the log
        return message_of_text(body.value)
    return "its body is not in the log" if said.kind == "unknown" else ""


def _unsaid(answer: RecordedLeg) -> str:
    try:
        phrase = HTTPStatus(answer.status or 0).phrase
    except ValueError:
        phrase = ""
    return f"{phrase}, no reason given" if phrase else "no reason given"


def _joined(first: str, why: str) -> str:
    line = f"{first}: {why}" if why else first
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"
