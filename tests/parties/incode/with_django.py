"""A Django application, over ASGI: `bare`, and `mirrored` around it."""

from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from parties.incode.mirroring import shadow

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    LOGGING_CONFIG=None,
)
django.setup()


def predict(request: HttpRequest) -> HttpResponse:
    import json

    return JsonResponse({"score": json.loads(request.body)["age"] / 2})


async def item(request: HttpRequest, item: str) -> HttpResponse:
    return JsonResponse({"item": item, "q": request.GET.get("q", "")})


def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "bytes": file.size})


async def stream(request: HttpRequest) -> HttpResponse:
    async def events() -> Any:
        for number in range(3):
            yield b"data: %d\n\n" % number

    return StreamingHttpResponse(events(), content_type="text/event-stream")


def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("a model's exception")


def file(request: HttpRequest) -> HttpResponse:
    return FileResponse(open(__file__, "rb"), content_type="text/plain")


def later(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("accepted")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


def unread(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


urlpatterns = [
    path("predict", predict),
    path("items/<path:item>", item),
    path("upload", upload),
    path("stream", stream),
    path("fails", fails),
    path("file", file),
    path("later", later),
    path("unread", unread),
]

bare = get_asgi_application()
mirrored = shadow.asgi(get_asgi_application())
