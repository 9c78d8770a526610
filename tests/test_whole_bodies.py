"""Bodies are judged, searched and redacted whole, however little of them is recorded."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from shadowproxy import content as content_module
from shadowproxy.answers import About
from shadowproxy.answers.left_out import NO_JSON, NOT_COPIED, incomparable_reason, left_out_by
from shadowproxy.budget import Budget
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import judge
from shadowproxy.exchange import Exchange, Fields, Reply, Request, Verdict
from shadowproxy.record import Judgement, RecordedLeg, decode
from shadowproxy.recorder import bodies
from shadowproxy.recorder.heads import Heads, read_head
from shadowproxy.recorder.hiding import _whole_form as whole_form
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import BLANK, Redaction

SECRET = "alice.miller@example.com"
JSON: Fields = ((b"Content-Type", b"application/json"),)
TEXT: Fields = ((b"Content-Type", b"text/plain"),)
EVENTS: Fields = ((b"Content-Type", b"text/event-stream"),)
FORM: Fields = ((b"Content-Type", b"application/x-www-form-urlencoded"),)
ODD: Fields = ((b"Content-Type", b"application/octet-stream"),)
GZIP: Fields = (*JSON, (b"Content-Encoding", b"gzip"))
LIMIT = 100


def by_the_rules(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, about: About) -> Judgement:
    return judge(live, shadow, RULES, budget)


RULES = Rules(ignore=("/ignored",))


def reply(body: bytes, fields: Fields = JSON, *, status: int = 200, more: int = 0) -> Reply:
    return Reply(status, fields, body, len(body) + more, 1.0, 2.0)


def line_of(
    live: Reply,
    *others: Reply,
    request: bytes = b"",
    fields: Fields = JSON,
    clock: Any = lambda: 0.0,
    method: str = "POST",
    **policy: Any,
) -> bytes:
    asked = Request("id", "rec", 0, method, b"/", fields, request, len(request))
    shadows = {f"s{at}": other for at, other in enumerate(others)}
    return encode(
        Exchange(asked, live, shadows),
        proxy="p",
        policy=Policy(**{"body_limit": LIMIT, **policy}),
        judge=by_the_rules,
        rules=RULES.digest,
        clock=clock,
    )


def judged(*replies: Reply, **given: Any) -> Judgement:
    told = decode(line_of(*replies, **given)).shadows["s0"].judgement
    assert told is not None
    return told


def padded(**members: Any) -> bytes:
    return json.dumps({"pad": "x" * 1000, **members}).encode()


# --- judging


@pytest.mark.parametrize("pack", [lambda raw: reply(raw), lambda raw: reply(gzip.compress(raw, mtime=0), GZIP)])
def test_a_difference_beyond_the_cut_is_found(pack: Callable[[bytes], Reply]) -> None:
    told = judged(pack(padded(score=0.5)), pack(padded(score=0.75)))
    assert told.verdict is Verdict.MISMATCH
    assert [(each.path, each.live, each.shadow) for each in told.differences] == [("/score", 0.5, 0.75)]
    assert judged(pack(padded(score=0.5)), pack(padded(score=0.5) + b" ")).verdict is Verdict.MATCH
    assert judged(pack(padded(ignored=0.5)), pack(padded(ignored=0.75))).verdict is Verdict.IGNORED


@pytest.mark.parametrize("fields", [TEXT, EVENTS, ODD, ((b"Content-Type", b"application/x-ndjson"),), ()])
def test_bodies_of_every_kind_are_judged_beyond_the_cut(fields: Fields) -> None:
    pad = b"" if fields in (TEXT, ODD) else b'data: {"a": 1}\n\n' if fields == EVENTS else b'{"a": 1}\n'
    pad = (pad or b"\xff" if fields == ODD else pad or b"a ") * 500
    end = b'data: {"a": %d}\n\n' if fields == EVENTS else b'{"a": %d}\n'
    one, other = reply(pad + end % 1, fields), reply(pad + end % 2, fields)
    told = judged(one, other)
    assert told.verdict is Verdict.MISMATCH
    assert len(repr(told.differences)) < 1000
    assert judged(one, reply(pad + end % 1, (*fields, (b"Server", b"other")))).verdict is Verdict.MATCH


def test_the_values_of_differences_stay_bounded() -> None:
    answers = [
        padded(**{f"k{at}": [letter * 10_000, {letter * 50: [letter] * 1000}] for at in range(200)}) for letter in "ab"
    ]
    line = line_of(*map(reply, answers))
    told = decode(line).shadows["s0"].judgement
    assert told is not None
    assert told.why == "the first 100 of 600 differences"
    assert len(line) < 100 * 1000


@pytest.mark.source
def test_equal_bytes_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def parsed(raw: bytes) -> object:
        read.append(len(raw))
        return content_module.parsed(raw)

    monkeypatch.setattr(bodies, "parsed", parsed)
    long, small = padded(a=1), b'{"a":1}'
    assert judged(reply(long), reply(long)).verdict is Verdict.MATCH
    assert read == []
    assert judged(reply(small), reply(small)).verdict is Verdict.MATCH
    assert read == [7], "once, to know that it is JSON"
    assert judged(reply(long), reply(long, status=500)).verdict is Verdict.MISMATCH
    assert read == [7], "another status is all that counts"
    packed = [reply(gzip.compress(long, level), GZIP) for level in (1, 9)]
    assert packed[0].body != packed[1].body
    assert judged(*packed).verdict is Verdict.MATCH
    assert read == [7]
    line_of(reply(long), reply(padded(a=2)), reply(padded(a=3)), reply(padded(a=2)))
    assert read == [7, *[len(long)] * 4], "live's once"


def test_an_answer_over_what_is_captured_is_not_judged() -> None:
    assert judged(reply(b'{"a": 1', more=1), reply(b'{"a": 1}')) == Judgement(
        Verdict.INCOMPARABLE, (), "live: longer than limits.capture"
    )
    assert judged(reply(padded()), reply(padded(), more=1)).why == "shadow: longer than limits.capture"
    assert judged(reply(padded(), more=2), reply(padded()), method="CALL").why == "live: longer than limits.capture"
    told = judged(reply(padded(), more=1), reply(padded(), status=500))
    assert told.verdict is Verdict.MISMATCH, "the status is known"


def test_what_was_not_captured_for_another_reason_says_so() -> None:
    """A function's result that JSON does not show; and of a file that the server sent by itself, nothing was copied."""
    part = reply(b'{"unwritable": "m.Odd"}', more=1)
    judgement = judged(part, part, method="CALL")
    assert judgement == Judgement(Verdict.INCOMPARABLE, (), f"live: {NO_JSON}")
    assert judged(reply(b"", more=740), reply(padded())).why == f"live: {NOT_COPIED}"
    for line in (line_of(part, part, method="CALL"), line_of(reply(b"", more=740), reply(padded()))):
        leg = decode(line).shadows["s0"]
        assert left_out_by(decode(line).live.body, incomparable_reason("live", leg.judgement)) == "not captured"


