"""Whatever becomes of a body in a known format, reading it raises nothing, ends soon, and stays within its bounds."""

import json
import random
import tracemalloc
from typing import Any

import format_samples as samples
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logs import record, report_json
from test_formats import FORM, FORM_BODY, FRAMES, MSGPACK, NPY, PNG, npy_of, part, sent, tensor

from shadowproxy.answers import answer_value, content_of, failed_reason, reason_of
from shadowproxy.answers.body import content_in
from shadowproxy.answers.leaves import Vector
from shadowproxy.answers.masking import LONGEST
from shadowproxy.budget import Budget
from shadowproxy.compare.fold.summary import load, save, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import compare, judge
from shadowproxy.compare.report.html import to_html
from shadowproxy.record import Body, RecordedLeg

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
SAMPLES: dict[str, tuple[bytes, str]] = {
    **{name: (value, NPY) for name, value in vars(samples).items() if name.startswith("NPY_")},
    **{name: (value, MSGPACK) for name, value in vars(samples).items() if name.startswith("MSGPACK")},
    **{name: (value, FRAMES) for name, value in vars(samples).items() if name.startswith("FRAMES")},
    "NPZ": (samples.NPZ, "application/x-npz"),
    "ARROW_FILE": (samples.ARROW_FILE, "application/vnd.apache.arrow.file"),
    "ARROW_STREAM": (samples.ARROW_STREAM, ARROW),
    "PARQUET": (samples.PARQUET, PARQUET),
    "OIP_ANSWER": (samples.OIP_ANSWER, "application/octet-stream"),
    "OIP_REQUEST": (samples.OIP_REQUEST, ""),
    "CSV": (b'a,b\r\n1,"x ""y"""\r\n0.5,\r\n', "text/csv; charset=utf-8"),
    "NUMBERS": (b"0.1,0.2\n1e-7,nan\n", "text/plain"),
    "MULTIPART": (FORM_BODY, FORM),
    "PNG": (PNG, "image/png"),
    "EMBEDDINGS": (b'{"object":"list","data":[{"embedding":"zczMPc3MTL6amZk+"},{"b64_json":"AAAA"}]}', ""),
    "IN_TEXT": (b'{"arguments":"{\\"a\\": [1, {\\"b\\": \\"[2]\\"}]}"}', "application/json"),
}
LENGTHS = {"OIP_ANSWER": samples.OIP_ANSWER_LENGTH, "OIP_REQUEST": samples.OIP_REQUEST_LENGTH}
TYPES = [*{kind for _, kind in SAMPLES.values()}, "application/json", "text/html", "text/event-stream"]
PIECES = [
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff" * 8,
    b"-1",
    b"1" * 30,
    b"[",
    b"{",
    b'"',
    b"\r\n",
    b"--b",
    b",",
]


