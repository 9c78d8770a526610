"""Requests are chosen by their key alone, alike for every shadow and replica, a smaller share within a larger one."""

import gzip
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.exchange import Request
from shadowproxy.serve.policy import payload, sampling
from shadowproxy.serve.policy.not_chosen import NotChosen
from shadowproxy.serve.policy.payload import LONGEST, VALUES, JsonBody, value_at
from shadowproxy.serve.policy.sampling import (
    FEW,
    WINDOW,
    KeyRepeats,
    Match,
    Unless,
    bucket,
    pointer_tokens,
    sampler,
)


def request(
    *fields: tuple[bytes, bytes], id: str = "r", method: str = "POST", target: bytes = b"/", body: bytes = b""
) -> Request:
    return Request(id, "record", 0, method, target, fields, body, len(body))


@given(st.text(max_size=64), st.text())
def test_a_bucket_is_within_0_and_100(salt: str, key: str) -> None:
    assert 0 <= bucket(salt, key) < 100


def test_the_last_bucket_is_below_100_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `percent: 100` would leave out one key in 2^53, and nobody could explain it."""

    class Highest:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def digest(self) -> bytes:
            return b"\xff" * 8

    monkeypatch.setattr(sampling, "blake2b", Highest)
    assert 99.99999999999 < bucket("", "") < 100


def test_a_bucket_is_the_same_in_every_process_and_release() -> None:
    """Replicas of two releases serve side by side: a change here would make them choose different requests."""
    assert bucket("salt", "key") == pytest.approx(88.07671812065323, abs=1e-12)


@given(st.text(), st.floats(0, 100), st.floats(0, 100))
def test_a_smaller_percentage_is_within_a_larger_one(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    position = bucket("", key)
    assert not position < small or position < large


def test_buckets_are_spread_evenly() -> None:
    """Pearson's chi-square over 100 cells: 99 degrees of freedom, 148.2 is passed by chance once in 1,000 seeds."""
    chance = random.Random(7)
    counts = [0] * 100
    for _ in range(20_000):
        counts[int(bucket("", str(chance.getrandbits(64))))] += 1
    assert sum((count - 200) ** 2 / 200 for count in counts) < 148.2


def test_another_salt_chooses_others() -> None:
    keys = [str(number) for number in range(5_000)]
    one, other = ([bucket(salt, key) for key in keys] for salt in ("a", "b"))
    assert abs(statistics.correlation(one, other)) < 0.05


@pytest.mark.parametrize(
    ("key", "fields", "body", "stands_for"),
    [
        ("request_id", [], b"", "r"),
        ("header:X-User", [(b"x-USER", b"u1"), (b"X-User", b"u2")], b"", "u1"),
        ("header:X-User", [(b"X-User", b"\xff")], b"", "\udcff"),
        ("header:X-User", [(b"X-Other", b"u1")], b"", "r"),
        ("cookie:uid", [(b"Cookie", b"a=1; uid=u1;b=2")], b"", "u1"),
        ("cookie:uid", [(b"Cookie", b"a=1"), (b"cookie", b"uid=u1")], b"", "u1"),
        ("cookie:uid", [(b"Cookie", b'prefs={"x": 1}; list[0]=a; uid=u1')], b"", "u1"),
        ("cookie:uid", [(b"Cookie", b"uid=a=b")], b"", "a=b"),
        ("cookie:uid", [(b"Cookie", b"xuid=1; uid2=2; uid")], b"", ""),
        ("cookie:uid", [(b"Set-Cookie", b"uid=u1")], b"", "r"),
        ("cookie:uid", [], b"", "r"),
        ("json:/user/id", [], b'{"user":{"id":"u1"}}', "u1"),
        ("json:/user/id", [], b'{"user":{"id":17}}', "17"),
        ("json:/users/1", [], b'{"users":["a","b"]}', "b"),
        ("json:/a~1b/~0", [], b'{"a/b":{"~":"u1"}}', "u1"),
        ("json:/user/id", [], b'{"user":[]}', "r"),
        ("json:/user/id", [], b'{"user":"id"}', "r"),
        ("json:/user/id", [], b"not json", "r"),
        ("json:/user/id", [], b'{"user":{"id":"u1"},"x":NaN}', "u1"),
        ("json:/user/id", [(b"Content-Encoding", b"gzip")], gzip.compress(b'{"user":{"id":"u1"}}'), "u1"),
        ("json:/user/id", [(b"Content-Encoding", b"gzip")], b'{"user":{"id":"u1"}}', "r"),
        # What would hold up the callers for long is not read.
        ("json:/user/id", [], b'{"user":{"id":"u1"},"x":"%s"}' % (b"y" * LONGEST), "r"),
        ("json:/user/id", [], b'{"user":{"id":"u1"},"x":[%s0]}' % (b"0," * VALUES), "r"),
        ("json:/user/id", [], b"", "r"),
        # RFC 6901 section 4: an index is of digits alone, without a zero before it.
        ("json:/users/-1", [], b'{"users":["a","b"]}', "r"),
        ("json:/users/01", [], b'{"users":["a","b"]}', "r"),
        ("json:/users/2", [], b'{"users":["a","b"]}', "r"),
        ("json:/users/" + "9" * 30, [], b'{"users":["a","b"]}', "r"),
        ("json:/users/\u0661", [], b'{"users":["a","b"]}', "r"),
        # What orjson reads and does not write.
        ("json:/users", [], b'{"users":["\\ud800"]}', '["\\ud800"]'),
        ("json:/deep", [], b'{"deep":%b%b}' % (b"[" * 400, b"]" * 400), "[" * 400 + "]" * 400),
    ],
)
def test_the_key_alone_decides_a_requests_position(
    key: str, fields: list[tuple[bytes, bytes]], body: bytes, stands_for: str
) -> None:
    """If a request has no such key its ID decides."""
    assert sampler(key, "s")(request(*fields, body=body)) == bucket("s", stands_for)


