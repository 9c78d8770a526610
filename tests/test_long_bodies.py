"""What nobody compares of a long body is not handed over, and the record is the same as if it were."""

import asyncio
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import StartProxy
from fakes import Peer, answer, chunked, then_close
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shadowproxy.answers.alike import About
from shadowproxy.arrivals import HELD
from shadowproxy.budget import Budget
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import judge, judge_values
from shadowproxy.exchange import (
    Exchange,
    Failure,
    Fields,
    LiveLeg,
    Outcome,
    Reply,
    Request,
    ShadowLeg,
    Skipped,
    Verdict,
)
from shadowproxy.record import Body, Judgement, RecordedLeg
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import Redaction
from shadowproxy.serve.account import Memory
from shadowproxy.serve.handover import frames, outbox
from shadowproxy.serve.mirror import settled
from shadowproxy.serve.mirror.capture import Capture
from shadowproxy.serve.mirror.settled import shortened
from shadowproxy.serve.policy.logged import LogNeeds

CAPTURE = 300
RULES = Rules()
SECRETS = ("hunter2-hunter2", "Zq8kPw3vLr9tXy2mNb7s", "4012888812345678")

# --- the record is the same


def by_the_rules(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, about: About) -> Judgement:
    return judge(live, shadow, RULES, budget, about)


def by_the_values(live: Any, shadow: Any, budget: Budget, about: About) -> Judgement:
    return judge_values(live, shadow, RULES, budget, about)


