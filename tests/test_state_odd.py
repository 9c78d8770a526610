"""`state: auto` with odd APIs: a value that a caller chose itself stays, unless live gave it out as an ID."""

from collections.abc import Mapping
from typing import NamedTuple

import pytest

from shadowproxy.exchange import Field, Reply, Request
from shadowproxy.serve.state.pairs import Pairs
from shadowproxy.serve.state.settings import Places, StateSettings
from shadowproxy.serve.state.translating import find, translate
from shadowproxy.serve.state.watching import Watch

JSON = (b"Content-Type", b"application/json")
ONE, OTHER = b"0f8fad5b-d9cb-469f-a165-70867728950e", b"7c9e6679-7425-40de-944b-e07fc1f90ae7"


def request_of(method: str, target: bytes, *fields: Field, body: bytes = b"") -> Request:
    return Request("id", "r", 0, method, target, (JSON, *fields) if body else fields, body, len(body))


def reply_of(body: bytes = b"", *fields: Field, status: int = 200) -> Reply:
    return Reply(status, (JSON, *fields) if body else fields, body, len(body), 0.0, 0.0)


class Shadow:
    """One shadow, and what it is sent after live and it have answered requests."""

    def __init__(self, settings: StateSettings | None = None) -> None:
        settings = settings or StateSettings()
        self.places = Places(settings)
        self.pairs = Pairs(settings.pairs, settings.age, lambda: 0.0, sessions=self.places.sessions)

    def answers(self, request: Request, live: Reply, own: Reply | None) -> None:
        """Live and the shadow answer; None: the shadow does not."""
        watch = Watch(self.places, self.pairs, request.record, request.method, request.target)
        watch.live_head(request, live.status, live.fields)
        watch.live_end(request, live)
        if own is not None:
            watch.own_head(own.status, own.fields)
        watch.own_end(own)

    def sent(self, request: Request) -> Request | None:
        """The request as it is sent; None if it is not."""
        found = find(self.places, self.pairs, request)
        assert not found.pending
        if found.unknown is not None:
            return None
        made = translate(request, found, credentials=False)
        kept = request.fields if made.fields is None else tuple(made.fields)
        body = request.body if made.body is None else made.body
        return request._replace(target=made.target, fields=(*kept, *made.own), body=body, body_bytes=len(body))


class Case(NamedTuple):
    """What live and the shadow answer to `request`, and a later request with what the shadow is sent of it."""

    request: Request
    live: Reply
    own: Reply | None
    later: Request
    sent: bytes | None
    """The target, the values of its fields and its body, as lines; None: nothing is sent."""


def lines(request: Request | None) -> bytes | None:
    if request is None:
        return None
    values = [value for name, value in request.fields if name.lower() not in (b"content-type", b"content-length")]
    return b"\n".join([request.target, *values, *([request.body] if request.body else [])])


