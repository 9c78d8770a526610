"""A settled exchange without what nobody needs of its bodies: neither the judge, nor the record of one that is long."""

import hashlib
from typing import Final

from shadowproxy.exchange import Exchange, Failure, LiveLeg, Reply, Request, ShadowLeg, Skipped
from shadowproxy.serve.policy.logged import LogNeeds

HASHED_AT_ONCE: Final = 1 << 20
"""Bytes of a body that are hashed in one turn, which takes a millisecond. A longer one goes to the recorder whole if
its hash was not taken as it passed."""


def shortened(exchange: Exchange, needs: LogNeeds) -> Exchange:
    """The exchange with the beginnings of its long bodies, and their hashes, in place of those that nobody needs."""
    request, live, shadows, control, tunnel = exchange
    most = needs.beginning
    longest = max(len(request.body), _body_of(live))
    for leg in shadows.values():
        longest = max(longest, _body_of(leg))
    if control is not None:
        longest = max(longest, _body_of(control))
    if longest <= most or needs.searched:
        return exchange
    may_hide = needs.may_hide_in_answers(request.fields, request.target)
    compared = False
    legs: dict[str, ShadowLeg] = {}
    for name, leg in shadows.items():
        if needs.compared and _is_compared(live, leg):
            compared = True
            legs[name] = leg
        else:
            legs[name] = _short_leg(leg, needs, may_hide)
    if control is not None:
        if needs.compared and _is_compared(live, control):
            compared = True
        else:
            control = _short_leg(control, needs, may_hide)
    if not compared:
        live = _short_live(live, needs, may_hide)
    return Exchange(_short_request(request, needs), live, legs, control, tunnel)


def _is_compared(live: LiveLeg, leg: ShadowLeg) -> bool:
    """Whether the bodies of two answers are compared: both are whole, and say something under the same status."""
    return (
        isinstance(live, Reply)
        and isinstance(leg, Reply)
        and live.status == leg.status
        and len(live.body) == live.body_bytes
        and len(leg.body) == leg.body_bytes
    )


def _body_of(leg: ShadowLeg) -> int:
    """How many bytes of a body the leg has."""
    reply = _reply_of(leg)
    return 0 if reply is None else len(reply.body)


def _reply_of(leg: ShadowLeg) -> Reply | None:
    if isinstance(leg, Reply):
        return leg
    return leg.reply if isinstance(leg, Failure) else None


def _short_request(request: Request, needs: LogNeeds) -> Request:
    if len(request.body) <= needs.beginning or needs.needs_all(request.fields):
        return request
    whole = len(request.body) == request.body_bytes
    digest = request.body_sha256
    if digest is None and whole and needs.hashed:
        if len(request.body) > HASHED_AT_ONCE:
            return request
        digest = hashlib.sha256(request.body).hexdigest()
    return request._replace(body=request.body[: needs.beginning], body_sha256=digest)


def _short_reply(reply: Reply, needs: LogNeeds, may_hide: bool) -> Reply:
    if len(reply.body) <= needs.beginning or needs.needs_all(reply.fields):
        return reply
    digest = reply.body_sha256
    if len(reply.body) == reply.body_bytes:
        if may_hide:
            return reply
        if digest is None and needs.hashed:
            if len(reply.body) > HASHED_AT_ONCE:
                return reply
            digest = hashlib.sha256(reply.body).hexdigest()
    return reply._replace(body=reply.body[: needs.beginning], body_sha256=digest)


def _short_leg(leg: ShadowLeg, needs: LogNeeds, may_hide: bool) -> ShadowLeg:
    return leg if isinstance(leg, Skipped) else _short_live(leg, needs, may_hide)


def _short_live(leg: LiveLeg, needs: LogNeeds, may_hide: bool) -> LiveLeg:
    if isinstance(leg, Reply):
        return _short_reply(leg, needs, may_hide)
    return leg if leg.reply is None else leg._replace(reply=_short_reply(leg.reply, needs, may_hide))
