"""Embeddings that do not fit those of live."""

import math
from typing import Any, Final

from shadowproxy.selftest.plants.edit import each_row
from shadowproxy.selftest.plants.fault import Case, Fault, of_kinds


def _another_space(case: Case, value: Any) -> Any:
    """Of the same length, in a direction of its own."""
    if not isinstance(value, list):
        return value
    drawn = [case.random.gauss(0, 1) for _ in value]
    factor = math.hypot(*value) / (math.hypot(*drawn) or 1.0)
    return [each * factor for each in drawn]


def _another_norm(case: Case, value: Any) -> Any:
    return [each * 2 for each in value] if isinstance(value, list) else value


_embedding = of_kinds("embedding")

FAULTS: Final = (
    Fault("an embedding of another space", "related", _embedding, each_row(_another_space)),
    Fault("an embedding of another norm", "drift", _embedding, each_row(_another_norm)),
)
