"""A stub of OpenAI's Responses, whole and streamed: an answer repeats all inputs, by `previous_response_id`."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TALKS: dict[str, list[str]] = {}


def answered(said: list[str], response_id: str, status: str) -> dict[str, Any]:
    content = {"type": "output_text", "text": " | ".join(said), "annotations": []}
    message = {"id": f"msg_{secrets.token_hex(16)}", "type": "message", "role": "assistant", "content": [content]}
    done = status == "completed"
    usage = {"input_tokens": len(said), "output_tokens": len(said), "total_tokens": 2 * len(said)}
    return {
        "id": response_id, "object": "response", "status": status, "model": "stub", "error": None,
        "output": [message] if done else [], "usage": usage if done else None,
    }  # fmt: skip


async def stream(said: list[str], response_id: str) -> AsyncIterator[str]:
    async def event(kind: str, number: int, **more: Any) -> str:
        await asyncio.sleep(0.001)
        return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': number, **more})}\n\n"

    completed = answered(said, response_id, "completed")
    (message,) = completed["output"]
    at = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    yield await event("response.created", 0, response=answered(said, response_id, "in_progress"))
    yield await event("response.output_text.delta", 1, delta=message["content"][0]["text"], **at)
    yield await event("response.output_text.done", 2, text=message["content"][0]["text"], **at)
    yield await event("response.completed", 3, response=completed)


async def create(request: Request) -> Response:
    given = await request.json()
    before = given.get("previous_response_id")
    if before is not None and before not in TALKS:
        error = {
            "message": f"Previous response with id '{before}' not found.", "type": "invalid_request_error",
            "param": "previous_response_id", "code": "previous_response_not_found",
        }  # fmt: skip
        return JSONResponse({"error": error}, 400)
    response_id = f"resp_{secrets.token_hex(24)}"
    said = TALKS[response_id] = [*TALKS.get(before, []), given["input"]]
    if given.get("stream"):
        return StreamingResponse(stream(said, response_id), media_type="text/event-stream")
    return JSONResponse(answered(said, response_id, "completed"))


app = Starlette(routes=[Route("/v1/responses", create, methods=["POST"])])