def test_equal_keys_are_chosen_alike_whatever_else_differs() -> None:
    position = sampler("header:X-User", "")
    positions = {position(request((b"X-User", b"u"), id=str(n), body=b"%d" % n)) for n in range(100)}
    assert len(positions) == 1


@pytest.mark.parametrize(
    ("pointer", "tokens"),
    [("", ()), ("/", ("",)), ("/a/b", ("a", "b")), ("/~01/~1", ("~1", "/")), ("/a//", ("a", "", ""))],
)
def test_a_pointer_is_read_as_rfc_6901_says(pointer: str, tokens: tuple[str, ...]) -> None:
    assert pointer_tokens(pointer) == tokens


@pytest.mark.parametrize(
    ("methods", "paths", "headers", "matches"),
    [
        ([], [], {}, True),
        (["POST"], [], {}, True),
        (["GET", "PUT"], [], {}, False),
        (["post"], [], {}, False),  # methods have case (RFC 9110 section 9.1)
        ([], ["/v1/*"], {}, True),
        ([], ["*/predict"], {}, True),
        ([], ["/v1/models/?/predict"], {}, True),
        ([], ["/v1/models/[a-c]/predict"], {}, True),
        ([], ["/v1"], {}, False),
        ([], ["/V1/*"], {}, False),
        ([], ["/other", "/v1/*"], {}, True),
        ([], ["*q=1"], {}, False),  # the query is no part of the path
        ([], [], {"x-team": "search"}, True),
        ([], [], {"X-Team": "s*"}, True),
        ([], [], {"X-Team": "S*"}, False),
        ([], [], {"X-Team": ""}, False),
        ([], [], {"X-None": "*"}, False),
        ([], [], {"X-Twice": "b"}, True),  # one of its values is enough
        (["POST"], ["/v1/*"], {"X-Team": "search", "X-Twice": "c"}, False),  # and all conditions hold
    ],
)
def test_a_match_checks_method_path_and_headers(
    methods: list[str], paths: list[str], headers: dict[str, str], matches: bool
) -> None:
    asked = request(
        (b"X-Team", b"search"),
        (b"X-Twice", b"a"),
        (b"x-twice", b"b"),
        target=b"/v1/models/a/predict?q=1",
    )
    assert Match.of(methods, paths, headers)(asked) is matches


@given(st.binary(max_size=50), st.binary(max_size=50), st.binary(max_size=50))
def test_no_bytes_stop_a_match_or_a_key(target: bytes, value: bytes, body: bytes) -> None:
    asked = request((b"X-A", value), (b"Cookie", value), target=target, body=body)
    assert Match.of([], ["*"], {"X-A": "*"})(asked)
    for key in ("request_id", "header:X-A", "cookie:a", "json:/a/0", "json:"):
        assert 0 <= sampler(key, "")(asked) < 100


# --- what a match asks of a body -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "body", "matches"),
    [
        ({"/model": "gpt-*"}, b'{"model":"gpt-4"}', True),
        ({"/model": "gpt-*"}, b'{"model":"GPT-4"}', False),
        ({"/model": "gpt-*"}, b'{"model":["gpt-4"]}', False),
        ({"/model": "*"}, b'{"model":null}', True),
        ({"/model": "*"}, b'{"other":1}', False),
        ({"/stream": "true"}, b'{"stream":true}', True),
        ({"/stream": "true"}, b'{"stream":false}', False),
        ({"/n": "5"}, b'{"n":5}', True),
        ({"/n": "5"}, b'{"n":5.0}', False),
        ({"/n": "123456789012345678901"}, b'{"n":123456789012345678901}', False),  # a number beyond 64 bits is a double
        ({"/a": '[[]"x",1]'}, b'{"a":["x", 1]}', True),
        ({"/a/*/b": "2"}, b'{"a":[{"b":1},{"b":2}]}', True),
        ({"/a/*/b": "2"}, b'{"a":{"x":{"b":2}}}', True),
        ({"/a/*/b": "2"}, b'{"a":[{"b":1},3,"b"]}', False),
        ({"/*": "x"}, b'"x"', False),
        ({"/a~1b": "x"}, b'{"a/b":"x"}', True),
        ({"": "x"}, b'"x"', True),
        ({"/a": "x", "/b": "y"}, b'{"a":"x","b":"z"}', False),
        ({"/a": "x"}, b'{"a":"y","a":"x"}', True),  # the last of two, as parsers mean it
    ],
)
def test_a_match_checks_values_in_the_json(places: dict[str, str], body: bytes, matches: bool) -> None:
    assert Match.of([], [], {}, places)(request(body=body)) is matches
    if len(places) == 1:
        assert Match.of([], [], {}, unless=Unless.of(json=places))(request(body=body)) is not matches


