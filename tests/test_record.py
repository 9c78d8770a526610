"""A record tells of an exchange exactly, keeps secrets to itself, and reads back whatever happened to its file."""

import base64
import gzip
import hashlib
import json
import subprocess
import sys
import tracemalloc
import zlib
from itertools import count
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]  # it ships no types
import orjson
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from page_blocks import ROOT, blocks

from shadowproxy import content, lines, sources
from shadowproxy.answers import About
from shadowproxy.budget import Budget
from shadowproxy.compare.judge.diff import diff
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import judge
from shadowproxy.credentials import is_credential_header, is_credential_parameter
from shadowproxy.exchange import Exchange, Failure, Fields, Outcome, Reply, Request, Skipped, Verdict
from shadowproxy.record import (
    Difference,
    Judgement,
    Record,
    RecordedLeg,
    RecordError,
    Unreadable,
    decode,
    read,
)
from shadowproxy.recorder.heads import Heads
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.recorder.times import milliseconds
from shadowproxy.redaction import BLANK, Redaction

JSON = ((b"Content-Type", b"application/json"),)


def exchange(
    body: bytes = b"",
    fields: Fields = JSON,
    *,
    target: bytes = b"/predict",
    answer: bytes = b'{"y": 1}',
    shadow: Reply | Failure | Skipped | None = None,
) -> Exchange:
    request = Request("id-1", "rec-1", 1_769_860_800_123_456_789, "POST", target, fields, body, len(body))
    live = Reply(200, JSON, answer, len(answer), 3.1, 3.4)
    return Exchange(request, live, {"challenger": shadow or live})


def line_of(told: Exchange, judge: Any = None, **policy: Any) -> bytes:
    return encode(told, proxy="host/0", policy=Policy(**policy), judge=judge)


def asked(body: bytes, fields: Fields = JSON, **policy: Any) -> dict[str, Any]:
    line = line_of(exchange(body, fields), **policy)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    request: dict[str, Any] = json.loads(line)["request"]
    return request


def redacting(**what: Any) -> dict[str, Any]:
    return {"redaction": Redaction(**what)}


# --- form


def test_a_record_has_the_form_that_the_documentation_shows() -> None:
    late = Failure(Outcome.TIMEOUT, "no answer within 30 s", 30000.12345)
    shed = Skipped(Outcome.LANE_FULL, "the lane is full")
    told = exchange(b'{"x":1}', target=b"/predict?v=1")
    told = Exchange(told.request, told.live, {"a": late, "b": shed}, control=told.live)
    answer = {
        "outcome": "ok",
        "status": 200,
        "headers": {"content-type": "application/json"},
        "body": {"y": 1},
        "body_bytes": 8,
        "first_byte_ms": 3.1,
        "total_ms": 3.4,
    }
    assert json.loads(line_of(told)) == {
        "schema": 1,
        "id": "id-1",
        "record": "rec-1",
        "at": "2026-01-31T12:00:00.123456Z",
        "proxy": "host/0",
        "request": {
            "method": "POST",
            "path": "/predict",
            "query": "v=1",
            "headers": {"content-type": "application/json"},
            "body": {"x": 1},
            "body_bytes": 7,
        },
        "live": answer,
        "shadows": {
            "a": {"outcome": "timeout", "total_ms": 30000.123, "error": "no answer within 30 s"},
            "b": {"outcome": "lane_full", "error": "the lane is full"},
        },
        "control": answer,
    }


def test_a_failed_leg_tells_what_of_an_answer_had_come() -> None:
    part = Reply(200, JSON, b'{"y":', 5, 1.0, 2.0)
    told = decode(line_of(exchange(shadow=Failure(Outcome.INCOMPLETE, "cut off", 9.0, part)))).shadows["challenger"]
    assert (told.outcome, told.status, told.first_byte_ms, told.total_ms) == (Outcome.INCOMPLETE, 200, 1.0, 9.0)
    assert told.body is not None
    assert told.body.value == '{"y":'


def test_header_names_are_lower_case_and_repeated_ones_a_list() -> None:
    fields = ((b"X-A", b"1"), (b"x-b", b"\xc3\xa9"), (b"X-a", b"2"), (b"X-A", b"\xe9"))
    assert asked(b"", fields)["headers"] == {"x-a": ["1", "2", "é"], "x-b": "é"}


def test_a_path_that_is_not_utf8_is_told_as_latin1() -> None:
    told = decode(line_of(exchange(target=b"/caf\xe9?q=caf\xc3\xa9"))).request
    assert (told.path, told.query) == ("/café", "q=café")


# --- bodies


@pytest.mark.parametrize(
    "body",
    [
        b'{"n": 123456789012345678901234567890, "m": -9223372036854775809}',
        b'{"a": 1.10, "b": 1e2, "c": -0, "d": 1E+05}',
        b'{"a": 1, "a": 2}',
        b"[" * 500 + b"]" * 500,
        '{"line": "a\u2028b\u2029c\u0085"}'.encode(),
        b'"\\u00e9\\/"',
        b"null",
        b"0.5",
    ],
    ids=["big", "spelling", "duplicate", "depth-500", "u2028", "escapes", "null", "scalar"],
)
def test_json_stands_in_the_line_byte_for_byte(body: bytes) -> None:
    line = line_of(exchange(body))
    assert b'"body":' + body + b',"body_bytes":' in line
    assert decode(line).request.body.kind == "json"


def test_pretty_printed_json_keeps_all_but_its_line_ends() -> None:
    assert b'"body":{  "a" : 1.10 },' in line_of(exchange(b'{\r\n"a" :\n1.10 }'))


def test_integers_beyond_64_bits_are_read_back_exactly() -> None:
    assert decode(line_of(exchange(b'{"n": 123456789012345678901}'))).request.body.value == {"n": 123456789012345678901}


@pytest.mark.parametrize(
    "body",
    [
        b'{"n":123456789012345678901}',
        b'{"t":"12345678901234567890","n":[1,-123456789012345678901]}',
        b"[1,\t123456789012345678901]",
        b"[1,\n123456789012345678901]",
        b"123456789012345678901",
    ],
)
def test_an_integer_beyond_64_bits_is_exact_wherever_it_stands(body: bytes) -> None:
    assert decode(line_of(exchange(body))).request.body.value == json.loads(body)


@pytest.mark.parametrize("one", [123456789012345678901, 2**64, -(2**63) - 1, 10**30])
def test_integers_beyond_64_bits_are_judged_as_the_report_judges_the_line(one: int) -> None:
    rules = Rules()
    bodies = [f'{{"n":\n{number}}}'.encode() for number in (one, one + 1)]
    shadow = Reply(200, JSON, bodies[1], len(bodies[1]), 3.1, 3.4)
    line = line_of(
        exchange(answer=bodies[0], shadow=shadow), judge=lambda live, shadow, _, about: judge(live, shadow, rules)
    )
    told = decode(line)
    assert judge(told.live, told.shadows["challenger"], rules).verdict is Verdict.MISMATCH
    judgement = told.shadows["challenger"].judgement
    assert judgement is not None
    assert judgement.verdict is Verdict.MISMATCH
    assert [(each.path, str(each.live), str(each.shadow)) for each in judgement.differences] == [
        ("/n", str(one), str(one + 1))
    ]


