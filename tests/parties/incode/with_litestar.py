"""A Litestar application: `bare`, and `mirrored` around it."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import Litestar, Response, get, post
from litestar.datastructures import Cookie, UploadFile
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotFoundException
from litestar.params import Body
from litestar.response import Stream

from parties.incode.mirroring import shadow


@post("/predict")
async def predict(data: dict[str, Any]) -> dict[str, Any]:
    return {"score": data["age"] / 2}


@get("/items/{item:path}", sync_to_thread=True)
def item(item: str, q: str = "") -> dict[str, str]:
    return {"item": str(item), "q": q}


@post("/upload")
async def upload(
    data: Annotated[dict[str, UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    file = data["file"]
    return {"name": file.filename, "bytes": len(await file.read())}


@get("/stream")
async def stream() -> Stream:
    async def events() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number

    return Stream(events(), media_type="text/event-stream")


@get("/fails")
async def fails() -> None:
    raise ValueError("a model's exception")


@get("/missing")
async def missing() -> None:
    raise NotFoundException("no such flight")


@post("/later")
async def later() -> Response[str]:
    return Response("accepted", cookies=[Cookie("a", value="1"), Cookie("b", value="2")])


@post("/unread", status_code=204)
async def unread() -> None: ...


def make() -> Litestar:
    return Litestar([predict, item, upload, stream, fails, missing, later, unread], openapi_config=None)


bare = make()
mirrored = shadow.asgi(make())