def line_of(exchange: Exchange, policy: Policy, needs: LogNeeds) -> bytes:
    return encode(
        exchange,
        proxy="p",
        policy=policy,
        judge=by_the_rules if needs.compared else None,
        judge_values=by_the_values,
        clock=lambda: 0.0,
    )


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Bodies around the limits, with secrets anywhere in them, whole or in two spellings."""
    parts = draw(
        st.lists(
            st.one_of(
                st.sampled_from(["a", "é", " ", '"', "\\u0068", "&password=", "=", "\n", "data: 1\n"]),
                st.sampled_from(SECRETS),
                st.integers(20, 150).map("x".__mul__),
            ),
            max_size=8,
        )
    )
    text = "".join(parts)
    made = draw(st.integers(0, 4))
    if made == 0:
        return json.dumps({"pad": text, "user": {"email": draw(st.sampled_from(SECRETS))}, "n": 1}).encode()
    if made == 1:
        return f"user=1&password={draw(st.sampled_from(SECRETS))}&pad={text}".encode()
    if made == 2:
        return text.encode() + b"\xff\xfe" * draw(st.integers(0, 50))
    if made == 3:
        return gzip.compress(text.encode() * draw(st.integers(1, 3)), mtime=0)
    return text.encode()


TYPES: list[Fields] = [
    (),
    *(
        ((b"Content-Type", name),)
        for name in (
            b"application/json",
            b"text/plain",
            b"application/x-www-form-urlencoded",
            b"application/X-WWW-Form-Urlencoded; charset=utf-8",
            b"text/event-stream",
            b"application/octet-stream",
        )
    ),
]
CODINGS: list[Fields] = [(), (), (), *(((b"content-encoding", name),) for name in (b"gzip", b"identity", b"odd"))]
MORE: list[Fields] = [
    (),
    (),
    ((b"Authorization", b"Bearer " + SECRETS[1].encode()),),
    ((b"X-Customer", SECRETS[0].encode()),),
    ((b"Cookie", b"sid=" + SECRETS[0].encode()),),
    ((b"X-Signing-Key", SECRETS[1].encode()),),
    ((b"Referer", b"http://a/?password=" + SECRETS[0].encode()),),
    ((b"X-Name", "é Bearer ".encode() + SECRETS[1].encode()),),
]
TARGETS = [
    b"/",
    b"/a?b=c",
    b"/a?password=" + SECRETS[0].encode(),
    b"/a;sid=" + SECRETS[0].encode(),
    b"/a?customer=" + SECRETS[0].encode(),
    "/é?ü=1".encode(),
]


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    body = draw(bodies())
    fields = draw(st.sampled_from(TYPES)) + draw(st.sampled_from(CODINGS))
    return Reply(draw(st.sampled_from([200, 200, 500])), fields, body[:CAPTURE], len(body), 1.0, 2.0)


def failures() -> st.SearchStrategy[Failure]:
    return st.builds(Failure, st.just(Outcome.TIMEOUT), st.just("late"), st.just(1.0), st.none() | replies())


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    fields = draw(st.sampled_from(TYPES)) + draw(st.sampled_from(CODINGS)) + draw(st.sampled_from(MORE))
    body = draw(bodies())
    request = Request("i", "r", 0, "POST", draw(st.sampled_from(TARGETS)), fields, body[:CAPTURE], len(body))
    live: LiveLeg = draw(replies() | failures())
    legs: st.SearchStrategy[ShadowLeg] = st.one_of(
        replies(), failures(), st.just(Skipped(Outcome.LANE_FULL, "full")), st.just(live)
    )
    shadows = draw(st.dictionaries(st.sampled_from("ab"), legs, max_size=2))
    return Exchange(request, live, shadows, draw(st.none() | legs))


@st.composite
def configurations(draw: st.DrawFn) -> tuple[Policy, LogNeeds]:
    limit = draw(st.integers(1, 80))
    level: Literal["full", "hash", "none"] = draw(st.sampled_from(("full", "full", "hash", "none")))
    json_places: tuple[str, ...] = draw(st.sampled_from([(), (), (), ("/user/email",)]))
    headers: frozenset[str] = draw(st.sampled_from([frozenset(), frozenset({"x-customer"})]))
    query: frozenset[str] = draw(st.sampled_from([frozenset(), frozenset({"customer"})]))
    own: tuple[str, ...] = draw(st.sampled_from([(), (), (SECRETS[2],)]))
    policy = Policy(level, limit, Redaction(headers, query, json_places), own)
    needs = LogNeeds(
        limit, level != "none", bool(json_places), bool(headers or query or own), compared=draw(st.booleans())
    )
    return policy, needs


PLAIN = LogNeeds(100)


def reply(body: bytes, size: int | None = None) -> Reply:
    return Reply(200, (), body, len(body) if size is None else size, 1.0, 2.0)


def part(body: bytes, size: int | None = None) -> Failure:
    return Failure(Outcome.TIMEOUT, "late", 1.0, reply(body, size))


def one(request: bytes, live: bytes, fields: Fields = (), **shadows: ShadowLeg) -> Exchange:
    asked = Request("i", "r", 0, "POST", b"/", fields, request, len(request))
    return Exchange(asked, reply(live), shadows)


@settings(max_examples=400)
@example(one(b"a" * 200, b"b" * 200), (Policy(body_limit=100), PLAIN))
@example(one(b"a", b"b" * 200 + SECRETS[1].encode(), MORE[2]), (Policy(body_limit=100), PLAIN))
@example(one(b"", b"b" * 200, s=reply(b"b" * 199 + b"c")), (Policy(body_limit=100), PLAIN))
@example(one(b"", b"b" * 200, s=part(b"b" * 199 + b"c")), (Policy(body_limit=100), PLAIN))
@given(exchanges(), configurations())
def test_a_record_of_what_is_handed_over_is_that_of_the_whole(exchange: Exchange, how: tuple[Policy, LogNeeds]) -> None:
    policy, needs = how
    whole = line_of(exchange, policy, needs)
    assert line_of(shortened(exchange, needs), policy, needs) == whole


def test_the_shortened_exchange_has_the_beginnings_and_the_hashes() -> None:
    exchange = one(
        b"a" * 200, b"b" * 200, s=Failure(Outcome.TIMEOUT, "", 1.0, Reply(200, (), b"c" * 90, 400, 1.0, 2.0))
    )
    short = shortened(exchange, PLAIN)
    assert (short.request.body, short.request.body_bytes) == (b"a" * 100, 200)
    assert short.request.body_sha256 == hashlib.sha256(b"a" * 200).hexdigest()
    assert isinstance(short.live, Reply)
    assert (short.live.body, short.live.body_sha256) == (b"b" * 100, hashlib.sha256(b"b" * 200).hexdigest())
    assert short.shadows == exchange.shadows, "its beginning is short enough"


def test_answers_that_are_compared_stay_whole() -> None:
    shadow = reply(b"c" * 200)
    exchange = one(b"a" * 200, b"b" * 200, s=shadow)
    short = shortened(exchange, PLAIN)
    assert (short.live, short.shadows) == (exchange.live, exchange.shadows)
    assert len(short.request.body) == 100
    for other in (shadow._replace(status=500), shadow._replace(body_bytes=400)):
        short = shortened(one(b"", b"b" * 200, s=other), PLAIN)
        assert isinstance(short.live, Reply)
        assert len(short.live.body) == 100, "nothing of the bodies is compared"


def test_a_long_body_without_a_hash_is_not_hashed_in_one_turn() -> None:
    long = b"a" * (settled.HASHED_AT_ONCE + 1)
    exchange = one(long, long)
    assert shortened(exchange, PLAIN) == exchange
    assert len(shortened(exchange, LogNeeds(100, hashed=False)).request.body) == 100
    assert (
        len(shortened(exchange._replace(request=exchange.request._replace(body_sha256="ab")), PLAIN).request.body)
        == 100
    )


# --- the copy


@given(st.lists(st.binary(max_size=30), max_size=12), st.integers(0, 12), st.integers(0, 40))
def test_a_copy_of_the_beginning_has_the_hash_of_the_whole(chunks: list[bytes], at: int, count: int) -> None:
    memory = Memory(1 << 20)
    capture = Capture(200, memory)
    for number, chunk in enumerate(chunks):
        if number == at:
            capture.begin_hash()
            capture.keep(count)
        capture.add(chunk)
    body = b"".join(chunks)
    begun = at < len(chunks)
    kept = body[: min(count, 200)] if begun else body[:200]
    assert (capture.body, capture.kept, capture.size, memory.used) == (kept, len(kept), len(body), len(kept))
    assert capture.sha256 == (hashlib.sha256(body).hexdigest() if begun and len(body) <= 200 else None)
    assert capture.beginning(7) == kept[:7]
    assert capture.over is (len(body) > 200)
    assert capture.release() == len(kept)
    assert memory.used == 0


def test_no_hash_is_given_of_what_memory_did_not_suffice_for() -> None:
    capture = Capture(100, Memory(5))
    capture.begin_hash()
    capture.add(b"abcdefg")
    assert (capture.crowded, capture.sha256) == (True, None)


def test_a_copy_that_lacks_a_part_begins_no_hash() -> None:
    capture = Capture(100, Memory(5))
    capture.add(b"abcdefg")
    capture.begin_hash()
    assert capture.sha256 is None


# --- what crosses, in a running proxy

MIB = 1 << 20
LIMITS = {"capture": "2MiB", "buffer": "64KiB"}
LOGGED = 64 << 10
"""`log.body_limit` in these tests."""

PASSED = bytes(range(251)) * (3 * MIB // 251)
FIT = PASSED[: 3 * MIB // 2]
AUTHORIZED = b"Authorization: Bearer " + SECRETS[1].encode() + b"\r\n"


@pytest.fixture
def crossed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each exchange that was handed over. Tests with it run on the interpreted program only."""
    sizes: list[int] = []

    def counted(exchange: Exchange, generation: int) -> list[bytes]:
        made = frames.frames_of_exchange(exchange, generation)
        sizes.append(sum(map(len, made)))
        return made

    monkeypatch.setattr(outbox, "frames_of_exchange", counted)
    return sizes


