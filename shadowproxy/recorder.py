"""Writes a record: an exchange to one line of JSON, redacted (docs/log.md has the format field by field).

`encode` runs in the journal's thread, once an exchange.
"""

import base64
import codecs
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote_plus

import orjson

from shadowproxy.content import Undecodable, decoded, is_json_type, is_lines_type, parsed
from shadowproxy.credential_values import credentials_in, looks_random
from shadowproxy.credentials import may_be_credential_header
from shadowproxy.echoes import Echoes, field_values, form_values, leaves, part_values, pieces, taken_out
from shadowproxy.exchange import Exchange, Failure, Field, Fields, Outcome, Reply, ShadowLeg, Skipped, Verdict
from shadowproxy.record import (
    NO_HEADERS,
    SCHEMA,
    Body,
    BodyKind,
    Difference,
    Headers,
    Judgement,
    Record,
    RecordedLeg,
    answer_in,
)
from shadowproxy.redaction import BLANK, Redaction

Judge: TypeAlias = Callable[[RecordedLeg, RecordedLeg], Judgement]
"""Live's answer and a shadow's (or the control's), whole as captured and decoded, to a judgement.

Before writing, the only header field they have is Content-Type.
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """How much of a body is told and compared (`body_limit` in bytes once decoded), and what is redacted.

    `own` are secrets that the endpoints are sent beside what callers sent: they are looked for in every answer.
    """

    bodies: Literal["full", "hash", "none"] = "full"
    body_limit: int = 256 << 10
    redaction: Redaction = field(default_factory=Redaction)
    own: tuple[str, ...] = field(default=(), repr=False)
    heads: "Heads" = field(default_factory=lambda: Heads(), init=False, repr=False, compare=False)


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
    sees bodies before they are redacted; its differences are then redacted as the bodies are. What was redacted in the
    request is then looked for in the answers too. A body over `body_limit`
    is not compared, and not even parsed: orjson holds the interpreter for a whole one, and so the event loop (eight
    answers of 4 MiB made live's median latency 150 ms). `tell` is told each verdict, with the shadow's name or
    `control`.
    """
    request, live, shadows, control = exchange
    path, _, query = request.target.partition(b"?")
    head = _read_head(
        request.fields, policy.redaction, policy.heads.plain
    )  # not looked for: each has a request ID of its own
    taken = [*head.taken, *policy.own]
    asked: dict[str, Any] = {
        "method": request.method,
        "path": _path(_text(path), policy.redaction, taken),
        "query": _parameters(_text(query), policy.redaction, taken) if query else "",
        "headers": head.told,
    }
    body = _content(head, request.body, request.body_bytes, policy.body_limit)
    _tell_body(asked, body, policy, _redacted(body, policy.redaction, taken))
    echoes = Echoes(taken, policy.redaction.mark) if taken else None
    content = _content_of(live, policy)
    answer = _answer(live, content) if judge is not None and isinstance(live, Reply) and content is not None else None
    line: dict[str, Any] = {
        "schema": SCHEMA,
        "id": request.id,
        "record": request.record,
        "at": _iso(request.at_ns),
        "proxy": proxy,
        "request": asked,
        "live": _leg(live, content, policy, echoes),
        "shadows": {},
        "control": None,
    }
    for name, leg in shadows.items():
        line["shadows"][name], verdict = _beside(content, answer, leg, policy, judge, echoes)
        if verdict is not None:
            tell(name, verdict)
    if control is not None:
        line["control"], verdict = _beside(content, answer, control, policy, judge, echoes)
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
    echoes = Echoes(policy.own, policy.redaction.mark) if policy.own else None
    parts = _leg(leg, _content_of(leg, policy), policy, echoes)
    verdict = None
    if isinstance(leg, Reply) and old.live.outcome is Outcome.OK:
        judgement = judge(old.live, answer_in(_written(parts)))
        _tell_judgement(parts, judgement, policy, echoes)
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
    that names JSON, JSON by the line or a form, and its `codings`. `taken` are the secrets in it.
    """

    told: dict[str, str | list[str]]
    types: tuple[str, ...]
    names_json: bool
    names_lines: bool
    names_form: bool
    codings: str
    taken: tuple[str, ...]


_HEADS: Final = 256
_LONGEST_HEAD: Final = 2048
"""Heads remembered, and bytes of the longest: servers choose them, and what is remembered must stay small."""

_REST: Final = 20_000
"""Heads after which remembering is tried again, where a server has an ID in each and so never says the same."""


_PLAIN: Final = 1024
_LONGEST_PLAIN: Final = 256
"""Fields remembered, and bytes of the longest: callers choose them."""


class Plain:
    """The latest fields in which nothing is redacted, as they are told: a request has an ID of its own, and beside it
    fields that come again and again. To look through each for credentials was a tenth of what a record costs.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Field, tuple[str, str, bool]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, field: Field) -> tuple[str, str, bool] | None:
        """Its name, its value, and whether it says what the body is."""
        return self._known.get(field)

    def add(self, field: Field, name: str, text: str, of_body: bool) -> None:
        if len(field[0]) + len(field[1]) > _LONGEST_PLAIN:
            return
        if len(self._known) >= _PLAIN:
            self._known.clear()
        self._known[field] = (name, text, of_body)


