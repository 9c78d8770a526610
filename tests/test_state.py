"""Stateful APIs: what is learnt from two answers to one request, and the requests that carry it afterwards."""

from collections.abc import Mapping
from itertools import count
from urllib.parse import quote
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.exchange import Failure, Field, Outcome, Reply, Request, Translated
from shadowproxy.serve.state.learning import EventReader, body_values, head_values
from shadowproxy.serve.state.pairs import Pairs, Standing
from shadowproxy.serve.state.settings import Places, StateSettings
from shadowproxy.serve.state.shadow_state import ShadowState
from shadowproxy.serve.state.translating import (
    Translation,
    cookies_in,
    find,
    pointers_to,
    target_without_credentials,
    translate,
)
from shadowproxy.serve.state.watching import Watch
from shadowproxy.stateful import read_into, read_learn

LIVE, OWN = b"3f2b8c1e-live-0001", b"77aa0c1d-own-9999"
JSON = (b"Content-Type", b"application/json")
AUTO = StateSettings()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def request_of(
    target: bytes = b"/items", *fields: Field, body: bytes = b"", method: str = "POST", record: str = "r1"
) -> Request:
    return Request("id", record, 0, method, target, fields, body, len(body))


def reply_of(body: bytes = b"", *fields: Field, status: int = 200) -> Reply:
    return Reply(status, fields, body, len(body), 0.0, 0.0)


def learn(
    places: Places, pairs: Pairs, request: Request, live: Reply, own: Reply | Failure | None, *, own_first: bool = False
) -> Watch:
    watch = Watch(places, pairs, request.record, request.method, request.target)

    def shadow() -> None:
        if isinstance(own, Reply):
            watch.own_head(own.status, own.fields)
            watch.own_piece(own.body)
        watch.own_end(own)

    if own_first:
        shadow()
    watch.live_head(request, live.status, live.fields)
    watch.live_piece(live.body)
    watch.live_end(request, live)
    shadow()
    return watch


def pairs_for(settings: StateSettings = AUTO, clock: Clock | None = None) -> tuple[Places, Pairs]:
    return Places(settings), ShadowState(settings, clock or Clock()).pairs


def known(places: Places | None = None, **more: bytes) -> tuple[Places, Pairs]:
    """A map that has OWN for LIVE."""
    made, pairs = pairs_for()
    for live, own in {LIVE: OWN, **{key.encode(): value for key, value in more.items()}}.items():
        entry = pairs.issue(live, b"", "r0", "json:/id")
        assert entry is not None
        pairs.settle(entry, Standing.KNOWN, own)
    return places or made, pairs


def sent(places: Places, pairs: Pairs, request: Request, *, credentials: bool = False) -> Translation:
    found = find(places, pairs, request)
    assert found.unknown is None
    return translate(request, found, credentials=credentials)


