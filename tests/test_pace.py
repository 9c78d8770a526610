"""Turns come in order, one at a time, and no faster than they were promised."""

import asyncio

from shadowproxy.serve.upstreams.pace import Pace


async def test_turns_come_in_order_and_no_faster_than_the_pace() -> None:
    loop = asyncio.get_running_loop()
    pace, had = Pace(0.01), []
    last = asyncio.Event()
    began = loop.time()
    for number in range(4):
        pace.call_in_turn(lambda number=number: had.append((number, loop.time() - began)))  # type: ignore[misc]
    pace.call_in_turn(last.set)
    await last.wait()
    assert [number for number, _ in had] == [0, 1, 2, 3]
    assert all(at >= 0.0099 * (number + 1) for number, at in had)


async def test_without_a_pace_a_turn_is_the_loops_next() -> None:
    pace, had = Pace(0), []
    pace.call_in_turn(lambda: had.append(1))
    assert had == []
    await asyncio.sleep(0)
    assert had == [1]


async def test_a_callback_may_wait_for_the_next_turn() -> None:
    pace, had = Pace(0.001), []
    third = asyncio.Event()

    def turn() -> None:
        had.append(1)
        if len(had) < 3:
            pace.call_in_turn(turn)
        else:
            third.set()

    pace.call_in_turn(turn)
    await third.wait()
    assert had == [1, 1, 1]


async def test_a_closed_pace_calls_nothing() -> None:
    pace, had = Pace(0.001), []
    pace.call_in_turn(lambda: had.append(1))
    pace.close()
    await asyncio.sleep(0.01)
    assert had == []
