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

_NAMES: Final = ("embedding", "embeddings")
_WITHIN: Final = frozenset({"values", "float", "int8", "uint8"})
_DEEPEST: Final = 3


def with_leaves(value: Any) -> Any:
    """A JSON value with its embeddings as vectors and its images as blobs; itself, if it has none."""
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] | None = None
    for name, items in (("data", value.get("data")), ("predictions", value.get("predictions"))):
        if isinstance(items, list) and items and isinstance(items[0], dict) and not _ITEMS.isdisjoint(items[0]):
            made = {**(made or value), name: [_item(each) for each in items]}
    for name in _NAMES:
        if name in value and (found := _embedding(value[name], 0)) is not value[name]:
            made = {**(made or value), name: found}
    return value if made is None else made


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