ANSWERS: Mapping[str, tuple[Request, Reply, Reply]] = {
    "a member named id": (
        request_of(),
        reply_of(b'{"id":"%b","n":1}' % LIVE, JSON),
        reply_of(b'{"n":2,"id":"%b"}' % OWN, JSON),
    ),
    "one within an object": (
        request_of(),
        reply_of(b'{"a":{"order_id":"%b"}}' % LIVE, JSON),
        reply_of(b'{"a":{"order_id":"%b"}}' % OWN, JSON),
    ),
    "a session's field": (
        request_of(b"/mcp"),
        reply_of(b"{}", (b"Mcp-Session-Id", LIVE)),
        reply_of(b"{}", (b"mcp-session-id", OWN)),
    ),
    "a cookie": (
        request_of(method="GET"),
        reply_of(b"", (b"Set-Cookie", b"sessionid=%b; Path=/; HttpOnly" % LIVE)),
        reply_of(b"", (b"set-cookie", b"sessionid=%b; HttpOnly" % OWN)),
    ),
    "Location": (
        request_of(),
        reply_of(b"", (b"Location", b"http://a/items/%b?x=1" % LIVE), status=201),
        reply_of(b"", (b"Location", b"http://b/items/%b?x=1" % OWN), status=201),
    ),
    "a parameter of Location": (
        request_of(),
        reply_of(b"", (b"Location", b"/done?ticket=%b" % LIVE), status=303),
        reply_of(b"", (b"Location", b"/done?ticket=%b" % OWN), status=303),
    ),
    "an event's data": (
        request_of(),
        reply_of(b'data: {"response":{"id":"%b"}}\n\ndata: [DONE]\n\n' % LIVE, (b"Content-Type", b"text/event-stream")),
        reply_of(b'event: x\r\ndata: {"response":{"id":"%b"}}\r\n\r\n' % OWN, (b"Content-Type", b"text/event-stream")),
    ),
    "an event in place of JSON": (
        request_of(),
        reply_of(b'event: message\ndata: {"id":"%b"}\n\n' % LIVE, (b"Content-Type", b"text/event-stream")),
        reply_of(b'{"id":"%b"}' % OWN, JSON),
    ),
    "the path of an older event stream of MCP": (
        request_of(b"/sse", method="GET"),
        reply_of(
            b"event: endpoint\ndata: /messages/?session_id=%b\n\n" % LIVE, (b"Content-Type", b"text/event-stream")
        ),
        reply_of(b"event: endpoint\ndata: /messages/?session_id=%b\n\n" % OWN, (b"Content-Type", b"text/event-stream")),
    ),
    "a model's call of a tool": (
        request_of(),
        reply_of(b'{"output":[{"call_id":"%b"}]}' % LIVE, JSON),
        reply_of(b'{"output":[{"call_id":"%b"}]}' % OWN, JSON),
    ),
}


@pytest.mark.parametrize("own_first", [False, True])
@pytest.mark.parametrize("case", ANSWERS)
def test_auto_learns_where_values_are_new_for_each_call(case: str, own_first: bool) -> None:
    places, pairs = pairs_for()
    watch = learn(places, pairs, *ANSWERS[case], own_first=own_first)
    entry = pairs.find(LIVE)
    assert entry is not None
    assert (entry.standing, entry.own) == (Standing.KNOWN, OWN)
    assert pairs.pending == 0
    assert [(each.live, each.shadow) for each in watch.learnt] == [(LIVE.decode(), OWN.decode())]


@pytest.mark.parametrize(
    ("request_", "live", "own"),
    [
        (request_of(method="GET"), b'{"id":"%b"}' % LIVE, b'{"id":"%b"}' % OWN),
        (request_of(), b'[{"id":"%b"}]' % LIVE, b'[{"id":"%b"}]' % OWN),
        (request_of(), b'{"hits":[{"id":"%b"}]}' % LIVE, b'{"hits":[{"id":"%b"}]}' % OWN),
        (request_of(), b'{"name":"%b"}' % LIVE, b'{"name":"%b"}' % OWN),
        (request_of(), b'{"valid":"%b"}' % LIVE, b'{"valid":"%b"}' % OWN),
        (request_of(), b'{"id":1234567890}', b'{"id":987654321}'),
        (request_of(), b'{"id":"a1b2"}', b'{"id":"c3d4"}'),
        (request_of(), b'{"next_token":"wonderful"}', b'{"next_token":"excellent"}'),
        (request_of(body=b'{"id":"%b"}' % LIVE), b'{"id":"%b"}' % LIVE, b'{"id":"%b"}' % OWN),
        (request_of(b"/items/" + LIVE), b'{"id":"%b"}' % LIVE, b'{"id":"%b"}' % OWN),
        (request_of(), b'{"id":"two words 1"}', b'{"id":"two words 2"}'),
        (request_of(), b'{"id":', b'{"id":'),
    ],
)
def test_auto_learns_nothing_else(request_: Request, live: bytes, own: bytes) -> None:
    places, pairs = pairs_for()
    learn(places, pairs, request_, reply_of(live, JSON), reply_of(own, JSON))
    assert len(pairs) == 0


def test_what_both_answer_alike_is_no_pair() -> None:
    for own_first in (False, True):
        places, pairs = pairs_for()
        answer = reply_of(b'{"id":"%b"}' % LIVE, JSON)
        learn(places, pairs, request_of(), answer, answer, own_first=own_first)
        assert pairs.find(LIVE) is None