class Late:
    """A clock that has stood still for `reads` looks and then is late for ever."""

    def __init__(self, reads: int) -> None:
        self.reads = reads

    def __call__(self) -> float:
        self.reads -= 1
        return 0.0 if self.reads > 0 else 1000.0


ROWS = json.dumps([{"id": at} for at in range(5000)]).encode()
OTHERS = json.dumps([{"id": -at} for at in range(5000)]).encode()


def test_a_pair_that_takes_too_long_is_incomparable_and_recorded_all_the_same() -> None:
    whys = set()
    for reads in range(2, 100):
        line = line_of(reply(ROWS), reply(OTHERS), clock=Late(reads))
        record = decode(line)
        told = record.shadows["s0"].judgement
        assert told is not None
        assert record.live.body is not None
        assert record.live.body.value == ROWS[:LIMIT].decode()
        if told.verdict is Verdict.MISMATCH:
            break
        assert told.verdict is Verdict.INCOMPARABLE
        whys.add(told.why)
    assert told is not None
    assert told.verdict is Verdict.MISMATCH
    assert whys == {
        "live: not read, as it takes longer than 1 s",
        "shadow: not read, as it takes longer than 1 s",
        "not compared, as it takes longer than 1 s",
    }


def test_a_pair_that_takes_too_much_memory_is_incomparable() -> None:
    small = reply(b"[1]"), reply(b"[2]")
    for pair in ((reply(ROWS), reply(OTHERS)), (reply(OTHERS), small[0])):
        assert judged(*pair, memory=100_000).why == "live: not read, as it takes over 0 MiB of memory (limits.memory)"
    assert judged(reply(b"[0]"), reply(ROWS), memory=100_000).why == (
        "shadow: not read, as it takes over 0 MiB of memory (limits.memory)"
    )
    assert judged(*small, memory=100_000).verdict is Verdict.MISMATCH