def post(body: bytes, more: bytes = b"", *, in_chunks: bool = False) -> bytes:
    head = b"POST /p HTTP/1.1\r\nHost: h\r\n" + more
    if in_chunks:
        pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
        chunks = b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces])
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def log_of(directory: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(directory / "log"), "body_limit": LOGGED, **more}


def assert_cut(body: Body | None, sent: bytes) -> None:
    """As the log has had it since before only beginnings were handed over."""
    assert body is not None
    assert (body.size, body.truncated) == (len(sent), True)
    assert body.value == sent[:LOGGED]
    assert body.sha256 == (hashlib.sha256(sent).hexdigest() if len(sent) <= 2 * MIB else None)


SHADOWS: list[Any] = [
    pytest.param({}, {}, id="no shadow"),
    pytest.param({"s": answer(b"ok")}, {"percent": 0}, id="not sampled"),
    pytest.param({"s": answer(b"ok")}, {"match": {"methods": ["PUT"]}}, id="not matched"),
]
SIZES: list[Any] = [pytest.param(FIT, id="within limits.capture"), pytest.param(PASSED, id="over it")]


@pytest.mark.source
@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize("body", SIZES)
@pytest.mark.parametrize(("shadows", "options"), SHADOWS)
async def test_of_a_long_upload_that_no_shadow_gets_the_beginning_crosses(
    proxy: StartProxy,
    tmp_path: Path,
    crossed: list[int],
    shadows: dict[str, bytes],
    options: dict[str, Any],
    body: bytes,
    in_chunks: bool,
) -> None:
    log = log_of(tmp_path)
    async with proxy(answer(b"ok"), shadows, shadow_options=options, limits=LIMITS, log=log) as running:
        assert (await running.ask(post(body, AUTHORIZED, in_chunks=in_chunks))).body == b"ok"
        assert running.live.requests[0].body == body
        [entry] = await running.records()
    assert_cut(entry.request.body, body)
    [size] = crossed
    assert LOGGED < size < LOGGED + 4096


