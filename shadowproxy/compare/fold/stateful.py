"""Stateful APIs in a log: requests that were translated, and those that a shadow refuses since it never gave their ID.

Where `state` is not configured, a caller comes back with an ID that live issued, and the shadow, which issued another,
rejects it. Whether it is so is known only from two exchanges, and the parts of a log are counted apart. So each part
keeps the smallest hashes of the IDs that live alone issued, and of the values that rejected requests carry: both are
samples of the same values, and their intersection tells how many of these requests carry an ID of live's.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Final

from shadowproxy.compare.fold.counts import WordCounts
from shadowproxy.compare.fold.samples import Distinct, hashed
from shadowproxy.compare.fold.tables import Parts
from shadowproxy.compare.judge.standing import Standing
from shadowproxy.record import Headers, Record, RecordedLeg
from shadowproxy.redaction import MARK

_SHORTEST: Final = 8
_LONGEST: Final = 512
_DEEPEST: Final = 3
_MOST: Final = 64
"""Values of one message that are looked at."""

_ID_NAME: Final = re.compile(r"(?i)(?:.*[_.-])?(?:id|uuid|guid|cursor|token|key)|.*(?:Id|ID|Uuid|Cursor|Token)")
_SESSION: Final = re.compile(r"session(?!-?(?:affinity|count|duration))")
_GENERATED: Final = re.compile(r"[!-~]*[0-9][!-~]*")
_GONE: Final = (404, 410)
_SAID_AGAIN: Final = "json:"
"""The place of a pair that was known before."""
_HIDDEN: Final = "hidden: "
"""Before the name of a field whose value the log does not show. Two sessions are taken for different ones."""
_COOKIE: Final = _HIDDEN + "cookie"
_UNAUTHORIZED: Final = (401, 403)
"""A shadow answers so to a request whose cookies were held back as credentials, whatever they are."""


class _Values(Distinct):
    """Hashes of values, each with the number of exchanges."""

    KEPT: ClassVar[int] = 1024


@dataclass(slots=True)
class PairState(Parts):
    """What a shadow's requests needed of its own IDs.

    counts: `translated` are the requests with an ID that was replaced by the shadow's own, `gone` those of them that
    the shadow answers with 404 or 410 where live has a 2xx, and `learnt` the IDs whose pairs were learnt.
    issued: IDs that live gave where the shadow, which answered well too, did not. carried: values of the requests that
    the shadow rejects where live does not, and in which nothing was translated.
    """

    counts: WordCounts = field(default_factory=WordCounts)
    issued: _Values = field(default_factory=_Values)
    carried: _Values = field(default_factory=_Values)

    def add(
        self,
        record: Record,
        shadow: RecordedLeg,
        standings: tuple[Standing, Standing],
        values: tuple[Any, Any],
    ) -> None:
        """Count one pair: how both answers stand, and their values where they are JSON."""
        live = record.live
        if shadow.translated:
            self.counts["translated"] += 1
            if standings[0] == "good" and shadow.status in _GONE:
                self.counts["gone"] += 1
        if shadow.learnt:
            self.counts["learnt"] += sum(1 for each in shadow.learnt if each.place != _SAID_AGAIN)
        if shadow.translated or shadow.learnt or standings[0] != "good":
            return
        if standings[1] == "refused":
            for value in _carried_by(record):
                if value is not _COOKIE or shadow.status not in _UNAUTHORIZED:
                    self.carried.add(hashed(value))
        elif standings[1] == "good":
            issued = _issued_by(live.headers, values[0])
            if issued:
                own = _issued_by(shadow.headers, values[1])
                for value in issued:
                    if value not in own or value.startswith(_HIDDEN):
                        self.issued.add(hashed(value))

    def refused(self) -> int:
        """About how many requests the shadow rejects that carry an ID which live issued and the shadow never gave."""
        last = min(_last_of(self.issued), _last_of(self.carried))
        known = sum(times for digest, times in self.carried.items() if digest <= last and digest in self.issued)
        return round(known * (1 << 64) / (last + 1))


def _last_of(values: _Values) -> int:
    """Up to which hash all values are kept."""
    return max(values) if len(values) >= values.KEPT else (1 << 64) - 1


@lru_cache(maxsize=4096)
def _names_id(name: str) -> bool:
    return len(name) <= _LONGEST and _ID_NAME.fullmatch(name) is not None


def _issued_by(headers: Headers, value: Any) -> set[str]:
    """The values of an answer that may be IDs: at members with such names, in its session's fields and its Location.

    A session that the log does not show counts by the name of its field.
    """
    found: set[str] = set()
    if type(value) is dict:
        _add_members(value, found, _DEEPEST)
    for name, text in _fields_of_state(headers):
        if name == "location":
            found.update(each for each in re.split(r"[/?&=#]", text) if _may_be_id(each))
        elif MARK.fullmatch(text) is not None:
            found.add(_COOKIE if name == "set-cookie" else _HIDDEN + name)
        elif name != "set-cookie" and _may_be_id(text):
            found.add(text)
    return found


def _fields_of_state(headers: Headers) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        if name == "location" or name == "set-cookie" or _SESSION.search(name) is not None:
            yield name, value if isinstance(value, str) else value[0]


def _add_members(value: Mapping[str, Any], found: set[str], depth: int) -> None:
    for name, each in value.items():
        kind = type(each)
        if kind is str:
            if _names_id(name) and _may_be_id(each) and len(found) < _MOST:
                found.add(each)
        elif kind is dict and depth:
            _add_members(each, found, depth - 1)


def _may_be_id(text: str) -> bool:
    return _SHORTEST <= len(text) <= _LONGEST and _GENERATED.fullmatch(text) is not None


def _carried_by(record: Record) -> set[str]:
    """The values of a request that may be IDs."""
    request = record.request
    found = {each for each in re.split(r"[/?&=;#]", f"{request.path}?{request.query}"[:8192]) if _may_be_id(each)}
    for name, value in request.headers.items():
        for text in [value] if isinstance(value, str) else value:
            if MARK.fullmatch(text) is not None:
                if name == "cookie":
                    found.add(_COOKIE)
                elif _SESSION.search(name) is not None:
                    found.add(_HIDDEN + name)
            elif _may_be_id(text):
                found.add(text)
    if request.body.kind == "json":
        _add_texts(request.body.value, found, _DEEPEST)
    return found


def _add_texts(value: Any, found: set[str], depth: int) -> None:
    if isinstance(value, str):
        if _may_be_id(value) and len(found) < _MOST:
            found.add(value)
    elif depth and isinstance(value, dict | list):
        for each in list(value.values() if isinstance(value, dict) else value)[:_MOST]:
            _add_texts(each, found, depth - 1)