def test_what_one_shadows_answer_held_is_free_for_the_next() -> None:
    line = line_of(reply(ROWS), *[reply(OTHERS + b" " * at) for at in range(9)], memory=6 << 20)
    assert {leg.judgement.verdict for leg in decode(line).shadows.values() if leg.judgement} == {Verdict.MISMATCH}


def test_one_shadows_answer_takes_no_more_than_its_share_of_the_time() -> None:
    """The first would take for ever; the second is compared as if it had been alone."""

    class Clock:
        now = 0.0

        def __call__(self) -> float:
            Clock.now += 0.1
            return Clock.now

    line = line_of(reply(ROWS), reply(OTHERS), reply(b"[]"), clock=Clock())
    first, second = (leg.judgement for leg in decode(line).shadows.values())
    assert first is not None
    assert second is not None
    assert (first.verdict, second.verdict) == (Verdict.INCOMPARABLE, Verdict.MISMATCH)


def test_a_body_that_would_take_too_much_memory_to_read_is_recorded_as_text() -> None:
    raw = b"[" + b"{}," * 5000 + b"1]"
    record = decode(line_of(reply(raw), body_limit=1 << 20, memory=100_000))
    assert record.live.body is not None
    assert (record.live.body.kind, record.live.body.value) == ("text", raw.decode())


# --- the digest of the rules


def test_a_record_carries_the_digest_of_its_rules() -> None:
    line = line_of(reply(b"1"), reply(b"2"))
    assert line.endswith(b',"control":null,"rules":"%b"}\n' % RULES.digest.encode())
    assert decode(line).rules == RULES.digest


def test_a_digest_is_of_what_the_rules_say() -> None:
    from shadowproxy.compare.judge.rules import Tolerance

    plain = Rules()
    assert len(plain.digest) == 16
    assert Rules(ignore=("/a", "/b", "/a")).digest == Rules(ignore=("/b", "/a")).digest
    assert Rules(tolerance={"/a": 1}).digest == Rules(tolerance={"/a": Tolerance(1.0, 0)}).digest
    different = [
        plain,
        Rules(ignore=("/a",)),
        Rules(unordered=("/a",)),
        Rules(tolerance={"/a": 1}),
        Rules(tolerance={"/a": Tolerance(1, 1)}),
        Rules(tolerance={"/*": 1, "/a": 2}),
        Rules(tolerance={"/a": 2, "/*": 1}),  # of two for one place, the last counts
    ]
    assert len({rules.digest for rules in different}) == len(different)


# --- secrets beyond the cut


def hides(line: bytes, *spelt: bytes) -> dict[str, Any]:
    for each in (SECRET.encode(), SECRET[:12].encode(), SECRET[-12:].encode(), *spelt):
        assert each not in line
    told: dict[str, Any] = json.loads(line)
    return told


PLACES: dict[str, Any] = {"redaction": Redaction(json=("/user/email",))}
ASKED = padded(user={"email": SECRET})
AROUND = "y" * 500


