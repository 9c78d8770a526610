"""When the pieces of an answer came: the first exactly, later ones ever more coarsely, and never many marks."""

import pytest

from shadowproxy.arrivals import EXACT, HELD, MOST, Arrivals, Marks, marks_in
from shadowproxy.serve.account import Memory
from shadowproxy.serve.mirror.capture import Capture

BEGAN = 1000.0


def noted(pieces: int) -> Marks:
    """The marks of pieces of ten bytes, one a second: the first a second after the beginning."""
    arrivals = Arrivals(10, BEGAN + 1)
    for number in range(2, pieces + 1):
        arrivals.add(10 * number, BEGAN + number)
    marks = marks_in(arrivals.packed(BEGAN))
    assert marks is not None
    return marks


@pytest.mark.parametrize("pieces", [1, 2, EXACT, EXACT + 1, MOST - 1])
def test_each_piece_of_a_short_stream_has_its_mark(pieces: int) -> None:
    numbers = list(range(1, pieces + 1))
    assert noted(pieces) == Marks([10 * each for each in numbers], [1000.0 * each for each in numbers], [1] * pieces)


@pytest.mark.parametrize("pieces", [MOST, MOST + 1, MOST + 2, 200, 1000, 1001, 4096, 100_000])
def test_a_long_stream_has_the_first_and_the_last_piece_exactly_and_no_more_marks(pieces: int) -> None:
    sizes, ms, since = noted(pieces)
    assert sizes[:EXACT] == [10 * each for each in range(1, EXACT + 1)]
    assert sizes[-1] == 10 * pieces
    assert MOST // 2 + MOST // 4 <= len(sizes) <= MOST
    assert ms == [100.0 * size for size in sizes]  # each mark's own time, and no other's
    assert sum(since) == pieces  # `pieces` adds up to all that came
    assert [10 * each for each in since] == [size - before for size, before in zip(sizes, [0, *sizes], strict=False)]
    (stride,) = set(since[EXACT:-1])
    assert since[-1] <= stride
    assert (stride & (stride - 1)) == 0


def test_marks_take_no_more_memory_than_is_counted() -> None:
    arrivals = Arrivals(10, BEGAN)
    for number in range(2, 5000):
        arrivals.add(10 * number, BEGAN + number)
        assert len(arrivals.packed(BEGAN)) <= HELD - 400  # what Python's objects take besides


@pytest.mark.parametrize("packed", [b"", b"x", bytes(32), bytes(33), Arrivals(1, 1.0).packed(0.0)[:-1]])
def test_bytes_that_hold_no_marks_are_none(packed: bytes) -> None:
    assert marks_in(packed) is None


def captured(*pieces: bytes, memory: Memory | None = None) -> Capture:
    capture = Capture(100, memory or Memory(1 << 20))
    for piece in pieces:
        capture.add(piece)
        capture.note_time()
    return capture


def test_an_answer_in_one_piece_has_no_marks() -> None:
    assert captured().arrivals(0.0) == captured(b"whole").arrivals(0.0) == b""


def test_an_answer_in_pieces_has_a_mark_for_each_of_them() -> None:
    marks = marks_in(captured(b"one", b"two!", b"three").arrivals(0.0))
    assert marks is not None
    assert (marks.sizes, marks.pieces) == ([3, 7, 12], [1, 1, 1])
    assert marks.ms == sorted(marks.ms)
    assert marks.ms[0] > 0


def test_marks_go_on_where_the_copy_ends() -> None:
    """They count what passed, kept or not."""
    marks = marks_in(captured(b"x" * 60, b"x" * 60, b"x" * 60).arrivals(0.0))
    assert marks is not None
    assert marks.sizes == [60, 120, 180]


def test_the_memory_of_marks_is_counted_and_given_back() -> None:
    memory = Memory(1 << 20)
    one, more = captured(b"x", memory=memory), captured(b"x", b"y", b"z", memory=memory)
    assert memory.used == 4 + HELD
    assert (one.release(), more.release()) == (1, 3 + HELD)
    assert memory.used == 0


def test_marks_are_noted_where_memory_has_run_out() -> None:
    """They are small, and their answer was begun."""
    capture = captured(b"xx", b"yy", memory=Memory(3))
    assert capture.crowded
    assert marks_in(capture.arrivals(0.0)) is not None
