"""Request IDs are accepted only if they are safe in a log and a header; record IDs are unique and sort by time."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.serve.policy import identity
from shadowproxy.serve.policy.identity import valid_request_id


@pytest.mark.parametrize("value", [b"a", b"!", b"~", b"x" * 128, b'{"a":1}', b"01a20463-51cf-7853-9348-7a62475647dc"])
def test_visible_ascii_up_to_128_characters_is_an_id(value: bytes) -> None:
    assert valid_request_id(value) == value.decode()


@pytest.mark.parametrize("value", [None, b"", b"x" * 129, b"a b", b"a\tb", b"\x7f", b"a\n", b"\xc3\xa9", b"a\x00"])
def test_anything_else_is_none(value: bytes | None) -> None:
    assert valid_request_id(value) is None


@given(st.integers(0, (1 << 48) * 1_000_000 - 1))
def test_a_uuid7_is_one_by_rfc_9562_and_says_its_millisecond(at_ns: int) -> None:
    made = uuid.UUID(identity.uuid7(at_ns))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == at_ns // 1_000_000


@given(st.lists(st.integers(0, 1 << 60), min_size=2, unique_by=lambda at_ns: at_ns // 1_000_000))
def test_uuid7s_sort_as_their_times_do(times: list[int]) -> None:
    made = [identity.uuid7(at_ns) for at_ns in sorted(times)]
    assert made == sorted(made)


def test_uuid7s_of_one_instant_differ_in_all_of_their_74_random_bits() -> None:
    """A mistake in the shifts would keep some bits at 0 or at 1 in every ID."""
    made = [uuid.UUID(identity.uuid7(0)).int for _ in range(300)]
    always, ever = made[0], 0
    for value in made:
        always &= value
        ever |= value
    assert len(set(made)) == 300
    assert (always ^ ever).bit_count() == 74