@pytest.mark.parametrize(
    "fields",
    [((b"Authorization", b"Bearer " + SECRET.encode()),), ((b"Cookie", b"sid=" + SECRET.encode()),)],
)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (padded(echo=SECRET), padded(echo="other")),
        (padded(echo="other"), padded(echo=SECRET)),
        (padded(echo=f"{AROUND} {SECRET} one"), padded(echo=f"{AROUND} {SECRET} two")),
        (padded(echo=f"{AROUND} {SECRET}"), padded(echo=f"{AROUND} {SECRET[:15]}")),
        (padded(echo=f"{AROUND}{'z' * 140} {SECRET} {AROUND}"), padded(echo=f"{AROUND}{'y' * 140} {SECRET} {AROUND}")),
        (padded(rows=[{"e": SECRET}, 1]), padded(rows="none")),
        (padded(rows=[{"e": f"mail {SECRET}!"}, 1]), padded(rows=1)),
        (padded(echo=SECRET).replace(b"@", b"\\u0040"), padded(echo="other")),
        (padded(echo=f"{AROUND} {SECRET} one").replace(b"@", b"\\u0040"), padded(echo=f"{AROUND} {SECRET} two")),
        (padded(echo=SECRET).replace(b"alice", b"\\u0061lice"), padded(echo="other")),
    ],
)
def test_a_secret_of_the_head_is_hidden_beyond_the_cut(fields: Fields, one: bytes, other: bytes) -> None:
    told = hides(line_of(reply(one), reply(other), fields=(*JSON, *fields)))
    assert told["shadows"]["s0"]["verdict"] == "mismatch"
    for leg, body in ((told["live"], one), (told["shadows"]["s0"], other)):
        assert ("body_sha256" in leg) == (
            SECRET.encode() not in body.replace(b"\\u0040", b"@").replace(b"\\u0061", b"a")
        )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "fields"),
    [
        (padded(user={"email": SECRET}), padded(user={"email": "other"}), JSON),
        (padded(user={"email": SECRET}), padded(user=1), JSON),
        (padded(user=1), padded(user={"email": [SECRET]}), JSON),
        (padded(user={"email": {SECRET: 1}}), padded(user={"email": {SECRET: 2}}), JSON),
        (padded(detail=f"no such user: {SECRET}"), padded(detail="none"), JSON),
        (padded(detail=f"{AROUND}({SECRET}) {AROUND}"), padded(detail=AROUND), JSON),
        (b"x " * 500 + SECRET.encode(), b"x " * 500, TEXT),
        (b"x " * 500 + SECRET.encode(), b"x " * 500 + SECRET.encode() + b" and more", TEXT),
        (b"x " * 500, b"x " * 500 + SECRET.encode(), TEXT),
        (b'data: {"user": {"email": "%b"}}\n\n' % SECRET.encode() * 20, b"data: {}\n\n" * 20, EVENTS),
        (b"data: {}\n\n" * 20, b'data: {"m": "for %b"}\n\n' % SECRET.encode() * 20, EVENTS),
        (b'{"user": {"email": "%b"}}\n' % SECRET.encode() * 20, b"{}\n" * 20, ((b"Content-Type", b"x/ndjson"),)),
        (SECRET.encode() + b"\xff" * 200, b"\xff" * 200, ODD),
        (b"\xff" * 200 + SECRET.encode(), b"\xff" * 200, ODD),
        (b"a=1&" * 100 + b"email=" + SECRET.encode(), b"a=1&" * 100, FORM),
    ],
)
def test_a_secret_of_the_body_is_hidden_beyond_the_cut(one: bytes, other: bytes, fields: Fields, packed: bool) -> None:
    def sent(body: bytes) -> Reply:
        if packed:
            return reply(gzip.compress(body, mtime=0), (*fields, (b"Content-Encoding", b"gzip")))
        return reply(body, fields)

    digits = SECRET.encode().hex(" ").encode()[:20]
    for request in (ASKED, padded(x=1)):
        if request != ASKED and b"email" not in one + other:
            continue
        told = hides(line_of(sent(one), sent(other), request=request, **PLACES), digits)
        assert told["shadows"]["s0"]["verdict"] in ("mismatch", "incomparable")
        assert "alice" not in json.dumps(told)
    hides(line_of(sent(one), sent(other), request=ASKED, bodies="none", **PLACES), digits)


def test_a_request_over_the_limit_is_redacted_before_it_is_cut() -> None:
    request = json.dumps({"user": {"email": SECRET, "n": 1}, "pad": "x" * 1000}).encode()
    told = hides(line_of(reply(b"{}"), request=request, **PLACES))["request"]
    assert told["body_text"] == json.dumps({"user": {"email": BLANK, "n": 1}, "pad": "x" * 1000})[:LIMIT]
    assert told["body_truncated"]
    assert "body_sha256" not in told
    for broken in (request + b"}", request[:-1]):
        told = hides(line_of(reply(b"{}"), request=broken, **PLACES))["request"]
        assert told["body_redacted"]


def test_a_form_over_the_limit_is_searched_whole() -> None:
    request = b"a=1&" * 100 + b"password=" + SECRET.encode()
    told = hides(line_of(reply(padded(echo=SECRET)), request=request, fields=FORM))
    assert "body_sha256" not in told["request"]
    assert told["request"]["body_text"] == "a=1&" * 25
    told = hides(line_of(reply(padded()), request=b"a=1&" * 100, fields=FORM))
    assert "body_sha256" in told["request"]


