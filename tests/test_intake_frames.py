"""Frames between an application and its companion are read as they were written, and nothing received raises."""

import ast
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowproxy import intake_frames as frames
from shadowproxy.exchange import Failure, Field, LiveLeg, Outcome, Reply
from shadowproxy.intake_frames import Begin, Call, Candidate, Decoder, End, Frame, Hello, Malformed, Result, Welcome

KEYS = st.integers(0, 2**64 - 1)
NUMBERS = st.integers(0, 2**53)
TIMES = st.floats(0, 1e9)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text("abcdefgh_-", min_size=1, max_size=12)
LINES = st.text("abc :", max_size=20).map(lambda text: " ".join(text.split()))
BODIES = st.binary(max_size=40)
FIELDS = st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=4).map(tuple)
IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
DIGESTS = st.none() | st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def begins(draw: st.DrawFn) -> Begin:
    body = draw(BODIES)
    return Begin(
        key=draw(KEYS),
        id=draw(st.none() | IDS),
        record=draw(st.none() | st.uuids().map(str)),
        at_ns=draw(NUMBERS),
        age_ms=draw(TIMES),
        method=draw(st.sampled_from(["CALL", "POST", "GET", "M-SEARCH"])),
        target=draw(st.binary(max_size=20)),
        fields=draw(FIELDS),
        body=body,
        body_bytes=len(body) + draw(NUMBERS),
        body_sha256=draw(DIGESTS),
        unfit=draw(st.sampled_from([None, Outcome.OVERSIZE, Outcome.OVERLOAD])),
        shadows=draw(st.none() | st.lists(NAMES, max_size=3).map(tuple)),
        pickle=draw(BODIES),
    )


@st.composite
def replies(draw: st.DrawFn, total_ms: float, began_ms: float) -> Reply:
    body = draw(BODIES)
    return Reply(
        status=draw(st.integers(100, 999)),
        fields=draw(FIELDS),
        body=body,
        body_bytes=len(body) + draw(NUMBERS),
        first_byte_ms=draw(TIMES),
        total_ms=total_ms,
        began_ms=began_ms,
        body_sha256=draw(DIGESTS),
        caller_left=draw(st.booleans()),
        arrivals=draw(BODIES),
    )


@st.composite
def ends(draw: st.DrawFn) -> End:
    total_ms, began_ms = draw(TIMES), draw(TIMES)
    reply = draw(replies(total_ms, began_ms))
    outcome = draw(st.sampled_from([each for each in Outcome if each is not Outcome.OK]))
    live: LiveLeg = reply
    if draw(st.booleans()):
        live = Failure(outcome, draw(LINES), total_ms, draw(st.sampled_from([reply, None])), began_ms)
    return End(draw(KEYS), live)


def one(data: bytes) -> Frame:
    decoder = Decoder()
    [received] = decoder.feed(data)
    assert (decoder.held, decoder.error) == (0, None)
    return received


@settings(max_examples=30)
@given(begins())
def test_a_begin_is_read_as_it_was_written(begin: Begin) -> None:
    assert frames.begin_of(one(frames.begin_frame(begin))) == begin


@settings(max_examples=30)
@given(ends())
def test_an_end_is_read_as_it_was_written(end: End) -> None:
    assert frames.end_of(one(frames.end_frame(end.key, end.live))) == end


@settings(max_examples=30)
@given(
    st.builds(Hello, protocol=NUMBERS, process=NUMBERS, version=TEXTS),
    st.builds(
        Welcome,
        protocol=NUMBERS,
        version=TEXTS,
        capture=NUMBERS,
        request_id=TEXTS,
        shadows=st.lists(TEXTS).map(tuple),
        refused=st.none() | TEXTS,
    ),
    st.builds(
        Candidate,
        name=NAMES,
        thread=st.booleans(),
        executable=TEXTS,
        path=st.lists(TEXTS).map(tuple),
        directory=TEXTS,
        main=TEXTS,
        pickle=BODIES,
    ),
    st.builds(Call, key=KEYS, name=NAMES, seconds=TIMES, pickle=BODIES),
    st.builds(Result, key=KEYS, failed=st.none() | TEXTS, body=BODIES),
    st.dictionaries(NAMES, NUMBERS),
)
def test_every_other_frame_is_read_as_it_was_written(
    hello: Hello, welcome: Welcome, candidate: Candidate, call: Call, result: Result, lost: dict[str, int]
) -> None:
    assert frames.hello_of(one(frames.hello_frame(hello))) == hello
    assert frames.welcome_of(one(frames.welcome_frame(welcome))) == welcome
    assert frames.candidate_of(one(frames.candidate_frame(candidate))) == candidate
    assert frames.call_of(one(frames.call_frame(call))) == call
    assert frames.result_of(one(frames.result_frame(result))) == result
    assert frames.lost_of(one(frames.lost_frame(lost))) == lost


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(frames.HELLO, frames.RESULT), KEYS, BODIES, BODIES), max_size=6), st.data())
def test_frames_are_the_same_however_their_bytes_are_cut(
    sent: list[tuple[int, int, bytes, bytes]], data: st.DataObject
) -> None:
    wire = b"".join(frames.frame(kind, key, {"a": key % 7}, body, rest) for kind, key, body, rest in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    decoder, received = Decoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        received += decoder.feed(wire[start:end])
    assert received == [Frame(kind, key, orjson.dumps({"a": key % 7}), body, rest) for kind, key, body, rest in sent]
    assert (decoder.held, decoder.error) == (0, None)


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_bytes_of_another_program_raise_nothing(received: list[bytes]) -> None:
    decoder = Decoder(1000)
    for data in received:
        decoder.feed(data)
    assert decoder.held <= 1000 + frames.PREFIX
    if decoder.error is not None:
        assert decoder.feed(frames.frame(frames.FLUSH, 1)) == [], "nothing after an error is read"


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frames.frame(frames.RESULT)[:4] + b"\x0b" + frames.frame(frames.RESULT)[5:],  # a kind that there is not
        b"\0\0\0\x0f" + frames.frame(frames.FLUSH)[4:],  # shorter than its fixed part
        b"\0\0\0\x10\x07" + bytes(8) + b"\0\0\0\x01" + bytes(4),  # its head is longer than the frame
        frames.frame(frames.BEGIN, 1, None, bytes(2000)),  # longer than this end takes
    ],
)
def test_what_is_no_frame_is_named_and_not_kept(wire: bytes) -> None:
    decoder = Decoder(1000)
    assert decoder.feed(frames.frame(frames.FLUSH, 3) + wire)[0].key == 3, "what came before it is read"
    assert decoder.error
    assert decoder.held == 0


