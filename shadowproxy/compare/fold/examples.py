"""The exchanges that a report shows as examples, and under what they are kept."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from shadowproxy.answers.body import content_in
from shadowproxy.answers.leaves import in_lines
from shadowproxy.compare.fold.example_types import Example, ExampleDifference
from shadowproxy.compare.fold.known import Known
from shadowproxy.compare.fold.likeness import flip_of
from shadowproxy.compare.judge.differences import Where
from shadowproxy.compare.judge.visible import body_text
from shadowproxy.record import Body, Record, RecordedRequest

_MOST_PLACES: Final = 16  # places of one exchange that its signature names
_ELSEWHERE: Final = "…"  # in a signature: and further places

Flip = tuple[str, str, str]
"""The key of the likeliest place that may hold a class, with live's class there and the shadow's."""


def first_flip(key: str, live: Sequence[Any], shadow: Sequence[Any], words: Sequence[str]) -> Flip | None:
    """How the first row that differs flipped, if it may be a class."""
    for one, other, word in zip(live, shadow, words, strict=False):
        if word == "differs":
            classes = flip_of(one, other)
            return (key, *classes) if classes is not None else None
    return None


def signature_of(where: Iterable[Where]) -> str:
    """The places at which two answers differ, as one key: a JSON list."""
    places = sorted({path for path, _ in where})
    if len(places) > _MOST_PLACES:
        places = [*places[:_MOST_PLACES], _ELSEWHERE]
    return orjson.dumps(places).decode()


_keys_known: Final[Known[tuple[tuple[Where, ...], Flip | None], str]] = Known(1 << 20)


def example_key(where: tuple[Where, ...], flip: Flip | None) -> str:
    key = _keys_known.get((where, flip))
    if key is None:
        key = orjson.dumps([orjson.loads(signature_of(where)), flip]).decode()
        _keys_known.keep((where, flip), key, len(key) + sum([len(place) for place, _ in where]))
    return key


def difference(path: str, kind: str, live: Any, shadow: Any) -> ExampleDifference:
    return {"path": path, "kind": kind, "live": live, "shadow": shadow}


def _text_of(request: RecordedRequest) -> str | None:
    """A request's body as text: in a format of bytes, what it says; None if it says nothing that can be read."""
    body = request.body
    if body.kind == "bytes" and not body.truncated:
        content = content_in(body, request.headers)
        if content.kind == "json":
            body = Body("json", in_lines(content.value), body.size)
    return body_text(body)


def example(record: Record, differences: list[ExampleDifference], count: int) -> Example:
    return {
        "id": record.id,
        "at": record.at,
        "method": record.request.method,
        "path": record.request.path,
        "request": _text_of(record.request),
        "differences": differences,
        "count": count,
    }
