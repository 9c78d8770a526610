"""Reads records: a record is one exchange as one line of JSON (docs/reference/log.md has the format field by field).

The package recorder writes it, from the same nouns: so the same code compares two answers before writing and after
reading. They are tuples, as several are made for each record: one of eight fields costs a third of a frozen dataclass.
Here they are made by `tuple.__new__`, as their own `__new__` is a function of Python's: that takes twice as long.
"""

import base64
import contextlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import orjson

from shadowproxy.exact import may_hold_long_integer
from shadowproxy.exchange import Learnt, Outcome, Translated, Tunnel, TunnelEnd, Verdict
from shadowproxy.lines import Unreadable as Unreadable
from shadowproxy.lines import lines

SCHEMA = 1
"""Readers of schema 1 must ignore unknown keys. A change to the meaning of a known key makes a new schema."""

HEAVIEST: Final = 1_000_000_000
"""How many requests a record may stand for."""

Headers: TypeAlias = Mapping[str, str | list[str]]
"""Names in lower case; a repeated field is a list."""

NO_HEADERS: Final[Headers] = MappingProxyType({})

BodyKind = Literal["json", "text", "bytes", "none"]


class RecordError(Exception):
    """A line that is not a record of this schema, or a log that cannot be read. The text is one line."""


class Body(NamedTuple):
    """A body as recorded. `size` is bytes on the wire.

    `kind` is "none" where the body was empty, or was hashed, left out or withheld (`truncated` is true then).
    `value` is the parsed JSON, the str, the bytes or None; a prefix of them where `truncated` is true.
    `coding` names the content codings that could not be undone: `value` is then the bytes on the wire.
    `redacted` says why a body was withheld that had to be redacted and could not be.
    `repeated_keys` is how many keys of the recorded JSON repeat one of the same object (`value` has the last).
    """

    kind: BodyKind
    value: Any
    size: int
    truncated: bool = False
    sha256: str | None = None
    coding: str | None = None
    redacted: str | None = None
    repeated_keys: int = 0


class Difference(NamedTuple):
    """One place where two answers differ: `path` is a JSON pointer, `kind` what sort of difference it is.

    `shadow_path` is the place in the shadow's answer, where the two have different forms.
    """

    path: str
    kind: str
    live: Any
    shadow: Any
    shadow_path: str | None = None


class Judgement(NamedTuple):
    """The result of comparing. `why` says why nothing could be compared.

    `set_aside` are places that differ and do not count: the answers' envelope generates them for every call, or they
    have IDs that live and the shadow issued for the same thing.
    """

    verdict: Verdict
    differences: tuple[Difference, ...] = ()
    why: str | None = None
    set_aside: tuple[str, ...] = ()


class Gaps(NamedTuple):
    """The time between one token and the next, or one event and the next, in milliseconds."""

    p50: float
    p99: float
    max: float


class Events(NamedTuple):
    """When the events of a streamed answer came, in milliseconds from the leg's start. What is not known is None.

    Attributes:
        first_ms: the first whole event.
        first_token_ms, last_token_ms: the first and the last event with a piece of text, reasoning, a refusal or a
            tool call, if the API is known.
        tokens: how many tokens the answer has, and `counted` how that is known: its `usage`, or its "pieces".
        gaps: between events with such a piece; between all events if the API is not known.
    """

    first_ms: float | None = None
    first_token_ms: float | None = None
    last_token_ms: float | None = None
    tokens: int | None = None
    counted: Literal["usage", "pieces"] | None = None
    gaps: Gaps | None = None


class RecordedLeg(NamedTuple):
    """One leg as recorded. What it never had (a status, a body, a time) is None. Times are in milliseconds.

    `failed`: how the answer itself says that it failed, whatever its status. `caller_left`: the caller left after the
    answer's own end, before the response's. `events`: when the events of a streamed answer came. `translated` and
    `learnt` are as a reply's; a value that the record may not show is a mark there, or empty.
    """

    outcome: Outcome
    status: int | None = None
    headers: Headers = NO_HEADERS
    body: Body | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None
    error: str | None = None
    judgement: Judgement | None = None
    failed: str | None = None
    caller_left: bool = False
    events: Events | None = None
    translated: tuple[Translated, ...] = ()
    learnt: tuple[Learnt, ...] = ()


class RecordedRequest(NamedTuple):
    """The request as recorded. `path` and `query` are as sent, except for redacted credentials."""

    method: str
    path: str
    query: str
    headers: Headers
    body: Body


class Record(NamedTuple):
    """One line of the log. `at` is ISO 8601 in UTC with microseconds, `proxy` is host/worker.

    `rules` is the digest of the rules by which the answers were compared; None if they were not, and in older logs.
    `tunnel` is what went through a WebSocket; None for all other requests. `weight` is how many requests the record
    stands for, `heaviest` the most that one of its log may, and `differing` one whose answers differ, fail or are slow.
    """

    id: str
    record: str
    at: str
    proxy: str
    request: RecordedRequest
    live: RecordedLeg
    shadows: Mapping[str, RecordedLeg]
    control: RecordedLeg | None
    rules: str | None = None
    tunnel: Tunnel | None = None
    weight: int = 1
    heaviest: int = 1
    differing: int = 1


