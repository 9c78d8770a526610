"""Who handed exchanges to the journal, and what has become of them since it last asked."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from shadowproxy.exchange import Verdict


class Settled(NamedTuple):
    """Exchanges that came to their end: `written` lines of `bytes` in all, `lost` by reason, `verdicts` by shadow,
    `failed` answers by endpoint: those that say so though their status is a success.

    A verdict is counted where its record was made, though writing that record may then have failed; so is a failed
    answer. `sampled_out` are those that `log.sample` leaves out.
    """

    written: int
    bytes: int
    lost: dict[str, int]
    verdicts: dict[tuple[str, str], int]
    failed: dict[str, int]
    sampled_out: int = 0

    @property
    def total(self) -> int:
        return self.written + self.sampled_out + sum(self.lost.values())


class Source:
    """One sender of exchanges, `queued` of which have not come to their end. The queue changes it, under its lock."""

    __slots__ = ("_bytes", "_failed", "_lost", "_sampled_out", "_verdicts", "_written", "queued")

    def __init__(self) -> None:
        self.queued = 0
        self._written = 0
        self._bytes = 0
        self._sampled_out = 0
        self._lost: dict[str, int] = {}
        self._verdicts: dict[tuple[str, str], int] = {}
        self._failed: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Source queued={self.queued} written={self._written} lost={self._lost}>"

    def add_written(self, size: int) -> None:
        self.queued -= 1
        self._written += 1
        self._bytes += size

    def add_sampled_out(self) -> None:
        self.queued -= 1
        self._sampled_out += 1

    def add_lost(self, reason: str, count: int) -> None:
        self.queued -= count
        self._lost[reason] = self._lost.get(reason, 0) + count

    def add_verdicts(self, verdicts: Mapping[str, Verdict | None]) -> None:
        for shadow, verdict in verdicts.items():
            if verdict is not None:
                key = (shadow, verdict.value)
                self._verdicts[key] = self._verdicts.get(key, 0) + 1

    def add_failed(self, endpoints: Iterable[str]) -> None:
        for endpoint in endpoints:
            self._failed[endpoint] = self._failed.get(endpoint, 0) + 1

    def take(self) -> Settled | None:
        """What has come to its end since the last call; None where nothing has."""
        if not (self._written or self._sampled_out or self._lost or self._verdicts or self._failed):
            return None
        settled = Settled(self._written, self._bytes, self._lost, self._verdicts, self._failed, self._sampled_out)
        self._written = self._bytes = self._sampled_out = 0
        self._lost, self._verdicts, self._failed = {}, {}, {}
        return settled
