"""Queries: credentials are held back from shadows, the configuration's changes are made, every other byte stays."""

import re
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.credential_values import is_credential_piece
from shadowproxy.redaction import BLANK, Redaction
from shadowproxy.serve.policy.query import QueryEdits, edit_query, remove_credentials

KEY = "AI" + "zaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q"


@pytest.mark.parametrize(
    ("target", "passed"),
    [
        (b"/p?access_token=s", b"/p"),
        (b"/p?a=1&access_token=s", b"/p?a=1"),
        (b"/p?access_token=s&a=1", b"/p?a=1"),
        (b"/p?a=1&token=s&b=%20+%C3%A4", b"/p?a=1&b=%20+%C3%A4"),
        (b"/p?a=1;token=s;b=2", b"/p?a=1;b=2"),
        (b"/p?token=s;b=2", b"/p?b=2"),
        (b"/p?a=1;token=s&b=2", b"/p?a=1&b=2"),
        (b"/p?token=s&token=t&a=1&TOKEN=u", b"/p?a=1"),
        (b"/p?a=1&api%5Fkey=s", b"/p?a=1"),
        (b"/p?a=1&%61pi_key=s&API-KEY=t", b"/p?a=1"),
        (b"/p?key=" + KEY.encode() + b"&q=1", b"/p?q=1"),
        (b"/p?x=" + KEY.encode().replace(b"A", b"%41") + b"&q=1", b"/p?q=1"),
        (b"/p?" + KEY.encode(), b"/p"),
        (b"/p?q=a&auth=Bearer%20s3cr3t", b"/p?q=a"),
        (b"/p?q=a&next=%2Flogin%3Ftoken%3Ds", b"/p?q=a"),
        (b"/p?q=a&url=https%3A%2F%2Fu%3Ap%40h%2F&z", b"/p?q=a&z"),
        (b"/p?next=/login?token=s&a=1", b"/p?next=/login&a=1"),
        (b"/p?&&token=s&&a=%zz", b"/p?&&&a=%zz"),
        (b"/p?token=s#top", b"/p#top"),
        (b"/p?a=1#access_token=s", b"/p?a=1"),
        (b"/p#access_token=s", b"/p"),
        (b"/p;jsessionid=s/q;v=1?a=1", b"/p/q;v=1?a=1"),
        (b"/p;jsessionid=s", b"/p"),
        (b"/p?\xff\xe9=1&token=\xff", b"/p?\xff\xe9=1"),
        (b"/p?a=1&user[password]=s", b"/p?a=1"),
        # Presigned: what is left says what was asked for, and proves nothing.
        (
            b"/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20260131&X-Amz-Expires=300"
            b"&X-Amz-Security-Token=t&X-Amz-Signature=ab",
            b"/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=300",
        ),
        (b"/o?X-Goog-Algorithm=GOOG4&X-Goog-Credential=c&X-Goog-Signature=ab", b"/o?X-Goog-Algorithm=GOOG4"),
        (b"/c/b?sv=2024-11-04&se=2026-01-31&sp=r&sig=a%2Fb%3D", b"/c/b?sv=2024-11-04&se=2026-01-31&sp=r"),
        (b"/d?Expires=1&Signature=ab&Key-Pair-Id=K2", b"/d?Expires=1"),
        (b"/d?AWSAccessKeyId=A&Expires=1&Signature=ab", b"/d?Expires=1"),
        (b"/d?GoogleAccessId=a%40b&Expires=1&Signature=ab", b"/d?Expires=1"),
    ],
)
def test_a_credential_in_the_target_is_held_back(target: bytes, passed: bytes) -> None:
    assert remove_credentials(target) == passed
    assert remove_credentials(passed) == passed


@pytest.mark.parametrize(
    "target",
    [
        b"/p",
        b"*",
        b"/p?",
        b"/?a=1&&b=%zz;=x&key&key=&a=2&tokens=3",
        b"/p?key=user:42",
        b"/p?key=user%3A42&token=",
        b"/p?code=LHR&max_tokens=5",
        b"/p?q=bearer+of+news&kind=Token&plan=Basic&model=sk-learn&version=1.2.3",
        b"/p?id=3b241101-e2bb-4255-8caf-4136c566a962&key=3b241101-e2bb-4255-8caf-4136c566a962",
        b"/p?url=https%3A%2F%2Fh%2Fp%3Fpage%3D2",
        b"/p;v=1.2/q;a=b",
        b"/p?\xff\xfe=\xe9",
        b"/p?a=1#top",
        b"/a=b/c",
    ],
)
def test_what_is_no_credential_passes_byte_for_byte(target: bytes) -> None:
    assert remove_credentials(target) is target


