"""The admin server: the admin application on its own address."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

from shadowproxy.compare.report.stats import wilson
from shadowproxy.serve.admin.access import Access
from shadowproxy.serve.admin.asgi import Asgi
from shadowproxy.serve.admin.operated import Operated
from shadowproxy.serve.admin.overview import Overview
from shadowproxy.serve.callers.server import Server


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
    bound: socket.socket,
    operated: Operated,
    *,
    proxy: str,
    spec: Callable[[], Shown],
) -> None:
    """Answer operators until `stack` closes, from `operated` and the configuration in force.

    The socket `bound` is closed elsewhere; `proxy` is the name that the overview shows.
    """
    # Imported here, for preload.py: without an admin server they would be a third of the time that a start takes.
    from shadowproxy.serve.admin import app, page

    overview = Overview(operated.census, proxy=proxy, interval=wilson)
    built = app.build(
        app.Sources(
            operated=operated,
            overview=overview,
            access=lambda: Access(spec().admin_host, spec().admin_token),
            configuration=lambda: spec().shown,
            page=page.respond,
        )
    )
    await overview.start()
    stack.push_async_callback(overview.stop)
    server = Server(Asgi(built), limits=lambda: app.LIMITS, drain=1.0, error_form=app.error_form)
    serving = asyncio.get_running_loop().create_task(server.serve(bound))

    async def stop() -> None:
        await overview.stop()  # or the server would wait for it as for a request under way
        server.stop.set()
        await serving

    stack.push_async_callback(stop)
    await server.ready.wait()