class Heads:
    """The heads of the latest answers: most servers say the same again, but for the Date, and reading them anew was a
    tenth of what a record costs. One with a secret in it is not remembered.
    """

    __slots__ = ("_found", "_known", "_rest", "plain")

    def __init__(self) -> None:
        self.plain = Plain()
        self._known: dict[Fields, _Head] = {}
        self._found = 0
        self._rest = 0

    def __len__(self) -> int:
        return len(self._known)

    def read(self, fields: Fields, redaction: Redaction) -> _Head:
        if self._rest:
            self._rest -= 1
            return _read_head(fields, redaction, self.plain)
        head = self._known.get(fields)
        if head is not None:
            self._found += 1
            return head
        head = _read_head(fields, redaction, self.plain)
        if not head.taken and sum(map(len, chain.from_iterable(fields))) <= _LONGEST_HEAD:
            if len(self._known) >= _HEADS:
                self._rest = _REST if self._found < _HEADS else 0
                self._known.clear()
                self._found = 0
            self._known[fields] = head
        return head


def _read_head(fields: Fields, redaction: Redaction, plain: Plain) -> _Head:
    told: dict[str, str | list[str]] = {}
    types: tuple[str, ...] = ()
    codings = ""
    taken: list[str] = []
    for each in fields:
        seen = plain.get(each)
        if seen is not None:
            name, text, of_body = seen
        else:
            name, text, of_body, secrets = _read_field(each, redaction)
            if secrets:
                taken += secrets
            else:
                plain.add(each, name, text, of_body)
        if of_body:
            raw = _text(each[1])
            if name == "content-type":
                types = (*types, raw)
            else:
                codings = f"{codings},{raw}" if codings else raw
        before = told.get(name)
        if before is None:
            told[name] = text
        elif isinstance(before, list):
            before.append(text)
        else:
            told[name] = [before, text]
    json_type = lines_type = form_type = False
    if types:
        json_type, lines_type, form_type = (_named if len(types[0]) <= _KNOWN else _named.__wrapped__)(types[0])
    return _Head(told, types, json_type, lines_type, form_type, codings, tuple(taken))


def _read_field(field: Field, redaction: Redaction) -> tuple[str, str, bool, list[str]]:
    """A field's name, its value as it is told, whether it says what the body is, and the secrets in it."""
    raw_name, raw_value = field
    if len(raw_name) <= _KNOWN:
        name, hidden, doubtful, of_body = _known(raw_name, redaction.headers)
    else:
        name, hidden, doubtful, of_body = _known.__wrapped__(raw_name, redaction.headers)
    text = _text(raw_value)
    if hidden or (doubtful and looks_random(text)):
        return name, redaction.mark(raw_value), of_body, list(field_values(name, text))
    shown = redaction.value(text)
    taken: list[str] = []
    if shown != text:
        taken += _decoded(taken_out(text, shown))
        for each in credentials_in(text):
            taken.append(each.secret)
            if each.secret[:1] in ("{", "["):
                taken += leaves(each.secret.encode())
    return name, shown, of_body, taken


_KNOWN = 64
"""Bytes of the longest field name or type remembered: peers choose them, and what is remembered must stay small."""


@lru_cache(maxsize=1024)
def _known(raw_name: bytes, redacted: frozenset[str]) -> tuple[str, bool, bool, bool]:
    """A field's name as it is told, whether its value is hidden, or is where it looks like a key, and whether it says
    what the body is."""
    name = _text(raw_name).lower()
    hidden = Redaction(headers=redacted).hides_header(raw_name)
    return name, hidden, may_be_credential_header(raw_name), name in ("content-type", "content-encoding")


