"""Only the named value is rewritten for a shadow, and no byte beside it."""

import gzip
import json
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.serve.policy.payload import LONGEST, LONGEST_CODED, VALUES, NotRead
from shadowproxy.serve.policy.rewrite import Rewrite

PLAIN = {"/v1/predict": "/v2/predict"}


def rewritten(body: bytes, values: dict[str, Any]) -> bytes:
    return Rewrite.of({}, values).apply_values([], body)[1]


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"/v1/predict", b"/v2/predict"),
        (b"/v1/predict?", b"/v2/predict?"),
        (b"/v1/predict?a=1&a=/v1/predict", b"/v2/predict?a=1&a=/v1/predict"),
        (b"/v1/predict/more", b"/v1/predict/more"),
        (b"/v1/predict/", b"/v1/predict/"),
        (b"/V1/predict", b"/V1/predict"),
        (b"/", b"/"),
        (b"*", b"*"),
    ],
)
def test_a_whole_path_is_replaced_and_the_query_stays(target: bytes, sent: bytes) -> None:
    assert Rewrite.of(PLAIN, {}).apply_path(target) == sent


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model":"old"}', b'{"model":"new"}'),
        (b' { "model" : "old" , "n" : 1.10 } ', b' { "model" : "new" , "n" : 1.10 } '),
        (b'{"id":123456789012345678901234567890,"model":null}', b'{"id":123456789012345678901234567890,"model":"new"}'),
        (b'{"model":{"name":["old","}"]},"x":1e2}', b'{"model":"new","x":1e2}'),
        (b'{"a":"\\"model\\":","model":1}', b'{"a":"\\"model\\":","model":"new"}'),
        (b'{"mod\\u0065l":"old"}', b'{"mod\\u0065l":"new"}'),
        (b'{"model":1,"a":2,"a":3,"model":2}', b'{"model":1,"a":2,"a":3,"model":"new"}'),
        (b'{"model":"\\u2028\xe2\x80\xa8\xc3\xa9"}', b'{"model":"new"}'),
        (b'{"model":-1.5E+3}', b'{"model":"new"}'),
        # Nothing is added, nothing deeper is meant, and what is no JSON passes as it is.
        (b'{"other":{"model":"old"}}', b'{"other":{"model":"old"}}'),
        (b"{}", b"{}"),
        (b"[]", b"[]"),
        (b'["model"]', b'["model"]'),
        (b'"model"', b'"model"'),
        (b"", b""),
        # What Python and some others write, and no standard knows.
        (b'{"model":NaN,"x":[-Infinity,NaN]}', b'{"model":"new","x":[-Infinity,NaN]}'),
        (b'\xef\xbb\xbf{"model":"old"}', b'\xef\xbb\xbf{"model":"new"}'),
        (b'{"\\ud800":1,"model":"old","x":"\\ud800"}', b'{"\\ud800":1,"model":"new","x":"\\ud800"}'),
        (b'{"model":"old","n":' + b"9" * 5000 + b"}", b'{"model":"new","n":' + b"9" * 5000 + b"}"),
    ],
)
def test_the_value_is_replaced_and_every_other_byte_stays(body: bytes, sent: bytes) -> None:
    assert rewritten(body, {"/model": "new"}) == sent


@pytest.mark.parametrize(
    ("pointer", "sent"),
    [
        ("", b"0"),
        ("/a", b'{"a":0,"b/c":{"~":3},"":4}'),
        ("/a/0", b'{"a":[0, [2, 2]],"b/c":{"~":3},"":4}'),
        ("/a/1/1", b'{"a":[1, [2, 0]],"b/c":{"~":3},"":4}'),
        ("/b~1c/~0", b'{"a":[1, [2, 2]],"b/c":{"~":0},"":4}'),
        ("/", b'{"a":[1, [2, 2]],"b/c":{"~":3},"":0}'),
        ("/a/2", None),
        ("/a/-1", None),
        ("/a/-", None),
        ("/a/01", None),
        ("/a/0/0", None),
        ("/c", None),
    ],
)
def test_a_pointer_leads_where_rfc_6901_says(pointer: str, sent: bytes | None) -> None:
    body = b'{"a":[1, [2, 2]],"b/c":{"~":3},"":4}'
    assert rewritten(body, {pointer: 0}) == (body if sent is None else sent)


def test_several_values_are_replaced_whatever_their_lengths() -> None:
    values = {"/a": "much longer than before", "/b": {"c": None}}
    assert rewritten(b'{"b":[1,2,3],"a":1,"z":0}', values) == b'{"b":{"c":null},"a":"much longer than before","z":0}'


