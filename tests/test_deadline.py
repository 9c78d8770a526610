"""A deadline rings once, when it was last set for, and never after it was cleared or closed."""

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from shadowproxy.serve.http1.deadline import Deadline, Deadlines


class Clock(asyncio.SelectorEventLoop):
    """A loop that stands still: its time is what a test says, and `pass_on` runs what has come due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: object, **_: object) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self)
        self.timers.append(timer)
        return timer

    def pass_on(self, to: float) -> None:
        while due := [timer for timer in self.waiting() if timer.when() <= to]:
            first = min(due, key=asyncio.TimerHandle.when)
            self.timers.remove(first)
            self.now = first.when()
            first._run()
        self.now = to

    def waiting(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self.timers if not timer.cancelled()]


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.close()  # it only tells the time
    return clock


def test_a_deadline_rings_once_when_its_seconds_have_passed(clock: Clock) -> None:
    rung: list[float] = []
    deadline = Deadline(clock, lambda: rung.append(clock.now))
    deadline.set(2)
    clock.pass_on(1.9)
    assert rung == []
    clock.pass_on(100)
    assert rung == [2]


def test_the_last_deadline_set_counts_whether_later_or_earlier(clock: Clock) -> None:
    rung: list[float] = []
    deadline = Deadline(clock, lambda: rung.append(clock.now))
    deadline.set(2)
    clock.pass_on(1)
    deadline.set(5)
    clock.pass_on(4)
    deadline.set(0.5)
    clock.pass_on(100)
    assert rung == [4.5]


def test_a_deadline_can_be_set_again_after_it_rang(clock: Clock) -> None:
    rung: list[float] = []
    deadline = Deadline(clock, lambda: rung.append(clock.now))
    for at in (1, 2):
        deadline.set(1)
        clock.pass_on(at)
    assert rung == [1, 2]


@pytest.mark.parametrize("end", [Deadline.clear, Deadline.close])
def test_a_cleared_or_closed_deadline_does_not_ring(clock: Clock, end: Callable[[Deadline], None]) -> None:
    rung: list[float] = []
    deadline = Deadline(clock, lambda: rung.append(clock.now))
    deadline.set(1)
    end(deadline)
    clock.pass_on(10)
    assert rung == []


def test_moving_a_deadline_on_costs_no_timer(clock: Clock) -> None:
    deadline = Deadline(clock, lambda: None)
    for _ in range(1000):
        deadline.set(5)
        clock.pass_on(clock.now + 0.001)
    assert len(clock.timers) == 1


def test_a_closed_deadline_keeps_no_object_alive(clock: Clock) -> None:
    class Owner:
        def expired(self) -> None:
            pass

    owner = Owner()
    deadline = Deadline(clock, owner.expired)
    deadline.set(60)
    deadline.close()
    assert clock.waiting() == []
    gone = weakref.ref(owner)
    clock.timers.clear()
    del owner, deadline
    gc.collect()
    assert gone() is None


# Many of one length.


def test_each_deadline_that_passes_is_reported_once_and_a_dropped_one_is_not(clock: Clock) -> None:
    rung: list[tuple[str, float]] = []
    deadlines = Deadlines[str](lambda whose: rung.append((whose, clock.now)), lambda: clock)
    for whose, at in (("a", 2), ("b", 2), ("c", 3), ("d", 5)):
        deadlines.set(whose, at)
    deadlines.drop("b")
    clock.pass_on(2.9)
    assert rung == [("a", 2)]
    deadlines.drop("c")
    deadlines.drop("c")
    clock.pass_on(100)
    assert rung == [("a", 2), ("d", 5)]
    assert list(deadlines) == []


def test_one_timer_serves_all_deadlines_and_none_remains_after_the_last(clock: Clock) -> None:
    deadlines = Deadlines[int](lambda _: None, lambda: clock)
    for whose in range(100):
        deadlines.set(whose, 1 + whose / 100)
        assert len(clock.waiting()) == 1
        deadlines.drop(whose)
    clock.pass_on(100)
    assert clock.waiting() == []
    assert len(deadlines) == 0


def test_the_last_key_can_be_taken_and_its_deadline_with_it(clock: Clock) -> None:
    rung: list[str] = []
    deadlines = Deadlines[str](rung.append, lambda: clock)
    deadlines.set("a", 1)
    deadlines.set("b", 2)
    assert deadlines.take_last() == "b"
    clock.pass_on(100)
    assert rung == ["a"]
    with pytest.raises(KeyError):
        deadlines.take_last()


def test_a_callback_may_set_another_deadline(clock: Clock) -> None:
    rung: list[float] = []

    def expire(whose: str) -> None:
        rung.append(clock.now)
        if whose == "first":
            deadlines.drop("second")
            deadlines.set("third", clock.now + 3)

    deadlines = Deadlines[str](expire, lambda: clock)
    deadlines.set("first", 1)
    deadlines.set("second", 2)
    clock.pass_on(100)
    assert rung == [1, 4]
