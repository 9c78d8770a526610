"""Answers in formats of bytes on their way: judged whole, recorded, read again, counted and shown."""

import base64
import gzip
import io
import json
import struct
from typing import Any

import format_samples as samples
import pytest
from conftest import StartProxy
from fakes import answer, chunked
from logs import pair_of, record
from rich.console import Console
from test_formats import (
    FORM,
    FORM_BODY,
    FRAMES,
    MSGPACK,
    NPY,
    PNG,
    embeddings,
    floats,
    json_answer,
    npy_of,
    oip,
    part,
    sent,
    tensor,
    tensors,
)
from test_whole_bodies import line_of, reply

from shadowproxy.answers import ALONE, About, about
from shadowproxy.answers.leaves import MOST_NESTED
from shadowproxy.budget import Budget
from shadowproxy.compare.fold.requests import asked_by
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import compare, judge
from shadowproxy.compare.report.show import print_exchange
from shadowproxy.exchange import Exchange, Fields, Request
from shadowproxy.record import Body, Judgement, Record, RecordedLeg, RecordedRequest, decode
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import Redaction


def fields(content_type: str, **more: Any) -> Fields:
    named = {"Content-Type": content_type, **more}
    return tuple((name.replace("_", "-").encode(), str(each).encode()) for name, each in named.items())


def tensors_of(*values: float, gzipped: bool = False) -> tuple[bytes, Fields]:
    raw, length = tensor(floats(*values))
    said = fields("application/octet-stream", Inference_Header_Content_Length=length)
    return (gzip.compress(raw), (*said, (b"Content-Encoding", b"gzip"))) if gzipped else (raw, said)


def by_no_rules(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, pair: About) -> Judgement:
    return judge(live, shadow, Rules(), budget, pair)


