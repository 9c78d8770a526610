"""What an endpoint's configuration changes in a request's head, and that nothing else of it changes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.exchange import Field, Fields
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.policy.edits import WRITERS, Edits

HOST: Field = (b"Host", b"h")
A: Field = (b"X-a", b"1")
TWICE: Field = (b"x-A", b"2")


def sent(fields: Fields, **edits: Any) -> tuple[Field, ...]:
    """The fields of the head that is written, in their order."""
    head, _ = Edits(**{"host": None, "own_host": b"own"} | edits).write_head("GET", b"/p", fields)
    line, *lines, end, rest = head.split(b"\r\n")
    assert (line, end, rest) == (b"GET /p HTTP/1.1", b"", b"")
    return tuple((name, value) for name, _, value in (line.partition(b": ") for line in lines))


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({}, (HOST, A, TWICE)),
        ({"host": b"up"}, ((b"Host", b"up"), A, TWICE)),
        ({"removed": frozenset({b"x-a"})}, (HOST,)),
        ({"put": ((b"X-A", b"3"),)}, (HOST, (b"X-a", b"3"))),
        ({"put": ((b"X-New", b"3"),)}, (HOST, A, TWICE, (b"X-New", b"3"))),
        ({"put": ((b"X-New", b"3"), (b"X-A", b"4"))}, (HOST, (b"X-a", b"4"), (b"X-New", b"3"))),
        ({"removed": frozenset({b"x-a"}), "put": ((b"X-a", b"3"),)}, (HOST, (b"X-a", b"3"))),
        ({"host": b"up", "removed": frozenset({b"host"})}, ((b"Host", b"up"), A, TWICE)),
        ({"put": ((b"host", b"put"),)}, ((b"Host", b"put"), A, TWICE)),
        ({"host": b"up", "put": ((b"host", b"put"),)}, ((b"Host", b"up"), A, TWICE)),
    ],
)
def test_what_is_put_replaces_in_place_or_is_added_at_the_end(edits: dict[str, Any], expected: Fields) -> None:
    assert sent((HOST, A, TWICE), **edits) == expected


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({"host": b"up"}, ((b"Host", b"up"), A)),
        ({}, ((b"Host", b"own"), A)),
        ({"put": ((b"host", b"put"),)}, (A, (b"host", b"put"))),
        ({"host": b"up", "put": ((b"host", b"put"),)}, ((b"Host", b"up"), A)),
    ],
)
def test_a_request_without_a_host_is_given_one_and_it_comes_first(edits: dict[str, Any], expected: Fields) -> None:
    assert sent((A,), **edits) == expected


@given(st.lists(st.tuples(st.sampled_from([b"A", b"a", b"b-C", b"host"]), st.sampled_from([b"", b"1", b"x: y"]))))
def test_without_edits_every_field_passes_as_it_came(fields: list[Field]) -> None:
    expected = tuple(fields) if any(name == b"host" for name, _ in fields) else ((b"Host", b"own"), *fields)
    assert sent(tuple(fields)) == expected


@pytest.mark.parametrize(
    ("field", "chunked"),
    [
        ((b"Transfer-Encoding", b"chunked"), True),
        ((b"transfer-encoding", b"chunked"), True),
        ((b"Content-Length", b"5"), False),
    ],
)
def test_it_returns_whether_the_body_is_chunked(field: Field, chunked: bool) -> None:
    assert Edits(host=None, own_host=b"own").write_head("POST", b"/", (HOST, field))[1] is chunked


SOME = st.lists(
    st.tuples(st.sampled_from([b"A", b"a", b"b-C", b"host", b"Via"]), st.sampled_from([b"", b"1", b"x: y"]))
)
EDITS = st.fixed_dictionaries(
    {
        "host": st.sampled_from([None, b"up"]),
        "own_host": st.just(b"own"),
        "removed": st.sets(st.sampled_from([b"a", b"via", b"host"])).map(frozenset),
        "put": st.lists(
            st.tuples(st.sampled_from([b"A", b"B-c", b"Via"]), st.sampled_from([b"2", b"3"])), max_size=3
        ).map(tuple),
    }
)


@given(SOME, SOME, EDITS, EDITS)
def test_a_section_is_written_like_its_fields_by_every_endpoint_every_time(
    came: list[Field], own: list[Field], first: dict[str, Any], second: dict[str, Any]
) -> None:
    section = Section(tuple(came))
    section.seen = 2
    by = [Edits(**first), Edits(**second)]
    for edits in [*by, *by]:
        assert edits.write_head("GET", b"/p", own, section) == edits.write_head("GET", b"/p", [*came, *own])


def test_a_section_does_not_keep_the_lines_of_every_reloads_endpoints() -> None:
    section = Section(((b"Host", b"h"), (b"A", b"1")), seen=2)
    for host in range(100):
        edits = Edits(host=b"h%d" % host, own_host=b"o")
        assert edits.write_head("GET", b"/", (), section)[0] == b"GET / HTTP/1.1\r\nHost: h%d\r\nA: 1\r\n\r\n" % host
    assert section.written is not None
    assert len(section.written) <= WRITERS