@pytest.mark.parametrize("reads", range(2, 12))
def test_what_could_not_be_searched_in_time_is_withheld(reads: int) -> None:
    """Whenever the time is over, nothing secret is shown."""
    answer = json.dumps({"rows": [{"id": at, "m": f"{AROUND} {SECRET}"} for at in range(300)]}).encode()
    other = json.dumps({"rows": [{"id": -at, "m": f"{AROUND} {SECRET}!"} for at in range(300)]}).encode()
    request = json.dumps({"rows": [{"a": at} for at in range(2000)], "user": {"email": SECRET}}).encode()
    keyed = (*JSON, (b"X-Api-Key", SECRET.encode()))
    line = line_of(reply(answer), reply(other), request=request, clock=Late(reads), fields=keyed, **PLACES)
    told = hides(line)
    assert "x-api-key" in told["request"]["headers"]


def test_too_many_secrets_withhold_the_request_and_hide_those_near_its_places() -> None:
    rows = [{"email": f"user{at:06d}@example.com"} for at in range(3000)]
    request = json.dumps({"rows": rows}).encode()
    redaction = Redaction(json=("/rows/*/email",))
    told = json.loads(
        line_of(reply(json.dumps(rows[:5]).encode()), request=request, memory=1 << 20, redaction=redaction)
    )
    assert told["request"]["body_redacted"]
    assert "user00" not in json.dumps(told)


def test_a_text_with_many_secrets_in_it_is_read_once() -> None:
    """A pattern of all spellings would be tried at each character."""
    secrets = [f"secret-{at:05d}" for at in range(60)]
    head = tuple((b"X-Api-Key", each.encode()) for each in secrets)
    body = ("a. " * 100_000 + " ".join(secrets)).encode()
    told = json.loads(line_of(reply(body, TEXT), reply(body + b"!", TEXT), fields=(*JSON, *head), body_limit=1 << 20))
    assert "secret-" not in json.dumps(told)
    assert told["live"]["body_text"].endswith(" ".join([BLANK] * 60))


# --- decoding


def test_gzip_members_are_undone_in_linear_time_and_are_bounded() -> None:
    member = gzip.compress(b"", mtime=0)
    many = gzip.compress(b"a", mtime=0) + member * 5000 + b"\0" * 5000 + gzip.compress(b"b" * 5000, mtime=0) + b"\0"
    assert content_module.decoded(many, "gzip") == b"a" + b"b" * 5000
    with pytest.raises(content_module.Undecodable, match="too many gzip members"):
        content_module.decoded(member * 500_000, "gzip")
    big = b"".join(b"%d " % at for at in range(200_000))
    assert content_module.decoded(gzip.compress(big) + gzip.compress(big), "gzip") == big * 2
    assert (
        content_module.decoded(gzip.compress(big)[:1000], "gzip")
        == big[: len(content_module.decoded(gzip.compress(big)[:1000], "gzip"))]
    )


@pytest.mark.parametrize("start", ['"', '{"a": "', "[1, "])
def test_a_broken_request_is_searched_in_linear_time(start: str) -> None:
    """Each of its quotes was tried as the beginning of a string that never ends."""
    request = (f'{{"user": {{"email": "{SECRET}"}}, ' + start + '\\"' * 400_000 + " 123456").encode()
    told = hides(line_of(reply(padded(echo=SECRET)), request=request, body_limit=1 << 20, **PLACES))
    assert told["request"]["body_redacted"]


@pytest.mark.parametrize(
    ("unit", "count"), [("a=b&", 100_000), ("token=abcdefghijklmnop&", 50_000), ("a=%41;", 50_000)]
)
def test_what_searching_a_form_holds_in_memory_is_bounded_by_the_budget(unit: str, count: int) -> None:
    form = (unit * count).encode()
    head = read_head(FORM, Redaction(), Heads().plain)
    content = bodies.read_body(head, form, len(form), LIMIT, Budget())
    tracemalloc.start()
    try:
        Redaction().parameters(form.decode())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert whole_form(content, Budget(memory=peak)) is None
    budget = Budget(memory=5 * peak)
    assert whole_form(content, budget) == form.decode()
    assert budget.held <= 2 * len(form)  # nothing but the text
