"""Embeddings that do not belong with live's."""

import math
from typing import Any, Final

from shadowproxy.selftest.plants.edit import each_row
from shadowproxy.selftest.plants.fault import Case, Fault, of_kinds


def _another_space(case: Case, value: Any) -> Any:
    """A vector of the same length in another direction."""
    if not _is_embedding(value):
        return value
    drawn = [case.random.gauss(0, 1) for _ in value]
    factor = math.hypot(*value) / (math.hypot(*drawn) or 1.0)
    return [each * factor for each in drawn]


def _another_norm(case: Case, value: Any) -> Any:
    return [each * 2 for each in value] if _is_embedding(value) else value


def _cut(case: Case, value: Any) -> Any:
    return value[:-1] if _is_embedding(value) else value


def _is_embedding(value: Any) -> bool:
    """Some answers may be null, or hold a null."""
    return isinstance(value, list) and all(isinstance(each, int | float) for each in value)


_embedding = of_kinds("embedding")

FAULTS: Final = (
    Fault("an embedding of another space", "related", _embedding, each_row(_another_space)),
    Fault("an embedding of another norm", "drift", _embedding, each_row(_another_norm)),
    Fault("an embedding cut short", "answered", _embedding, each_row(_cut)),
)
