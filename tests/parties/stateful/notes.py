"""Django with a session in a cookie, `X-CSRFToken` and integer keys, which count up from the variable FIRST_KEY."""

import itertools
import json
import os
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.middleware.csrf import rotate_token
from django.urls import path
from django.views.decorators.csrf import ensure_csrf_cookie

settings.configure(
    SECRET_KEY="a test's",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "OPTIONS": {"MAX_ENTRIES": 1_000_000},
        }
    },
)
django.setup()

KEYS = itertools.count(int(os.environ.get("FIRST_KEY", "1")))
NOTES: dict[int, dict[str, Any]] = {}


@ensure_csrf_cookie
def login(request: HttpRequest) -> JsonResponse:
    """GET gives the token that POST needs. POST gives the session, and another token, as Django's own login does."""
    if request.method == "POST":
        request.session.cycle_key()
        request.session["name"] = json.loads(request.body)["name"]
        rotate_token(request)
    return JsonResponse({"name": request.session.get("name")})


def notes(request: HttpRequest) -> JsonResponse:
    if "name" not in request.session:
        return JsonResponse({"error": "log in first"}, status=401)
    name = request.session["name"]
    if request.method == "POST":
        given = json.loads(request.body)
        if (parent := given.get("parent")) is not None and parent not in NOTES:
            return JsonResponse({"error": "no such parent"}, status=400)
        note = {"id": next(KEYS), "owner": name, "text": given["text"], "parent": parent}
        NOTES[note["id"]] = note
        return JsonResponse(note, status=201)
    parent = int(request.GET["parent"])
    texts = [each["text"] for each in NOTES.values() if (each["parent"], each["owner"]) == (parent, name)]
    return JsonResponse({"texts": texts}) if parent in NOTES else JsonResponse({"error": "no such parent"}, status=404)


def note(request: HttpRequest, key: int) -> JsonResponse:
    found = NOTES.get(key)
    if found is None or found["owner"] != request.session.get("name"):
        return JsonResponse({"error": "no such note"}, status=404)
    return JsonResponse(found)


urlpatterns = [path("notes/login", login), path("notes/", notes), path("notes/<int:key>", note)]
app = get_asgi_application()
