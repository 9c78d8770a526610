"""A FastAPI application: `bare`, `mirrored` around it, and `within`, which is mirrored by its middleware."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, Response, UploadFile, WebSocket
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

from parties.incode.mirroring import shadow

of_the_request: contextvars.ContextVar[str] = contextvars.ContextVar("of_the_request", default="none")


class Features(BaseModel):
    age: float
    tags: list[str] = []


def make() -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"started": "by its lifespan"}

    app = FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def mark(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        of_the_request.set(request.url.path)
        response = await call_next(request)
        response.headers["X-Marked"] = "yes"
        return response

    @app.post("/predict")
    async def predict(features: Features, request: Request) -> dict[str, Any]:
        return {"score": features.age / 2, "tags": features.tags, "state": request.state.started}

    @app.get("/items/{item:path}")
    def item(item: str, q: str = "") -> dict[str, str]:
        return {"item": item, "q": q, "context": of_the_request.get()}

    @app.post("/upload")
    async def upload(file: UploadFile) -> dict[str, Any]:
        data = await file.read()
        return {"name": file.filename, "bytes": len(data)}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def events() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"data: %d\n\n" % number
                await asyncio.sleep(0.005)

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError("a model's exception")

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404, "no such flight", {"X-Reason": "gone"})

    @app.get("/file")
    async def file() -> FileResponse:
        return FileResponse(__file__, media_type="text/plain")

    @app.post("/later")
    async def later(tasks: BackgroundTasks, response: Response) -> str:
        tasks.add_task(asyncio.sleep, 0.01)
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return "accepted"

    @app.post("/unread")
    async def unread() -> Response:
        return Response(status_code=204)

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("heard " + await socket.receive_text())
        await socket.close()

    return app


bare = make()
mirrored = shadow.asgi(make())
within = make()
within.add_middleware(shadow.asgi)