@pytest.mark.source
@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize("body", SIZES)
@pytest.mark.parametrize(("shadows", "options"), SHADOWS)
async def test_of_a_long_download_that_no_shadow_gets_the_beginning_crosses(
    proxy: StartProxy,
    tmp_path: Path,
    crossed: list[int],
    shadows: dict[str, bytes],
    options: dict[str, Any],
    body: bytes,
    in_chunks: bool,
) -> None:
    log = log_of(tmp_path)
    raw = chunked(*[body[at : at + 70_000] for at in range(0, len(body), 70_000)]) if in_chunks else answer(body)
    async with proxy(raw, shadows, shadow_options=options, limits=LIMITS, log=log) as running:
        assert (await running.ask(post(b""))).body == body
        [entry] = await running.records()
    assert_cut(entry.live.body, body)
    [size] = crossed
    assert LOGGED < size < LOGGED + 4096


@pytest.mark.source
async def test_an_answer_that_may_repeat_a_secret_crosses_whole_and_is_searched(
    proxy: StartProxy, tmp_path: Path, crossed: list[int]
) -> None:
    echo = FIT[: 256 * 3000].replace(b"\xfa", b"") + b' "' + SECRETS[1].encode() + b'"'
    async with proxy(answer(echo), limits=LIMITS, log=log_of(tmp_path)) as running:
        assert (await running.ask(post(b"", AUTHORIZED))).body == echo
        [entry] = await running.records()
    assert entry.live.body is not None
    assert entry.live.body.sha256 is None, "it would let the secret be guessed"
    assert entry.live.body.redacted is not None
    assert crossed[0] > len(echo)