@pytest.mark.parametrize(
    ("body", "repeated"),
    [
        (b'{"a":1,"a":2}', 1),
        (b'{"a" : 1, "a" : 2}', 1),
        (b'{"\\u003a":"\\u003A","a":1,"a":2,"b":":"}', 1),
        (b'{"a":":","a":"\\":"}', 1),
        (b'{"\\u003a":":","a":"\\":"}', 0),
    ],
)
def test_keys_that_come_twice_are_counted_however_colons_are_spelt(body: bytes, repeated: int) -> None:
    assert decode(line_of(exchange(body))).request.body.repeated_keys == repeated


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": NaN}',
        b"1e400",
        b'\xef\xbb\xbf{"a": 1}',
        b'"\\ud800"',
        b'{"a": 1',
        b"[" * 1010 + b"]" * 1010,
        b"not json",
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n',
    ],
    ids=["nan", "1e400", "bom", "surrogate", "cut", "depth-1010", "text", "multipart"],
)
def test_what_is_not_valid_json_is_told_as_the_text_it_is(body: bytes) -> None:
    told = asked(body)
    assert told["body_text"].encode() == body
    assert "body" not in told


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\x00\x01",
        b'{"a": "\xe9"}',
        b"--b\r\n\r\n\x89PNG\r\n--b--",
        b"\xed\xa0\x80",
        b'{"inputs": []}\x00\x00\x80\x3f\x00\x00\x00\x00',  # a tensor of KServe's, behind its JSON
    ],
)
def test_what_is_not_utf8_is_told_as_base64(body: bytes) -> None:
    assert base64.b64decode(asked(body)["body_base64"]) == body


@pytest.mark.parametrize(
    ("content_type", "body", "key"),
    [
        (b"application/json; charset=utf-8", b"1", "body"),
        (b"Application/Problem+JSON", b"{}", "body"),
        (b"text/json", b"[]", "body"),
        (b"text/plain", b"{}", "body_text"),
        (b"application/jsonlines", b"{}", "body_text"),
        (None, b' {"a":1}', "body"),
        (None, b"[1]", "body"),
        (None, b"42", "body_text"),
        (None, b"[1", "body_text"),
        (b"", b"[1]", "body"),
    ],
)
def test_json_is_what_its_type_says_or_an_untyped_object_or_array(
    content_type: bytes | None, body: bytes, key: str
) -> None:
    assert key in asked(body, () if content_type is None else ((b"content-type", content_type),))


@pytest.mark.parametrize(
    ("codings", "pack"),
    [
        (b"gzip", gzip.compress),
        (b"x-gzip", lambda raw: gzip.compress(raw[:9]) + gzip.compress(raw[9:])),
        (b"deflate", zlib.compress),
        (b"deflate", lambda raw: zlib.compress(raw)[2:-4]),
        (b"BR", brotli.compress),
        (b"zstd", lambda raw: zstandard.compress(raw[:9]) + zstandard.compress(raw[9:])),
        (b"identity", bytes),
        (b"br, gzip", lambda raw: gzip.compress(brotli.compress(raw))),
    ],
    ids=["gzip", "two-members", "deflate", "raw-deflate", "br", "two-frames", "identity", "stacked"],
)
def test_content_encoding_is_undone_for_the_log(codings: bytes, pack: Any) -> None:
    body = b'{"text": "' + b"x" * 300 + b'"}'
    wire = pack(body)
    told = asked(wire, (*JSON, (b"Content-Encoding", codings)))
    assert told["body"] == json.loads(body)
    assert told["body_bytes"] == len(wire)


def bombs() -> list[tuple[str, bytes]]:
    big = bytes(content.DECODED_LIMIT + 1)
    return [
        ("gzip", gzip.compress(big)),
        ("deflate", zlib.compress(big)),
        ("br", brotli.compress(big, quality=1)),
        ("zstd", zstandard.compress(big)),
        ("gzip, gzip", gzip.compress(gzip.compress(big))),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("coding", "bomb"), bombs(), ids=[name for name, _ in bombs()])