def test_a_coded_body_is_read_within_the_bounds() -> None:
    asks = Match.of([], [], {}, {"/a": "x"})
    coded = (b"Content-Encoding", b"gzip")
    assert asks.reason_not_chosen(request(coded, body=gzip.compress(b'{"a":"x"}'))) is None
    assert asks.reason_not_chosen(request(coded, body=gzip.compress(b'{"a":"y"}'))) is NotChosen.MATCH
    long = gzip.compress(b'{"a":"x","b":"%b"}' % (b" " * (2 << 20)))
    assert asks.reason_not_chosen(request(coded, body=long)) is NotChosen.UNREAD_BODY


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        (request(body=b""), NotChosen.MATCH),
        (request(body=b"no json"), NotChosen.MATCH),
        (request((b"Content-Encoding", b"x-unknown"), body=b"{}"), NotChosen.UNREAD_BODY),
        (request(body=b'{"x":"%b"}' % (b"y" * LONGEST)), NotChosen.UNREAD_BODY),
        (request(body=b"[%b0]" % (b"0," * VALUES)), NotChosen.UNREAD_BODY),
        (request(body=b'{"a":"x"}')._replace(body_bytes=99), NotChosen.UNREAD_BODY),  # only its beginning was copied
    ],
    ids=["empty", "no json", "unknown coding", "long", "many values", "not whole"],
)
def test_an_unread_body_is_distinguished_from_one_that_is_not_json(asked: Request, passed: NotChosen) -> None:
    assert Match.of([], [], {}, {"/a": "x"}).reason_not_chosen(asked) is passed
    unless = Match.of([], [], {}, unless=Unless.of(json={"/a": "x"})).reason_not_chosen(asked)
    assert unless is (None if passed is NotChosen.MATCH else NotChosen.UNREAD_BODY)


@pytest.mark.source
def test_a_body_is_parsed_once_however_often_it_is_needed_and_only_if_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counting(fields: object, body: bytes) -> object:
        read.append(body)
        return {"a": "x"}

    monkeypatch.setattr(payload, "json_value", counting)
    asked = request(body=b'{"a":"x"}')
    body = JsonBody(asked)
    Match.of([], ["*"], {}, unless=Unless.of(["PUT"], ["/no"], {"X-No": "*"})).reason_not_chosen(asked, body)
    Match.of(["GET"], [], {}, {"/a": "x"}).reason_not_chosen(asked, body)  # it misses before
    assert read == []
    for _ in range(2):
        assert Match.of([], [], {}, {"/a": "x"}).reason_not_chosen(asked, body) is None
        sampler("json:/a", "")(asked, body)
    assert read == [b'{"a":"x"}']


@given(st.binary(max_size=80), st.sampled_from(["/a", "/*/b", "", "/0"]))
def test_no_body_stops_a_match(body: bytes, pointer: str) -> None:
    for match in (Match.of([], [], {}, {pointer: "*"}), Match.of([], [], {}, unless=Unless.of(json={pointer: "x"}))):
        assert match.reason_not_chosen(request(body=body)) in (None, NotChosen.MATCH, NotChosen.UNREAD_BODY)


def test_the_end_of_an_array_is_no_value() -> None:
    with pytest.raises(LookupError):
        value_at([1], ("-",))


# --- sampling keys that repeat ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "few"), [(1, 1), (FEW, FEW), (FEW + 1, None), (WINDOW, None)])
def test_few_keys_among_many_requests_are_found_at_the_end_of_a_window(keys: int, few: int | None) -> None:
    watched = KeyRepeats()
    for _ in range(3):
        returned = [watched.add(float(number % keys)) for number in range(WINDOW)]
        assert returned == [None] * (WINDOW - 1) + [few]
    assert (watched.first, watched.again) == (3 * keys, 3 * (WINDOW - keys))


def test_a_window_that_was_begun_under_another_key_is_forgotten() -> None:
    watched = KeyRepeats()
    for number in range(WINDOW - 1):
        watched.add(float(number))
    watched.start_over()
    assert [watched.add(0.0) for _ in range(WINDOW)] == [None] * (WINDOW - 1) + [1]
