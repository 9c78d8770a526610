"""A call apart: what comes of it arrives, and where it hangs nobody waits for it."""

import asyncio
import threading

import pytest

from shadowproxy.apart import apart


async def test_what_a_call_gives_and_what_it_raises_arrive() -> None:
    assert await apart(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await apart(divmod, 7, 0)


def test_a_loop_closes_while_a_call_hangs() -> None:
    gate, ended = threading.Event(), threading.Event()

    def hang() -> None:
        gate.wait(30)
        ended.set()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await apart(hang)

    asyncio.run(leave())
    assert not ended.is_set()
    gate.set()  # its end finds the loop closed, which is no defect
    assert ended.wait(5)
