"""One shadow's leg, from its beginning to its outcome. It captures the response as it comes, and awaits nothing."""

from collections.abc import Callable
from time import perf_counter

from shadowproxy.exchange import Failure, Fields, Outcome, Reply, Translated
from shadowproxy.serve.http1.framing import ResponseHead
from shadowproxy.serve.mirror.capture import Capture
from shadowproxy.serve.mirror.lane import Job, Lane
from shadowproxy.serve.state.watching import Watch
from shadowproxy.serve.upstreams.connection import HIGH_WATER
from shadowproxy.serve.upstreams.endpoint import as_upstream_error
from shadowproxy.serve.upstreams.roundtrip import RoundTrip


class Leg(RoundTrip):
    """A job that a lane has begun. It calls `ended` once, with a reply or a failure. Its times run from its making."""

    __slots__ = (
        "_capture",
        "_ended",
        "_fields",
        "_settled",
        "began",
        "defect_met",
        "held_back",
        "job",
        "lane",
        "translated",
        "waits",
        "watch",
    )

    def __init__(self, lane: Lane, job: Job, capture: Capture, ended: Callable[["Leg", Reply | Failure], None]) -> None:
        super().__init__()
        self.lane = lane
        self.job = job
        self.began = perf_counter()
        self.held_back = False  # whether the request's credentials were
        self.defect_met: Exception | None = None
        self.waits = False  # for its endpoint to be there: its deadline stands still
        self.translated: tuple[Translated, ...] = ()
        watches = job.exchange.watches
        self.watch: Watch | None = None if watches is None else watches.get(lane)
        self._capture = capture
        self._ended = ended
        self._fields: Fields = ()
        self._settled = False

    def hold_memory(self, count: int) -> bool:
        """Take memory for a request that is not the caller's; False if none is left, and the leg has to stop."""
        return self._capture.hold(count)

    # The connection calls these.

    def on_head(self, head: ResponseHead) -> None:
        self._fields = head.section.fields
        if self.watch is not None:
            self.watch.own_head(head.status, self._fields)
        capture, needs = self._capture, self.job.exchange.plan.needs
        if isinstance(head.framing, int) and capture.is_over(head.framing) and not needs.needs_all(self._fields):
            capture.keep(needs.beginning)  # it will be cut off
        if not self._capture.hold(head.section.weight):
            self.stop(Outcome.OVERLOAD, "")

    def on_body(self, data: bytes) -> None:
        capture = self._capture
        capture.add(data)
        capture.note_time()
        if self.watch is not None:
            self.watch.own_piece(data)
        if capture.over or capture.crowded:
            self.stop(Outcome.OVERLOAD, "")
        elif len(data) > HIGH_WATER:
            self.yield_turn()

    def on_end(self) -> None:
        self._settle(Outcome.OK, "")

    def on_failure(self, error: Exception) -> None:
        failure = as_upstream_error(error)
        if failure is None and self._settled:
            raise error  # raised by `ended`: the event loop reports it
        if failure is None:  # one defect must not stop a lane: the mirror logs it, and the leg is settled
            self.defect_met = error
            self._settle(Outcome.PROTOCOL_ERROR, "a defect in the proxy; its log says more")
        else:
            self._settle(failure.outcome, str(failure))

    def stop(self, outcome: Outcome, error: str) -> None:
        """Stop listening. What was received is kept."""
        self.abandon()
        self._settle(outcome, error)

    def _settle(self, outcome: Outcome, error: str) -> None:
        if self._settled:
            return
        self._settled = True
        capture, head, began = self._capture, self.head, self.began
        if capture.over:
            needs = self.job.exchange.plan.needs
            if not needs.needs_all(self._fields):
                capture.keep(needs.beginning)
            outcome, error = Outcome.ANSWER_OVERSIZE, "the answer is longer than limits.capture"
        elif capture.crowded:
            outcome, error = Outcome.OVERLOAD, "no memory was left for its request or its answer"
        total_ms = (perf_counter() - began) * 1000
        began_ms = (began - self.job.exchange.received_at) * 1000
        reply = None
        if head is not None:
            first_byte_ms = (self.first_byte_at - began) * 1000
            reply = Reply(
                head.status,
                self._fields,
                capture.body,
                capture.size,
                first_byte_ms,
                total_ms,
                began_ms,
                arrivals=capture.arrivals(began),
                translated=self.translated,
            )
        if outcome is Outcome.OK and reply is not None:
            self._ended(self, reply)
        else:
            self._ended(self, Failure(outcome, error, total_ms, reply, began_ms, self.translated))
