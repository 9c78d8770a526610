"""An exchange of an application's own: its request as it can be sent to a shadow, and its answer as it is recorded."""

import re
from time import perf_counter
from typing import Final

from shadowproxy.exchange import Failure, Field, Fields, LiveLeg, Outcome, Reply, Request
from shadowproxy.intake_frames import Begin
from shadowproxy.serve.account import Memory
from shadowproxy.serve.http1.fields import end_to_end
from shadowproxy.serve.http1.framing import FIELD_LINE, MAX_FIELDS, MAX_TARGET
from shadowproxy.serve.live.end_marks import has_ended
from shadowproxy.serve.mirror.lane import MirrorPlan, UnsettledExchange
from shadowproxy.serve.policy.headers import find
from shadowproxy.serve.policy.identity import uuid7

_UNSAFE: Final = re.compile(rb"[^\x21-\x7e\x80-\xff]")
_LENGTH: Final = b"content-length"
_CODING: Final = b"transfer-encoding"
_FRAMED: Final = frozenset({_LENGTH, _CODING, b"expect"})


UNREAD: Final = "live did not read the whole request"
"""Why a request is unfit all of which was copied that the application has read."""


class IntakeExchange(UnsettledExchange):
    """Opened by a BEGIN, ended by an END. `begun` is the request as it is mirrored and recorded.

    `pickle` is the call for candidates, `owner` the connection that it came over.
    """

    __slots__ = ("begun", "owner", "pickle", "unfit", "unfit_why")

    def __init__(self, plan: MirrorPlan, memory: Memory, begin: Begin, id_header: bytes, owner: object) -> None:
        super().__init__(plan, memory)
        self.received_at = perf_counter() - begin.age_ms / 1000
        self.pickle = begin.pickle
        self.owner = owner
        self.only = None if begin.shadows is None else frozenset(begin.shadows)
        body = self.request_body
        body.add(begin.body)
        if begin.pickle:
            body.hold(len(begin.pickle))
        record = begin.record or uuid7(begin.at_ns)
        request_id = begin.id or record
        is_whole = len(begin.body) == begin.body_bytes
        self.unfit = begin.unfit
        self.unfit_why = UNREAD if begin.unfit is Outcome.OVERLOAD and is_whole else None
        if self.unfit is None and (not is_whole or body.over):
            self.unfit = Outcome.OVERSIZE
        if self.unfit is None and body.crowded:
            self.unfit = Outcome.OVERLOAD
        self.begun = Request(
            request_id,
            record,
            begin.at_ns,
            begin.method,
            sendable_target(begin.target),
            sendable_fields(begin.fields, begin.body_bytes, id_header, request_id.encode()),
            body.body,
            begin.body_bytes,
            begin.body_sha256,
        )

    @property
    def is_settled(self) -> bool:
        """Whether live and every chosen shadow have an outcome."""
        return self.live is not None and not self.awaited

    @property
    def is_mirrored_already(self) -> bool:
        """Whether another proxy has mirrored this request to here."""
        return any(name.lower() == b"x-shadow-request" for name, _ in self.begun.fields)

    def copied(self, live: LiveLeg) -> LiveLeg:
        """Live's leg with as much of its answer as there is memory for.

        A caller that left after the answer's own end (`end_marks`) has got the answer, as with the live path.
        """
        if isinstance(live, Failure) and live.outcome is Outcome.CALLER_LEFT and live.reply is not None:
            reached = live.reply
            if _has_ended(reached):
                live = reached._replace(caller_left=True)
        reply = live.reply if isinstance(live, Failure) else live
        if reply is None or not reply.body:
            return live
        self.answer_body.add(reply.body)
        kept: Reply = reply._replace(body=self.answer_body.body)
        return live._replace(reply=kept) if isinstance(live, Failure) else kept

    def cut_off(self, outcome: Outcome, error: str) -> Failure:
        """Live's leg, of which no more is heard."""
        return Failure(outcome, error, (perf_counter() - self.received_at) * 1000)


def _has_ended(reply: Reply) -> bool:
    """Whether live's answer has reached its own end, though its response has not."""
    fields = reply.fields
    if len(reply.body) != reply.body_bytes or find(fields, b"content-encoding") is not None:
        return False
    return has_ended(find(fields, b"content-type") or b"", reply.body)


def sendable_target(target: bytes) -> bytes:
    """The target with nothing in it that could end the request line, and with no more than a server takes."""
    if _UNSAFE.search(target) is not None:
        target = _UNSAFE.sub(_escaped, target)
    return target[:MAX_TARGET] or b"/"


def sendable_fields(fields: Fields, body_bytes: int, id_header: bytes, request_id: bytes) -> Fields:
    """The end-to-end fields that HTTP/1.1 can carry, with a length that is the body's, and with the request ID.

    An application's framework may have left out or altered what framed the body on the wire: a shadow that was sent two
    lengths, or none, would take a part of the body for the next request.
    """
    kept: list[Field] = []
    is_framed = is_named = False
    id_name = id_header.lower()
    for name, value in end_to_end(fields)[:MAX_FIELDS]:
        lower = name.lower()
        if lower in _FRAMED:
            if lower == _LENGTH and not is_framed and value == b"%d" % body_bytes:
                is_framed = True
                kept.append((name, value))
            continue
        if FIELD_LINE.fullmatch(b"%b:%b" % (name, value)) is None:
            continue
        is_named = is_named or lower == id_name
        kept.append((name, value))
    if body_bytes and not is_framed:
        kept.append((b"Content-Length", b"%d" % body_bytes))
    if not is_named:
        kept.append((id_header, request_id))
    return tuple(kept)


def _escaped(found: "re.Match[bytes]") -> bytes:
    return b"%%%02X" % found[0][0]
