"""Which differences are no news."""

from typing import Any

import pytest

from shadowproxy.compare.fold.counts import WordCounts
from shadowproxy.compare.fold.noise import nature, shape_of
from shadowproxy.compare.fold.samples import Distinct, hashed


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


def places(live: list[Any], shadow: list[Any], path: str = "/x", *, judged: bool = True, **more: int) -> str:
    ones, others, shapes = Distinct(), Distinct(), WordCounts()
    for one, other in zip(live, shadow, strict=True):
        ones.add(hashed(repr(one)))
        others.add(hashed(repr(other)))
        shapes.update((shape_of(path, one), shape_of(path, other)))
    kinds = {"value": len(live), **more}
    return nature(path, kinds, shapes, ones, others, differing=len(live), compared=len(live), judged=judged)


@pytest.mark.parametrize(
    ("live", "shadow", "expected"),
    [
        (["v1"] * 50, ["v2"] * 50, "constant"),
        ([7] * 50, [8] * 50, "real"),
        ([0.5] * 50, [0.6] * 50, "real"),
        ([True] * 50, [False] * 50, "real"),  # an answer that has collapsed, and no version
        (["v1"] * 10, ["v2"] * 10, "real"),  # too few to say
        ([f"req-{n:06d}" for n in range(50)], [f"req-{n:06d}x" for n in range(50)], "volatile"),
        ([f"class-{n % 3:06d}" for n in range(50)], [f"class-{n % 3:06d}x" for n in range(50)], "real"),
        ([n / 7 for n in range(50)], [n / 6 for n in range(50)], "real"),
        (["2026-01-31T12:00:00Z"] * 3, ["2026-01-31T12:00:01Z"] * 3, "volatile"),
    ],
)
def test_places_are_noise_only_where_their_values_say_so(live: list[Any], shadow: list[Any], expected: str) -> None:
    assert places(live, shadow) == expected


@pytest.mark.parametrize(
    ("path", "judged", "expected"),
    [
        ("/tag", True, "constant"),
        ("/tag", False, "real"),
        ("/model", False, "constant"),
        ("/meta/modelVersion", False, "constant"),
        ("/server_name", False, "constant"),
        ("/remodel", False, "real"),
    ],
)
def test_one_text_in_each_arm_is_no_version_where_nothing_else_is_judged(
    path: str, judged: bool, expected: str
) -> None:
    assert places(["green"] * 50, ["blue"] * 50, path, judged=judged) == expected


def test_a_number_in_each_arm_is_a_version_only_by_its_name() -> None:
    assert places([7] * 50, [8] * 50, "/schema_version") == "constant"
    assert places([7] * 50, [8] * 50, "/limit") == "real"


def test_a_place_that_is_also_missing_or_of_another_type_is_real() -> None:
    assert places(["2026-01-31T12:00:00Z"] * 3, ["2026-01-31T12:00:01Z"] * 3, missing=1) == "real"
