"""What the admin server shows and changes."""

from typing import Protocol

from shadowproxy.exchange import Verdict
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.standing.answer import StandingVerdict


class Unconfirmed(Exception):
    """Not every worker has confirmed a change in time. One line."""


class Operated(Protocol):
    """What all workers do, added up.

    Every method returns within a bounded time, whatever the workers do. The name of no shadow raises KeyError; None
    means all shadows. `latest` and `find` are those of Recent. `verdict`, `summary` and `reset_verdict` are those of
    Standing, and raise NotStanding.
    """

    async def census(self) -> Census: ...
    async def pause(self, name: str | None) -> None: ...
    async def resume(self, name: str | None) -> None: ...
    async def set_percent(self, name: str, percent: float) -> None: ...
    async def latest(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[bytes]: ...
    async def find(self, record: str) -> bytes | None: ...
    async def verdict(self) -> StandingVerdict: ...
    async def summary(self) -> bytes: ...
    async def reset_verdict(self, shadow: str | None) -> StandingVerdict: ...
