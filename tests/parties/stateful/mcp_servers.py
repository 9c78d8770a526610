"""MCP over streamable HTTP with sessions, each with a memory of its own: at /mcp/json and, with SSE, at /mcp/events."""

import contextlib
from collections.abc import AsyncIterator

from mcp.server.mcpserver import Context, MCPServer
from starlette.applications import Starlette
from starlette.routing import Mount

MEMORIES: dict[str, list[str]] = {}


def session(context: Context) -> list[str]:
    request = context.request_context.request
    assert request is not None
    return MEMORIES.setdefault(request.headers["mcp-session-id"], [])


def server() -> MCPServer:
    made = MCPServer("memory")

    @made.tool()
    async def remember(what: str, context: Context) -> str:
        """Keep a word in this session."""
        session(context).append(what)
        return f"{len(session(context))} remembered"

    @made.tool()
    async def recall(context: Context) -> str:
        """All words of this session."""
        return " ".join(session(context))

    return made


APPS = {
    "/mcp/json": server().streamable_http_app(streamable_http_path="/", json_response=True),
    "/mcp/events": server().streamable_http_app(streamable_http_path="/"),
}


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for each in APPS.values():
            await stack.enter_async_context(each.router.lifespan_context(each))
        yield


app = Starlette(routes=[Mount(path, each) for path, each in APPS.items()], lifespan=lifespan)
