"""A record: one exchange as one line of JSON, written and read (design: docs/log.md has the format field by field).

`encode` runs in the journal's thread, once an exchange; `decode` and `read` are for the report, `show` and the tests.
Both sides share the nouns below, so what compares two answers is the same code before writing and after reading. They
are tuples, as several are made for each record: one of eight fields costs a third of a frozen dataclass.
"""

import base64
import codecs
import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import orjson

from shadowproxy.content import Undecodable, decoded, is_json_type, parsed
from shadowproxy.exchange import Exchange, Failure, Fields, Outcome, Reply, ShadowLeg, Skipped, Verdict
from shadowproxy.lines import Unreadable as Unreadable
from shadowproxy.lines import lines
from shadowproxy.redaction import Redaction

SCHEMA = 1
"""Readers of schema 1 must let unknown keys pass; what changes the meaning of a known one makes a new schema."""

Headers: TypeAlias = Mapping[str, str | list[str]]
"""Names in lower case; a field that came more than once is a list."""

NO_HEADERS: Final[Headers] = MappingProxyType({})

BodyKind = Literal["json", "text", "bytes", "none"]


class RecordError(Exception):
    """A line that is not a record of this schema, or a log that cannot be read. The text is one line."""


class Body(NamedTuple):
    """A body as the log tells of it. `size` is bytes on the wire.

    `kind` is none where the body was empty, or was hashed, left out or withheld (`truncated` is true then).
    `value` is the parsed JSON, the str, the bytes or None; a prefix of them where `truncated` is true.
    `coding` names the content codings that could not be undone: `value` is then the wire's bytes as they came.
    `redacted` says why a body that had to be redacted, and could not be, was withheld.
    `repeated_keys` is how many keys of JSON read from a log came before in the same object (`value` has the last).
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
    """One place where two answers differ: `path` is a JSON pointer, `kind` what sort of difference it is."""

    path: str
    kind: str
    live: Any
    shadow: Any


class Judgement(NamedTuple):
    """What comparing says. `why` is given where nothing could be compared."""

    verdict: Verdict
    differences: tuple[Difference, ...] = ()
    why: str | None = None


class Answer(NamedTuple):
    """One leg as the log tells of it. What was never had (a status, a body, a time) is None. Milliseconds."""

    outcome: Outcome
    status: int | None = None
    headers: Headers = NO_HEADERS
    body: Body | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None
    error: str | None = None
    judgement: Judgement | None = None


class Asked(NamedTuple):
    """The request as the log tells of it. `path` and `query` are as sent, credentials in the query apart."""

    method: str
    path: str
    query: str
    headers: Headers
    body: Body


class Record(NamedTuple):
    """One line of the log. `at` is ISO 8601 in UTC with microseconds, `proxy` is host/worker."""

    id: str
    record: str
    at: str
    proxy: str
    request: Asked
    live: Answer
    shadows: Mapping[str, Answer]
    control: Answer | None


Judge: TypeAlias = Callable[[Answer, Answer], Judgement]
"""Live's answer and a shadow's (or the control's), whole as captured and decoded, to a judgement.

Before writing, the only header field they have is Content-Type.
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """How much of a body is told and compared (`body_limit` in bytes once decoded), and what is redacted."""

    bodies: Literal["full", "hash", "none"] = "full"
    body_limit: int = 256 << 10
    redaction: Redaction = field(default_factory=Redaction)
    heads: "Heads" = field(default_factory=lambda: Heads(), init=False, repr=False, compare=False)


# --- writing -------------------------------------------------------------------------------------------------------

_OK: Final = Outcome.OK  # on Python 3.11 looking a member up costs as much as reading three fields


def encode(
    exchange: Exchange,
    *,
    proxy: str,
    policy: Policy,
    judge: Judge | None,
    tell: Callable[[str, Verdict], object] = lambda name, verdict: None,
) -> bytes:
    """The record of an exchange: one line of UTF-8 that ends in a newline. Raises for no bytes a peer can send.

    `judge` is asked about each shadow's answer, and the control's, where both it and live's came to a good end. It
    sees bodies before they are redacted; its differences are then redacted as the bodies are. A body over `body_limit`
    is not compared, and not even parsed: orjson holds the interpreter for a whole one, and so the event loop (eight
    answers of 4 MiB made live's median latency 150 ms). `tell` is told each verdict, with the shadow's name or
    `control`.
    """
    request, live, shadows, control = exchange
    path, _, query = request.target.partition(b"?")
    head = _read_head(request.fields, policy.redaction)  # not looked for: each has a request ID of its own
    asked: dict[str, Any] = {
        "method": request.method,
        "path": _text(path),
        "query": policy.redaction.parameters(_text(query)) if query else "",
        "headers": head.told,
    }
    _tell_body(asked, _content(head, request.body, request.body_bytes, policy.body_limit), policy)
    content = _content_of(live, policy)
    answer = _answer(live, content) if judge is not None and isinstance(live, Reply) and content is not None else None
    line: dict[str, Any] = {
        "schema": SCHEMA,
        "id": request.id,
        "record": request.record,
        "at": _iso(request.at_ns),
        "proxy": proxy,
        "request": asked,
        "live": _leg(live, content, policy),
        "shadows": {},
        "control": None,
    }
    for name, leg in shadows.items():
        line["shadows"][name], verdict = _beside(content, answer, leg, policy, judge)
        if verdict is not None:
            tell(name, verdict)
    if control is not None:
        line["control"], verdict = _beside(content, answer, control, policy, judge)
        if verdict is not None:
            tell("control", verdict)
    return _written(line)


def encode_again(
    old: Record,
    leg: ShadowLeg,
    *,
    request: bytes,
    live: bytes,
    shadow: str,
    record_id: str,
    sent_ns: int,
    proxy: str,
    policy: Policy,
    judge: Judge,
) -> tuple[bytes, Verdict | None]:
    """The record of a logged request that was asked again later, of `shadow` alone; and the verdict on its answer.

    `request` and `live` are the old record's, as JSON, and stay byte for byte; so do its `id` and its time. `replay`
    names the old record and tells when the request was sent again. `judge` sees what the log has of both answers, the
    new one redacted by `policy` as the old one was by its own: what a report makes of the new log is the same.
    """
    parts = _leg(leg, _content_of(leg, policy), policy)
    verdict = None
    if isinstance(leg, Reply) and old.live.outcome is Outcome.OK:
        judgement = judge(old.live, _read_answer(_exactly(_written(parts))))
        _tell_judgement(parts, judgement, policy)
        verdict = judgement.verdict
    line = {
        "schema": SCHEMA,
        "id": old.id,
        "record": record_id,
        "at": old.at,
        "proxy": proxy,
        "request": orjson.Fragment(request),
        "live": orjson.Fragment(live),
        "shadows": {shadow: parts},
        "control": None,
        "replay": {"of": old.record, "at": _iso(sent_ns)},
    }
    return _written(line), verdict


def _written(told: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # A lone surrogate in a text, or in a difference a value that orjson has no form for: rare, so only now.
        return orjson.dumps(_storable(told), option=orjson.OPT_APPEND_NEWLINE)


class _Head(NamedTuple):
    """Header fields as they are `told`, and what they say of the body: its `types`, of which the first counts, whether
    that names JSON or a form, and its `codings`. `hides`: some value is a secret.
    """

    told: dict[str, str | list[str]]
    types: tuple[str, ...]
    names_json: bool
    names_form: bool
    codings: str
    hides: bool


_HEADS: Final = 256
_LONGEST_HEAD: Final = 2048
"""Heads remembered, and bytes of the longest: servers choose them, and what is remembered must stay small."""

_REST: Final = 20_000
"""Heads after which remembering is tried again, where a server has an ID in each and so never says the same."""


class Heads:
    """The heads of the latest answers: most servers say the same again, but for the Date, and reading them anew was a
    tenth of what a record costs. One with a secret in it is not remembered.
    """

    __slots__ = ("_found", "_known", "_rest")

    def __init__(self) -> None:
        self._known: dict[Fields, _Head] = {}
        self._found = 0
        self._rest = 0

    def __len__(self) -> int:
        return len(self._known)

    def read(self, fields: Fields, redaction: Redaction) -> _Head:
        if self._rest:
            self._rest -= 1
            return _read_head(fields, redaction)
        head = self._known.get(fields)
        if head is not None:
            self._found += 1
            return head
        head = _read_head(fields, redaction)
        if not head.hides and sum(map(len, chain.from_iterable(fields))) <= _LONGEST_HEAD:
            if len(self._known) >= _HEADS:
                self._rest = _REST if self._found < _HEADS else 0
                self._known.clear()
                self._found = 0
            self._known[fields] = head
        return head


def _read_head(fields: Fields, redaction: Redaction) -> _Head:
    told: dict[str, str | list[str]] = {}
    types: tuple[str, ...] = ()
    codings = ""
    hides = False
    for raw_name, raw_value in fields:
        if len(raw_name) <= _KNOWN:
            name, hidden, of_body = _known(raw_name, redaction.headers)
        else:
            name, hidden, of_body = _known.__wrapped__(raw_name, redaction.headers)
        try:
            text = raw_value.decode()
        except UnicodeDecodeError:
            text = raw_value.decode("latin-1")
        if of_body:
            if name == "content-type":
                types = (*types, text)
            else:
                codings = f"{codings},{text}" if codings else text
        if hidden:
            hides = True
            text = redaction.mark(raw_value)
        elif "@" in text or "=" in text:  # without either, no URL in it has a credential
            shown = redaction.urls(text)
            hides = hides or shown != text
            text = shown
        before = told.get(name)
        if before is None:
            told[name] = text
        elif isinstance(before, list):
            before.append(text)
        else:
            told[name] = [before, text]
    json_type = form_type = False
    if types:
        json_type, form_type = (_named if len(types[0]) <= _KNOWN else _named.__wrapped__)(types[0])
    return _Head(told, types, json_type, form_type, codings, hides)


_KNOWN = 64
"""Bytes of the longest field name or type remembered: peers choose them, and what is remembered must stay small."""


@lru_cache(maxsize=1024)
def _known(raw_name: bytes, redacted: frozenset[str]) -> tuple[str, bool, bool]:
    """A field's name as it is told, whether its value is hidden, and whether it says what the body is."""
    name = _text(raw_name).lower()
    return name, Redaction(headers=redacted).hides_header(raw_name), name in ("content-type", "content-encoding")


@lru_cache(maxsize=256)
def _named(content_type: str) -> tuple[bool, bool]:
    """Whether a Content-Type names JSON, and whether a form."""
    return is_json_type(content_type), content_type.lower().startswith("application/x-www-form-urlencoded")


class _Content(NamedTuple):
    """A captured body, decoded as far as it could be. `raw` is what `value` was read from; `wire` is what came.

    `whole`: all of `wire` was captured. `over`: there is more of it, decoded, than `raw`. `coding` is the codings that
    could not be undone.
    """

    head: _Head
    kind: BodyKind
    value: Any
    raw: bytes
    wire: bytes
    size: int
    whole: bool
    over: bool
    coding: str | None = None

    @property
    def form(self) -> bool:
        return self.kind == "text" and self.head.names_form


def _content(head: _Head, wire: bytes, size: int, limit: int, beside: _Content | None = None) -> _Content:
    """`wire` decoded, and cut to `limit` bytes: JSON that is longer is text.

    `beside` is another, made with this `limit`. Where its bytes are the same it says the same: what a shadow answers is
    mostly what live did, and is not read a second time.
    """
    whole = len(wire) == size
    if not wire:
        return _Content(head, "none", None, wire, wire, size, whole, False)
    raw = wire
    if head.codings:
        try:
            raw = decoded(wire, head.codings)
        except Undecodable:
            over, raw = len(wire) > limit, wire[:limit]
            return _Content(head, "bytes", raw, raw, wire, size, whole, over, head.codings)
    elif (
        beside is not None
        and beside.raw is beside.wire == wire
        and (beside.size, beside.head.types, beside.coding) == (size, head.types, None)
    ):
        return beside._replace(head=head)
    over = len(raw) > limit
    if over:
        raw = raw[:limit]
    # KServe's servers send JSON without a type. Only an object or an array is taken for it then: 42 may be anything.
    typed = head.types and head.types[0]
    if whole and not over and (head.names_json if typed else raw.lstrip()[:1] in (b"{", b"[")):
        try:
            return _Content(head, "json", parsed(raw), raw, wire, size, whole, over)
        except ValueError:
            pass  # told as text, which is what it is
    try:
        text, _ = codecs.utf_8_decode(raw, "strict", whole and not over)
    except UnicodeDecodeError:
        return _Content(head, "bytes", raw, raw, wire, size, whole, over)
    return _Content(head, "text", text, raw, wire, size, whole, over)


def _content_of(leg: ShadowLeg, policy: Policy, beside: _Content | None = None) -> _Content | None:
    reply = leg if isinstance(leg, Reply) else leg.reply if isinstance(leg, Failure) else None
    if reply is None:
        return None
    head = policy.heads.read(reply.fields, policy.redaction)
    return _content(head, reply.body, reply.body_bytes, policy.body_limit, beside)


def _answer(reply: Reply, content: _Content) -> Answer:
    """For the judge, who looks at the status, the body, and of the header fields at what the body is."""
    head, kind, value, _, _, size, whole, over, coding = content
    body = Body(kind, value, size, over or not whole, None, coding)
    types = head.types
    headers: Headers = {"content-type": types[0] if len(types) == 1 else list(types)} if types else NO_HEADERS
    return Answer(_OK, reply.status, headers, body, reply.first_byte_ms, reply.total_ms)


def _leg(leg: ShadowLeg, content: _Content | None, policy: Policy) -> dict[str, Any]:
    reply = leg if isinstance(leg, Reply) else leg.reply if isinstance(leg, Failure) else None
    parts: dict[str, Any] = {"outcome": "ok" if isinstance(leg, Reply) else leg.outcome.value}
    if reply is not None and content is not None:
        parts["status"] = reply.status
        parts["headers"] = content.head.told
        _tell_body(parts, content, policy)
        parts["first_byte_ms"] = round(reply.first_byte_ms, 3)
    if not isinstance(leg, Skipped):
        parts["total_ms"] = round(leg.total_ms, 3)
    if not isinstance(leg, Reply):
        parts["error"] = policy.redaction.error(leg.error)
    return parts


def _beside(
    content: _Content | None, answer: Answer | None, leg: ShadowLeg, policy: Policy, judge: Judge | None
) -> tuple[dict[str, Any], Verdict | None]:
    """A leg beside live's `content`; with the verdict on it, where live gave an `answer` for it to be compared with."""
    own = _content_of(leg, policy, content)
    parts = _leg(leg, own, policy)
    if judge is None or answer is None or own is None or not isinstance(leg, Reply):
        return parts, None
    judgement = judge(answer, _answer(leg, own))
    _tell_judgement(parts, judgement, policy)
    return parts, judgement.verdict


def _tell_judgement(parts: dict[str, Any], judgement: Judgement, policy: Policy) -> None:
    parts["verdict"] = judgement.verdict.value
    if judgement.differences:
        parts["differences"] = [_difference(each, policy) for each in judgement.differences]
    if judgement.why is not None:
        parts["why"] = judgement.why


def _difference(difference: Difference, policy: Policy) -> dict[str, Any]:
    path, kind, live, shadow = difference
    if policy.bodies != "full":
        return {"path": path, "kind": kind}  # what is not told as a body is not told as a value out of it
    if policy.redaction.json:
        live = policy.redaction.difference(path, live)
        shadow = policy.redaction.difference(path, shadow)
    # JSON has no NaN, and null would be another value.
    if isinstance(live, float) and not math.isfinite(live):
        live = str(live)
    if isinstance(shadow, float) and not math.isfinite(shadow):
        shadow = str(shadow)
    return {"path": path, "kind": kind, "live": live, "shadow": shadow}


def _tell_body(parts: dict[str, Any], content: _Content, policy: Policy) -> None:
    """Add the keys that tell of a body."""
    head, kind, _, raw, wire, size, whole, over, coding = content
    searched, withheld = raw, False
    if policy.redaction.json or head.names_form:
        searched, withheld = _redacted(content, policy.redaction)
    limit = policy.body_limit
    told = policy.bodies == "full" and not withheld
    cut = over or len(searched) > limit
    if told and kind != "none":
        shown = searched[:limit] if cut else searched
        if kind == "json" and not cut:
            # CR and LF are nothing but white space in valid JSON, and a record is one line.
            parts["body"] = orjson.Fragment(shown.replace(b"\n", b" ").replace(b"\r", b" "))
        elif kind == "bytes":
            parts["body_base64"] = base64.b64encode(shown).decode()
            if coding is not None:
                parts["body_coding"] = coding
        else:
            parts["body_text"] = codecs.utf_8_decode(shown, "strict", False)[0]
    parts["body_bytes"] = size
    if size and (cut or not told or not whole):
        parts["body_truncated"] = True
        # The hash is of the bytes on the wire, all of them; of a body with a secret in it, it would let one be guessed.
        unsearched = withheld or (content.form and over)
        if policy.bodies != "none" and whole and searched is raw and not unsearched:
            parts["body_sha256"] = hashlib.sha256(wire).hexdigest()
    if withheld:
        parts["body_redacted"] = "not JSON, so it could not be searched for what is to be redacted"


def _redacted(content: _Content, redaction: Redaction) -> tuple[bytes, bool]:
    """The body's text with its secrets marked (the same object where there are none), and whether to leave it out."""
    raw = content.raw
    if content.kind == "none":
        return raw, False
    if redaction.json:
        if content.kind != "json":
            return raw, True
        after = redaction.body(raw)
    elif content.form:
        after = redaction.parameters(content.value).encode()
    else:
        return raw, False
    return (raw if after == raw else after), False


def _text(raw: bytes) -> str:
    """Header and target bytes as text: UTF-8 where they are that, else Latin-1, which takes any byte."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _iso(at_ns: int) -> str:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    # Six digits: a format that fills up with zeros takes twice as long.
    return f"{_second(seconds)}.{str(1_000_000 + rest // 1000)[1:]}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _storable(value: Any, depth: int = 0) -> Any:
    """`value` with what orjson refuses put otherwise: lone surrogates, integers beyond 64 bits, bytes, deep nesting."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return orjson.Fragment(str(value)) if value.bit_length() < 10_000 else "an integer of over 3000 digits"
    if isinstance(value, dict | list | tuple):
        if depth > _NESTED:
            return f"nested more than {_NESTED} levels deep"
        if isinstance(value, dict):
            return {_storable(str(key)): _storable(each, depth + 1) for key, each in value.items()}
        return [_storable(each, depth + 1) for each in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


_NESTED = 200
"""orjson writes at most 254 levels of Python objects (what is embedded raw does not count)."""


# --- reading -------------------------------------------------------------------------------------------------------


def decode(line: bytes) -> Record:
    """The record in one line of a log. Raises RecordError, in one line, where it is none of this schema."""
    try:
        whole = _exactly(line)
    except ValueError as error:
        raise RecordError(f"not JSON: {error}") from error
    if not isinstance(whole, dict) or "schema" not in whole:
        raise RecordError("not a record: no schema")
    if whole["schema"] != SCHEMA:
        raise RecordError(f"a record of schema {whole['schema']!r:.20}; this version reads schema {SCHEMA}")
    try:
        control = whole.get("control")
        return Record(
            id=_str(whole["id"]),
            record=_str(whole["record"]),
            at=_str(whole["at"]),
            proxy=_str(whole["proxy"]),
            request=_read_asked(whole["request"]),
            live=_read_answer(whole["live"]),
            shadows={name: _read_answer(leg) for name, leg in whole["shadows"].items()},
            control=None if control is None else _read_answer(control),
        )
    except KeyError as missing:
        raise RecordError(f"not a record: {missing.args[0]!r:.40} is missing") from missing
    except (ValueError, TypeError, AttributeError) as wrong:
        raise RecordError(f"not a record: {wrong!s:.120}") from wrong


def read(paths: Iterable[str | Path], on_bytes: Callable[[int], None] | None = None) -> Iterator[Record | Unreadable]:
    """Every record of these files, directories (their segments, oldest first) and `-` (standard input), in this order.

    Plain, gzip or zstd, told by their content. What is no record comes as Unreadable. `on_bytes` is told how many bytes
    of the files, compressed where they are, were consumed since it was last told. Memory is bounded by a line's length.
    Raises RecordError where a path cannot be opened or read.
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


def _read_asked(asked: dict[str, Any]) -> Asked:
    return Asked(
        _str(asked["method"]),
        _str(asked["path"]),
        _str(asked["query"]),
        _read_headers(asked["headers"]),
        _read_body(asked),
    )


_OUTCOMES: Final = {each.value: each for each in Outcome}


def _read_answer(leg: dict[str, Any]) -> Answer:
    told = leg.get
    error = told("error")
    status = told("status")
    outcome = leg["outcome"]
    return Answer(
        _OUTCOMES.get(outcome) or Outcome(outcome),
        None if status is None else _int(status),
        _read_headers(told("headers", {})),
        _read_body(leg) if "body_bytes" in leg else None,
        _ms(told("first_byte_ms")),
        _ms(told("total_ms")),
        None if error is None else _str(error),
        _read_judgement(leg) if "verdict" in leg else None,
    )


def _read_judgement(leg: dict[str, Any]) -> Judgement:
    differences = tuple(
        Difference(_str(each["path"]), _str(each["kind"]), each.get("live"), each.get("shadow"))
        for each in leg.get("differences", ())
    )
    return Judgement(Verdict(leg["verdict"]), differences, leg.get("why"))


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
    return Body(
        kind,
        value,
        _int(parts["body_bytes"]),
        parts.get("body_truncated", False) is True,
        parts.get("body_sha256"),
        parts.get("body_coding"),
        parts.get("body_redacted"),
        parts.get("body_repeated_keys", 0),
    )


def _read_headers(headers: Any) -> Headers:
    for value in headers.values():
        if type(value) is str or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            continue
        raise TypeError("a header is neither text nor a list of it")
    told: Headers = headers
    return told


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
    # orjson reads an integer beyond 64 bits as a float, and of a key that comes twice it tells the last only. Python's
    # own reader is exact, and five times slower.
    if _may_hold_long_integer(raw) or _may_repeat(raw, value):
        with contextlib.suppress(ValueError, RecursionError):
            return _read_by_python(raw)
    return value


def _may_hold_long_integer(raw: bytes) -> bool:
    """Whether a line has 19 digits in a row where a number may begin: a trace ID of digits stands behind a quote."""
    digits = raw.translate(_DIGIT_MAP)
    at = digits.find(_LONG)
    while at >= 0:
        if raw[at - 1] in b":,[- \t\r":
            return True
        at = digits.find(_LONG, digits.find(b" ", at))
    return False


def _may_repeat(raw: bytes, value: Any) -> bool:
    """Whether a line seems to hold more keys than what was read of it: told by writing it again, a few microseconds.

    Each key has a colon, and what else has one is written as it was read, unless it was escaped.
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


_LONG = b"0" * 19
_DIGIT_MAP = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
