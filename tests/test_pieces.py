"""Pieces are what came, whatever their sizes, and cost little more than the bytes in them."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.serve.http1.pieces import SMALL, Pieces

SIZES = st.sampled_from([0, 1, 2, 10, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL])


@given(st.lists(st.tuples(SIZES, st.integers(0, 255), st.booleans())))
def test_the_bytes_taken_are_the_bytes_added(steps: list[tuple[int, int, bool]]) -> None:
    pieces, came = Pieces(), b""
    for size, letter, taking in steps:
        pieces.add(bytes([letter]) * size)
        came += bytes([letter]) * size
        assert pieces.size == len(came)
        if taking:
            assert pieces.joined() == came
            assert pieces.joined() is pieces.joined()
    taken = pieces.take()
    assert taken == came
    assert type(taken) is bytes
    assert (pieces.size, pieces.joined(), bool(pieces)) == (0, b"", False)


def test_one_piece_is_referred_to_and_not_copied() -> None:
    for size in (10, SMALL, 5000):
        piece = bytes(size)
        pieces = Pieces()
        pieces.add(piece)
        assert pieces.take() is piece


def test_tiny_pieces_cost_little_more_than_their_bytes() -> None:
    pieces = Pieces()
    for _ in range(100_000):
        pieces.add(b"ab")
    assert pieces._pieces is not None
    held = sum(sys.getsizeof(piece) for piece in pieces._pieces) + sys.getsizeof(pieces._pieces)
    assert held < 1.2 * 200_000  # each by itself took 56 bytes, 28 times as much


def test_bytes_that_were_taken_do_not_change_later() -> None:
    pieces = Pieces()
    for _ in range(3):
        pieces.add(b"ab")
    taken = pieces.joined()
    pieces.add(b"cd")
    assert (taken, pieces.take()) == (b"ababab", b"abababcd")
