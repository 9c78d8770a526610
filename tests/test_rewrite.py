"""What is rewritten for a shadow is the place that is named, and not a byte beside it."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.serve.rewrite import Rewrite

PLAIN = {"/v1/predict": "/v2/predict"}


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
    assert Rewrite.of(PLAIN, {}).target(target) == sent


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
        (b'{"model":NaN}', b'{"model":NaN}'),
        (b'{"model":"old"', b'{"model":"old"'),
        (b'\xef\xbb\xbf{"model":"old"}', b'\xef\xbb\xbf{"model":"old"}'),
        (b'{"model":"\xff"}', b'{"model":"\xff"}'),
    ],
)
def test_the_value_is_replaced_and_every_other_byte_stays(body: bytes, sent: bytes) -> None:
    assert Rewrite.of({}, {"/model": "new"}).body(body) == sent


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
    assert Rewrite.of({}, {pointer: 0}).body(body) == (body if sent is None else sent)


def test_several_values_are_replaced_whatever_their_lengths() -> None:
    rewrite = Rewrite.of({}, {"/a": "much longer than before", "/b": {"c": None}})
    assert rewrite.body(b'{"b":[1,2,3],"a":1,"z":0}') == b'{"b":{"c":null},"a":"much longer than before","z":0}'


def test_depth_is_no_matter() -> None:
    deep = b"[" * 1000 + b"]" * 1000
    assert Rewrite.of({}, {"/model": 1}).body(b'{"d":' + deep + b',"model":0}') == b'{"d":' + deep + b',"model":1}'


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
def test_it_does_what_parsing_and_writing_again_would(data: st.DataObject, document: Any, indent: Any) -> None:
    pointer = data.draw(st.sampled_from(places(document)))
    body = json.dumps(document, indent=indent).encode()
    assert orjson.loads(Rewrite.of({}, {pointer: ["new"]}).body(body)) == put(document, pointer, ["new"])