CASES: dict[str, tuple[tuple[bytes, Fields], tuple[bytes, Fields], tuple[bytes, Fields], str]] = {
    "tensors": (tensors_of(0.1, 0.9), tensors_of(0.1000001, 0.9), tensors_of(0.1, 0.8), "/outputs/0/data/1"),
    "gzipped tensors": (
        tensors_of(0.1, 0.9, gzipped=True),
        tensors_of(0.1, 0.9),
        tensors_of(0.1, 0.8, gzipped=True),
        "/outputs/0/data/1",
    ),
    "npy": (
        (samples.NPY_LIKE, fields(NPY)),
        (samples.NPY_LIKE[:-8] + floats(0.1, 0.9), fields(NPY)),
        (samples.NPY_LIKE[:-8] + floats(0.2, 0.9), fields(NPY)),
        "/0",
    ),
    "event frames": (
        (part(b"0.1,") + part(b"0.2"), fields(FRAMES, X_Amzn_SageMaker_Content_Type="text/csv")),
        (part(b"0.1,0.2"), fields(FRAMES, X_Amzn_SageMaker_Content_Type="text/csv")),
        (part(b"0.1,0.3"), fields(FRAMES, X_Amzn_SageMaker_Content_Type="text/csv")),
        "/1",
    ),
    "embeddings": (
        (json.dumps(embeddings([1, 2]).body.value).encode(), fields("application/json")),  # type: ignore[union-attr]
        (json.dumps(embeddings([1, 2.000001]).body.value).encode(), fields("application/json")),  # type: ignore[union-attr]
        (json.dumps(embeddings([2, 1]).body.value).encode(), fields("application/json")),  # type: ignore[union-attr]
        "/data/0/embedding",
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("limit", [10, 100_000])
def test_answers_are_judged_whole_and_the_log_says_the_same(name: str, limit: int) -> None:
    live, equal, other, place = CASES[name]
    line = line_of(*(reply(*each) for each in (live, equal, other)), body_limit=limit)
    found = decode(line)
    one, two = (found.shadows[shadow].judgement for shadow in ("s0", "s1"))
    assert one is not None
    assert two is not None
    assert (one.verdict, one.why) == ("match", None)
    assert (two.verdict, [each.path for each in two.differences]) == ("mismatch", [place])
    for shadow, expected in (("s0", "match"), ("s1", "mismatch")):
        again = recompared(found.live, found.shadows[shadow], Rules(), recorded_by=found.rules)
        assert again.verdict == expected


def test_a_broken_answer_beside_a_good_one_is_told() -> None:
    live, _, _, _ = CASES["npy"]
    judgement = decode(line_of(reply(*live), reply(live[0][:-1], live[1]))).shadows["s0"].judgement
    assert judgement is not None
    assert judgement.verdict == "mismatch"
    (found,) = judgement.differences
    assert (found.kind, found.shadow) == ("failed", "not npy: its shape […] takes # bytes and # came")


def test_a_record_names_the_format_and_what_is_wrong() -> None:
    live, _, other, _ = CASES["tensors"]
    lying = reply(PNG, fields("image/jpeg"))
    found = json.loads(line_of(reply(*live), reply(*other), lying, reply(b'{"a": 1}')))
    assert found["live"]["format"] == "open inference"
    legs = found["shadows"].values()
    assert [leg.get("format") for leg in legs] == ["open inference", "image/png", None]
    assert [leg.get("warnings") for leg in legs] == [None, ["named image/jpeg, and is image/png"], None]


def test_what_is_redacted_in_json_is_shown_of_no_other_format() -> None:
    live, _, other, _ = CASES["tensors"]
    line = line_of(reply(*live), reply(*other), redaction=Redaction(json=("/outputs/*/data",)))
    found = decode(line).shadows["s0"].judgement
    assert found is not None
    assert {each.live for each in found.differences} == {"[redacted]"}


def test_predictions_in_tensors_and_in_another_envelope_are_paired() -> None:
    column = oip(floats(0.1, 0.9), shape=[2, 1])  # as MLServer announces a row
    assert compare(column, json_answer({"predictions": [0.1, 0.9]}), Rules()).verdict == "match"
    assert compare(json_answer({"predictions": [[0.1], [0.9]]}), column, Rules()).verdict == "match"
    found = compare(json_answer({"predictions": [0.1, 0.8]}), column, Rules())
    assert found.diff is not None
    (difference,) = found.diff.listed()
    assert (difference.path, difference.shadow_path) == ("/predictions/1", "/outputs/0/data/1")
    rows = oip(floats(0.1, 0.9, 0.8, 0.2), shape=[2, 2])
    assert compare(json_answer({"predictions": [[0.1, 0.9], [0.8, 0.2]]}), rows, Rules()).verdict == "match"
    assert compare(json_answer({"predictions": [0.1, 0.9, 0.8, 0.2]}), rows, Rules()).verdict == "mismatch"


def test_a_configured_place_leads_into_a_vector() -> None:
    rules = Rules(predictions={"s": ("/score", "/outputs/0/data/1")})
    pair = ALONE._replace(shadow="s")
    two = oip(floats(0.1, 0.9))
    assert compare(json_answer({"score": 0.9}), two, rules, pair).verdict == "match"
    assert compare(json_answer({"score": 0.1}), two, rules, pair).verdict == "mismatch"


@pytest.mark.parametrize(("asked", "verdict"), [("id-1", "mismatch"), (None, "match")])
def test_an_id_that_the_caller_sent_in_a_binary_request_is_compared(asked: str | None, verdict: str) -> None:
    head = {"inputs": [{"name": "x", "parameters": {"binary_data_size": 4}, "datatype": "FP32", "shape": [1]}]}
    request, length = tensors({**head, "id": asked} if asked else head, floats(1))
    answers = []
    for name in ("id-1", "id-2"):
        body, size = tensor(floats(1))
        raw = body[:1] + b'"id":"' + name.encode() + b'",' + body[1:]
        said = fields("application/octet-stream", Inference_Header_Content_Length=size + len(raw) - len(body))
        answers.append(reply(raw, said))
    said = fields("", Inference_Header_Content_Length=length)
    exchange = Exchange(
        Request("id", "rec", 0, "POST", b"/", said, request, len(request)), answers[0], {"s0": answers[1]}
    )
    found = decode(encode(exchange, proxy="p", policy=Policy(), judge=by_no_rules, rules=Rules().digest))
    judgement = found.shadows["s0"].judgement
    assert judgement is not None
    assert judgement.verdict == verdict
    again = recompared(found.live, found.shadows["s0"], Rules(), about(found, "s0"), found.rules)
    assert again.verdict == verdict


# --- the report


def exchanges(*pairs: tuple[RecordedLeg, RecordedLeg]) -> list[Record]:
    return [record(number, live, number, s=shadow) for number, (live, shadow) in enumerate(pairs)]


def places(records: list[Record]) -> dict[str, Any]:
    return {json.loads(key)[0]: outputs for key, outputs in pair_of(summarise(records, Rules())).outputs.items()}


def test_tensors_are_counted_at_the_places_of_the_same_answer_as_json() -> None:
    value = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [0.25, 0.75]}]}
    both = places(exchanges((oip(floats(0.25, 0.75)), json_answer(value))))
    assert "/outputs/y" in both
    assert both.keys() == places(exchanges((json_answer(value), json_answer(value)))).keys()


