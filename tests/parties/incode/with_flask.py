"""A Flask application: `bare`, and `mirrored`, whose WSGI application is."""

import os
import signal
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, abort, request, send_file, stream_with_context

from parties.incode.mirroring import shadow


def make() -> Flask:
    app = Flask(__name__)

    @app.post("/predict")
    def predict() -> dict[str, Any]:
        features = request.get_json()
        return {"score": features["age"] / 2}

    @app.get("/items/<path:item>")
    def item(item: str) -> dict[str, str]:
        return {"item": item, "q": request.args.get("q", "")}

    @app.post("/upload")
    def upload() -> dict[str, Any]:
        file = request.files["file"]
        return {"name": file.filename, "bytes": len(file.read())}

    @app.get("/stream")
    def stream() -> Response:
        def events() -> Iterator[bytes]:
            for number in range(3):
                yield b"data: %d %b\n\n" % (number, request.method.encode())

        return Response(stream_with_context(events()), mimetype="text/event-stream")

    @app.get("/fails")
    def fails() -> None:
        raise ValueError("a model's exception")

    @app.get("/missing")
    def missing() -> None:
        abort(404)

    @app.get("/file")
    def file() -> Response:
        return send_file(__file__, mimetype="text/plain", etag=False, last_modified=None)

    @app.post("/later")
    def later() -> Response:
        response = Response("accepted")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.post("/unread")
    def unread() -> Response:
        return Response(status=204)

    @app.get("/die")
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return app


bare = make()
mirrored = make()
mirrored.wsgi_app = shadow.wsgi(mirrored.wsgi_app)
