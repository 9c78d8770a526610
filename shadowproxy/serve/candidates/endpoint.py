"""A candidate as a lane sees it: an endpoint that is sent requests, and feeds each leg a response."""

import asyncio
from time import perf_counter
from typing import Final

from shadowproxy.exchange import Field, Outcome
from shadowproxy.serve.candidates.registry import Candidates
from shadowproxy.serve.http1.framing import ResponseHead
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.mirror.leg import Leg
from shadowproxy.serve.upstreams.errors import ConnectError, ReadError
from shadowproxy.serve.upstreams.pool import Statistics
from shadowproxy.serve.upstreams.roundtrip import RoundTrip

_FIELDS: Final = ((b"Content-Type", b"application/json"),)
_NAMES: Final = {b"content-type": b"application/json"}

NO_CALL: Final = "the call's arguments could not be pickled"


class CandidateEndpoint:
    """Owns the tasks of its calls. The processes are `candidates`', and outlive it."""

    def __init__(self, name: str, url: str, candidates: Candidates) -> None:
        self.url = url
        self._name = name
        self._candidates = candidates
        self._calls: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<CandidateEndpoint {self._name} calls={len(self._calls)}>"

    def statistics(self) -> Statistics:
        return Statistics(open=len(self._calls), idle=0, uploads=0)

    def send(
        self,
        round_trip: RoundTrip,
        method: str,
        target: bytes,
        fields: list[Field],
        body: bytes,
        section: Section | None = None,
    ) -> None:
        """Have the candidate called. What it is called with comes with the exchange; the rest is for the record."""
        assert isinstance(round_trip, Leg)
        exchange = round_trip.job.exchange
        pickled: bytes = getattr(exchange, "pickle", b"")
        owner: object = getattr(exchange, "owner", None)
        if not pickled:  # no fault of the candidate's
            asyncio.get_running_loop().call_soon(round_trip.stop, Outcome.UNUSABLE, NO_CALL)
            return
        seconds = round_trip.lane.shadow.timeout
        task = asyncio.get_running_loop().create_task(self._call(round_trip, pickled, owner, seconds))
        round_trip.task = task  # which the leg cancels when it ends before
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, leg: Leg, pickled: bytes, owner: object, seconds: float) -> None:
        try:
            leg.waits = True
            answer = await self._candidates.call(
                self._name, pickled, owner, seconds, lambda waited: _begun(leg, waited)
            )
        except (ConnectError, ReadError) as error:
            leg.task = None  # this one ends by itself
            leg.fail(error)
            return
        leg.task = None
        if leg.over:
            return
        leg.first_byte_at = perf_counter()
        leg.head = ResponseHead(200, _FIELDS, _NAMES, len(answer.body), keep_alive=True)
        leg.on_head(leg.head)
        if answer.body and not leg.over:
            leg.on_body(answer.body)
        if not leg.over:
            leg.abandon()  # so that nothing more is expected of it
            leg.on_end()

    async def aclose(self) -> None:
        for task in self._calls:
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls)


def _begun(leg: Leg, waited: bool) -> None:
    """A process has the call. Where it had to be started, the deadlines of all that waited for it count from now."""
    leg.waits = False
    if waited:
        leg.lane.held_until = asyncio.get_running_loop().time()
