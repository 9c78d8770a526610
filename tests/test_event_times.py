"""When the pieces of a streamed answer came: noted as they pass, recorded without content, and read back."""

import json
from typing import Any

import pytest

from shadowproxy.record import Events, Gaps, decode

EVENTS = {
    "first_ms": 20.113,
    "first_token_ms": 1801.2,
    "last_token_ms": 2204.75,
    "tokens": 33,
    "counted": "usage",
    "gaps_ms": {"p50": 12.402, "p99": 19.8, "max": 21.006},
}
READ = Events(20.113, 1801.2, 2204.75, 33, "usage", Gaps(12.402, 19.8, 21.006))


def line_with(**more: Any) -> bytes:
    """A record whose live leg has these members too."""
    leg = {"outcome": "ok", "status": 200, "headers": {}, "body_bytes": 0, "first_byte_ms": 1, "total_ms": 2}
    request = {"method": "POST", "path": "/", "query": "", "headers": {}, "body_bytes": 0}
    head = {"schema": 1, "id": "1", "record": "r", "at": "2026-01-31T12:00:00.123456Z", "proxy": "p/0"}
    return json.dumps({**head, "request": request, "live": {**leg, **more}, "shadows": {}, "control": None}).encode()


# --- read back


def test_the_times_of_a_stream_are_read_back() -> None:
    assert decode(line_with(events=EVENTS)).live.events == READ


def test_a_record_without_times_has_none() -> None:
    assert decode(line_with()).live.events is None


@pytest.mark.parametrize(
    ("events", "read"),
    [
        (None, None),
        ([1, 2], None),
        ("soon", None),
        ({}, Events()),
        ({"first_ms": 3, "more": {}}, Events(3.0)),
        ({**EVENTS, "first_ms": "20"}, READ._replace(first_ms=None)),
        ({**EVENTS, "first_token_ms": -1}, READ._replace(first_token_ms=None)),
        ({**EVENTS, "last_token_ms": True}, READ._replace(last_token_ms=None)),
        ({**EVENTS, "last_token_ms": 1e300}, READ._replace(last_token_ms=None)),
        ({**EVENTS, "tokens": 0}, READ._replace(tokens=None, counted=None)),
        ({**EVENTS, "tokens": 1.5}, READ._replace(tokens=None, counted=None)),
        ({**EVENTS, "counted": "guess"}, READ._replace(tokens=None, counted=None)),
        ({**EVENTS, "counted": ["usage"]}, READ._replace(tokens=None, counted=None)),
        ({**EVENTS, "gaps_ms": 12}, READ._replace(gaps=None)),
        ({**EVENTS, "gaps_ms": {"p50": 1, "max": 2}}, READ._replace(gaps=None)),
        ({**EVENTS, "gaps_ms": {"p50": 1, "p99": None, "max": 2}}, READ._replace(gaps=None)),
    ],
)
def test_a_record_with_odd_times_stays_readable(events: Any, read: Events | None) -> None:
    assert decode(line_with(events=events)).live.events == read