@pytest.mark.source
async def test_where_no_shadow_answers_the_beginnings_cross(
    proxy: StartProxy, tmp_path: Path, crossed: list[int]
) -> None:
    body = FIT[: MIB // 2]
    async with proxy(answer(body), {"s": then_close(b"")}, limits=LIMITS, log=log_of(tmp_path)) as running:
        assert (await running.ask(post(body))).body == body
        [entry] = await running.records()
    assert entry.shadows["s"].outcome is Outcome.INCOMPLETE
    assert_cut(entry.request.body, body)
    assert_cut(entry.live.body, body)
    assert crossed[0] < 2 * LOGGED + 4096


@pytest.mark.source
async def test_a_shadow_gets_the_whole_upload_and_its_answer_is_compared_whole(
    proxy: StartProxy, tmp_path: Path, crossed: list[int]
) -> None:
    mine = FIT[:-1] + b"!"
    async with proxy(answer(FIT), {"s": answer(mine)}, limits=LIMITS, log=log_of(tmp_path)) as running:
        assert (await running.ask(post(FIT))).body == FIT
        [entry] = await running.records()
        assert running.shadows["s"].requests[0].body == FIT
    judgement = entry.shadows["s"].judgement
    assert judgement is not None
    assert judgement.verdict is Verdict.MISMATCH
    assert_cut(entry.request.body, FIT)
    assert_cut(entry.live.body, FIT)
    assert_cut(entry.shadows["s"].body, mine)
    assert 2 * len(FIT) < crossed[0] < 2 * len(FIT) + LOGGED + 4096


@pytest.mark.source
async def test_of_a_shadows_answer_that_was_cut_off_the_beginning_crosses(
    proxy: StartProxy, tmp_path: Path, crossed: list[int]
) -> None:
    async with proxy(answer(FIT), {"s": answer(PASSED)}, limits=LIMITS, log=log_of(tmp_path)) as running:
        assert (await running.ask(post(b""))).body == FIT
        [entry] = await running.records()
    leg = entry.shadows["s"]
    assert leg.outcome is Outcome.ANSWER_OVERSIZE
    assert leg.body is not None
    assert leg.body.value == PASSED[:LOGGED]
    assert_cut(entry.live.body, FIT)
    assert crossed[0] < len(FIT) + LOGGED + 4096


@pytest.mark.parametrize("bodies", ["full", "hash", "none"])
@pytest.mark.parametrize("in_chunks", [False, True])
async def test_copies_that_nobody_compares_hold_their_beginnings_alone(
    proxy: StartProxy, tmp_path: Path, bodies: str, *, in_chunks: bool
) -> None:
    held: list[int] = []

    async def live(peer: Peer) -> None:
        await peer.request()
        held.append(running.sidecar.mirror.memory.used)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(FIT) + 1) + FIT)
        await passed.wait()
        held.append(running.sidecar.mirror.memory.used)
        await peer.send(b"!")

    passed = asyncio.Event()
    async with (
        proxy(live, limits=LIMITS, log=log_of(tmp_path, bodies=bodies)) as running,
        await running.caller() as caller,
    ):
        await caller.send(post(FIT, in_chunks=in_chunks))
        await caller.wait_received(len(FIT))
        passed.set()
        assert (await caller.answer()).body == FIT + b"!"
        [entry] = await running.records()
    assert held[0] == LOGGED
    assert held[1] in (2 * LOGGED, 2 * LOGGED + HELD)  # with the times of its pieces, if there are several
    digest = hashlib.sha256(FIT).hexdigest() if bodies != "none" else None
    assert (entry.request.body.size, entry.request.body.sha256) == (len(FIT), digest)
    assert entry.request.body.value == (FIT[:LOGGED] if bodies == "full" else None)


@pytest.mark.source
async def test_a_request_that_is_chosen_by_its_body_is_read_whole(
    proxy: StartProxy, tmp_path: Path, crossed: list[int]
) -> None:
    body = json.dumps({"pad": "x" * MIB, "tier": "gold"}).encode()
    options = {"match": {"json": {"/tier": "gold"}}}
    shadows = {"s": answer(b"ok")}
    async with proxy(answer(b"ok"), shadows, shadow_options=options, limits=LIMITS, log=log_of(tmp_path)) as running:
        await running.ask(post(body, b"Content-Type: application/json\r\n"))
        await running.ask(post(body.replace(b"gold", b"gray"), b"Content-Type: application/json\r\n"))
        entries = await running.records()
    assert [list(entry.shadows) for entry in entries] == [["s"], []]
    assert max(crossed) < LOGGED + 4096
