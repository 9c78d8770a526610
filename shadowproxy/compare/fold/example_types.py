"""An exchange that a report shows as an example, key by key.

Not compiled: mypyc forgets the types of a TypedDict's keys, and a test reads them.
"""

from typing import Any, TypedDict


class ExampleDifference(TypedDict):
    """One place at which an example differs."""

    path: str
    kind: str
    live: Any
    shadow: Any


class Example(TypedDict):
    """An exchange as the report shows it; `count` is at how many places it differs."""

    id: str
    at: str
    method: str
    path: str
    request: str | None
    differences: list[ExampleDifference]
    count: int
