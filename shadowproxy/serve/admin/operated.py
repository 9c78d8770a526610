"""What the admin server shows and changes."""

from typing import Protocol

from shadowproxy.exchange import Verdict
from shadowproxy.serve.admin.census import Census


class Unconfirmed(Exception):
    """Not every worker has confirmed a change in time. One line."""


class Operated(Protocol):
    """What all workers do, added up.

    Every method returns within a bounded time, whatever the workers do. The name of no shadow raises KeyError; None
    means all shadows. `latest` and `find` are those of Recent.
    """

    async def census(self) -> Census: ...
    async def pause(self, name: str | None) -> None: ...
    async def resume(self, name: str | None) -> None: ...
    async def set_percent(self, name: str, percent: float) -> None: ...
    async def latest(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[bytes]: ...
    async def find(self, record: str) -> bytes | None: ...
