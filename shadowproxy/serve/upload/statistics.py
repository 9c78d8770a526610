"""What became of uploading up to one moment, as plain figures."""

from typing import NamedTuple


class UploadStatistics(NamedTuple):
    """Segments and bytes since the recorder's start.

    Attributes:
        waiting, waiting_bytes: closed segments that the store does not have.
        oldest: when the oldest of them was last written, in seconds of Unix time; None if none waits.
        sent, sent_bytes: what the store has confirmed.
        summaries: how many were sent with a summary.
        failures: attempts that failed.
        removed: segments that `log.keep.size` removed before the store had them.
        trouble: why nothing is sent at present; None if it is.
    """

    waiting: int = 0
    waiting_bytes: int = 0
    oldest: float | None = None
    sent: int = 0
    sent_bytes: int = 0
    summaries: int = 0
    failures: int = 0
    removed: int = 0
    trouble: str | None = None
