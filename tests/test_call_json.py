"""What a function's call is as JSON. numpy and pandas are stood in for where they are not installed."""

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections import OrderedDict, UserDict, deque
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pydantic
import pytest

from shadowproxy import call_json


class Point(NamedTuple):
    x: int
    y: Any


class Color(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    when: datetime.date
    points: list[float]


@dataclasses.dataclass
class Data:
    a: Any


class Text(str):
    __slots__ = ()


class Float(float):
    pass


class Evil:
    def __repr__(self) -> str:
        raise AssertionError("its repr was called")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was looked up on it")


class Table:
    """As pandas' data frame."""

    __module__ = "pandas.core.frame"
    columns = ("a", "b")

    def __init__(self, rows: int) -> None:
        self.rows = rows

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, 2

    def to_dict(self, orient: str) -> Any:
        assert orient == "records"
        return [{"a": number, "b": decimal.Decimal(1)} for number in range(self.rows)]


class Tensor:
    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def tolist(self) -> list[float]:
        return [0.5, 1.5]


class Broken:
    model_dump = 3


DAY = datetime.date(2026, 1, 31)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, True, "é"]}, {"a": [1, 2.5, None, True, "é"]}),
        ((1, (2,)), [1, [2]]),
        (Point(1, {"z": Point(2, 3)}), {"x": 1, "y": {"z": {"x": 2, "y": 3}}}),
        (Color.RED, "red"),
        ({Color.RED: 1, 2: 3}, {"red": 1, "2": 3}),
        (Model(when=DAY, points=[1]), {"when": "2026-01-31", "points": [1.0]}),
        (Data({1, 3, 2}), {"a": [1, 2, 3]}),
        ([DAY, datetime.datetime(2026, 1, 31, 1)], ["2026-01-31", "2026-01-31T01:00:00"]),
        ({"t": datetime.timedelta(seconds=1)}, {"t": "0:00:01"}),
        ({"a", 1}, ["a", 1][::-1]),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([b"a", b"\xff"], ["a", "/w=="]),
        ([decimal.Decimal("0.10"), 1j, PurePosixPath("/a")], ["0.10", "1j", "/a"]),
        (ValueError("two\nlines"), "ValueError: two lines"),
        ([None, {True: None, None: 1, 0.5: 2}], [None, {"true": None, "null": 1, "0.5": 2}]),
        ({True: (None, math.inf), None: -math.inf, 0.5: 2}, {"true": [None, math.inf], "null": -math.inf, "0.5": 2}),
        ([Text("t"), Float(0.5)], ["t", 0.5]),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (1 << 70, 1 << 70),
        ({"n": [1 << 70, math.inf, Data(1 << 65), Point(1 << 66, 2), DAY]},
         {"n": [1 << 70, math.inf, {"a": 1 << 65}, {"x": 1 << 66, "y": 2}, "2026-01-31"]}),
        ("\ud800", "?"),
        ({"\ud800": {1 << 70: Color.RED}}, {"?": {str(1 << 70): "red"}}),
        (Table(2), [{"a": 0, "b": "1"}, {"a": 1, "b": "1"}]),
        (Tensor(), [0.5, 1.5]),
    ],
)  # fmt: skip
def test_a_value_has_its_json(value: Any, expected: Any) -> None:
    text, whole = call_json.written(value)
    assert json.loads(text) == expected
    assert whole


class Score(pydantic.BaseModel):
    value: float | None


class Series:
    """As torch's tensor."""

    shape = (2,)

    def __init__(self, *values: Any) -> None:
        self.values = list(values)

    def tolist(self) -> list[Any]:
        return self.values