@lru_cache(maxsize=256)
def _named(content_type: str) -> tuple[bool, bool, bool]:
    """Whether a Content-Type names JSON, JSON by the line, a form."""
    form = content_type.lower().startswith("application/x-www-form-urlencoded")
    return is_json_type(content_type), is_lines_type(content_type), form


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


def _answer(reply: Reply, content: _Content) -> RecordedLeg:
    """For the judge, who looks at the status, the body, and of the header fields at what the body is."""
    head, kind, value, _, _, size, whole, over, coding = content
    body = Body(kind, value, size, over or not whole, None, coding)
    types = head.types
    headers: Headers = {"content-type": types[0] if len(types) == 1 else list(types)} if types else NO_HEADERS
    return RecordedLeg(_OK, reply.status, headers, body, reply.first_byte_ms, reply.total_ms)


def _leg(leg: ShadowLeg, content: _Content | None, policy: Policy, echoes: Echoes | None) -> dict[str, Any]:
    reply = leg if isinstance(leg, Reply) else leg.reply if isinstance(leg, Failure) else None
    parts: dict[str, Any] = {"outcome": "ok" if isinstance(leg, Reply) else leg.outcome.value}
    if reply is not None and content is not None:
        parts["status"] = reply.status
        parts["headers"] = content.head.told if echoes is None else echoes.headers(content.head.told)
        redacted = _redacted(content, policy.redaction)
        if echoes is not None:
            redacted = _without_echoes(content, redacted, echoes)
        _tell_body(parts, content, policy, redacted)
        parts["first_byte_ms"] = round(reply.first_byte_ms, 3)
    if not isinstance(leg, Skipped):
        parts["total_ms"] = round(leg.total_ms, 3)
    if not isinstance(leg, Reply):
        error = policy.redaction.error(leg.error)
        parts["error"] = error if echoes is None else echoes.text(error)
    return parts


def _beside(
    content: _Content | None,
    answer: RecordedLeg | None,
    leg: ShadowLeg,
    policy: Policy,
    judge: Judge | None,
    echoes: Echoes | None,
) -> tuple[dict[str, Any], Verdict | None]:
    """A leg beside live's `content`; with the verdict on it, where live gave an `answer` for it to be compared with."""
    own = _content_of(leg, policy, content)
    parts = _leg(leg, own, policy, echoes)
    if judge is None or answer is None or own is None or not isinstance(leg, Reply):
        return parts, None
    judgement = judge(answer, _answer(leg, own))
    searchable = content is not None and content.kind == own.kind == "json"
    _tell_judgement(parts, judgement, policy, echoes, searchable=searchable)
    return parts, judgement.verdict


def _tell_judgement(
    parts: dict[str, Any], judgement: Judgement, policy: Policy, echoes: Echoes | None, *, searchable: bool = True
) -> None:
    """Add the verdict and its differences. `searchable`: both bodies are JSON as they came, in which the pointers to
    redact name what they do in a difference's path. In a stream, put together for comparing, they do not."""
    parts["verdict"] = judgement.verdict.value
    if judgement.differences:
        parts["differences"] = [_difference(each, policy, echoes, searchable) for each in judgement.differences]
    if judgement.why is not None:
        parts["why"] = judgement.why


def _difference(difference: Difference, policy: Policy, echoes: Echoes | None, searchable: bool) -> dict[str, Any]:
    path, kind, live, shadow = difference
    if policy.redaction.json:
        path, live, shadow = policy.redaction.difference(path, live, shadow)
    if policy.bodies != "full":
        return {"path": path, "kind": kind}  # what is not told as a body is not told as a value out of it
    if policy.redaction.json and not searchable and kind != "status":
        live = shadow = BLANK
    if echoes is not None:
        live = echoes.difference(live)
        shadow = echoes.difference(shadow)
    # JSON has no NaN, and null would be another value.
    if isinstance(live, float) and not math.isfinite(live):
        live = str(live)
    if isinstance(shadow, float) and not math.isfinite(shadow):
        shadow = str(shadow)
    return {"path": path, "kind": kind, "live": live, "shadow": shadow}


class _Redacted(NamedTuple):
    """A body's text as it may be told, the same object where there is nothing to hide; or why it may not be told.

    `hashed`: its hash gives nothing away either.
    """

    text: bytes
    withheld: str | None = None
    hashed: bool = True


