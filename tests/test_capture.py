"""A copy is bounded by its limit and by the memory of all copies, and always gives its memory back."""

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shadowproxy.serve.account import Memory
from shadowproxy.serve.mirror.capture import Capture

PLENTY = 1 << 30


@given(st.lists(st.binary(max_size=20)), st.integers(0, 100))
def test_a_copy_is_the_bodys_beginning(chunks: list[bytes], limit: int) -> None:
    memory = Memory(PLENTY)
    capture = Capture(limit, memory)
    for chunk in chunks:
        capture.add(chunk)
    body = b"".join(chunks)
    assert capture.body == body[:limit]
    assert capture.size == len(body)
    assert capture.whole is (len(body) <= limit)
    assert capture.over is (len(body) > limit)
    assert not capture.crowded
    assert memory.used == len(capture.body)


def test_a_piece_without_memory_is_not_kept_nor_anything_after_it() -> None:
    memory = Memory(5)
    capture = Capture(100, memory)
    for chunk in (b"abc", b"defg", b"h"):
        capture.add(chunk)
    assert (capture.body, capture.size, capture.crowded, capture.whole, capture.over) == (b"abc", 8, True, False, False)


def test_one_copy_that_gives_back_makes_room_for_another() -> None:
    memory = Memory(4)
    first, second, third = (Capture(100, memory) for _ in range(3))
    first.add(b"abcd")
    second.add(b"e")
    assert second.crowded
    assert first.release() == 4
    third.add(b"fghi")
    assert third.whole
    assert (first.body, third.body) == (b"", b"fghi")


def test_what_must_be_held_leaves_less_for_others_and_may_pass_the_limit() -> None:
    memory = Memory(10)
    capture = Capture(100, memory)
    capture.hold_anyway(12)
    assert (memory.used, capture.crowded) == (12, False)
    capture.add(b"a")
    assert capture.crowded
    assert (capture.release(), memory.used) == (12, 0)


def test_a_copy_gives_back_only_once() -> None:
    memory = Memory(PLENTY)
    capture = Capture(100, memory)
    capture.add(b"abc")
    assert (capture.release(), capture.release(), memory.used) == (3, 0, 0)


def test_chunks_are_referred_to_and_not_copied() -> None:
    chunk = bytes(1000)
    capture = Capture(PLENTY, Memory(PLENTY))
    capture.add(chunk)
    assert capture.body is chunk


def test_what_waits_in_the_journal_counts() -> None:
    queued = 0

    def elsewhere() -> int:
        return queued

    memory = Memory(10, elsewhere)
    assert memory.take(4)
    queued = 6
    assert not memory.take(1)
    queued = 5
    assert memory.take(1)


class Copies(RuleBasedStateMachine):
    """Any number of copies that add and give back in any order: the sum stays within the limit, and returns to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(50)
        self.open: list[Capture] = []
        self.held: Counter[Capture] = Counter()

    @rule(limit=st.integers(0, 30))
    def begin(self, limit: int) -> None:
        self.open.append(Capture(limit, self.memory))

    @precondition(lambda self: self.open)
    @rule(chunk=st.binary(max_size=20), which=st.integers(0))
    def add(self, chunk: bytes, which: int) -> None:
        self.open[which % len(self.open)].add(chunk)

    @precondition(lambda self: self.open)
    @rule(count=st.integers(0, 20), which=st.integers(0))
    def hold(self, count: int, which: int) -> None:
        capture = self.open[which % len(self.open)]
        if capture.hold(count):
            self.held[capture] += count

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0))
    def release(self, which: int) -> None:
        capture = self.open.pop(which % len(self.open))
        capture.release()
        del self.held[capture]

    @invariant()
    def the_books_balance(self) -> None:
        copied = sum(len(capture.body) for capture in self.open)
        assert self.memory.used == copied + self.held.total() <= 50


TestCopies: Callable[..., object] = Copies.TestCase