@pytest.mark.parametrize(
    "of",
    [
        lambda value: value,
        lambda value: {"a": [value, None, 1]},
        lambda value: {"a": (1, {"b": value})},
        lambda value: Data(value),
        lambda value: [Data([None, value])],
        lambda value: Point(1, [value]),
        lambda value: Score(value=value),
        lambda value: {"a": Series(1.5, value)},
        lambda value: OrderedDict(a=UserDict(b=value)),
        lambda value: [DAY, 1 << 70, value],
        lambda value: {value: 1},
    ],
)
def test_what_is_not_finite_differs_from_null_and_from_each_other(of: Any) -> None:
    texts = [call_json.written(of(value)) for value in (None, math.nan, math.inf, -math.inf)]
    assert all(each.whole for each in texts)
    null, nan, *infinities = (each.text for each in texts)
    assert b"null" in null
    assert b"NaN" in nan
    assert [b"-Infinity" in each for each in infinities] == [False, True]
    assert all(b"Infinity" in each for each in infinities)
    assert len({null, nan, *infinities}) == 4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([Evil()], [{"unwritable": "test_call_json.Evil"}]),
        (object(), {"unwritable": "builtins.object"}),
        ([iter([1])], [{"unwritable": "builtins.list_iterator"}]),
        ({"f": len}, {"f": {"unwritable": "builtins.builtin_function_or_method"}}),
        (Broken(), {"unwritable": "test_call_json.Broken"}),
        (deque([1]), {"unwritable": "collections.deque"}),
        (Table(10_001), {"unwritable": "pandas.core.frame.Table", "shape": [10_001, 2]}),
        (b"x" * (5 << 20), {"unwritable": "builtins.bytes", "bytes": 5 << 20}),
    ],
)
def test_what_has_no_json_is_named_by_its_type_and_not_whole(value: Any, expected: Any) -> None:
    text, whole = call_json.written(value)
    assert json.loads(text) == expected
    assert not whole


def test_a_circle_and_a_deep_nest_end() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    for value in (circle, deep, {"a": circle}):
        text, whole = call_json.written(value)
        assert not whole
        assert len(text) < 2000


def test_arguments_and_errors() -> None:
    assert call_json.json_of({"args": (1, "a"), "kwargs": {"k": None}}) == b'{"args":[1,"a"],"kwargs":{"k":null}}'
    assert call_json.json_of_failure(KeyError("a")) == b'{"error":"KeyError: \'a\'"}'
    assert call_json.failure_of(ValueError()) == "ValueError"
    assert len(call_json.failure_of(ValueError("x" * 1000))) == 500

    class Worse(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert call_json.failure_of(Worse()) == "Worse"


def test_numpy_and_pandas_are_written_by_value() -> None:
    numpy = pytest.importorskip("numpy")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "t": pandas.to_datetime(["2026-01-31", None]), "c": ["x", None]})
    for value, expected in [
        (numpy.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (numpy.arange(6)[::2], [0, 2, 4]),
        (numpy.arange(3, dtype=">i4"), [0, 1, 2]),
        (numpy.array([0.5], dtype="float16"), [0.5]),
        (numpy.float32(0.5), 0.5),
        (numpy.float64(0.25), 0.25),
        (numpy.int64(3), 3),
        (numpy.bool_(True), True),
        (numpy.array(["a", None], dtype=object), ["a", None]),
        (numpy.array(5), 5),
        (numpy.array(["2026-01-31"], dtype="datetime64[D]"), ["2026-01-31"]),
        ({"p": numpy.ones(2)}, {"p": [1.0, 1.0]}),
        (frame[["a"]], [{"a": 1}, {"a": 2}]),
        (pandas.Series([1, 2]), [1, 2]),
        (pandas.Timestamp("2026-01-31"), "2026-01-31T00:00:00"),
    ]:
        text, whole = call_json.written(value)
        assert json.loads(text) == expected
        assert whole
    with_nan = numpy.array([[0.5, numpy.nan]], dtype="float32")
    for odd, shown in [
        (with_nan, b"[[0.5,NaN]]"),
        ([None, with_nan], b"[null,[[0.5,NaN]]]"),
        (with_nan * numpy.inf, b"[[Infinity,NaN]]"),
        (with_nan.astype("float16"), b"[[0.5,NaN]]"),
        ({"a": numpy.float64("nan"), "b": numpy.float32("-inf")}, b'{"a":NaN,"b":-Infinity}'),
        (pandas.Series([1.5, None]), b"[1.5,NaN]"),
        (pandas.DataFrame({"a": [1.5, None], "b": [None, "x"]}), None),
    ]:
        text, whole = call_json.written(odd)
        assert text == shown or (shown is None and b'"a":NaN' in text)
        assert whole
    text, whole = call_json.written(frame)
    assert json.loads(text)[0]["t"] == "2026-01-31T00:00:00"
    assert whole
    assert not call_json.written(numpy.zeros(200_001)).whole