def test_every_format_is_counted() -> None:
    answers = [
        sent(samples.NPY_FLOAT32, NPY),
        sent(b"0.25,0.75\n0.5,0.5\n", "text/csv"),
        sent(b"0.5", "text/csv"),
        sent(samples.MSGPACK_SINGLE, MSGPACK),
        sent(FORM_BODY, FORM),
        sent(part(b"0.1,") + part(b"0.2"), FRAMES, x_amzn_sagemaker_content_type="text/csv"),
        embeddings([0.1] * 12),
    ]
    for each in answers:
        assert places(exchanges((each, each)))


def test_embeddings_of_both_kinds_are_compared_by_their_angle() -> None:
    numbers = [float(at % 7) - 3 for at in range(16)]
    coded = base64.b64encode(struct.pack("<16f", *numbers)).decode()
    found = places(exchanges(*[(embeddings(coded), embeddings(numbers))] * 3))["/data/*/embedding"]
    assert found.dimensions == {"16": 6}
    assert len(found.angles)


def test_broken_answers_are_failed_ones_in_the_report() -> None:
    good = sent(samples.NPY_FLOAT32, NPY)
    summary = summarise(exchanges(*[(good, sent(samples.NPY_FLOAT32[:-1], NPY))] * 3), Rules())
    reasons = pair_of(summary).shadow_reasons
    assert list(reasons) == ["200: not npy: its shape […] takes # bytes and # came"]


def test_arrays_too_long_for_a_list_are_one_value() -> None:
    count = MOST_NESTED + 1
    one = npy_of(f"{{'descr': '|i1', 'fortran_order': False, 'shape': ({count},)}}", b"\x01" * count)
    outputs = places(exchanges((sent(one, NPY), sent(one[:-1] + b"\x02", NPY)), (sent(one, NPY), sent(one, NPY))))[""]
    assert outputs.dimensions == {str(count): 4}
    assert sum(outputs.single_same["numbers numbers"].values()) == 1  # one number is wrong, though it hardly turns it


# --- requests


def asking(raw: bytes, content_type: str = "", **more: Any) -> Record:
    leg = sent(raw, content_type, **more)
    assert leg.body is not None
    made = record(1, json_answer({"p": 1}), s=json_answer({"p": 2}))
    return made._replace(request=RecordedRequest("POST", "/", "", leg.headers, leg.body))


def test_requests_in_these_formats_have_fields() -> None:
    csv = asked_by(asking(b"age,job\n31,nurse\n", "text/csv"))
    assert csv.payload == [{"age": 31, "job": "nurse"}]
    assert csv.lengths() == {1}
    tensors = asked_by(asking(samples.OIP_REQUEST, inference_header_content_length=samples.OIP_REQUEST_LENGTH))
    assert tensors.payload["inputs"][1]["data"] == ["a", "früh"]
    assert asked_by(asking(FORM_BODY, FORM)).payload["a"] == 0.5
    assert asked_by(asking(samples.NPY_V2, NPY)).payload == [1.5]
    assert asked_by(asking(b"hello", "text/plain")).payload is None
    assert asked_by(asking(b"\xff\xfe", "image/png")).payload is None


