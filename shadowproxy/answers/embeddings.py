"""Embeddings in JSON as vectors, however they are written: in base64, which OpenAI's SDK asks for, or as numbers.

| Place | API |
|---|---|
| `/data/*/embedding` | OpenAI (little-endian float32 in base64, or numbers where a server ignores `encoding_format`) |
| `/embeddings/*`, `/embedding` | Ollama, Titan |
| `/embeddings/*/values`, `/embedding/values`, `/predictions/*/embeddings/values` | Gemini, Vertex |
| `/embeddings/float/*` and its like | Cohere |

Seen: openai 3.57.0 asks for base64; llama-cpp-python 0.3.36 answers in numbers all the same.
"""

import base64
import binascii
from typing import Any, Final

from shadowproxy.answers.leaves import blob_of, embedding_of, vector_from
from shadowproxy.answers.pieces import objects

_NAMES: Final = ("embedding", "embeddings")
_WITHIN: Final = frozenset({"values", "float", "int8", "uint8"})
_DEEPEST: Final = 3
MOST: Final = 20_000
"""Embeddings of one answer: OpenAI's API takes 2,048 texts at once; some models give a vector for each token."""


def with_leaves(value: Any) -> Any:
    """A JSON value with its embeddings as vectors and its images as blobs; itself, if it has none, or too many: a
    vector of two numbers takes 60 times the memory of its text."""
    if not isinstance(value, dict) or _lists_below(value) > MOST:
        return value
    made: dict[str, Any] | None = None
    for name in ("data", "predictions"):
        items: Any = value.get(name)
        if _are_items(items):
            made = {**(made or value), name: [_item(each) for each in items]}
    for name in _NAMES:
        if name in value and (found := _embedding(value[name], 0)) is not value[name]:
            made = {**(made or value), name: found}
    return value if made is None else made


def _are_items(items: Any) -> bool:
    """Whether these are objects of which each holds an embedding or an image."""
    return isinstance(items, list) and bool(items) and isinstance(items[0], dict) and not _ITEMS.isdisjoint(items[0])


def _lists_below(value: dict[str, Any]) -> int:
    """How many lists of an answer may be embeddings."""
    count = sum([_lists_in(value.get(name), 0) for name in _NAMES])
    for items in (value.get("data"), value.get("predictions")):
        if _are_items(items):
            count += sum([_lists_in(each.get(name), 0) for each in objects(items) for name in _NAMES])
    return count


def _lists_in(value: Any, depth: int) -> int:
    """How many lists may be embeddings under this name."""
    if isinstance(value, dict):
        return sum([_lists_in(each, depth + 1) for name, each in value.items() if name in _WITHIN])
    if isinstance(value, str):
        return 1
    if not isinstance(value, list) or not value or depth > _DEEPEST:
        return 0
    if not isinstance(value[0], list | dict):
        return 1
    return len(value) if len(value) > MOST else sum([_lists_in(each, depth + 1) for each in value])


_ITEMS: Final = frozenset({*_NAMES, "b64_json"})


def _item(item: Any) -> Any:
    """One of several: with its embedding, or with its image as OpenAI's API sends it."""
    if not isinstance(item, dict):
        return item
    made = dict(item)
    for name in _NAMES:
        if name in item:
            given = item[name]
            made[name] = _in_base64(given) if isinstance(given, str) else _embedding(given, 0)
    if isinstance(image := item.get("b64_json"), str) and (raw := _decoded(image)) is not None:
        made["b64_json"] = blob_of(raw)
    return made


def _embedding(value: Any, depth: int) -> Any:
    """What stands under the name of an embedding, or of several."""
    if depth > _DEEPEST:
        return value
    if isinstance(value, list) and value:
        if (found := embedding_of(value)) is not None:
            return found
        if isinstance(value[0], list | dict):
            return [_embedding(each, depth + 1) for each in value]
    elif isinstance(value, dict):
        return {name: _embedding(each, depth + 1) if name in _WITHIN else each for name, each in value.items()}
    return value


def _in_base64(text: str) -> Any:
    raw = _decoded(text)
    return text if not raw or len(raw) % 4 else vector_from(raw, "float32", embedding=True)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
