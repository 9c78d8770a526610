"""Which records a report is about: by time, by the request's path and by its fields."""

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from shadowproxy.compare.fold.places import extract
from shadowproxy.compare.fold.requests import request_json
from shadowproxy.compare.fold.summary import micros
from shadowproxy.record import Record

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION: Final = re.compile(r"(/.*?|@method)\s*(>=|<=|!=|=|>|<)\s*(.*)\Z", re.DOTALL)
_SIGN: Final = re.compile(r"[<>=]")
_QUOTED: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"\Z')
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)\Z")
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a field of the request, as in `/dep_delay>=15` or `/carrier=UA`.

    Two numbers are compared as numbers. If a `*` stands for several values, one that holds is enough. A value that
    contains one of the signs is quoted as in JSON: `/expression="a=b"`.
    """

    place: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Raises ValueError for a text that is not a condition."""
        found = _CONDITION.match(text)
        if found is None:
            raise ValueError(f'"{text}" is not a condition: write a pointer, one of = != < <= > >=, and a value')
        place, sign, value = found.groups()
        if _QUOTED.match(value):
            return cls(place, sign, json.loads(value))
        if _SIGN.search(value):
            raise ValueError(
                f'"{text}" has two comparisons: give --where twice, or quote the value, as in \'/a="b=c"\''
            )
        return cls(place, sign, value)

    def holds(self, record: Record) -> bool:
        if self.place == "@method":
            return self._compare(record.request.method)
        return any(self._compare(value) for value in extract(request_json(record), self.place))

    def _compare(self, value: Any) -> bool:
        compare = _OPERATORS[self.sign]
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return compare(value, float(self.value))
            except ValueError:
                return self.sign == "!="
        text = (
            {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else value
        )
        return isinstance(text, str) and compare(text, self.value)


@dataclass(frozen=True, slots=True)
class Only:
    """The records to read: those that fit all of this. Times are microseconds since the epoch; `until` is excluded."""

    since: int | None = None
    until: int | None = None
    path: str | None = None
    where: tuple[Condition, ...] = ()

    def accepts(self, record: Record) -> bool:
        """Raises ValueError if there is a limit in time and the record's time cannot be read."""
        if self.since is not None or self.until is not None:
            at = micros(record.at)
            if self.since is not None and at < self.since:
                return False
            if self.until is not None and at >= self.until:
                return False
        if self.path is not None and not fnmatchcase(record.request.path, self.path):
            return False
        return all(condition.holds(record) for condition in self.where)


EVERYTHING: Final = Only()


def parse_moment(text: str, now: datetime | None = None) -> int:
    """Microseconds since the epoch from an ISO 8601 time (UTC unless it says otherwise) or an age such as `2h`.

    Raises ValueError.
    """
    age = _AGO.match(text)
    if age is not None:
        moment = (now or datetime.now(UTC)) - timedelta(seconds=float(age[1]) * _UNITS[age[2]])
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f'"{text}" is neither a time such as 2026-01-31T12:00 nor an age such as 2h') from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)
