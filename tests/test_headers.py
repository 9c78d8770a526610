"""Which fields go where. All others pass unchanged, in their order, case and number."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.exchange import Field, Fields
from shadowproxy.serve.http1.fields import HOP_BY_HOP, NOT_TO_STRIP, end_to_end
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.policy.headers import (
    count_hops,
    fields_for_shadow,
    find,
    forwarded_fields,
    section_for_shadow,
    with_content_length,
)

A: Field = (b"X-a", b"1")
HOST: Field = (b"Host", b"caller:1")
RECORD = "019c0000-0000-7000-8000-000000000001"
NAMES = st.sampled_from([b"X-a", b"x-A", b"Host", b"Connection", b"TE", b"Cookie", b"Via", b"Accept"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=6)), max_size=8)


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_a_field_for_this_hop_only_does_not_pass(name: bytes) -> None:
    assert end_to_end((A, (name.title(), b"x"), HOST)) == (A, HOST)


@pytest.mark.parametrize("listed", [b"x-b", b"X-B", b"close, X-b", b"x-b\t ,, close", b"keep-alive,x-B"])
def test_what_connection_lists_does_not_pass(listed: bytes) -> None:
    assert end_to_end((A, (b"connection", listed), (b"X-B", b"2"), HOST)) == (A, HOST)


def test_what_several_connection_fields_list_does_not_pass() -> None:
    assert end_to_end(((b"Connection", b"a"), (b"A", b""), (b"B", b""), (b"CONNECTION", b"b"), A)) == (A,)


@pytest.mark.parametrize("name", sorted(NOT_TO_STRIP))
def test_connection_cannot_remove_the_fields_that_frame_a_message(name: bytes) -> None:
    assert end_to_end(((b"Connection", name), (name, b"x"))) == ((name, b"x"),)


@given(FIELDS)
def test_what_passes_is_a_subsequence_and_passing_twice_changes_nothing(fields: list[Field]) -> None:
    passed = end_to_end(tuple(fields))
    came = iter(fields)
    assert all(field in came for field in passed)
    assert end_to_end(passed) == passed


def test_the_first_field_of_a_name_is_found_whatever_its_case() -> None:
    assert find([A, (b"x-A", b"2")], b"x-a") == b"1"
    assert find([A], b"x-b") is None


def test_forwarding_adds_the_fields_that_no_proxy_has_set() -> None:
    came: Fields = ((b"X-Forwarded-For", b"10.0.0.1"), A)
    assert forwarded_fields(came, "192.0.2.1", b"http", b"h:1") == [
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"h:1"),
    ]


def test_scheme_and_host_set_by_a_proxy_before_us_stay() -> None:
    came: Fields = ((b"x-forwarded-PROTO", b"https"), (b"x-forwarded-host", b"public"))
    assert forwarded_fields(came, "192.0.2.1", b"http", b"h") == [(b"X-Forwarded-For", b"192.0.2.1")]


def test_http_1_0_without_a_host_forwards_none() -> None:
    assert find(forwarded_fields((), "192.0.2.1", b"http", None), b"x-forwarded-host") is None


SECRETS = [
    b"Authorization",
    b"Proxy-Authorization",
    b"Cookie",
    b"X-Api-Key",
    b"Api-Key",
    b"x-goog-api-key",
    b"X-Amz-Security-Token",
    b"X-Acme-Token",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_credential_is_held_back_from_a_shadow_unless_it_may_have_it(name: bytes) -> None:
    sent, held_back = fields_for_shadow([A, (name, b"secret")], "s", credentials=False, record=RECORD)
    assert held_back
    assert [field for field in sent if field[1] == b"secret"] == []
    sent, held_back = fields_for_shadow([A, (name, b"secret")], "s", credentials=True, record=RECORD)
    assert not held_back
    assert (name, b"secret") in sent


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (b"https://app/p?a=1&token=secret&b=%20", b"https://app/p?a=1&token=[redacted]&b=%20"),
        (b"https://u:secret@app/p", b"https://[redacted]@app/p"),
        (b"/p?api_key=secret", b"/p?api_key=[redacted]"),
        (b"https://app/\xe9\xff#access_token=secret", b"https://app/\xe9\xff#access_token=[redacted]"),
        (b"https://app/p?a=1#top", None),
        (b"text/html;q=0.9, a@b", None),
        (b"a=1&token=secret", b"a=1&token=[redacted]"),  # no URL, and a cookie's form
    ],
)
@pytest.mark.parametrize("name", [b"Referer", b"X-Original-URL", b"X-Forwarded-Uri", b"X-Any"])
def test_a_credential_in_a_fields_url_is_held_back_too(name: bytes, value: bytes, sent: bytes | None) -> None:
    sent_fields, held_back = fields_for_shadow([(name, value)], "s", credentials=False, record=RECORD)
    assert (sent_fields[0], held_back) == ((name, value if sent is None else sent), sent is not None)
    sent_fields, held_back = fields_for_shadow([(name, value)], "s", credentials=True, record=RECORD)
    assert (sent_fields[0], held_back) == ((name, value), False)


def test_a_shadows_request_says_whose_it_is_and_the_rest_passes() -> None:
    came: list[Field] = [HOST, A, (b"x-A", b"2"), (b"Via", b"1.1 lb"), (b"Accept", b"*/*")]
    sent, held_back = fields_for_shadow([*came, (b"Expect", b"100-continue")], "s-1", credentials=False, record=RECORD)
    assert sent == [*came, (b"Via", b"1.1 shadowproxy"), (b"X-Shadow-Request", b"s-1")]
    assert not held_back


TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(("came", "flags"), [(b"01", b"00"), (b"00", b"00"), (b"03", b"02"), (b"ff", b"fe")])
def test_a_shadows_trace_is_the_same_with_a_new_span_and_not_sampled(came: bytes, flags: bytes) -> None:
    sent, _ = fields_for_shadow([(b"TraceParent", TRACE[:-2] + came)], "s", credentials=False, record=RECORD)
    name, value = sent[0]
    assert name == b"TraceParent"
    assert re.fullmatch(TRACE[:36] + rb"[0-9a-f]{16}-" + flags, value)
    assert value[36:52] != TRACE[36:52]


def test_what_a_later_version_of_the_trace_adds_stays() -> None:
    sent, _ = fields_for_shadow(
        [(b"traceparent", b"cc" + TRACE[2:] + b"-more-x")], "s", credentials=False, record=RECORD
    )
    assert sent[0][1].startswith(b"cc-0af7651916cd43dd8448eb211c80319c-")
    assert sent[0][1].endswith(b"-00-more-x")


def test_two_shadows_of_a_request_have_spans_of_their_own() -> None:
    spans = {
        fields_for_shadow([(b"traceparent", TRACE)], name, credentials=False, record=RECORD)[0][0][1] for name in "ab"
    }
    again = {
        fields_for_shadow([(b"traceparent", TRACE)], name, credentials=False, record=RECORD)[0][0][1] for name in "ab"
    }
    assert len(spans) == 2
    assert spans == again


REPEATED = st.lists(
    st.sampled_from([A, HOST, (b"Authorization", b"secret"), (b"traceparent", TRACE), (b"Referer", b"http://u:p@h/")])
)


@given(REPEATED, st.sampled_from([(), ((b"X-Request-ID", b"1"),)]), st.booleans())
def test_a_repeated_section_is_sent_to_a_shadow_like_a_new_one(
    fields: list[Field], own: Fields, credentials: bool
) -> None:
    section = Section(tuple(fields))
    for number in range(4):
        section.seen += 1
        record = f"{RECORD[:-1]}{number}"
        sent, held_back = fields_for_shadow([*fields, *own], "s", credentials=credentials, record=record)
        before, more, is_less = section_for_shadow(section, own, "s", credentials=credentials, record=record)
        assert ([*before.fields, *more] if before is not None else more, is_less) == (sent, held_back)
        assert section.fields == tuple(fields)


NO_TRACES = [
    b"",
    b"00",
    TRACE[:-1],
    TRACE[:-2] + b"zz",
    b"00-1-2-01",
    TRACE.replace(b"-", b"_"),
    TRACE.upper(),
    TRACE + b"-more",
    b"ff" + TRACE[2:],
    TRACE[:3] + b"0" * 32 + TRACE[35:],
    TRACE[:36] + b"0" * 16 + TRACE[52:],
]


@pytest.mark.parametrize("value", NO_TRACES)
def test_an_invalid_traceparent_passes_unchanged(value: bytes) -> None:
    sent, _ = fields_for_shadow([(b"traceparent", value)], "s", credentials=False, record=RECORD)
    assert sent[0][1] == value


def test_a_changed_body_gets_its_length_and_keeps_its_framing() -> None:
    assert with_content_length([A, (b"content-LENGTH", b"5")], 12) == [A, (b"content-LENGTH", b"12")]
    assert with_content_length([A, (b"Transfer-Encoding", b"chunked")], 12) == [A, (b"Transfer-Encoding", b"chunked")]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ([], 0),
        ([(b"Via", b"1.1 lb")], 0),
        ([(b"Via", b"1.1 shadowproxy")], 1),
        ([(b"via", b"1.1 shadowproxy, 1.1 lb"), (b"Via", b"1.1 shadowproxy")], 2),
    ],
)
def test_how_often_a_request_has_been_through_is_counted(fields: list[Field], count: int) -> None:
    assert count_hops(tuple(fields)) == count