def test_a_callable_may_be_longer_than_other_frames() -> None:
    candidate = Candidate("f", False, "python", (), "/", "", bytes(5000))
    [received] = Decoder(1000).feed(frames.candidate_frame(candidate))
    assert frames.candidate_of(received) == candidate


READERS = [
    frames.hello_of,
    frames.welcome_of,
    frames.begin_of,
    frames.end_of,
    frames.lost_of,
    frames.candidate_of,
    frames.call_of,
    frames.result_of,
]


def a_begin(**changed: object) -> dict[str, object]:
    head = orjson.loads(one(frames.begin_frame(Begin(1, "a", None, 1, 0.0, "GET", b"/", (), b"", 0))).head)
    return {**head, **changed}


def an_end(**changed: object) -> dict[str, object]:
    head = orjson.loads(one(frames.end_frame(1, Reply(200, (), b"", 0, 1.0, 1.0))).head)
    return {**head, **changed}


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        (frames.BEGIN, a_begin(id="two words")),
        (frames.BEGIN, a_begin(record="none")),
        (frames.BEGIN, a_begin(method="GET\n")),
        (frames.BEGIN, a_begin(target="/\u20ac")),
        (frames.BEGIN, a_begin(fields=[["a"]])),
        (frames.BEGIN, a_begin(fields=None)),
        (frames.BEGIN, a_begin(unfit="timeout")),
        (frames.BEGIN, a_begin(body_bytes=-1)),
        (frames.BEGIN, a_begin(shadows=[1])),
        (frames.END, an_end(status=99)),
        (frames.END, an_end(status=None)),
        (frames.END, an_end(outcome="ok", error="")),
        (frames.END, an_end(outcome="late", error="")),
        (frames.END, an_end(total_ms=True)),
    ],
)
def test_a_head_that_says_what_cannot_be_is_data(kind: int, head: dict[str, object]) -> None:
    read = frames.begin_of if kind == frames.BEGIN else frames.end_of
    result = read(one(frames.frame(kind, 1, head)))
    assert isinstance(result, Malformed)
    assert "\n" not in result.why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30)
@given(st.sampled_from([a_begin(), an_end(), {}]), st.dictionaries(st.sampled_from([*a_begin(), *an_end()]), JSON))
def test_whatever_a_head_says_reading_it_raises_nothing(head: dict[str, object], changed: dict[str, object]) -> None:
    for read in READERS:
        for raw in (orjson.dumps({**head, **changed}), b"[]", b"{", b""):
            assert read(Frame(frames.BEGIN, 1, raw, b"", b"")) is not None


def test_a_body_that_is_longer_than_it_says_is_not_taken() -> None:
    begin = Begin(1, None, None, 1, 0.0, "GET", b"/", (), b"abc", 2)
    assert isinstance(frames.begin_of(one(frames.begin_frame(begin))), Malformed)


def test_the_page_has_every_kind() -> None:
    # From the source: a compiled module keeps no docstring.
    source = Path(__file__).parent.parent / "shadowproxy" / "intake_frames" / "__init__.py"
    page = ast.get_docstring(ast.parse(source.read_text())) or ""
    kinds = [name for name, value in vars(frames).items() if name.isupper() and isinstance(value, int)]
    kinds = [name for name in kinds if name not in {"PROTOCOL", "HEAD_MOST", "MOST", "PREFIX"} and name[0] != "_"]
    assert sorted(getattr(frames, name) for name in kinds) == list(range(frames.HELLO, frames.RESULT + 1))
    assert [name for name in kinds if f"| {name} |" not in page] == []


def test_a_field_that_is_no_text_passes_byte_for_byte() -> None:
    field: Field = (b"X-\xff", b"\x80\x00\n")
    begin = Begin(1, None, None, 1, 0.0, "GET", b"/\xe9", (field,), b"", 0)
    read = frames.begin_of(one(frames.begin_frame(begin)))
    assert isinstance(read, Begin)
    assert (read.fields, read.target) == ((field,), b"/\xe9")