def test_predictions_under_the_name_of_an_id_are_soon_no_ids() -> None:
    places, pairs = pairs_for()
    for number in range(60):
        item, other = b"sku-%08d" % (number % 20), b"sku-%08d" % (number * 7 % 20)
        request = request_of(b"/recommend", body=b'{"n":%d}' % number)
        learn(places, pairs, request, reply_of(b'{"item_id":"%b"}' % item), reply_of(b'{"item_id":"%b"}' % other))
    assert len(pairs) == 0
    for number in range(20):
        assert pairs.find(b"sku-%08d" % number) is None


@pytest.mark.parametrize("own_first", [False, True])
def test_predictions_out_of_many_are_soon_no_ids(*, own_first: bool) -> None:
    """Where both answers have the same value now and then, nobody made it up: the others are wrong answers."""
    places, pairs = pairs_for()
    pairs_taken = 0
    for number in range(200):
        item, other = b"sku-%08d" % number, b"sku-%08d" % (number if number % 9 == 0 else number + 5_000)
        live, own = (reply_of(b'{"product_id":"%b"}' % each) for each in (item, other))
        watch = learn(places, pairs, request_of(b"/recommend"), live, own, own_first=own_first)
        pairs_taken += bool(watch.learnt)
    assert len(pairs) == 0
    assert pairs_taken < 30


def test_the_elements_of_a_list_are_one_place() -> None:
    places, pairs = pairs_for()
    for number in range(9):
        live = b'{"item_ids":["sku-%08d","sku-%08d"]}' % (number, number + 100)
        own = b'{"item_ids":["sku-%08d","sku-%08d"]}' % (number, number + 200)
        learn(places, pairs, request_of(b"/recommend"), *(reply_of(each, JSON, status=201) for each in (live, own)))
    assert len(pairs) == 0


@pytest.mark.parametrize("classes", [1, 3])
def test_what_the_shadow_gives_to_everybody_is_no_id(classes: int) -> None:
    places, pairs = pairs_for()
    taken = 0
    for number in range(300):
        live, own = (
            reply_of(b'{"id":"%b-0001"}' % each) for each in (b"live%04d" % number, b"own%d" % (number % classes))
        )
        taken += bool(learn(places, pairs, request_of(), live, own).learnt)
    assert len(pairs) == 0
    assert taken <= 6 * classes + 2


def test_a_shadow_that_counts_from_one_again_keeps_its_ids() -> None:
    places, pairs = pairs_for()
    for number in range(100):
        live, own = reply_of(b'{"id":"live-%04d"}' % number), reply_of(b'{"id":"item-%04d"}' % (number % 30))
        learn(places, pairs, request_of(), live, own)
    assert len(pairs) == 100