@st.composite
def mutated(draw: st.DrawFn, raw: bytes) -> bytes:
    """The body cut, with bytes changed, taken out, put in or repeated."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        end = draw(st.integers(at, min(len(raw), at + 40)))
        match draw(st.sampled_from(["cut", "change", "remove", "insert", "repeat", "move"])):
            case "cut":
                raw = raw[:at]
            case "change":
                raw = raw[:at] + bytes(each ^ draw(st.integers(1, 255)) for each in raw[at : at + 4]) + raw[at + 4 :]
            case "remove":
                raw = raw[:at] + raw[end:]
            case "insert":
                raw = raw[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=8)) + raw[at:]
            case "repeat":
                raw = raw[:end] + raw[at:end] * draw(st.integers(1, 50)) + raw[end:]
            case "move":
                raw = raw[at:] + raw[:at]
    return raw


@st.composite
def broken_answers(draw: st.DrawFn) -> RecordedLeg:
    name = draw(st.sampled_from(list(SAMPLES)))
    raw, content_type = SAMPLES[name]
    kind = content_type if draw(st.booleans()) else draw(st.sampled_from(TYPES))
    fields: dict[str, Any] = {}
    if name in LENGTHS:
        fields["inference_header_content_length"] = draw(st.just(LENGTHS[name]) | st.integers(-2, 700))
    if draw(st.booleans()):
        fields["x_amzn_sagemaker_content_type"] = draw(st.sampled_from(TYPES))
    return sent(draw(mutated(raw)), kind, **fields)


def read_all(answer: RecordedLeg) -> None:
    found = content_of(answer)
    repr(found)
    json.dumps(answer_value(answer))
    for line in (failed_reason(answer), reason_of(answer)):
        assert line is None or (0 < len(line) <= LONGEST and line.isprintable())
    for each in (*found.warnings, *([found.broken] if found.broken else [])):
        assert len(each) < 400
    assert compare(answer, answer, Rules()).verdict in ("match", "incomparable")


@given(broken_answers())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_any_change_of_a_body_is_read(answer: RecordedLeg) -> None:
    read_all(answer)


@given(broken_answers(), broken_answers(), st.sampled_from([Rules(), Rules(unordered=("/**",)), Rules(ignore=("/*",))]))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_two_are_judged_as_a_record_can_hold_it(one: RecordedLeg, other: RecordedLeg, rules: Rules) -> None:
    judged = judge(one, other, rules)
    json.dumps([[each.path, each.live, each.shadow] for each in judged.differences], allow_nan=False)
    assert (judged.verdict == "mismatch") == (judge(other, one, rules).verdict == "mismatch")


@given(st.lists(broken_answers(), min_size=2, max_size=8))
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_of_them_make_a_report(made: list[RecordedLeg]) -> None:
    records = [record(n, one, n, s=other) for n, (one, other) in enumerate(zip(made, reversed(made), strict=True))]
    summary = summarise(records, Rules())
    figures = report_json(summary)
    assert report_json(load(save(summary))) == figures
    to_html(figures)


# --- bounds

_MEMORY = 8 << 20
HUGE = {
    "a shape without numbers": (npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 0)}"), NPY),
    "empty texts": (npy_of("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}"), NPY),
    "columns": (npy_of("{'descr': '|u1', 'fortran_order': True, 'shape': (200000, 2)}", bytes(400_000)), NPY),
    "many maps": (b"\xdc\x7f\xff" + b"\x80" * 32767, MSGPACK),
    "many arrays": (b"\xdd" + (200_000).to_bytes(4, "big") + b"\x90" * 200_000, MSGPACK),
    "deep arrays": (b"\x91" * 100_000, MSGPACK),
    "many parts": (b"--b\r\n\r\n\r\n" * 50_000, FORM),
    "many cells": (b"," * 400_000, "text/csv"),
    "many rows": (b"1\n" * 200_000, "text/plain"),
    "many quotes": (b'""' * 200_000, "text/csv"),
    "brackets in a text": (b'"' * 100_000, "text/csv"),
    "many frames": (samples.FRAMES_ERROR * 2_000, FRAMES),
    "no frames": (samples.FRAMES_ERROR[:12] * 20_000, FRAMES),
    "headers without names": (b"\0\0\0\x10" * 50_000, FRAMES),
    "boundaries": (b"\r\n--b" * 50_000, FORM),
    "a long boundary": (b"--" + b"x" * 150 + b"\r\n" + (b"\r\n--" + b"x" * 149) * 2_000, ""),
    "escapes": (b'{"a": "' + b"\\\\" * 100_000 + b'"}', "application/json"),
    "quotes in quotes": (b'{"data": [{"embedding": "' + b"A" * 200_000 + b'"}]}', "application/json"),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_body_that_asks_for_much_stays_within_its_bounds(name: str) -> None:
    raw, content_type = HUGE[name]
    answer = sent(raw, content_type)
    budget = Budget(memory=_MEMORY)
    tracemalloc.start()
    try:
        found = content_of(answer, budget)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < _MEMORY + 8 * len(raw)
    assert found.kind in ("json", "text", "bytes", "unknown")
    assert budget.held <= _MEMORY


def test_many_elements_of_a_tensor_cost_steps() -> None:
    raw, length = tensor(b"\0\0\0\0" * 30_000, "BYTES", [30_000])
    found = content_of(sent(raw, inference_header_content_length=length), Budget(steps=100_000))
    assert (found.kind, found.why) == ("unknown", "not read, as it takes too many steps")


def test_a_million_numbers_are_never_a_list() -> None:
    raw, length = tensor(bytes(4_000_000), "FP32", [1_000_000])
    answer = sent(raw, inference_header_content_length=length)
    tracemalloc.start()
    try:
        value = answer_value(answer)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(value["outputs"]["y"], Vector)
    assert most < 4 * len(raw)


def test_a_request_is_bounded_too() -> None:
    raw = b"\xdd" + (200_000).to_bytes(4, "big") + b"\x90" * 200_000
    found = content_in(Body("bytes", raw, len(raw)), {"content-type": MSGPACK}, Budget(memory=_MEMORY))
    assert found.kind == "unknown"


def test_two_long_vectors_are_compared_at_the_speed_of_memory() -> None:
    one, other = bytearray(4_000_000), bytearray(4_000_000)
    other[-1] = 0x40  # the last number is 2.0
    legs = []
    for data in (one, other):
        raw, length = tensor(bytes(data), "FP32", [1_000_000])
        legs.append(sent(raw, inference_header_content_length=length))
    judged = judge(legs[0], legs[1], Rules())
    assert [each.path for each in judged.differences] == ["/outputs/0/data/999999"]


# --- many mutations, within the steps of a small budget

_STEPS = 100_000
_GROWN = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\xff", b"\x80", b"9" * 9, b"-1", b"\xdd\xff\xff"]


def spoiled(source: random.Random, raw: bytes, others: list[bytes]) -> bytes:
    """The body with some of its bits turned, cut, with lengths that grow, spliced with another, or within another."""
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(raw) + 1)
        way = source.choice(("flip", "cut", "grow", "splice", "nest", "double"))
        if way == "flip" and at < len(raw):
            raw = raw[:at] + bytes([raw[at] ^ 1 << source.randrange(8)]) + raw[at + 1 :]
        elif way == "cut":
            raw = raw[:at] if source.random() < 0.5 else raw[at:]
        elif way == "grow":
            length = source.choice(_GROWN)
            raw = raw[:at] + length + raw[at + len(length) :]
        elif way == "splice":
            other = source.choice(others)
            raw = raw[:at] + other[source.randrange(len(other)) :]
        elif way == "nest":
            raw = part(raw) if source.random() < 0.5 else b"--b\r\n\r\n" + raw + b"\r\n--b--\r\n"
        elif way == "double" and len(raw) < 20_000:
            raw = raw[:at] + raw
    return raw


def steps_left(budget: Budget) -> int:
    return int(repr(budget).split()[1])


@pytest.mark.parametrize("name", SAMPLES)
def test_no_mutation_takes_more_than_its_bytes_are_worth(name: str) -> None:
    source, others = random.Random(f"spoiled {name}"), [raw for raw, _ in SAMPLES.values()]
    raw, content_type = SAMPLES[name]
    for _ in range(120):
        body = spoiled(source, raw, others)
        kind = content_type if source.random() < 0.7 else source.choice(TYPES)
        fields: dict[str, Any] = {"x_amzn_sagemaker_content_type": source.choice(TYPES)}
        if name in LENGTHS:
            fields["inference_header_content_length"] = LENGTHS[name] + source.choice((0, 0, 1, -1, 9**9))
        budget = Budget(steps=_STEPS, memory=_MEMORY)
        found = content_of(sent(body, kind, **fields), budget)
        assert found.kind in ("json", "text", "bytes", "empty", "unknown")
        assert budget.held <= _MEMORY
        # 2.1 a byte at most were seen; but a ZIP costs what its files claim to be, before it is undone.
        most = _STEPS if name == "NPZ" else 4 * (len(body) + 200)
        assert found.kind == "unknown" or 0 <= _STEPS - steps_left(budget) <= most
        small = content_of(sent(body, kind, **fields), Budget(steps=50, memory=1 << 16))
        assert small.kind in ("json", "text", "bytes", "empty", "unknown")
