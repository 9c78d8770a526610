"""What became of exchanges up to one moment, as plain figures. A live process counts them too, and has no journal."""

from collections.abc import Mapping
from typing import NamedTuple


class Statistics(NamedTuple):
    """The journal at one moment. `queued` and `queued_bytes` include what is being written now.

    `sampled_out` are the exchanges that `log.sample` leaves out. `failing` is what exchanges are lost for at present,
    one of LOSSES; None while the log is written.

    A tuple, as workers send it to their supervisor: a frozen dataclass that is compiled cannot be unpickled.
    """

    written: int
    bytes: int
    queued: int
    queued_bytes: int
    lost: Mapping[str, int]
    segments: int
    last_error: str | None
    failing: str | None = None
    sampled_out: int = 0