def test_a_bomb_is_told_by_its_wire_bytes(coding: str, bomb: bytes) -> None:
    told = asked(bomb, ((b"content-encoding", coding.encode()),))
    assert base64.b64decode(told["body_base64"]) == bomb
    assert told["body_coding"] == coding
    with pytest.raises(content.Undecodable, match="more than the limit"):
        content.decoded(bomb, coding)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda raw: gzip.compress(raw[:9]) + gzip.compress(raw[9:])),
        ("gzip", lambda raw: gzip.compress(raw[: 1 << 20]) + gzip.compress(raw[:1]) + gzip.compress(raw)),
        ("deflate", zlib.compress),
        ("deflate", lambda raw: zlib.compress(raw)[2:-4]),
        ("br", lambda raw: brotli.compress(raw, quality=1)),
        ("zstd", zstandard.compress),
    ],
    ids=["gzip", "two-members", "members-to-the-limit", "deflate", "raw-deflate", "br", "zstd"],
)
def test_a_bomb_is_unpacked_no_further_than_the_limit(coding: str, pack: Any) -> None:
    bomb = pack(bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(content.Undecodable, match="more than the limit"):
        content.decoded(bomb, coding, 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_zstd_frame_that_asks_for_a_large_window_is_told_by_its_wire_bytes() -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=False)
    frame = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    wire = frame.compress(b"small") + frame.flush()
    told = asked(wire, ((b"content-encoding", b"zstd"),))
    assert (base64.b64decode(told["body_base64"]), told["body_coding"]) == (wire, "zstd")


@pytest.mark.parametrize(
    ("coding", "wire"),
    [
        ("gzip", b"no gzip"),
        ("br", b"\xff\xff"),
        ("zstd", b"no"),
        ("deflate", b"\xff\xff"),
        ("exi", b"a"),
        ("br,br,br,br,br", b"a"),
    ],
)
def test_an_encoding_that_cannot_be_undone_leaves_the_wire_bytes(coding: str, wire: bytes) -> None:
    told = asked(wire, ((b"content-encoding", coding.encode()),))
    assert base64.b64decode(told["body_base64"]) == wire
    assert told["body_coding"] == coding


def test_a_body_within_the_limit_of_decoding_is_whole() -> None:
    assert len(content.decoded(gzip.compress(bytes(content.DECODED_LIMIT)), "gzip")) == content.DECODED_LIMIT


def test_a_long_body_is_cut_between_characters_and_says_so() -> None:
    body = '{"a": "äöü"}'.encode()
    told = asked(body, body_limit=8)
    assert told["body_text"] == '{"a": "'
    assert told["body_truncated"] is True
    assert told["body_bytes"] == len(body)
    assert told["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert "body" not in told


def test_a_body_of_exactly_the_limit_is_whole() -> None:
    assert asked(b"[1]", body_limit=3)["body"] == [1]
    assert asked(b"[1]", body_limit=2)["body_text"] == "[1"


def test_a_body_that_was_captured_in_part_has_no_hash() -> None:
    reply = Reply(200, JSON, '{"a": "ä'.encode()[:-1], 9000, 1, 1)
    told = json.loads(line_of(exchange(shadow=reply)))["shadows"]["challenger"]
    assert told["body_text"] == '{"a": "'
    assert told["body_bytes"] == 9000
    assert told["body_truncated"] is True
    assert "body_sha256" not in told


def test_bodies_can_be_hashed_or_left_out() -> None:
    assert asked(b"[1]", bodies="hash") | {"headers": None} == {
        "method": "POST",
        "path": "/predict",
        "query": "",
        "headers": None,
        "body_bytes": 3,
        "body_truncated": True,
        "body_sha256": hashlib.sha256(b"[1]").hexdigest(),
    }
    left_out = asked(b"[1]", bodies="none")
    assert not {"body", "body_text", "body_base64", "body_sha256"} & left_out.keys()
    assert left_out["body_truncated"] is True
    assert "body_truncated" not in asked(b"", bodies="none")


# --- comparing


def mismatch(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, about: About) -> Judgement:
    assert live.body is not None
    assert shadow.body is not None
    found = Difference("/y", "value", live.body.value, shadow.body.value)
    return Judgement(Verdict.MISMATCH, (found,), "why")


def differing() -> Exchange:
    return exchange(shadow=Reply(200, JSON, b'{"y": 2}', 8, 3.1, 3.4))


def test_a_judgement_is_told_with_its_differences_and_read_back() -> None:
    line = line_of(differing(), judge=mismatch)
    told = decode(line).shadows["challenger"].judgement
    assert told == Judgement(Verdict.MISMATCH, (Difference("/y", "value", {"y": 1}, {"y": 2}),), "why")


@pytest.mark.parametrize(("limit", "cut"), [(7, True), (8, False)])
def test_a_body_over_the_limit_is_judged_whole_and_recorded_in_part(limit: int, cut: bool) -> None:
    seen: list[Any] = []

    def judge(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, about: About) -> Judgement:
        seen.append((live.body, shadow.body))
        return Judgement(Verdict.MISMATCH, (Difference("/y", "value", 1, 2),))

    told = decode(line_of(differing(), judge=judge, body_limit=limit)).shadows["challenger"]
    [(live, shadow)] = seen
    assert (live.kind, live.value, live.truncated) == ("json", {"y": 1}, False)
    assert (shadow.kind, shadow.value, shadow.truncated) == ("json", {"y": 2}, False)
    assert told.body is not None
    assert (told.body.kind, told.body.value) == (("text", '{"y": 2') if cut else ("json", {"y": 2}))
    assert told.judgement == Judgement(Verdict.MISMATCH, (Difference("/y", "value", 1, 2),))


@pytest.mark.parametrize("leg", [Skipped(Outcome.PAUSED, "paused"), Failure(Outcome.TIMEOUT, "late", 1.0)])
def test_a_leg_without_a_good_end_has_no_verdict(leg: Any) -> None:
    assert decode(line_of(exchange(shadow=leg), judge=mismatch)).shadows["challenger"].judgement is None


def test_a_difference_may_hold_what_orjson_cannot_write() -> None:
    deep: Any = "end"
    for _ in range(400):
        deep = [deep]
    odd = Difference("", "value", 1 << 80, ["\ud800", deep])
    line = line_of(differing(), judge=lambda live, shadow, budget, about: Judgement(Verdict.MISMATCH, (odd,)))
    [told] = decode(line).shadows["challenger"].judgement.differences  # type: ignore[union-attr]
    assert told.live == 1 << 80
    assert told.shadow[0] == "?"


def test_a_difference_that_is_not_a_number_is_named() -> None:
    odd = Difference("/y", "value", float("nan"), 0.5)
    line = line_of(differing(), judge=lambda live, shadow, budget, about: Judgement(Verdict.MISMATCH, (odd,)))
    assert b'"live":"nan","shadow":0.5' in line


# --- secrets


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "PROXY-AUTHORIZATION",
        "Cookie",
        "Set-Cookie",
        "X-Api-Key",
        "api_key",
        "x-goog-api-key",
        "X-Amz-Security-Token",
        "X-Auth-Token",
        "X-CSRFToken",
        "Private-Token",
        "X-Vault-Token",
        "Stripe-Signature",
        "CF-Access-Client-Secret",
        "X-Goog-IAP-JWT-Assertion",
        "Ocp-Apim-Subscription-Key",
        "DD-API-KEY",
        "X-Session-Id",
        "x-amz-server-side-encryption-customer-key",
        "X-Reset-Token",
        "x-amzn-oidc-accesstoken",
        "X-Hub-Signature-256",
        "Auth",
        "X-Auth",
        "Authentication",
        "X-Authentication",
        "Cookie2",
        "Set-Cookie2",
        "X-Key",
        "X-RapidAPI-Key",
        "X-Functions-Key",
        "X-Honeycomb-Team",
        "x-amzn-oidc-data",
        "X-MS-CLIENT-PRINCIPAL",
        "DPoP",
        "Sec-WebSocket-Protocol",
        "X-Forwarded-Client-Cert",
        "X-Acme-Token",
        "X-Secret",
        "X-Password",
        "X-Passwd",
        "X-Passphrase",
        "X-Passcode",
        "X-Credential",
        "X-Authorization-Data",
        "X-Bearer",
        "X-Cookie-Jar",
        "X-JWT",
        "X-Session",
        "X-Signature",
        "X-ApiKey",
        "X-Access-Key",
        "X-Upstream-Auth",
        "helicone-auth",
        "HELICONE_AUTH",
        "X-Litellm-Key",
        "x_litellm_key",
        "X-PrivateKey",
        "x-portkey-virtual-key",
        "X-AccessKey",
        "X-Account-Key",
        "X-App-Key",
        "X-Application-Key",
        "X-Auth-Key",
        "X-Client-Key",
        "X-Customer-Key",
        "X-License-Key",
        "X-Master-Key",
        "X-Private-Key",
        "X-SAS-Key",
        "X-Shared-Key",
        "X-Subscription-Key",
    ],
)
def test_a_credential_is_known_by_its_name(name: str) -> None:
    assert is_credential_header(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "X-Token-Count",
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-input-tokens-limit",
        "x-max-tokens",
        "X-Tokenizer",
        "x-amzn-bedrock-input-token-count",
        "x-time-to-first-token",
        "Idempotency-Key",
        "Content-Type",
        "Sec-WebSocket-Key",
        "X-Request-ID",
        "traceparent",
        "Surrogate-Key",
        "Signature-Input",
        "X-Model-Signature",
        "WWW-Authenticate",
        "Host",
        "Inference-Header-Content-Length",
        "OpenAI-Organization",
        "X-Author",
        "Authority",
        "X-Tokenization",
        "X-Token-Budget",
        "X-Token-Latency",
        "X-Token-Length",
        "X-Token-Limit",
        "X-Token-Rate",
        "X-Token-Type",
        "X-Token-Usage",
        "X-First-Token-Ms",
        "X-Max-Token",
        "X-Num-Token",
        "X-Ms-Per-Token",
        "X-Total-Token",
        "X-Signature-Name",
        "X-Signature-Version",
    ],
)
def test_a_harmless_name_is_not_taken_for_a_credential(name: str) -> None:
    assert not is_credential_header(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "token",
        "access_token",
        "auth",
        "sig",
        "signature",
        "hmac",
        "secret",
        "password",
        "passwd",
        "pwd",
        "pass",
        "sid",
        "ticket",
        "assertion",
        "client_assertion",
        "code_verifier",
        "SAMLResponse",
        "X-Amz-Credential",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "AWSAccessKeyId",
        "X-Goog-Signature",
        "GoogleAccessId",
        "Key-Pair-Id",
        "Signature",
        "PHPSESSID",
        "connect.sid",
        "user[pass]",
        "ACCESS_TOKEN",
        "accessToken",
        "privateKey",
        "passWord",
    ],
)
def test_a_parameter_that_carries_a_credential_is_known_by_its_name(name: str) -> None:
    assert is_credential_parameter(name)


