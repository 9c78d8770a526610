"""Which differences are noise: IDs and times, which are never equal, and versions, which are one value in each arm.

Nothing is hidden: a place that is noise is listed as such, and agreement is reported with and without it.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

from shadowproxy.compare.fold.counts import WordCounts
from shadowproxy.compare.fold.samples import Distinct

Nature = Literal["volatile", "constant", "real"]

VOLATILE_SHAPES: Final = ("uuid", "time", "hex")
_ID_SHAPES: Final = ("token", "integer")
_SEEN_OFTEN: Final = 20  # differing exchanges before a place may be called volatile or constant by its values
_NEARLY_ALL: Final = 0.98
_SHORT: Final = 100  # characters of the longest text whose shape is remembered

_UUID = re.compile(r"(?i)(?:\w{1,12}[_-])?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} ")
_HEX = re.compile(r"(?i)(?=.*\d)(?:0x)?[0-9a-f]{16,}\Z")
_TOKEN = re.compile(r"(?=.*\d)[\w.:=+/-]{8,64}\Z")
_TIME_NAME = re.compile(
    r"(?i)(?:\A|_)(?:time|timestamp|ts|created|latency|duration|elapsed|took)(?:\Z|_)|_(?:at|ms|ns)\Z"
)
_VERSION_NAME = re.compile(
    r"(?i)version|revision|release|commit|build|schema"
    r"|(?:\A|_)(?:model|engine|server|host|hostname|node|pod|region)(?:_?(?:name|id))?\Z"
)


def shape_of(path: str, value: Any) -> str:
    """The form of a differing value: uuid, time, hex, token, integer, number, text or other."""
    if isinstance(value, str):
        return _shape_of_text(value) if len(value) <= _SHORT else _shape_of_text.__wrapped__(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if _named_as_time(path):
            return "time"
        return "integer" if isinstance(value, int) and abs(value) >= 100_000 else "number"
    return "other"


@lru_cache(maxsize=4096)
def _shape_of_text(value: str) -> str:
    for shape, pattern in (("uuid", _UUID), ("time", _TIME), ("hex", _HEX), ("token", _TOKEN)):
        if pattern.match(value):
            return shape
    return "text"


def _named_as_version(path: str) -> bool:
    return _VERSION_NAME.search(path.rpartition("/")[2]) is not None


@lru_cache(maxsize=4096)
def _named_as_time(path: str) -> bool:
    return _TIME_NAME.search(path.rpartition("/")[2]) is not None


def nature(
    path: str,
    kinds: Mapping[str, int],
    shapes: WordCounts,
    live: Distinct,
    shadow: Distinct,
    *,
    differing: int,
    compared: int,
    judged: bool,
) -> Nature:
    """What kind of place `path` is, at which `differing` of `compared` exchanges differ.

    `judged`: another place of the answers is judged.

    volatile: its values look like UUIDs, times or digests, or are IDs of another make that differ nearly always and
    hardly ever come again. constant: each arm has one value of its own, such as a version. But a constant may be the
    answer: it is real if it is true or false or a number, or if no other place is judged, unless the place is named as
    versions are. real: all else, and every place that also differs in type or presence. Numbers and texts that all
    differ are not volatile for that: predictions and answers differ too.
    """
    seen = shapes.total()
    if not seen or set(kinds) != {"value"}:
        return "real"
    if sum(shapes[shape] for shape in VOLATILE_SHAPES) >= _NEARLY_ALL * seen:
        return "volatile"
    if differing < _SEEN_OFTEN or differing < _NEARLY_ALL * compared:
        return "real"
    if live.estimate() == shadow.estimate() == 1 and not shapes["other"]:
        return "constant" if _named_as_version(path) or (judged and not shapes["number"]) else "real"
    ids = sum(shapes[shape] for shape in _ID_SHAPES) >= _NEARLY_ALL * seen
    if ids and min(live.estimate(), shadow.estimate()) >= live.total() / 2:
        return "volatile"
    return "real"