def _tell_body(parts: dict[str, Any], content: _Content, policy: Policy, redacted: _Redacted | None) -> None:
    """Add the keys that tell of a body; `redacted` is None where nothing is to be hidden."""
    _, kind, _, searched, wire, size, whole, over, coding = content
    withheld, hashed = None, True
    if redacted is not None:
        searched, withheld, hashed = redacted
    limit = policy.body_limit
    told = policy.bodies == "full" and withheld is None
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
        if policy.bodies != "none" and whole and hashed:
            parts["body_sha256"] = hashlib.sha256(wire).hexdigest()
    if withheld is not None:
        parts["body_redacted"] = withheld


_NOT_SEARCHED: Final = "not JSON, so it could not be searched for what is to be redacted"
_ECHO_IN_BYTES: Final = "not text, and in it is something that was redacted in the request"


def _redacted(content: _Content, redaction: Redaction, taken: list[str] | None = None) -> _Redacted | None:
    """The body without its secrets, which `taken` is given; None where none is looked for."""
    raw = content.raw
    if content.kind == "none":
        return None
    if redaction.json:
        values: list[bytes] = []
        searched: bytes | None = None
        if content.kind == "json":
            searched = redaction.body(raw, values)
        elif content.kind == "text" and content.head.names_lines and content.whole and not content.over:
            searched = redaction.lines(raw, values)
        if searched is None:
            if taken is not None:
                taken += _all_in(content)
                if content.over:
                    for value in redaction.behind_keys(_uncut(content)):
                        taken += pieces(value)
            return _Redacted(raw, _NOT_SEARCHED, hashed=False)
        after = searched
        if taken is not None:
            for value in dict.fromkeys(values):
                taken += leaves(value)
    elif content.form:
        after = _parameters(content.value, redaction, taken).encode()
    else:
        return None
    if raw == after:
        return _Redacted(raw, hashed=not (content.form and content.over))
    return _Redacted(after, hashed=False)


def _uncut(content: _Content) -> bytes:
    """A body that is over the limit, as far as it was captured and can be decoded."""
    if not content.head.codings:
        return content.wire
    try:
        return decoded(content.wire, content.head.codings)
    except Undecodable:
        return b""


def _all_in(content: _Content) -> list[str]:
    """What a request's body that is withheld may have secrets in: all that is in it, as far as it can be told apart."""
    if content.kind != "text":
        return []
    if content.head.names_form:
        return list(form_values(content.value))
    raw = content.raw
    if content.head.names_json or content.head.names_lines or raw.lstrip()[:1] in (b"{", b"["):
        return [*leaves(raw), *pieces(raw), content.value]
    return [content.value, *part_values(content.value)]


def _without_echoes(content: _Content, redacted: _Redacted | None, echoes: Echoes) -> _Redacted | None:
    """An answer's body without what was redacted in the request."""
    kind, cut = content.kind, content.over or not content.whole
    if kind == "none" or (redacted is not None and redacted.withheld is not None):
        return redacted
    before = content.raw if redacted is None else redacted.text
    if kind == "bytes":
        return _Redacted(before, _ECHO_IN_BYTES, hashed=False) if echoes.is_in_bytes(before) else redacted
    if kind == "json":
        after = echoes.json(before, content.value)
    else:
        text = content.value if before is content.raw else before.decode()
        told = echoes.text(text)
        end = echoes.beginning_at_the_end(told) if cut else len(told)
        after = before if told is text and end == len(text) else told[:end].encode()
    if after is not before:
        return _Redacted(after, None, hashed=False)
    # What is beyond the limit was not searched: of coded bytes nobody knows what they say.
    if content.over and (content.head.codings != "" or echoes.is_in_bytes(content.wire)):
        return _Redacted(before, None, hashed=False)
    return redacted


def _path(text: str, redaction: Redaction, taken: list[str]) -> str:
    """A path without its secrets, which are put into `taken`."""
    shown = redaction.path(text)
    if shown != text:
        taken += _decoded(taken_out(text, shown))
    return shown


def _parameters(text: str, redaction: Redaction, taken: list[str] | None) -> str:
    told = redaction.parameters(text)
    if taken is not None and told != text:
        taken += _decoded(taken_out(text, told))
    return told


def _decoded(values: list[str]) -> list[str]:
    """Values out of a query or a form, as they stand there and as they are meant."""
    return values + [unquote_plus(value) for value in values if "%" in value or "+" in value]


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