def test_a_place_that_repeats_an_id_now_and_then_stays_one() -> None:
    """A caller that is not sure sends its request again, with a key by which live knows it."""
    places, pairs = pairs_for()
    for number in range(100):
        live, own = b"live-%08d" % (number - number % 25 // 24), b"own-%08d" % (number - number % 25 // 24)
        learn(places, pairs, request_of(), reply_of(b'{"id":"%b"}' % live), reply_of(b'{"id":"%b"}' % own))
    assert len(pairs) == 96


@pytest.mark.parametrize(
    ("own", "standing"),
    [
        (reply_of(b'{"id":"%b"}' % OWN, status=500), Standing.LOST),
        (Failure(Outcome.TIMEOUT, "late", 1.0), Standing.LOST),
        (None, Standing.LOST),
        (reply_of(b"{}", JSON), Standing.ABSENT),
    ],
)
def test_without_an_answer_of_the_shadow_an_id_is_known_as_lives(
    own: Reply | Failure | None, standing: Standing
) -> None:
    places, pairs = pairs_for()
    learn(places, pairs, request_of(), reply_of(b'{"id":"%b"}' % LIVE, JSON), own)
    entry = pairs.find(LIVE)
    assert entry is not None
    assert entry.standing is standing
    assert find(places, pairs, request_of(b"/items/" + LIVE, method="GET")).unknown == "path"


def test_an_id_is_lives_as_soon_as_its_head_has_come() -> None:
    places, pairs = pairs_for()
    request = request_of(b"/mcp")
    watch = Watch(places, pairs, "r1", "POST", b"/mcp")
    watch.live_head(request, 200, ((b"Mcp-Session-Id", LIVE),))
    found = find(places, pairs, request_of(b"/mcp", (b"Mcp-Session-Id", LIVE)))
    assert [entry.live for entry in found.pending] == [LIVE]
    called: list[int] = []
    found.pending[0].when_settled(lambda: called.append(1))
    watch.own_head(200, ((b"mcp-session-id", OWN),))
    assert called == [1]
    assert found.pending == []
    assert found.unknown is None


def test_a_stream_is_read_as_it_comes() -> None:
    for cut in range(1, 60):
        body = b'event: x\r\ndata: {"response_id":"%b"}\r\n\r\n: later\r\n' % LIVE
        reader = EventReader(Places(AUTO), "POST", b"/")
        values = {}
        for at in range(0, len(body), cut):
            values.update(reader.feed(body[at : at + cut]))
        assert [each.value for each in values.values()] == [LIVE]
    long = EventReader(Places(AUTO), "POST", b"/")
    for _ in range(100):
        long.feed(b"data: x\n\n" * 1000)
    assert long.done
    assert long.feed(b'data: {"id":"%b"}\n\n' % LIVE) == {}


def test_named_places_alone_are_learnt() -> None:
    settings = StateSettings(learn=("/result/key", "/rows/*/id", "header:X-Ticket", "set-cookie:sid"))
    places, _ = pairs_for(settings)
    fields = (
        (b"x-ticket", b"t1"),
        (b"Location", b"/a/" + LIVE),
        (b"Set-Cookie", b"sid=a"),
        (b"Set-Cookie", b"o=" + LIVE),
    )
    assert {place: each.value for place, each in head_values(places, "GET", fields)[0].items()} == {
        "header:x-ticket": b"t1",
        "set-cookie:sid": b"a",
    }
    body = orjson.dumps({"id": "nothing", "result": {"key": 7}, "rows": [{"id": "a"}, {"id": True}, {"id": "é"}]})
    assert {place: each.value for place, each in body_values(places, "GET", b"/x", (), body).items()} == {
        "json:/result/key": b"7",
        "json:/rows/0/id": b"a",
    }


PLACES = {
    "path": (request_of(b"/items/%b/lines?x=1" % LIVE), b"/items/%b/lines?x=1" % OWN, (), b""),
    "path, percent-encoded": (
        request_of(b"/items/" + LIVE.replace(b"-", b"%2D")),
        b"/items/" + OWN,
        (),
        b"",
    ),
    "query:q": (request_of(b"/?a=1&q=%b&b=2" % LIVE), b"/?a=1&q=%b&b=2" % OWN, (), b""),
    "header:x-any": (request_of(b"/", (b"X-Any", LIVE)), b"/", ((b"X-Any", OWN),), b""),
    "query:next": (
        request_of(b"/login?next=%2Fitems%2F" + LIVE + b"%3Fof%3D" + LIVE + b"&a=1"),
        b"/login?next=%2Fitems%2F" + OWN + b"%3Fof%3D" + OWN + b"&a=1",
        (),
        b"",
    ),
    "query:u": (request_of(b"/?u=http://h/%b/x" % LIVE), b"/?u=http://h/%b/x" % OWN, (), b""),
    "header:referer": (
        request_of(b"/", (b"Referer", b"http://h/items/%b?q=%b" % (LIVE, LIVE))),
        b"/",
        ((b"Referer", b"http://h/items/%b?q=%b" % (OWN, OWN)),),
        b"",
    ),
    "header:authorization": (
        request_of(b"/", (b"Authorization", b"Bearer " + LIVE)),
        b"/",
        ((b"Authorization", b"Bearer " + OWN),),
        b"",
    ),
    "cookie:sid": (request_of(b"/", (b"Cookie", b'a=b; sid="%b"' % LIVE)), b"/", ((b"Cookie", b"sid=" + OWN),), b""),
    "json:/a/1/id": (
        request_of(b"/", body=b'{"x":[1,2], "a":[{}, {"id": "%b"}]}' % LIVE),
        b"/",
        (),
        b'{"x":[1,2], "a":[{}, {"id": "%b"}]}' % OWN,
    ),
    "json:": (request_of(b"/", body=b'"%b"' % LIVE), b"/", (), b'"%b"' % OWN),
    "json:/u": (
        request_of(b"/", body=b'{"u":"http://h/items/%b"}' % LIVE),
        b"/",
        (),
        b'{"u":"http://h/items/%b"}' % OWN,
    ),
    "form:t": (
        request_of(b"/", (b"Content-Type", b"application/x-www-form-urlencoded"), body=b"a=1&t=%b" % LIVE),
        b"/",
        (),
        b"a=1&t=%b" % OWN,
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_shadows_own_id_takes_the_place_of_lives(place: str) -> None:
    request, target, own, body = PLACES[place]
    places, pairs = known()
    translation = sent(places, pairs, request)
    assert translation.target == target
    assert tuple(translation.own) == own
    assert (translation.body or b"") == body
    assert translation.translated == (Translated(place.partition(",")[0], "r0", LIVE.decode(), OWN.decode()),)


def test_an_id_is_never_part_of_a_word() -> None:
    places, pairs = known()
    for request in (
        request_of(b"/items/x" + LIVE),
        request_of(b"/items/%b.json" % LIVE),
        request_of(b"/?q=a" + LIVE),
        request_of(b"/", (b"X-Any", b"a " + LIVE)),
        request_of(b"/", (b"Cookie", b"name=a" + LIVE)),
        request_of(b"/", body=b'{"text":"see %b"}' % LIVE),
    ):
        assert find(places, pairs, request).occurrences == ()


def test_what_the_shadow_issued_goes_back_to_it_whatever_its_name() -> None:
    places, pairs = known()
    translation = sent(places, pairs, request_of(b"/m?session_id=%b&token=secret9secret9&q=1" % LIVE))
    assert target_without_credentials(translation) == b"/m?session_id=%b&q=1" % OWN
    plain = sent(places, pairs, request_of(b"/m?token=secret9secret9"))
    assert target_without_credentials(plain) == b"/m"


def test_other_cookies_go_along_only_with_credentials() -> None:
    places, pairs = known()
    request = request_of(b"/", (b"Cookie", b"a=1; sid=%b; b=2" % LIVE))
    assert sent(places, pairs, request).fields == []
    translation = sent(places, pairs, request, credentials=True)
    assert translation.fields == [(b"Cookie", b"a=1; b=2")]
    assert translation.own == [(b"Cookie", b"sid=" + OWN)]


def test_a_session_that_nobody_knows_is_not_sent() -> None:
    places, pairs = pairs_for()
    assert find(places, pairs, request_of(b"/mcp", (b"Mcp-Session-Id", LIVE))).unknown == "header:mcp-session-id"
    named, pairs = pairs_for(StateSettings(learn=("header:X-Ticket",)))
    assert find(named, pairs, request_of(b"/", (b"x-ticket", b"1"))).unknown == "header:x-ticket"


def test_a_session_that_the_shadow_has_none_of_is_left_out() -> None:
    places, pairs = pairs_for()
    learn(places, pairs, request_of(b"/mcp"), reply_of(b"{}", (b"Mcp-Session-Id", LIVE)), reply_of(b"{}"))
    translation = sent(places, pairs, request_of(b"/mcp", (b"Mcp-Session-Id", LIVE), (b"A", b"b")))
    assert translation.fields == [(b"A", b"b")]
    assert translation.own == []


def test_integers_are_translated_where_both_places_are_named() -> None:
    settings = StateSettings(learn=("/id",), into=("path:/items/*", "json:/item", "query:item"))
    places, pairs = pairs_for(settings)
    learn(places, pairs, request_of(b"/items/"), reply_of(b'{"id":5}'), reply_of(b'{"id":71}'))
    assert sent(places, pairs, request_of(b"/items/5/")).target == b"/items/71/"
    assert sent(places, pairs, request_of(b"/other/5")).target == b"/other/5"
    assert sent(places, pairs, request_of(b"/?item=5&n=5")).target == b"/?item=71&n=5"
    assert sent(places, pairs, request_of(b"/", body=b'{"item":5,"n":5}')).body == b'{"item":71,"n":5}'
    assert sent(places, pairs, request_of(b"/", body=b'{"item":"5"}')).body == b'{"item":"71"}'
    # The same integer for another thing: the path tells them apart, and where nothing does, nothing is sent.
    learn(places, pairs, request_of(b"/users"), reply_of(b'{"id":5}'), reply_of(b'{"id":6}'))
    assert sent(places, pairs, request_of(b"/items/5")).target == b"/items/71"
    assert find(places, pairs, request_of(b"/?item=5")).unknown == "query:item"
    general, pairs = pairs_for(StateSettings(learn=("/id",)))
    learn(general, pairs, request_of(), reply_of(b'{"id":5}'), reply_of(b'{"id":71}'))
    assert len(pairs) == 0


def test_the_map_is_bounded_and_still_knows_what_fell_out() -> None:
    clock = Clock()
    pairs = Pairs(100, 60.0, clock)
    for number in range(1000):
        entry = pairs.issue(b"live-%08d" % number, b"", "r", "json:/id")
        assert entry is not None
        pairs.settle(entry, Standing.KNOWN, b"own-%08d" % number)
    assert pairs.counts[:2] == (100, 0)
    assert pairs.counts.fell_out == 900
    fallen = pairs.find(b"live-%08d" % 5)
    assert fallen is not None
    assert fallen.standing is Standing.LOST
    assert pairs.find(b"live-unheard-of") is None
    kept = pairs.find(b"live-%08d" % 950)
    assert kept is not None
    assert kept.own == b"own-00000950"
    clock.now = 61.0
    late = pairs.find(b"live-%08d" % 951)
    assert late is not None
    assert late.standing is Standing.LOST
    by_bytes = Pairs(100, 60.0, clock, most_bytes=10_000)
    for number in range(50):
        by_bytes.issue(b"%0500d" % number, b"", "r", "json:/id")
    assert by_bytes.held_bytes <= 10_000
    assert by_bytes.pending == len(by_bytes)


def test_who_waits_for_an_entry_that_falls_out_is_called() -> None:
    pairs = Pairs(1, 60.0, Clock())
    called: list[int] = []
    first = pairs.issue(LIVE, b"", "r", "json:/id")
    assert first is not None
    first.when_settled(lambda: called.append(1))
    pairs.issue(OWN, b"", "r", "json:/id")
    assert called == [1]
    assert first.standing is Standing.LOST


def test_a_repeated_request_gives_a_lost_id_another_chance() -> None:
    places, pairs = pairs_for()
    answer = reply_of(b'{"id":"%b"}' % LIVE)
    learn(places, pairs, request_of(), answer, Failure(Outcome.TIMEOUT, "late", 1.0))
    learn(places, pairs, request_of(record="r2"), answer, reply_of(b'{"id":"%b"}' % OWN))
    entry = pairs.find(LIVE)
    assert entry is not None
    assert (entry.standing, entry.own, entry.record) == (Standing.KNOWN, OWN, "r2")


@pytest.mark.parametrize("place", ["id", "cookie:a", "set-cookie:", "header:a b", "header:Set-Cookie", "/a*b"])
def test_what_is_no_place_of_an_answer(place: str) -> None:
    with pytest.raises(ValueError, match=r"place|cookie|name"):
        read_learn(place)


@pytest.mark.parametrize(
    "place", ["body", "path:/items", "path:items/*", "path:/a*/b", "header:Cookie", "json:/a/*", "query:", "json:a"]
)
def test_what_is_no_place_of_a_request(place: str) -> None:
    with pytest.raises(ValueError, match=r"place|cookie|segment|pointer"):
        read_into(place)


def test_cookies_and_pointers_are_found_where_they_stand() -> None:
    value = b'a=1; b = "2" ;c;d="'
    assert [(name, value[begin:end]) for name, begin, end in cookies_in(value)] == [
        (b"a", b"1"),
        (b"b", b"2"),
        (b"d", b'"'),
    ]
    text = b'{"a":["x",{"b/c":"y"},[1,"z"]],"k":{"":"w"},"l":"v"}'
    assert pointers_to(text, [text.index(each) for each in (b"x", b"y", b"z", b"w", b"v")]) == [
        "/a/0",
        "/a/1/b~1c",
        "/a/2/1",
        "/k/",
        "/l",
    ]


IDS = st.one_of(
    st.uuids(version=4).map(lambda made: str(made).encode()),
    st.text("abcXYZ0189_-.~!$'()*+,;=:@/?#%&\"\\", min_size=8, max_size=40).map(str.encode),
)


@given(st.lists(IDS, min_size=1, max_size=6, unique=True), st.data())
def test_lives_ids_are_never_sent_as_a_whole_value(ids: list[bytes], data: st.DataObject) -> None:
    """Whatever a request is made of: no whole value of what is sent is live's, and nothing but whole values changes."""
    places, pairs = pairs_for()
    owns = {}
    numbers = count()
    for live in ids:
        entry = pairs.issue(live, b"", "r0", "json:/id")
        assert entry is not None
        owns[live] = b"own %d" % next(numbers)
        owns[live] = owns[live].replace(b" ", b"-")
        pairs.settle(entry, Standing.KNOWN, owns[live])
    words = st.one_of(st.sampled_from(ids), IDS, st.sampled_from(ids).map(lambda made: made + b"x"))
    segments = data.draw(st.lists(words, max_size=4))
    parameters = data.draw(st.lists(words, max_size=4))
    strings = data.draw(st.lists(words, max_size=6))
    field = data.draw(words)
    target = b"/" + b"/".join(quote(each, safe="").encode() for each in segments)
    target += b"?" + b"&".join(b"p=" + quote(each, safe="").encode() for each in parameters)
    body = orjson.dumps({"list": [each.decode() for each in strings], "n": [1.5, None]})
    request = request_of(target, (b"X-Any", field), (b"Content-Length", b"%d" % len(body)), body=body)
    found = find(places, pairs, request)
    made = translate(request, found, credentials=True)
    path, _, query = made.target.partition(b"?")

    def own(value: bytes) -> bytes:
        return owns.get(value, value)

    assert path == b"/" + b"/".join(quote(own(each), safe="").encode() for each in segments)
    assert query == b"&".join(b"p=" + quote(own(each), safe="").encode() for each in parameters)
    if not field.startswith(b"/"):
        fields = dict([*(request.fields if made.fields is None else made.fields), *made.own])
        assert fields[b"X-Any"] == own(field)
        assert fields[b"Content-Length"] == b"%d" % len(made.body or body)
    if not any(each.startswith(b"/") for each in strings):
        assert orjson.loads(made.body or body) == {"list": [own(each).decode() for each in strings], "n": [1.5, None]}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_body_and_no_field_breaks_the_search(body: bytes, value: bytes) -> None:
    places, pairs = known()
    value = value.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    request = request_of(b"/" + value.replace(b" ", b""), (b"Cookie", value), (b"Referer", value), JSON, body=body)
    translate(request, find(places, pairs, request), credentials=False)
    for settings in (AUTO, StateSettings(learn=("/**/id", "/x", "header:Location"), into=("json:/x", "path:/*"))):
        made, fresh = pairs_for(settings)
        answer = reply_of(body, (b"Location", value), (b"Set-Cookie", value))
        learn(made, fresh, request_of(), answer, reply_of(body[1:], (b"Location", value[1:])))
        assert fresh.pending == 0


def test_a_uuid_is_found_in_a_long_body_among_strings_with_escapes() -> None:
    live = str(UUID(int=7)).encode()
    places, pairs = pairs_for()
    entry = pairs.issue(live, b"", "r0", "json:/id")
    assert entry is not None
    pairs.settle(entry, Standing.KNOWN, OWN)
    value = {"text": 'a "quoted" text\\ ' * 500, "ids": [live.decode()] * 3, live.decode(): 1, "path": "C:\\"}
    made = sent(places, pairs, request_of(b"/", body=orjson.dumps(value)))
    assert live not in (made.body or b"")
    assert (made.body or b"").count(OWN) == 4