@pytest.mark.parametrize(
    "name",
    ["code", "key", "page", "max_tokens", "keyword", "passenger", "sidebar", "author", "totalTokenCount", "Policy"],
)
def test_a_harmless_parameter_is_not_taken_for_a_credential(name: str) -> None:
    assert not is_credential_parameter(name)


def test_names_of_any_length_are_judged_alike() -> None:
    assert is_credential_header(b"x-" + b"a" * 5000 + b"-token")
    assert not is_credential_header(b"x-" + b"a" * 5000)
    assert is_credential_parameter("a" * 5000 + "_secret")
    assert not is_credential_parameter("max_tokens")


SECRET = "s3cr3t-v4lue"


@pytest.mark.parametrize(
    ("told", "policy"),
    [
        (exchange(fields=((b"AuthoriZation", f"Bearer {SECRET}".encode()),)), {}),
        (exchange(fields=((b"Cookie", f"a={SECRET}".encode()), (b"cookie", f"b={SECRET}".encode()))), {}),
        (exchange(fields=((b"X-Own", SECRET.encode()),)), redacting(headers=frozenset({"x-own"}))),
        (exchange(fields=((b"Referer", f"https://h/p#access_token={SECRET}".encode()),)), {}),
        (exchange(fields=((b"X-Original-URL", f"/p?api_key={SECRET}".encode()),)), {}),
        (exchange(fields=((b"X-Forwarded-Uri", f"/p?x=1&sig={SECRET}".encode()),)), {}),
        (exchange(fields=((b"Referer", f"https://u:{SECRET}@h/p?token={SECRET}&x=1#sig={SECRET}".encode()),)), {}),
        (exchange(target=f"/p?a=1&api%5Fkey={SECRET}&X-Amz-Signature={SECRET};sig={SECRET}".encode()), {}),
        (exchange(target=f"/p?a=1;sig={SECRET}".encode()), {}),
        (exchange(target=f"/p?own={SECRET}".encode()), redacting(query=frozenset({"own"}))),
        (exchange(target=f"/p;jsessionid={SECRET}/q?a=1".encode()), {}),
        (exchange(target=f"/p?a=Bearer%20{SECRET}".encode()), {}),
        (exchange(fields=((b"X-Up", f"Bearer {SECRET}".encode()),)), {}),
        (exchange(fields=((b"X-Config", json.dumps({"in": {"token": {"a": SECRET}}}).encode()),)), {}),
        (exchange(f"a=Bearer+{SECRET}".encode(), ((b"Content-Type", b"application/x-www-form-urlencoded"),)), {}),
        (
            exchange(
                f"grant=x&client_secret={SECRET}".encode(), ((b"Content-Type", b"application/x-www-form-urlencoded"),)
            ),
            {},
        ),
        (exchange(json.dumps({"a": {"pin": SECRET}}).encode()), redacting(json=("/a/pin",))),
        (exchange(json.dumps([{"pin": [SECRET]}, {"pin": {"x": SECRET}}]).encode()), redacting(json=("/*/pin",))),
        (exchange(f'{{"pin":"{SECRET}","pin":"{SECRET}"}}'.encode()), redacting(json=("/pin",))),
        (exchange(f'{{"p\\u0069n":"{SECRET}"}}'.encode()), redacting(json=("/pin",))),
        (exchange(f'{{"pin":"{SECRET}"'.encode()), redacting(json=("/pin",))),
        (exchange(SECRET.encode(), ()), redacting(json=("/pin",))),
        (exchange(f'{{"pin":"{SECRET}"}}'.encode()), redacting(json=("",))),
        (exchange(shadow=Failure(Outcome.CONNECT_ERROR, f"http://u:{SECRET}@h/p?x={SECRET}\nrefused", 1.0)), {}),
        (exchange(shadow=Skipped(Outcome.PAUSED, f"see https://h/?q={SECRET}")), {}),
    ],
    ids=[
        "header",
        "cookies",
        "own-header",
        "fragment",
        "original-url",
        "forwarded-uri",
        "url",
        "query",
        "semicolon",
        "own-query",
        "path-parameter",
        "query-by-value",
        "header-by-value",
        "header-json",
        "form-by-value",
        "form",
        "json",
        "wild",
        "twice",
        "escaped",
        "broken",
        "text",
        "whole",
        "error",
        "skipped",
    ],
)
@pytest.mark.parametrize("key", [None, b"k"])
def test_a_secret_is_not_in_the_line(told: Exchange, policy: dict[str, Any], key: bytes | None) -> None:
    redaction: Redaction = policy.get("redaction", Redaction())
    policy = redacting(headers=redaction.headers, query=redaction.query, json=redaction.json, hash_key=key)
    assert SECRET.encode() in repr(told).encode()
    line = line_of(told, **policy)
    assert SECRET.encode() not in line
    hashes = [hashlib.sha256(told.request.body).hexdigest().encode()] if told.request.body else []
    for bodies in ("full", "hash"):
        line = line_of(told, bodies=bodies, body_limit=4, **policy)
        assert SECRET.encode() not in line
        assert not any(each in line for each in hashes), "a plain hash lets a secret be guessed"


