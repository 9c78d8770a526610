"""The responses that the proxy gives itself where a request cannot be answered as asked."""

import orjson

from shadowproxy.exchange import Field


def error_response(reason: str, detail: str, request_id: str | None = None) -> tuple[list[Field], bytes]:
    """Fields and body of an error response to a caller. `reason` is an error type of RFC 9209 section 2.3."""
    error = {"error": reason, "detail": detail} | ({"request_id": request_id} if request_id else {})
    body = orjson.dumps(error) + b"\n"
    fields = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Proxy-Status", b"shadowproxy; error=" + reason.encode()),
    ]
    return fields, body