def decode(line: bytes) -> Record:
    """The record in one line of a log. Raises RecordError if the line is no record of this schema."""
    try:
        whole = _exactly(line)
    except ValueError as error:
        raise RecordError(f"not JSON: {error}") from error
    if not isinstance(whole, dict) or "schema" not in whole:
        raise RecordError("not a record: no schema")
    if whole["schema"] != SCHEMA:
        raise RecordError(f"a record of schema {whole['schema']!r:.20}; this version reads schema {SCHEMA}")
    try:
        weight, heaviest = _read_weight(whole) if "weight" in whole or "sample" in whole else (1, 1)
        control = whole.get("control")
        rules = whole.get("rules")
        parts = (
            _str(whole["id"]),
            _str(whole["record"]),
            _str(whole["at"]),
            _str(whole["proxy"]),
            _read_request(whole["request"]),
            _read_leg(whole["live"]),
            {name: _read_leg(leg) for name, leg in whole["shadows"].items()},
            None if control is None else _read_leg(control),
            rules if isinstance(rules, str) else None,
            _read_tunnel(whole["tunnel"]) if "tunnel" in whole else None,
            weight,
            heaviest,
            heaviest if "replay" in whole else 1,  # it was drawn before the shadow had answered
        )
        return tuple.__new__(Record, parts)
    except KeyError as missing:
        raise RecordError(f"not a record: {missing.args[0]!r:.40} is missing") from missing
    except (ValueError, TypeError, AttributeError) as wrong:
        raise RecordError(f"not a record: {wrong!s:.120}") from wrong


def read(paths: Iterable[str | Path], on_bytes: Callable[[int], None] | None = None) -> Iterator[Record | Unreadable]:
    """Every record of these files, folders (their segments, oldest first), patterns, addresses in object stores and `-`
    (standard input), in this order.

    Files are plain, gzip or zstd; their content says which. A line that is no record becomes Unreadable. `on_bytes`
    gets the number of the files' bytes, compressed ones as they are, that were read since its last call. Memory is
    bounded by a line's length. Raises RecordError if a path cannot be opened or read.
    """
    try:
        for line in lines(paths, on_bytes):
            if isinstance(line, Unreadable):
                yield line
                continue
            try:
                yield decode(line.raw)
            except RecordError as why:
                yield Unreadable(line.file, line.line, f"torn: {why}" if line.torn else str(why))
    except OSError as error:
        raise RecordError(f"cannot read {error.filename or 'the log'}: {error.strerror or error}") from error


def leg_in(leg: bytes) -> RecordedLeg:
    """One leg from its JSON: a record's `live`, or one of its `shadows`."""
    return _read_leg(_exactly(leg))


def _read_request(request: dict[str, Any]) -> RecordedRequest:
    parts = (
        _str(request["method"]),
        _str(request["path"]),
        _str(request["query"]),
        _read_headers(request["headers"]),
        _read_body(request),
    )
    return tuple.__new__(RecordedRequest, parts)


_OUTCOMES: Final = {each.value: each for each in Outcome}
_VERDICTS: Final = {each.value: each for each in Verdict}


def _read_leg(leg: dict[str, Any]) -> RecordedLeg:
    get = leg.get
    error = get("error")
    failed = get("failed")
    status = get("status")
    outcome = leg["outcome"]
    parts = (
        _OUTCOMES.get(outcome) or Outcome(outcome),
        None if status is None else _int(status),
        _read_headers(get("headers", {})),
        _read_body(leg) if "body_bytes" in leg else None,
        _ms(get("first_byte_ms")),
        _ms(get("total_ms")),
        None if error is None else _str(error),
        _read_judgement(leg) if "verdict" in leg else None,
        None if failed is None else _str(failed),
        get("caller_left") is True,
        _read_events(leg["events"]) if "events" in leg else None,
        tuple([_read_translated(each) for each in leg["translated"]]) if "translated" in leg else (),
        tuple([_read_learnt(each) for each in leg["learnt"]]) if "learnt" in leg else (),
    )
    return tuple.__new__(RecordedLeg, parts)


def _read_translated(each: dict[str, Any]) -> Translated:
    values = _str(each.get("live", "")), _str(each.get("shadow", ""))
    return Translated(_str(each["in"]), _str(each["learnt_from"]), *values)


def _read_learnt(each: dict[str, Any]) -> Learnt:
    return Learnt(_str(each["at"]), _str(each.get("live", "")), _str(each.get("shadow", "")))


def _read_judgement(leg: dict[str, Any]) -> Judgement:
    differences: list[Difference] = []
    for each in leg.get("differences", ()):
        beside = each.get("shadow_path")
        path = None if beside is None else _str(beside)
        parts = _str(each["path"]), _str(each["kind"]), each.get("live"), each.get("shadow"), path
        differences.append(tuple.__new__(Difference, parts))
    verdict = leg["verdict"]
    set_aside = tuple([_str(each) for each in leg.get("set_aside", ())])
    return Judgement(_VERDICTS.get(verdict) or Verdict(verdict), tuple(differences), leg.get("why"), set_aside)


