"""What the configuration changes in a shadow's request: its path, and values in its JSON body. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shadowproxy.serve.sampling import pointer_tokens


@dataclass(frozen=True, slots=True)
class Rewrite:
    """`paths`: whole path to whole path. `values`: JSON pointer tokens, and what takes the place of what is there."""

    paths: Mapping[bytes, bytes]
    values: tuple[tuple[tuple[str, ...], Any], ...]

    @classmethod
    def of(cls, paths: Mapping[str, str], values: Mapping[str, Any]) -> "Rewrite":
        return cls(
            {old.encode(): new.encode() for old, new in paths.items()},
            tuple((pointer_tokens(pointer), value) for pointer, value in values.items()),
        )

    def target(self, target: bytes) -> bytes:
        """The target with its path replaced, if it is one of `paths`; the query stays."""
        path, mark, query = target.partition(b"?")
        return self.paths.get(path, path) + mark + query

    def body(self, body: bytes) -> bytes:
        """The body with `values` put in where its JSON has such a place; unchanged where it has none, or is no JSON."""
        if not self.values:
            return body
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        replaced = [_replace(document, tokens, value) for tokens, value in self.values]
        return orjson.dumps(document) if any(replaced) else body


def _replace(document: Any, tokens: Sequence[str], value: Any) -> bool:
    try:
        for token in tokens[:-1]:
            document = document[int(token)] if isinstance(document, list) else document[token]
        place = int(tokens[-1]) if isinstance(document, list) else tokens[-1]
        document[place]  # replaced, never added: a request without the field is not the one that was meant
        document[place] = value
    except (LookupError, TypeError, ValueError):
        return False
    return True