def test_a_long_target_is_judged_as_a_short_one_is() -> None:
    long = b"&a=" + b"x" * (1 << 20)
    assert remove_credentials(b"/p?token=s" + long) == b"/p?" + long[1:]
    assert remove_credentials(b"/p?token=s") == b"/p"


PIECES = st.sampled_from(
    ["", "a=1", "a", "token=s", "api%5Fkey=s", "key=user:42", "key=" + KEY, "=x", "b=%zz", "token="]
)
QUERIES = st.lists(st.tuples(st.sampled_from("&;"), PIECES)).map(
    lambda pairs: "".join(sign + piece for sign, piece in pairs)[1:]
)


@given(QUERIES)
def test_what_is_left_are_the_other_pieces_in_their_order(query: str) -> None:
    passed = remove_credentials(f"/p?{query}".encode()).decode()
    pieces = [piece for piece in re.split("[&;]", query) if not is_credential_piece(piece)]
    assert re.split("[&;]", passed.partition("?")[2]) == (pieces or [""])


@given(QUERIES)
def test_the_log_redacts_the_parameters_that_a_shadow_does_not_get(query: str) -> None:
    redacted = Redaction().parameters(query)
    held_back = len(re.split("[&;]", query)) - sum(map(is_keepable, re.split("[&;]", query)))
    assert redacted.count(BLANK) == held_back


def is_keepable(piece: str) -> bool:
    return not is_credential_piece(piece)


@given(st.text(st.sampled_from("?&;#a=1"), max_size=12))
def test_a_query_without_edits_stays(query: str) -> None:
    assert edit_query(query, lambda piece: piece) == query


@pytest.mark.parametrize(
    ("put", "removed", "target", "asked"),
    [
        ({}, [], b"/p?a=1", b"/p?a=1"),
        ({"v": "2"}, [], b"/p", b"/p?v=2"),
        ({"v": "2"}, [], b"/p?", b"/p?v=2"),
        ({"v": "2"}, [], b"/p?a=1", b"/p?a=1&v=2"),
        ({"v": "2"}, [], b"/p?v=1&a=%20", b"/p?v=2&a=%20"),
        ({"v": "2"}, [], b"/p?a=1;v=1;b=1&v=3&c", b"/p?a=1;v=2;b=1&c"),
        ({"v": "2"}, [], b"/p?%76=1&V=1", b"/p?v=2&V=1"),
        ({"v": "a b&c/\u00e4"}, [], b"/p", b"/p?v=a%20b%26c%2F%C3%A4"),
        ({"\u00e4 b": ""}, [], b"/p?%C3%A4+b=1", b"/p?%C3%A4%20b="),
        ({"v": "2", "w": "3"}, ["x"], b"/p?x=1&w=1", b"/p?w=3&v=2"),
        ({"v": "2"}, [], b"/p?a=1#top", b"/p?a=1&v=2#top"),
        ({}, ["a"], b"/p?a=1", b"/p"),
        ({}, ["a"], b"/p?a=1&a&b=2;a=3", b"/p?b=2"),
        ({}, ["a"], b"/p?A=1&aa=1&&b=", b"/p?A=1&aa=1&&b="),
        ({}, ["a"], b"/p?", b"/p?"),
        ({}, ["a b"], b"/p?a+b=1&c=\xff", b"/p?c=\xff"),
    ],
)
def test_parameters_are_set_and_removed_and_the_rest_stays(
    put: dict[str, str], removed: list[str], target: bytes, asked: bytes
) -> None:
    edits = QueryEdits.of(put, removed)
    assert edits.edit_target(target) == asked
    assert edits.edit_target(asked) == asked, "once is enough"


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=3), QUERIES)
def test_a_parameter_that_is_set_is_read_as_it_was_written(put: dict[str, str], query: str) -> None:
    put = {
        name.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
        for name, value in put.items()
    }
    asked = QueryEdits.of(put, ()).edit_target(f"/p?{query}".encode()).decode()
    read = [tuple(map(unquote_plus, piece.partition("=")[::2])) for piece in re.split("[&;]", asked.partition("?")[2])]
    for name, value in put.items():
        assert [each for each in read if each[0] == name] == [(name, value)]
