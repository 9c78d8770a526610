"""Which differences are no news."""

from typing import Any

import pytest

from shadowproxy.compare.noise import shape_of


@pytest.mark.parametrize(
    ("path", "value", "shape"),
    [
        ("/id", "3a902931-cd44-4e35-b8b6-d8fe442e3d43", "uuid"),
        ("/id", "chatcmpl-3a902931cd444e35b8b6d8fe442e3d43", "uuid"),
        ("/at", "2026-01-31T12:00:00Z", "time"),
        ("/at", "2026-01-31 12:00", "time"),
        ("/digest", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "hex"),
        ("/created", 1769860800, "time"),
        ("/inference_ms", 3.25, "time"),
        ("/id", "req_011CS2abc", "token"),
        ("/id", 48123001, "integer"),
        ("/text", "a sentence with 3 words", "text"),
        ("/class", "setosa", "text"),
        ("/score", 0.25, "number"),
        ("/count", 3, "number"),
        ("/estimated_price", 10.0, "number"),
        ("/late", True, "other"),
    ],
)
def test_values_are_known_by_their_shape(path: str, value: Any, shape: str) -> None:
    assert shape_of(path, value) == shape