def test_an_example_has_what_a_request_of_bytes_says() -> None:
    made = asking(samples.OIP_REQUEST, inference_header_content_length=samples.OIP_REQUEST_LENGTH)
    (kept,) = pair_of(summarise([made], Rules())).examples.values()
    ((_, example),) = kept.items()
    assert '"data":"float32 [4]: 1, 2, 3, 4"' in str(example["request"])


def test_equal_requests_are_found_though_their_bytes_differ() -> None:
    one = asked_by(asking(FORM_BODY, FORM)).repeat()
    assert one == asked_by(asking(FORM_BODY.replace(b"--b", b"--c"), FORM[:-1] + "c")).repeat()
    assert one != asked_by(asking(FORM_BODY.replace(b"0.5", b"0.6"), FORM)).repeat()
    image = asked_by(asking(PNG, "image/png")).repeat()
    assert image == asked_by(asking(PNG, "image/png")).repeat()
    assert image != asked_by(asking(PNG + b"\0", "image/png")).repeat()
    assert asked_by(asking(b"hello")).repeat() != asked_by(asking(b"hello you")).repeat()


# --- show


def shown(*answers: RecordedLeg, request: RecordedRequest | None = None) -> str:
    out = io.StringIO()
    exchange = record(1, answers[0], gbm=answers[1])
    if request is not None:
        exchange = exchange._replace(request=request)
    print_exchange(exchange, Console(file=out, width=140), rules=Rules())
    return out.getvalue()


def row_of(text: str, beginning: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(beginning))


def test_a_vector_is_one_line_and_its_differences_have_their_place() -> None:
    text = shown(oip(floats(0.1, 0.9, 0.5)), oip(floats(0.1, 0.8, 0.5)))
    assert "!" in row_of(text, '"data": float32 [3]: 0.1, 0.9, 0.5')
    assert "!" not in row_of(text, '"datatype"')
    assert "/outputs/0/data/1  value: live 0.8999999761581421, gbm 0.800000011920929" in text


def test_an_embedding_is_shown_by_its_size_and_distance() -> None:
    text = shown(embeddings([1, 0]), embeddings([0, 1]))
    assert "!" in row_of(text, '"embedding": float64 [2]: 1, 0')
    assert 'gbm "float64 [2]: 0, 1 (1 - cosine = 1)"' in text


def test_a_table_is_shown_row_by_row() -> None:
    text = shown(sent(b"a,b\n1,x\n2,y\n", "text/csv"), sent(b"a,b\n1,x\n2,z\n", "text/csv"))
    assert "!" not in row_of(text, "1  x")
    assert "!" in row_of(text, "2  y")
    assert '/1/b  value: live "y", gbm "z"' in text


def test_an_image_is_shown_by_its_size_and_hash() -> None:
    text = shown(sent(PNG, "image/png"), sent(PNG + b"\0", "image/jpeg"))
    assert f"image/png, {len(PNG)} bytes, SHA-256" in text
    assert "(named image/jpeg, and is image/png)" in text


def test_what_is_broken_is_shown_first() -> None:
    text = shown(sent(samples.NPY_V2, NPY), sent(samples.NPY_V2[:-1], NPY))
    assert "(not npy: its shape [1] takes 8 bytes and 7 came)" in text


def test_a_request_of_tensors_is_shown_as_what_it_says() -> None:
    leg = sent(samples.OIP_REQUEST, inference_header_content_length=samples.OIP_REQUEST_LENGTH)
    assert leg.body is not None
    request = RecordedRequest("POST", "/", "", leg.headers, leg.body)
    text = shown(json_answer(1), json_answer(1), request=request)
    assert '"data": float32 [4]: 1, 2, 3, 4' in text
    long = Body("text", "1\n" * 500, 1000)
    assert "… 302 more lines" in shown(
        json_answer(1), json_answer(1), request=RecordedRequest("POST", "/", "", {"content-type": "text/csv"}, long)
    )


