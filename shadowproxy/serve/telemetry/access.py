"""A request's line in the access log. Apart from the log itself: redaction, which it needs, is much to import."""

from dataclasses import dataclass
from typing import Any

from shadowproxy.redaction import Redaction

PATH_MOST = 1000
"""Characters of a path in the access log; a longer path is cut."""

_REDACTION = Redaction()


@dataclass(frozen=True, slots=True)
class AccessLine:
    """The values of a request's line in the access log. `status` is None if the caller got no answer.

    `outcome` is live's, or `refused`. `sent` is the answer body's size in bytes.
    """

    request_id: str
    method: str
    target: bytes
    status: int | None
    outcome: str
    milliseconds: float
    sent: int

    def values(self) -> dict[str, Any]:
        """The line's values, in their order, with the line itself in `message`."""
        path = _REDACTION.path(self.target.partition(b"?")[0].decode("latin-1"))
        path = path if len(path) <= PATH_MOST else f"{path[:PATH_MOST]}…"
        return {
            "event": "access",
            "message": f"{self.method} {path} {self.status or '-'} {self.outcome} {self.milliseconds:.1f} ms "
            f"{self.sent} bytes {self.request_id}",
            "method": self.method,
            "path": path,
            "status": self.status,
            "outcome": self.outcome,
            "ms": round(self.milliseconds, 3),
            "bytes": self.sent,
            "request_id": self.request_id,
        }
