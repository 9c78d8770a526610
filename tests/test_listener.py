"""What of the caller's side shows only between two turns of the event loop."""

import pytest
from conftest import StartProxy
from fakes import CutOff, always

GET = b"GET /predict HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_an_answer_that_was_broken_in_its_first_packet_is_broken_off_after_its_head(proxy: StartProxy) -> None:
    """A caller that gets not a byte on a connection it used before takes it for idle, and asks again."""
    broken = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"
    async with proxy(always(broken)) as running, await running.caller() as caller:
        await caller.send(GET)
        start, fields = await caller.head()
        assert start == b"HTTP/1.1 200 OK"
        assert (b"X-A", b"1") in fields
        with pytest.raises(CutOff):
            await caller.answer()
        assert len(running.live.requests) == 1