MAKE = request_of("POST", b"/items", body=b'{"name":"x"}')
CASES: Mapping[str, Case] = {
    "a UUID that the caller chose is no ID of live's": Case(
        request_of("PUT", b"/items/" + ONE, body=b"{}"),
        reply_of(b'{"id":"%b"}' % ONE),
        reply_of(b'{"id":"%b"}' % OTHER),
        request_of("GET", b"/items/" + ONE),
        b"/items/" + ONE,
    ),
    "nor one that it chose and the shadow failed to take": Case(
        request_of("POST", b"/items", body=b'{"id":"%b"}' % ONE),
        reply_of(b'{"id":"%b"}' % ONE),
        None,
        request_of("GET", b"/items/" + ONE),
        b"/items/" + ONE,
    ),
    "an idempotency key that live takes for the ID": Case(
        request_of("POST", b"/items", (b"Idempotency-Key", ONE), body=b"{}"),
        reply_of(b'{"id":"%b"}' % ONE),
        reply_of(b'{"id":"%b"}' % OTHER),
        request_of("POST", b"/items", (b"Idempotency-Key", ONE), body=b"{}"),
        b"/items\n" + ONE + b"\n{}",
    ),
    "a user that the caller names in each request, after the shadow failed": Case(
        request_of("POST", b"/chat", body=b'{"user_id":"customer-4711"}'),
        reply_of(b'{"user_id":"customer-4711"}'),
        reply_of(status=500),
        request_of("POST", b"/chat", body=b'{"user_id":"customer-4711"}'),
        b'/chat\n{"user_id":"customer-4711"}',
    ),
    "the same, written with an escape": Case(
        request_of("POST", b"/chat", body=rb'{"user_id":"customer\u002d4711"}'),
        reply_of(b'{"user_id":"customer-4711"}'),
        reply_of(b'{"user_id":"customer-9999"}'),
        request_of("POST", b"/chat", body=b'{"user_id":"customer-4711"}'),
        b'/chat\n{"user_id":"customer-4711"}',
    ),
    "the same, percent-encoded": Case(
        request_of("POST", b"/chat/user%3A4711"),
        reply_of(b'{"user_id":"user:4711"}'),
        reply_of(b'{"user_id":"user:9999"}'),
        request_of("POST", b"/chat/user%3A4711"),
        b"/chat/user%3A4711",
    ),
    "words under the name of an ID": Case(
        MAKE,
        reply_of(b'{"state_id":"complete"}'),
        reply_of(b'{"state_id":"finished"}'),
        request_of("POST", b"/x", body=b'{"state":"complete"}'),
        b'/x\n{"state":"complete"}',
    ),
    "words in Location": Case(
        MAKE,
        reply_of(b"", (b"Location", b"/production/items/%b" % ONE), status=201),
        reply_of(b"", (b"Location", b"/candidate/items/%b" % OTHER), status=201),
        request_of("POST", b"/production/items/" + ONE, body=b'{"for":"production"}'),
        b"/production/items/" + OTHER + b'\n{"for":"production"}',
    ),
    "words in a cookie": Case(
        MAKE,
        reply_of(b"", (b"Set-Cookie", b"consent=accepted; Path=/")),
        reply_of(b"", (b"Set-Cookie", b"consent=rejected; Path=/")),
        request_of("POST", b"/x", body=b'{"terms":"accepted"}'),
        b'/x\n{"terms":"accepted"}',
    ),
    "a nested ID": Case(
        MAKE,
        reply_of(b'{"data":{"item":{"meta":{"uuid":"%b"}}}}' % ONE),
        reply_of(b'{"data":{"item":{"meta":{"uuid":"%b"}}}}' % OTHER),
        request_of("POST", b"/x?of=" + ONE, body=b'{"a":[{"b":"%b"}],"%b":1}' % (ONE, ONE)),
        b"/x?of=" + OTHER + b'\n{"a":[{"b":"%b"}],"%b":1}' % (OTHER, OTHER),
    ),
    "a UUID in other letters": Case(
        MAKE,
        reply_of(b'{"id":"%b"}' % ONE),
        reply_of(b'{"id":"%b"}' % OTHER),
        request_of("GET", b"/items/" + ONE.upper()),
        b"/items/" + OTHER,
    ),
    "a UUID that live writes in capitals": Case(
        MAKE,
        reply_of(b'{"id":"%b"}' % ONE.upper()),
        reply_of(b'{"id":"%b"}' % OTHER),
        request_of("GET", b"/items/" + ONE),
        b"/items/" + OTHER,
    ),
    "a percent-encoded ID": Case(
        MAKE,
        reply_of(b'{"id":"a1/b2+c3=="}'),
        reply_of(b'{"id":"d4/e5+f6=="}'),
        request_of("GET", b"/items/a1%2Fb2%2Bc3%3d%3D?id=a1%2fb2%2Bc3%3D%3D"),
        b"/items/d4%2Fe5+f6==?id=d4%2Fe5%2Bf6%3D%3D",
    ),
    "the IDs of a batch, in answers of one shape": Case(
        request_of("POST", b"/batch", body=b"[{},{}]"),
        reply_of(b'{"created":[{"id":"%b","n":1},{"id":"live-id-2","n":2}]}' % ONE, status=201),
        reply_of(b'{"created":[{"id":"%b","n":1},{"id":"own-id-22","n":2}]}' % OTHER, status=201),
        request_of("POST", b"/x", body=b'["live-id-2","%b"]' % ONE),
        b'/x\n["own-id-22","%b"]' % OTHER,
    ),
    "the IDs of a batch, in another order": Case(
        request_of("POST", b"/batch", body=b"[{},{}]"),
        reply_of(b'{"created":[{"id":"%b","n":1},{"id":"live-id-2","n":2}]}' % ONE, status=201),
        reply_of(b'{"created":[{"id":"own-id-22","n":2},{"id":"%b","n":1}]}' % OTHER, status=201),
        request_of("GET", b"/items/" + ONE),
        None,
    ),
    "the IDs of found things, which both have, are no pairs": Case(
        request_of("POST", b"/search", body=b"{}"),
        reply_of(b'{"found":[{"id":"%b"},{"id":"doc-id-2"}]}' % ONE),
        reply_of(b'{"found":[{"id":"doc-id-2"},{"id":"%b"}]}' % OTHER),
        request_of("GET", b"/items/" + ONE),
        b"/items/" + ONE,
    ),
    "IDs in a list of their own": Case(
        request_of("POST", b"/batch", body=b"[{},{}]"),
        reply_of(b'{"ids":["%b","live-id-2"]}' % ONE, status=201),
        reply_of(b'{"ids":["%b","own-id-22"]}' % OTHER, status=201),
        request_of("GET", b"/items/live-id-2"),
        b"/items/own-id-22",
    ),
    "an ETag stays as it is": Case(
        request_of("GET", b"/items"),
        reply_of(b"[]", (b"ETag", b'"live-etag-1"')),
        reply_of(b"[]", (b"ETag", b'"own-etag-11"')),
        request_of("GET", b"/items", (b"If-None-Match", b'"live-etag-1"')),
        b'/items\n"live-etag-1"',
    ),
    "the cursor of a page": Case(
        request_of("GET", b"/items"),
        reply_of(b'{"items":[],"next_cursor":"bGl2ZTox"}'),
        reply_of(b'{"items":[],"next_cursor":"b3duOjEx"}'),
        request_of("GET", b"/items?cursor=bGl2ZTox"),
        b"/items?cursor=b3duOjEx",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_later_request_is_sent_as(case: str) -> None:
    request, live, own, later, sent = CASES[case]
    shadow = Shadow()
    shadow.answers(request, live, own)
    assert lines(shadow.sent(later)) == sent


def test_two_shadows_each_get_their_own_of_one_id() -> None:
    one, other = Shadow(), Shadow()
    live = reply_of(b'{"id":"%b"}' % ONE)
    one.answers(MAKE, live, reply_of(b'{"id":"first-own-1"}'))
    other.answers(MAKE, live, reply_of(b'{"id":"other-own-2"}'))
    later = request_of("GET", b"/items/" + ONE)
    assert lines(one.sent(later)) == b"/items/first-own-1"
    assert lines(other.sent(later)) == b"/items/other-own-2"


def test_the_name_of_a_model_that_each_answer_gives_is_soon_left_alone() -> None:
    shadow = Shadow()
    for _ in range(5):
        shadow.answers(MAKE, reply_of(b'{"model_id":"model-v1-live"}'), reply_of(b'{"model_id":"model-v2-new"}'))
    later = request_of("POST", b"/chat", body=b'{"model":"model-v1-live"}')
    assert lines(shadow.sent(later)) == b'/chat\n{"model":"model-v1-live"}'


def test_an_etag_is_translated_where_it_is_named() -> None:
    shadow = Shadow(StateSettings(learn=("header:ETag",), into=("header:If-Match", "header:If-None-Match")))
    case = CASES["an ETag stays as it is"]
    shadow.answers(case.request, case.live, case.own)
    assert lines(shadow.sent(case.later)) == b'/items\n"own-etag-11"'
    unknown = request_of("GET", b"/items", (b"If-None-Match", b'"someone-elses"'))
    assert lines(shadow.sent(unknown)) == b'/items\n"someone-elses"'
