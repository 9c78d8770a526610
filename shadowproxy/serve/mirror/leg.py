"""One shadow's leg, from when it is begun to what came of it. It copies the answer as it comes, and awaits nothing."""

from collections.abc import Callable
from time import perf_counter

from shadowproxy.exchange import Failure, Fields, Outcome, Reply
from shadowproxy.serve.http1.framing import ReplyHead
from shadowproxy.serve.mirror.capture import Capture
from shadowproxy.serve.mirror.lane import Job, Lane
from shadowproxy.serve.upstreams.asking import Asking
from shadowproxy.serve.upstreams.connection import HIGH_WATER
from shadowproxy.serve.upstreams.endpoint import as_upstream_error


class Leg(Asking):
    """A job that a lane has begun. `ended` is told once what came of it; milliseconds from when the leg was made."""

    __slots__ = ("_capture", "_ended", "_fields", "_settled", "began", "defect_met", "held_back", "job", "lane")

    def __init__(self, lane: Lane, job: Job, capture: Capture, ended: Callable[["Leg", Reply | Failure], None]) -> None:
        super().__init__()
        self.lane = lane
        self.job = job
        self.began = perf_counter()
        self.held_back = False  # whether the request's credentials were
        self.defect_met: Exception | None = None
        self._capture = capture
        self._ended = ended
        self._fields: Fields = ()
        self._settled = False

    # The connection calls these.

    def begins(self, head: ReplyHead) -> None:
        self._fields = head.section.fields
        if not self._capture.hold(head.section.weight):
            self.stop(Outcome.OVERLOAD, "")

    def piece(self, data: bytes) -> None:
        capture = self._capture
        capture.add(data)
        if not capture.whole:
            self.stop(Outcome.OVERLOAD, "")
        elif len(data) > HIGH_WATER:
            self.pass_turn()

    def ends(self) -> None:
        self._settle(Outcome.OK, "")

    def breaks(self, error: Exception) -> None:
        failure = as_upstream_error(error)
        if failure is None and self._settled:
            raise error  # by who was told of the end: the loop tells of it
        if failure is None:  # one defect must not stop a lane: the mirror tells of it, and the leg is settled
            self.defect_met = error
            self._settle(Outcome.PROTOCOL_ERROR, "a defect in the proxy; its log says more")
        else:
            self._settle(failure.outcome, str(failure))

    def stop(self, outcome: Outcome, error: str) -> None:
        """Listen no longer. What had come is kept."""
        self.abandon()
        self._settle(outcome, error)

    def _settle(self, outcome: Outcome, error: str) -> None:
        if self._settled:
            return
        self._settled = True
        capture, head, began = self._capture, self.head, self.began
        if capture.over:
            outcome, error = Outcome.ANSWER_OVERSIZE, "the answer is longer than limits.capture"
        elif capture.crowded:
            outcome, error = Outcome.OVERLOAD, "no memory was left for the answer"
        total_ms = (perf_counter() - began) * 1000
        began_ms = (began - self.job.exchange.received_at) * 1000
        reply = None
        if head is not None:
            first_byte_ms = (self.first_byte_at - began) * 1000
            reply = Reply(head.status, self._fields, capture.body, capture.size, first_byte_ms, total_ms, began_ms)
        if outcome is Outcome.OK and reply is not None:
            self._ended(self, reply)
        else:
            self._ended(self, Failure(outcome, error, total_ms, reply, began_ms))
