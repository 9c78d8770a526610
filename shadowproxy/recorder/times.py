"""The times of a leg as a record has them."""

from collections.abc import Callable
from typing import Any, Final

import orjson

from shadowproxy.answers.event_times import times_in
from shadowproxy.arrivals import marks_in
from shadowproxy.budget import Budget, Exhausted
from shadowproxy.exchange import Failure, Reply
from shadowproxy.record import Events
from shadowproxy.recorder.bodies import Content
from shadowproxy.recorder.heads import fields_of_body

_THOUSANDTHS: Final = tuple([b".%b" % (b"%03d" % each).rstrip(b"0") if each else b".0" for each in range(1000)])
_MOST_COUNTED: Final = 1e9

_dumps: Final[Callable[[Any], bytes]] = orjson.dumps  # compiled code looks an attribute of a module up each time


def milliseconds(value: float) -> bytes:
    """A time with three decimals at most, as orjson writes it. To round the number and have it written takes thrice as
    long."""
    if 0.0 <= value < _MOST_COUNTED:
        micros = int(value * 1000 + 0.5)
        return b"%d%b" % (micros // 1000, _THOUSANDTHS[micros % 1000])
    return _dumps(round(value, 3))


def events_json(leg: Reply | Failure, content: Content, budget: Budget) -> bytes:
    """The member with the times of a streamed answer's events; empty if they are not known, or cost too much."""
    reply = leg.reply if isinstance(leg, Failure) else leg
    if reply is None or not reply.arrivals or content.coding is not None:
        return b""
    if content.head.codings and content.decoded != content.wire:
        return b""
    marks = marks_in(reply.arrivals)
    if marks is None:
        return b""
    held = budget.held
    try:
        events = times_in(content.wire, fields_of_body(content.head), marks, budget, whole=content.whole)
    except Exhausted:
        return b""
    finally:
        budget.held = held
    return b"" if events is None else b',"events":{%b}' % b",".join(_members(events))


def _members(events: Events) -> list[bytes]:
    members: list[bytes] = []
    first, first_token, last_token, tokens, counted, gaps = events
    for name, value in ((b"first_ms", first), (b"first_token_ms", first_token), (b"last_token_ms", last_token)):
        if value is not None:
            members.append(b'"%b":%b' % (name, milliseconds(value)))
    if tokens is not None and counted is not None:
        members.append(b'"tokens":%d,"counted":"%b"' % (tokens, counted.encode()))
    if gaps is not None:
        p50, p99, most = gaps
        times = milliseconds(p50), milliseconds(p99), milliseconds(most)
        members.append(b'"gaps_ms":{"p50":%b,"p99":%b,"max":%b}' % times)
    return members
