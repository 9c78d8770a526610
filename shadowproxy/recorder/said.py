"""What a leg's answer says, read once for all who ask: the judge of each shadow, and the record itself."""

from typing import Final

from shadowproxy.answers import Content as Meaning
from shadowproxy.answers import content_of, failed_reason, reason_in
from shadowproxy.answers.body import of_json
from shadowproxy.budget import Budget
from shadowproxy.exchange import Failure, LiveLeg, Outcome, Reply, ShadowLeg, Skipped
from shadowproxy.record import Body, Headers, RecordedLeg
from shadowproxy.recorder.bodies import Content, Redacted, read_body
from shadowproxy.recorder.heads import fields_of_body
from shadowproxy.recorder.policy import Policy

_OK: Final = Outcome.OK


class Said:
    """One leg's answer.

    Attributes:
        content: its body. leg: its leg.
        meaning: what it says, once it was read.
        failed: how it says that it failed, once it was read; None if it does not.
        hidden: whether something in its body was redacted for the record. redacted: its body without that.
    """

    __slots__ = ("_answer", "content", "failed", "hidden", "leg", "meaning", "redacted")

    def __init__(self, leg: Reply | Failure, content: Content) -> None:
        self.leg = leg
        self.content = content
        self.failed: str | None = None
        self.hidden = False
        self.redacted: Redacted | None = None
        self._answer: RecordedLeg | None = None
        self.meaning: Meaning | None = None

    def repeat(self, other: "Said") -> None:
        """Take over what another answer says that is the same, byte for byte, and has the same status."""
        if status_of(self.leg) == status_of(other.leg):
            self.meaning = other.meaning
            self.failed = other.failed

    def read(self, budget: Budget) -> Meaning:
        """What it says. Raises Exhausted."""
        meaning = self.meaning
        if meaning is None:
            kind, value = self.content.answer(budget)
            if kind == "json":
                meaning = of_json(value)
                status = status_of(self.leg)
                self.failed = None if status is not None and status >= 400 else reason_in(meaning)
            else:
                answer = self.answer(budget)
                meaning = content_of(answer, budget)
                self.failed = failed_reason(answer, meaning)
            self.meaning = meaning
        return meaning

    def answer(self, budget: Budget) -> RecordedLeg:
        """The leg for the judge, with what it looks at: status, body, and what these header fields say of the body."""
        if self._answer is None:
            content = self.content
            kind, value = content.answer(budget) if content.whole else (content.kind, content.value)
            body = Body(kind, value, content.size, not content.whole, None, content.coding)
            self._answer = RecordedLeg(_OK, status_of(self.leg), _headers_of(content), body)
        return self._answer


def read_leg(leg: ShadowLeg, policy: Policy, budget: Budget, beside: Content | None = None) -> Content | None:
    """What a leg's answer has as its body; None if there was no answer. `beside` is as in `read_body`."""
    reply = leg if isinstance(leg, Reply) else leg.reply if isinstance(leg, Failure) else None
    if reply is None:
        return None
    head = policy.heads.read(reply.fields, policy.redaction)
    content = read_body(head, reply.body, reply.body_bytes, policy.body_limit, budget, beside)
    content.sha256 = reply.body_sha256
    return content


def said_by(leg: LiveLeg | ShadowLeg, policy: Policy, budget: Budget) -> Said | None:
    """The same, to be read."""
    if isinstance(leg, Skipped):
        return None
    content = read_leg(leg, policy, budget)
    return None if content is None else Said(leg, content)


def status_of(leg: Reply | Failure) -> int | None:
    if isinstance(leg, Reply):
        return leg.status
    return None if leg.reply is None else leg.reply.status


def _headers_of(content: Content) -> Headers:
    headers = fields_of_body(content.head)
    if not content.size and "content-length" in content.head.headers:
        return {**headers, "content-length": "0"}
    return headers