def test_a_value_is_replaced_at_any_depth() -> None:
    deep = b"[" * 1000 + b"]" * 1000
    assert rewritten(b'{"d":' + deep + b',"model":0}', {"/model": 1}) == b'{"d":' + deep + b',"model":1}'


@pytest.mark.parametrize(
    ("coding", "encode"),
    [(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"identity", bytes)],
    ids=["gzip", "deflate", "identity"],
)
def test_a_coded_body_is_sent_plain_once_it_is_changed_and_as_it_is_otherwise(coding: bytes, encode: Any) -> None:
    body = encode(b'{"model":"old","n":1.10}')
    fields = [(b"Content-Encoding", coding), (b"X-A", b"1"), (b"Content-Length", b"%d" % len(body))]
    sent = b'{"model":"new","n":1.10}'
    changed = Rewrite.of({}, {"/model": "new"}).apply_values(fields, body)
    assert changed == ([(b"X-A", b"1"), (b"Content-Length", b"%d" % len(sent))], sent)
    assert Rewrite.of({}, {"/absent": "new"}).apply_values(fields, body) == (fields, body)


def test_fields_that_describe_the_bytes_of_a_changed_body_are_removed() -> None:
    stale = [
        (b"Content-MD5", b"x"),
        (b"content-digest", b"sha-256=:x:"),
        (b"Repr-Digest", b"sha-256=:x:"),
        (b"Digest", b"x"),
        (b"Signature-Input", b"x"),
        (b"Signature", b"x"),
        (b"X-Amz-Content-SHA256", b"x"),
    ]
    rewrite = Rewrite.of({}, {"/a": 2})
    assert rewrite.apply_values([*stale, (b"A", b"b")], b'{"a":1}') == ([(b"A", b"b")], b'{"a":2}')
    assert rewrite.apply_values([*stale, (b"A", b"b")], b'{"b":1}') == ([*stale, (b"A", b"b")], b'{"b":1}')


CODED = [(b"Content-Encoding", b"gzip")]


@pytest.mark.parametrize(
    ("fields", "body", "why"),
    [
        ([], b'{"model":"old"', "not JSON"),
        ([], b'{"model":"\xff"}', "not JSON"),
        ([], b"a=b&model=old", "not JSON"),
        ([], b"[" * 100_000, "too many values"),
        ([], b"[" * 5000 + b"]" * 5000, "not JSON"),
        ([], b'{"a":"' + bytes(LONGEST) + b'"}', "longer than 4 MiB"),
        ([], b"[" + b"0," * VALUES + b"0]", "too many values"),
        ([], b"[" + b'"",' * (VALUES // 16) + b"0]", "too many values"),
        ([(b"content-encoding", b"rot13")], b"{}", "decoded: unknown content coding"),
        (CODED, b"{}", "decoded: broken content coding"),
        (CODED, gzip.compress(bytes(LONGEST_CODED + 1)), "decoded: decodes to more than the limit"),
        (CODED, gzip.compress(b'{"model":1}' * 100)[:30], "not JSON"),
    ],
)
def test_a_body_that_cannot_be_searched_raises_the_reason(fields: Any, body: bytes, why: str) -> None:
    with pytest.raises(NotRead, match=why):
        Rewrite.of({}, {"/model": "new"}).apply_values(fields, body)
    assert Rewrite.of({}, {}).apply_values(fields, body) == (fields, body)


KEYS = st.text(alphabet='ab"\\/~\u00e9 ', max_size=3)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False, allow_infinity=False) | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def places(document: Any, at: str = "") -> list[str]:
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    inner = [place for key, value in items for place in places(value, f"{at}/{escaped(str(key))}")]
    return [at, *inner]


def escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def put(document: Any, pointer: str, value: Any) -> Any:
    if not pointer:
        return value
    *way, last = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
    inner = document
    for token in way:
        inner = inner[int(token)] if isinstance(inner, list) else inner[token]
    inner[int(last) if isinstance(inner, list) else last] = value
    return document


@given(st.data(), DOCUMENTS, st.sampled_from([None, 0, 2, "\t"]))
def test_rewriting_equals_parsing_changing_and_writing_again(data: st.DataObject, document: Any, indent: Any) -> None:
    pointer = data.draw(st.sampled_from(places(document)))
    body = json.dumps(document, indent=indent).encode()
    assert orjson.loads(rewritten(body, {pointer: ["new"]})) == put(document, pointer, ["new"])