def _read_body(parts: dict[str, Any]) -> Body:
    kind: BodyKind
    if "body" in parts:
        kind, value = "json", parts["body"]
    elif "body_text" in parts:
        kind, value = "text", _str(parts["body_text"])
    elif "body_base64" in parts:
        kind, value = "bytes", base64.b64decode(parts["body_base64"], validate=True)
    else:
        kind, value = "none", None
    made = (
        kind,
        value,
        _int(parts["body_bytes"]),
        parts.get("body_truncated", False) is True,
        parts.get("body_sha256"),
        parts.get("body_coding"),
        parts.get("body_redacted"),
        parts.get("body_repeated_keys", 0),
    )
    return tuple.__new__(Body, made)


def _read_tunnel(parts: dict[str, Any]) -> Tunnel:
    ended_by = TunnelEnd(parts["ended_by"])
    return Tunnel(_int(parts["from_caller_bytes"]), _int(parts["from_live_bytes"]), ended_by)


def _read_events(parts: Any) -> Events | None:
    """What can be read of it: a record is not worth less because a time in it is odd."""
    if not isinstance(parts, dict):
        return None
    get = parts.get
    tokens, counted, gaps = get("tokens"), get("counted"), get("gaps_ms")
    if not _is_count(tokens) or (counted != "usage" and counted != "pieces"):
        tokens = counted = None
    between: Gaps | None = None
    if isinstance(gaps, dict):
        p50, p99, most = _time_in(gaps, "p50"), _time_in(gaps, "p99"), _time_in(gaps, "max")
        if p50 is not None and p99 is not None and most is not None:
            between = tuple.__new__(Gaps, (p50, p99, most))
    first, last = _time_in(parts, "first_token_ms"), _time_in(parts, "last_token_ms")
    return tuple.__new__(Events, (_time_in(parts, "first_ms"), first, last, tokens, counted, between))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _time_in(parts: dict[str, Any], name: str) -> float | None:
    value = parts.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _LONGEST:
        return None
    return float(value)


def _read_weight(whole: dict[str, Any]) -> tuple[int, int]:
    """A record's weight, and the largest that one of its log may have, by the share that the log keeps."""
    weight, sample = whole.get("weight", 1), whole.get("sample")
    if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= HEAVIEST:
        raise RecordError(f"a record whose weight is not a whole number from 1 to {HEAVIEST:,}: {weight!r:.40}")
    if sample is None:
        return weight, weight
    if not isinstance(sample, int | float) or isinstance(sample, bool) or not 1 / HEAVIEST <= sample <= 1:
        raise RecordError(f"a record whose share of the log is not above 0 and at most 1: {sample!r:.40}")
    return weight, max(weight, math.ceil(1 / sample))


_LONGEST: Final = 1e12
"""Milliseconds: thirty years. Anything longer, such as a number without end, is no time of an answer."""


def _read_headers(headers: Any) -> Headers:
    for value in headers.values():
        if type(value) is str or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            continue
        raise TypeError("a header is neither text nor a list of it")
    checked: Headers = headers
    return checked


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number is missing")
    return value


def _ms(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("a time is not a number")
    return float(value)


def _exactly(raw: bytes) -> Any:
    value = orjson.loads(raw)
    # orjson reads an integer beyond 64 bits as a float, and keeps only the last of repeated keys. Python's own reader
    # is exact, and five times slower.
    if may_hold_long_integer(raw) or _may_repeat(raw, value):
        with contextlib.suppress(ValueError, RecursionError):
            return _read_by_python(raw)
    return value


def _may_repeat(raw: bytes, value: Any) -> bool:
    """Whether a line seems to hold more keys than `value`, which was read from it. Takes a few microseconds.

    `value` is written again to count its colons: each key has one, and all others are written as they were read, unless
    they were escaped.
    """
    if b"\\" in raw and (b"\\u003a" in raw or b"\\u003A" in raw):
        return True
    try:
        return raw.count(b":") > orjson.dumps(value).count(b":")
    except orjson.JSONEncodeError:
        return True  # nested more deeply than orjson writes


def _read_by_python(raw: bytes) -> Any:
    """A line with its integers exact, and with `body_repeated_keys` beside each body that has such."""
    repeated: dict[int, tuple[dict[str, Any], int]] = {}  # with the object: an ID is only its own while it is kept

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        whole = dict(pairs)
        if len(whole) < len(pairs):
            repeated[id(whole)] = whole, len(pairs) - len(whole)
        return whole

    line = json.loads(raw, object_pairs_hook=made)
    if repeated and isinstance(line, dict):
        shadows = line.get("shadows")
        legs = [line.get(name) for name in ("request", "live", "control")]
        for leg in [*legs, *(shadows.values() if isinstance(shadows, dict) else ())]:
            if isinstance(leg, dict):
                leg["body_repeated_keys"] = sum(repeated[at][1] for at in _objects(leg.get("body")) if at in repeated)
    return line


def _objects(value: Any) -> Iterator[int]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield id(each)
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
