"""The admin server, as the recorder opens it: the application and its overview, behind the front's channel."""

import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

from shadowproxy.compare.report.stats import wilson
from shadowproxy.serve.admin.access import Access
from shadowproxy.serve.admin.operated import Operated
from shadowproxy.serve.admin.overview import Overview


class Shown(Protocol):
    """The parts of a recorder's spec that the admin server reads."""

    @property
    def admin_host(self) -> str | None: ...
    @property
    def admin_token(self) -> str | None: ...
    @property
    def shown(self) -> Mapping[str, Any]: ...


async def serve_admin(
    stack: AsyncExitStack,
    channel: socket.socket,
    operated: Operated,
    *,
    proxy: str,
    spec: Callable[[], Shown],
    began: float,
    fresh: bool,
) -> None:
    """Answer the requests that come over `channel` until `stack` closes. Takes over this end of `passing.pair()`.

    `spec` is called for every request. `proxy`, `began` and `fresh` are the overview's.
    """
    # Imported here, for preload.py: without an admin server they would be a third of the time that a start takes.
    from shadowproxy.serve.admin import app, page
    from shadowproxy.serve.admin.receiving import Receiver

    overview = Overview(operated.census, proxy=proxy, interval=wilson, began=began, fresh=fresh)
    built = app.build(
        app.Sources(
            operated=operated,
            overview=overview,
            access=lambda: Access(spec().admin_host, spec().admin_token),
            configuration=lambda: spec().shown,
            page=page.respond,
        )
    )
    receiver = Receiver(channel, built)
    stack.push_async_callback(receiver.close)
    stack.push_async_callback(overview.stop)  # first, or listeners would be waited for as requests under way
    await overview.start()
    receiver.start()