def test_redacting_json_leaves_every_other_byte() -> None:
    body = b'{"a" : 1.10, "pin":\t{"x": [1, "}\\""]} , "b": [1e2, {"pin": 7}], "n": 12345678901234567890}'
    after = Redaction(json=("/pin", "/b/1/pin")).body(body)
    assert after == (
        b'{"a" : 1.10, "pin":\t"[redacted]" , "b": [1e2, {"pin": "[redacted]"}], "n": 12345678901234567890}'
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


def fits(pattern: list[str], path: list[str]) -> bool:
    """What a pattern means, said as plainly as can be."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(fits(pattern[1:], path[at:]) for at in range(len(path) + 1))
    return bool(path) and pattern[0] in ("*", path[0]) and fits(pattern[1:], path[1:])


def by_value(value: Any, patterns: list[list[str]], path: list[str]) -> Any:
    """The same redaction done on parsed values, as an oracle."""
    if any(fits(pattern, path) for pattern in patterns):
        return BLANK
    if isinstance(value, dict):
        return {key: by_value(each, patterns, [*path, key]) for key, each in value.items()}
    if isinstance(value, list):
        return [by_value(each, patterns, [*path, str(at)]) for at, each in enumerate(value)]
    return value


patterns_of_pointers = st.lists(st.sampled_from(["*", "**", "0", "1", "", "a"]), max_size=4)


@given(json_values, st.lists(patterns_of_pointers, min_size=1, max_size=3), st.booleans())
def test_redacting_text_says_the_same_as_redacting_values(value: Any, patterns: list[list[str]], escaped: bool) -> None:
    raw = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    pointers = tuple("".join(f"/{token}" for token in pattern) for pattern in patterns)
    assert json.loads(Redaction(json=pointers).body(raw)) == by_value(value, patterns, [])


@given(json_values, st.lists(patterns_of_pointers, min_size=1, max_size=3))
def test_a_pattern_redacts_where_it_would_not_be_compared(value: Any, patterns: list[list[str]]) -> None:
    pointers = tuple("".join(f"/{token}" for token in pattern) for pattern in patterns)
    redacted = json.loads(Redaction(json=pointers).body(json.dumps(value).encode("utf-8", "surrogatepass")))
    assert not diff(value, redacted, Rules(ignore=pointers)).count


def test_places_are_remembered_within_a_bound_and_told_apart_all_the_same() -> None:
    redaction = Redaction(json=("/**/a/*/*/*/*/*/*/*/*/*/*/*/*/*/pin",))
    pin: Any = {"pin": 1}
    for at in range(13):
        pin = {"ab"[at % 2]: pin, "b": {"a": pin}} if at < 4 else {"ab"[at % 2]: pin}
    told = {"a": pin}
    before = json.dumps(told).encode()
    assert json.loads(redaction.body(before)) == by_value(told, [["**", "a", *["*"] * 13, "pin"]], [])


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("X-Acme-*", ["x-acme-user", "X-ACME-USER", "X_Acme_User", "x-acme-"], ["x-acme", "y-x-acme-user"]),
        ("X-Customer", ["X_Customer", "x-customer"], ["X-Customers", "X-Customer-Id"]),
        ("X_Customer", ["X-Customer"], ["XCustomer"]),
        ("*-id", ["Tenant-Id", "tenant_id", "-ID"], ["id", "tenant-ids"]),
        ("*", ["anything"], []),
    ],
)
def test_a_header_is_redacted_by_a_pattern_of_its_name(pattern: str, names: list[str], others: list[str]) -> None:
    redaction = Redaction(headers=frozenset({pattern}))
    fields = tuple((name.encode(), f"value of {name}".encode()) for name in (*names, *others))
    told = decode(line_of(exchange(fields=fields), redaction=redaction)).request.headers
    assert {name for name in (*names, *others) if told[name.lower()] != BLANK and BLANK not in told[name.lower()]} == {
        *others
    }


@pytest.mark.parametrize(
    ("pattern", "query", "told"),
    [
        ("e*", "email=a&E=b&x=c&e%6Dail=d", "email=[redacted]&E=[redacted]&x=c&e%6Dail=[redacted]"),
        ("user[*]", "user[id]=a&user%5Bid%5D=b&useri=c", "user[id]=[redacted]&user%5Bid%5D=[redacted]&useri=c"),
        ("user_id", "user-id=a&USER_ID=b&userid=c", "user-id=[redacted]&USER_ID=[redacted]&userid=c"),
    ],
)
def test_a_parameter_is_redacted_by_a_pattern_of_its_name(pattern: str, query: str, told: str) -> None:
    assert Redaction(query=frozenset({pattern})).parameters(query) == told


def test_a_pattern_of_many_wildcards_takes_no_more_than_linear_time() -> None:
    redaction = Redaction(headers=frozenset({"*a" * 30 + "b"}))
    assert not redaction.hides_header(b"a" * 60_000)


EVENTS = (
    b'event: message\r\ndata: {"pin": 1, "a": 2}\r\n\r\n: kept\nid: 7\ndata:{"b": [{"pin": "x"}]}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [
        (
            b"text/event-stream; charset=utf-8",
            EVENTS,
            EVENTS.replace(b"1", b'"[redacted]"').replace(b'"x"', b'"[redacted]"'),
        ),
        (b"application/x-ndjson", b'{"pin": 1}\n\n[{"pin": 2}]', b'{"pin": "[redacted]"}\n\n[{"pin": "[redacted]"}]'),
        (b"application/jsonl", b'{"a": 1}\n{"a": 2}\n', b'{"a": 1}\n{"a": 2}\n'),
        (b"text/ndjson", b'{"pin": 1}\n{"a": 2}\n', b'{"pin": "[redacted]"}\n{"a": 2}\n'),
        (b"application/stream+json", b'{"pin": 1}\n{"a": 2}\n', b'{"pin": "[redacted]"}\n{"a": 2}\n'),
        (b"application/json-seq", b'\x1e{"pin": 1}\n\x1e{"a": 2}\n', b'\x1e{"pin": "[redacted]"}\n\x1e{"a": 2}\n'),
        (b"text/event-stream", b'data: {"pin": 1}\n\ndata: {"pin":\ndata: 2}\n\n', None),
        (b"text/event-stream", b'data: {"pin": 1}\n\ndata: {"pi', None),
        (b"text/event-stream", b'other: {"pin": 1}\n\n', None),
        (b"application/x-ndjson", b'data {"pin": 1}\n', None),
        (b"text/plain", b'{"pin": 1}\n{"pin": 2}', None),
    ],
)
def test_json_by_the_line_is_searched_where_each_line_has_a_value(
    kind: bytes, body: bytes, shown: bytes | None
) -> None:
    told = decode(line_of(exchange(body, ((b"Content-Type", kind),)), **redacting(json=("/**/pin",)))).request.body
    if shown is None:
        assert (told.kind, told.truncated, told.sha256) == ("none", True, None)
        assert told.redacted == "not JSON, so it could not be searched for what is to be redacted"
    else:
        assert told.value == shown.decode()
    cut = decode(line_of(exchange(body, ((b"Content-Type", kind),)), body_limit=10, **redacting(json=("/**/pin",))))
    if shown is None:
        assert (cut.request.body.kind, cut.request.body.sha256) == ("none", None)
    else:
        assert cut.request.body.value == shown.decode()[:10]
        assert (cut.request.body.sha256 is None) == (b"pin" in body)


def test_marks_join_equal_secrets_wherever_they_stand() -> None:
    redaction = Redaction(json=("/pin",), hash_key=b"key")
    fields = (*JSON, (b"X-Api-Key", "ä".encode()))
    line = line_of(exchange(b'{"pin": "\\u00e4"}', fields, target=b"/?api_key=%C3%A4"), redaction=redaction)
    told = decode(line).request
    mark = told.headers["x-api-key"]
    assert told.body.value["pin"] == mark
    assert told.query == f"api_key={mark}"
    assert Redaction(hash_key=b"other").mark("ä".encode()) != mark
    assert Redaction(hash_key=b"key").mark(b"other") != mark


def test_the_key_of_the_marks_is_not_shown_when_a_policy_is() -> None:
    assert SECRET not in repr(Policy(redaction=Redaction(hash_key=SECRET.encode())))


def test_what_is_not_secret_in_a_query_keeps_its_bytes() -> None:
    query = "a=1&&b=%zz;=x&key&key=&a=2&tokens=3"
    assert Redaction().parameters(query) == query
    assert Redaction().parameters("a=%41&token=x&b") == "a=%41&token=[redacted]&b"


def test_a_withheld_body_says_why() -> None:
    told = decode(line_of(exchange(b"plain", ()), **redacting(json=("/a",)))).request.body
    assert (told.kind, told.size, told.truncated, told.sha256) == ("none", 5, True, None)
    assert told.redacted == "not JSON, so it could not be searched for what is to be redacted"


@pytest.mark.parametrize(
    ("pointer", "path", "value", "shown"),
    [
        ("/a/pin", "/a/pin", SECRET, ("/a/pin", BLANK)),
        ("/a/pin", f"/a/pin/{SECRET}", 1, ("/a/pin", BLANK)),
        ("/a/pin", "/a", {"pin": SECRET, "b": 1}, ("/a", {"pin": BLANK, "b": 1})),
        ("/a/pin", "/a", [{"pin": 1}], ("/a", [{"pin": 1}])),
        ("/a/pin", "", {"a": {"pin": SECRET}}, ("", {"a": {"pin": BLANK}})),
        ("/a/pin", "", f"text with {SECRET}", ("", BLANK)),
        ("/a/pin", "/b", "shown", ("/b", "shown")),
        ("/a/pin", "/a/other", "shown", ("/a/other", "shown")),
        ("/**/pin", "/b/0/label", "shown", ("/b/0/label", "shown")),
        ("/**/pin", "/b/0", {"c": [{"pin": SECRET}]}, ("/b/0", {"c": [{"pin": BLANK}]})),
        ("/**/pin", "/b/0/pin", SECRET, ("/b/0/pin", BLANK)),
        ("/**/pin", f"/{'k' * 199}…", SECRET, (f"/{'k' * 199}…", BLANK)),
        ("/x/**", f"/x/{SECRET}", 1, ("/x", BLANK)),
    ],
)
def test_differences_are_redacted_as_bodies_are(pointer: str, path: str, value: Any, shown: tuple[str, Any]) -> None:
    def judge(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, about: About) -> Judgement:
        return Judgement(Verdict.MISMATCH, (Difference(path, "value", value, value),))

    line = json.loads(line_of(differing(), judge=judge, **redacting(json=(pointer,))))
    (told,) = line["shadows"]["challenger"]["differences"]
    assert (told["path"], told["live"], told["shadow"]) == (*shown, shown[1])
    if SECRET in repr((path, value)):
        for bodies in ("hash", "none"):
            line = line_of(differing(), judge=judge, bodies=bodies, **redacting(json=(pointer,)))
            assert SECRET.encode() not in line


def test_a_stream_that_could_not_be_searched_shows_no_value_out_of_it() -> None:
    def streamed(name: str) -> Reply:
        body = f'data: {{"user": {{"pin": "{SECRET}-{name}"}}, "n": "{name}"}}\n\n'.encode()
        return Reply(200, ((b"Content-Type", b"text/event-stream"),), body, len(body), 1.0, 2.0)

    request = Request("id", "rec", 0, "POST", b"/", (), b"", 0)
    told = Exchange(request, streamed("one"), {"s": streamed("two")}, None)

    def judged(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, about: About) -> Judgement:
        return judge(live, shadow, Rules())

    line = line_of(told, judge=judged, **redacting(json=("/user/pin",)))
    assert SECRET.encode() not in line
    judgement = decode(line).shadows["s"].judgement
    assert judgement is not None
    assert [(each.path, each.live) for each in judgement.differences] == [
        ("/0/user/pin", "[redacted]"),
        ("/0/n", "[redacted]"),
    ]
    assert SECRET.encode() in line_of(told, judge=judged)


def test_a_long_query_without_a_value_takes_no_quadratic_time() -> None:
    hostile = ("a" * 200_000) + "&" + "?" * 200_000 + "=" + "//" * 100_000 + "@"
    assert Redaction().urls(Redaction().parameters(hostile))


# --- there and back


fields_strategy = st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=12)), max_size=5).map(tuple)
bodies_strategy = st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode())
codings_strategy = st.sampled_from([(), JSON, (*JSON, (b"content-encoding", b"gzip")), ((b"content-encoding", b"br"),)])


@given(
    st.binary(max_size=20), fields_strategy, codings_strategy, bodies_strategy, st.integers(0, 5), st.integers(0, 50),
    st.sampled_from(["full", "hash", "none"]), st.sampled_from([(), ("/a",), ("/*",)]), st.text(max_size=10),
)  # fmt: skip
def test_any_bytes_make_one_line_that_reads_back(
    target: bytes, fields: Any, more: Any, body: bytes, missing: int, limit: int, kind: Any, pointers: Any, text: str
) -> None:
    request = Request("id", "rec", 0, "POST", b"/" + target, fields + more, body, len(body) + missing)
    reply = Reply(200, fields + more, body, len(body) + missing, 0.0004, 1.0)
    legs: dict[str, Reply | Failure | Skipped] = {
        "a": reply,
        "b": Failure(Outcome.TIMEOUT, text, 1.0, reply),
        "c": Skipped(Outcome.OVERLOAD, text + "\ud800"),
    }
    policy = Policy(kind, limit, Redaction(json=pointers))
    line = encode(Exchange(request, reply, legs, reply), proxy="p/0", policy=policy, judge=mismatch)
    assert line.count(b"\n") == 1
    told = decode(line)
    assert told.request.body.size == len(body) + missing
    assert told.control is not None
    assert told.live == told.control._replace(judgement=None)
    assert [told.shadows[name].outcome for name in "abc"] == [Outcome.OK, Outcome.TIMEOUT, Outcome.OVERLOAD]
    assert told.shadows["b"].body == told.live.body == told.request.body
    if kind == "full" and not pointers and not missing and limit >= len(body) and not more:
        held = told.request.body
        value = held.value
        assert body == (
            value if held.kind == "bytes" else value.encode() if held.kind == "text" else b"" if value is None else body
        )


bodies_of_all_kinds = bodies_strategy | st.sampled_from([b'{"a":NaN}', b'{"a":1,"a":2}', b"[1", b"a=1&token=2"])
PACKED = (*JSON, (b"Content-Encoding", b"gzip"))
replies = st.builds(
    lambda fields, coding, missing: (fields + coding, missing),
    st.sampled_from([(), JSON, ((b"Content-Type", b"text/plain"),), (*JSON, *JSON)]),
    st.sampled_from([(), PACKED[1:]]),
    st.sampled_from([0, 0, 1]),
)


@given(
    replies, replies, bodies_of_all_kinds, st.integers(0, 50), st.sampled_from(["full", "hash"]),
    st.sampled_from([(), ("/a",)]), st.sampled_from([Rules(), Rules(ignore=("",)), Rules(ignore=("/a",))]),
)  # fmt: skip
@example((PACKED, 0), (JSON, 0), gzip.compress(b"{}", mtime=0), 50, "full", (), Rules())
def test_an_answer_with_lives_bytes_is_told_and_judged_as_if_it_were_read_by_itself(
    live: Any, shadow: Any, body: bytes, limit: int, kind: Any, pointers: Any, rules: Rules
) -> None:
    one, other = (Reply(200, fields, body, len(body) + missing, 1.0, 1.0) for fields, missing in (live, shadow))
    by_itself = other._replace(fields=(*other.fields, (b"Content-Encoding", b"identity")))  # which is no coding
    line = encode(
        Exchange(exchange().request, one, {"like": other, "alone": by_itself}),
        proxy="p/0",
        policy=Policy(kind, limit, Redaction(json=pointers)),
        judge=lambda one, other, budget, about: judge(one, other, rules, budget),
    )
    told = json.loads(line)["shadows"]
    for leg in told.values():
        del leg["headers"]
        leg.pop("body_coding", None)  # which names identity too
    assert told["like"] == told["alone"]


@given(st.lists(fields_strategy, min_size=1, max_size=6))
def test_a_field_that_came_before_is_told_as_a_new_one(requests: list[Any]) -> None:
    policy = Policy(redaction=Redaction(frozenset({"x-a*"}), hash_key=b"k"))
    for fields in requests * 2:
        asked = Exchange(exchange().request._replace(fields=fields), exchange().live, {})
        line = encode(asked, proxy="p/0", policy=policy, judge=mismatch)
        assert line == encode(asked, proxy="p/0", policy=Policy(redaction=policy.redaction), judge=mismatch)


def test_no_field_with_a_secret_is_cached() -> None:
    policy = Policy()

    def cached(name: bytes, value: bytes) -> bool:
        asked = Exchange(exchange().request._replace(fields=((name, value),)), exchange().live, {})
        encode(asked, proxy="p/0", policy=policy, judge=mismatch)
        return policy.heads.plain.get((name, value)) is not None

    assert cached(b"Accept", b"*/*")
    assert not cached(b"Authorization", b"Bearer 6f1c")
    assert not cached(b"Cookie", b"")
    assert not cached(b"X-Referrer", b"http://me:s3cret@host/")


@given(st.lists(fields_strategy | st.sampled_from([JSON, PACKED, (*JSON, (b"Set-Cookie", b"a=s3cret"))]), max_size=6))
def test_a_head_that_came_before_is_told_as_a_new_one(heads: list[Any]) -> None:
    policy = Policy()
    for fields in heads * 2:
        reply = Reply(200, fields, b"{}", 2, 1.0, 1.0)
        told = Exchange(exchange().request, reply, {"a": reply})
        line = encode(told, proxy="p/0", policy=policy, judge=mismatch)
        assert line == encode(told, proxy="p/0", policy=Policy(), judge=mismatch)


def test_no_head_with_a_secret_is_cached_nor_any_where_no_two_are_alike() -> None:
    heads = Heads()
    secrets = ((*JSON, (b"Set-Cookie", b"a=s3cret")), (*JSON, (b"Location", b"http://me:s3cret@host/")))
    for fields in secrets:
        assert heads.read(fields, Redaction()) is not heads.read(fields, Redaction())
    assert heads.read(JSON, Redaction()) is heads.read(JSON, Redaction())
    for number in count():
        heads.read(((b"X-Request-ID", b"%d" % number),), Redaction())
        if len(heads) == 1:  # the cache was full, and has forgotten the others
            break
    assert heads.read(JSON, Redaction()) is not heads.read(JSON, Redaction()), "given up: no two were alike"


# --- reading


GOOD = line_of(exchange(b'{"n": 1}'))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "not JSON"),
        (b"\0\0\0", "not JSON"),
        (b"[1]", "no schema"),
        (b'{"level":"info"}', "no schema"),
        (GOOD.replace(b'"schema":1', b'"schema":2'), "schema 2; this version reads schema 1"),
        (GOOD.replace(b'"live":', b'"lively":'), "'live' is missing"),
        (GOOD.replace(b'"outcome":"ok"', b'"outcome":"fine"'), "'fine' is not a valid Outcome"),
        (GOOD.replace(b'"id":"id-1"', b'"id":7'), "a text is missing"),
        (GOOD.replace(b'"body_bytes":8', b'"body_bytes":"8"'), "a whole number is missing"),
        (GOOD.replace(b'"total_ms":3.4', b'"total_ms":"3"'), "a time is not a number"),
        (GOOD.replace(b'"shadows":{', b'"shadows":[').replace(b'},"control', b'],"control'), "not JSON"),
        (GOOD.replace(b'"application/json"', b"7"), "neither text nor a list"),
        (b'{"schema":1,"id":"a","record":"b","at":"c","proxy":"d","request":7}', "not a record"),
        (GOOD[:-9], "not JSON"),
    ],
)
def test_a_line_that_is_no_record_says_why_in_one_line(line: bytes, why: str) -> None:
    with pytest.raises(RecordError, match=why) as caught:
        decode(line)
    assert "\n" not in str(caught.value)


@given(st.recursive(json_values, lambda inner: st.fixed_dictionaries({"schema": st.just(1), "live": inner})))
def test_foreign_json_never_raises_anything_else(value: Any) -> None:
    with pytest.raises(RecordError):
        decode(json.dumps(value).encode())


def test_readers_of_schema_1_let_unknown_keys_pass() -> None:
    assert decode(GOOD.replace(b'{"schema":1', b'{"new":[1],"schema":1')) == decode(GOOD)


def outcome_of(paths: list[Any]) -> list[str]:
    return ["record" if isinstance(each, Record) else f"{each.line}: {each.why}" for each in read(paths)]


PACKERS: dict[str, Any] = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.compress}


@pytest.mark.parametrize("ending", PACKERS)
def test_files_are_read_plain_and_compressed_and_by_content_not_name(tmp_path: Path, ending: str) -> None:
    pack = PACKERS[ending]
    (tmp_path / "log").write_bytes(pack(GOOD * 2 + b"foreign\n\n" + GOOD) + pack(GOOD))
    told = outcome_of([tmp_path / "log"])
    assert told[:2] + told[3:] == ["record"] * 4
    assert told[2].startswith("3: not JSON")


@pytest.mark.parametrize("ending", PACKERS)
def test_a_torn_tail_is_told_and_the_lines_before_it_are_read(tmp_path: Path, ending: str) -> None:
    whole = b"".join(line_of(exchange(str(n).encode())) for n in range(3000))
    packed = PACKERS[ending](whole)
    (tmp_path / "log").write_bytes(packed[:-30])
    told = outcome_of([tmp_path / "log"])
    assert told.count("record") in range(1 if ending != ".jsonl" else 2999, 3000)
    assert told[told.count("record") :]
    if ending == ".jsonl":
        assert told[-1].startswith("3000: torn: not JSON")
    else:
        assert "broken compression" in told[-1]


def test_a_last_line_without_its_newline_is_a_record_when_whole(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(GOOD + GOOD[:-1])
    assert outcome_of([tmp_path / "log"]) == ["record", "record"]


def test_corrupt_compression_is_told_and_the_next_file_is_read(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(GOOD * 100))
    packed[30:40] = bytes(10)
    (tmp_path / "a").write_bytes(packed)
    (tmp_path / "b").write_bytes(GOOD)
    told = outcome_of([tmp_path / "a", tmp_path / "b"])
    assert any("broken compression" in each for each in told)
    assert told[-1] == "record"


@pytest.mark.parametrize("tail", [b"\n" + GOOD, b""])
def test_a_line_beyond_the_limit_is_passed_over_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: bytes
) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 2 << 20)
    (tmp_path / "log").write_bytes(GOOD + b"x" * (20 << 20) + tail)
    tracemalloc.start()
    try:
        told = outcome_of([tmp_path / "log"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told == ["record", "2: longer than 2 MiB", *(["record"] if tail else [])]
    assert peak < 8 << 20


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    line = line_of(exchange('{"a": "\u2028\u0085"}'.encode()))
    (tmp_path / "log").write_bytes(line * 2)
    assert outcome_of([tmp_path / "log"]) == ["record", "record"]


def test_a_directory_is_its_segments_oldest_first_and_each_once(tmp_path: Path) -> None:
    def named(n: int) -> bytes:
        return GOOD.replace(b'"id-1"', f'"{n}"'.encode())

    (tmp_path / "20260102T000000.000000Z-h-1-0001.jsonl.zst").write_bytes(zstandard.compress(named(2)))
    (tmp_path / "20260101T000000.000000Z-h-9-0001.jsonl.gz").write_bytes(gzip.compress(named(1)))
    (tmp_path / "20260103T000000.000000Z-h-1-0002.jsonl").write_bytes(named(3))
    (tmp_path / "20260103T000000.000000Z-h-1-0002.jsonl.zst").write_bytes(zstandard.compress(named(3)))
    (tmp_path / ".20260103T000000.000000Z-h-1-0002.jsonl.zst.partial").write_bytes(b"half")
    (tmp_path / "notes.txt").write_bytes(b"mine")
    assert [each.id for each in read([tmp_path]) if isinstance(each, Record)] == ["1", "2", "3"]
    assert not [each for each in read([tmp_path]) if isinstance(each, Unreadable)]


def test_progress_counts_every_byte_of_the_files(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD * 1000)
    (tmp_path / "log").write_bytes(packed)
    seen: list[int] = []
    assert sum(1 for _ in read([tmp_path / "log"], seen.append)) == 1000
    assert sum(seen) == len(packed)


def test_standard_input_is_read_as_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_bytes(zstandard.compress(GOOD))
    with (tmp_path / "log").open() as given:
        monkeypatch.setattr(sys, "stdin", given)
        assert outcome_of(["-"]) == ["record"]


def test_a_path_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"^cannot read .*missing: No such file or directory$"):
        list(read([tmp_path / "missing"]))


def test_a_segment_compressed_while_it_is_read_about_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(GOOD))
    monkeypatch.setattr(sources, "segments", lambda directory: [directory / "a.jsonl"])
    assert outcome_of([tmp_path]) == ["record"]


def test_a_zstd_bomb_is_read_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(zstandard.compress(bytes(200 << 20)) + zstandard.compress(b"\n" + GOOD))
    script = (
        "import sys; from shadowproxy.record import read; "
        "told = list(read([sys.argv[1]])); "
        # Not getrusage: its peak begins with what the process was forked from.
        "peak = next(row for row in open('/proc/self/status') if row.startswith('VmHWM')); "
        "print(len(told), int(peak.split()[1]) >> 10)"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "log"], capture_output=True, text=True, check=True)
    told, mebibytes = map(int, run.stdout.split())
    assert told == 2
    assert mebibytes < 200


def test_the_snippet_in_the_documentation_reads_a_log(tmp_path: Path) -> None:
    page = blocks(ROOT / "docs" / "how-to" / "read-the-log.md")
    (snippet,) = [block.text for block in page if 'open("segment.jsonl"' in block.text]
    (tmp_path / "segment.jsonl").write_bytes(line_of(differing(), judge=mismatch) * 2)
    run = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == "id-1 challenger ok mismatch\n" * 2


def test_the_record_in_the_documentation_is_one() -> None:
    page = (Path(__file__).parent.parent / "docs" / "reference" / "log.md").read_text()
    shown = page.partition("```json\n")[2].partition("```")[0]
    told = decode(shown.encode())
    assert told.request.body.size == len(b'{"dep_delay": 12, "distance": 1.10}')
    assert told.live.body is not None
    assert told.live.body.size == len(b'{"late": 0.12}')
    assert told.shadows["challenger"].judgement is not None
    assert all(f"`{word}`" in page for word in [*Outcome, *Verdict])


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 10**7).map(lambda micros: micros / 1000))
def test_times_are_written_with_three_decimals_at_most(value: float) -> None:
    written = milliseconds(value)
    assert abs(json.loads(written) - value) <= max(0.000501, abs(value) * 1e-12)
    assert written == orjson.dumps(json.loads(written))