# --- over the wire


def post(raw: bytes, *lines: tuple[bytes, bytes]) -> bytes:
    head = [b"POST /v2/models/m/infer HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(raw)]
    return b"\r\n".join([*head, *[b"%s: %s" % line for line in lines], b"", raw])


async def test_tensors_go_through_the_proxy_and_are_judged(proxy: StartProxy) -> None:
    """As tritonclient asks: no Content-Type, a length of the JSON that is not coded, and gzip in both directions."""
    raw, said = tensors_of(0.1, 0.9)
    near = tensors_of(0.1000001, 0.9)[0]
    other = tensors_of(0.1, 0.8)[0]
    shadows = {
        "near": answer(near, *said),
        "other": answer(gzip.compress(other), *said, (b"Content-Encoding", b"gzip")),
    }
    asked = gzip.compress(samples.OIP_REQUEST)
    length = b"%d" % samples.OIP_REQUEST_LENGTH
    request = post(asked, (b"Inference-Header-Content-Length", length), (b"Content-Encoding", b"gzip"))
    async with proxy(chunked(raw[:100], raw[100:], fields=said), shadows=shadows) as running:
        assert (await running.ask(request)).body == raw
        (found,) = await running.records()
    verdicts = {name: leg.judgement.verdict for name, leg in found.shadows.items() if leg.judgement is not None}
    assert verdicts == {"near": "match", "other": "mismatch"}
    assert asked_by(found).payload["inputs"][0]["data"] == [1.0, 2.0, 3.0, 4.0]
    judgement = found.shadows["other"].judgement
    assert judgement is not None
    assert [(each.path, each.kind) for each in judgement.differences] == [("/outputs/0/data/1", "value")]


async def test_a_stream_that_ends_within_a_frame_is_a_failed_answer_in_the_report(proxy: StartProxy) -> None:
    whole = samples.FRAMES_SAGEMAKER
    said = fields(FRAMES, X_Amzn_SageMaker_Content_Type="text/event-stream")
    shadows = {"s": chunked(whole[:50], whole[50:-5], fields=said)}
    async with proxy(chunked(whole, fields=said), shadows=shadows) as running:
        assert (await running.ask(post(b"{}"))).body == whole
        records = await running.records()
    reasons = pair_of(summarise(records, Rules())).shadow_reasons
    assert list(reasons) == ["200: its last frame is cut"]


@pytest.mark.parametrize(
    "policy",
    [{"bodies": "hash"}, {"bodies": "none"}, {"redaction": Redaction(json=("/pin",))}],
    ids=["hashed", "none", "redacted"],
)
def test_a_warning_repeats_nothing_of_a_body_that_the_log_does_not_have(policy: dict[str, Any]) -> None:
    body = b"--b\r\nContent-Type: image/s3cr3t-v4lue\r\n\r\n" + PNG + b"\r\n--b--\r\n"
    legs = [reply(body + end, fields("multipart/mixed; boundary=b")) for end in (b"", b"\r\n")]
    assert "named image/s3cr3t-v4lue, and is image/png" in line_of(*legs).decode()
    assert b"s3cr3t" not in line_of(*legs, **policy)


def test_a_warning_shows_no_secret_that_an_answer_repeats() -> None:
    body = b"--b\r\nContent-Type: image/s3cr3t-v4lue\r\n\r\n" + PNG + b"\r\n--b--\r\n"
    legs = [reply(body + end, fields("multipart/mixed; boundary=b")) for end in (b"", b"\r\n")]
    line = line_of(*legs, fields=((b"X-Api-Key", b"s3cr3t-v4lue"),))
    assert json.loads(line)["live"]["warnings"] == ["part 1: named image/[redacted], and is image/png"]
