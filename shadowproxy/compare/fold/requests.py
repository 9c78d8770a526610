"""What a record's request holds."""

from typing import Any

from shadowproxy.record import Record


def request_json(record: Record) -> Any:
    """The request's JSON, or None."""
    body = record.request.body
    return body.value if body.kind == "json" and not body.truncated else None
