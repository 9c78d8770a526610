"""An ASGI application under uvicorn, bare or mirrored: `asgi_app.py PORT [SHADOW LOG]`. It uses no framework.

It answers each request, once it has read it, with 200 bytes of JSON.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

ANSWER = b'{"predictions": [0.75], "model": "v1", "note": "%b"}' % (b"n" * 152)


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    while (await receive()).get("more_body"):
        pass
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    served: Any = app
    if sys.argv[2:]:
        from shadowproxy import Shadow

        served = Shadow(shadows={"challenger": sys.argv[2]}, log=sys.argv[3]).asgi(app)
    uvicorn.run(served, port=int(sys.argv[1]), lifespan="off", log_level="error", access_log=False)


if __name__ == "__main__":
    main()
