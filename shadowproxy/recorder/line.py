"""Encodes an exchange as its record: one line of JSON, redacted (docs/log.md has the format field by field).

`encode` runs in the journal's thread, once an exchange.
"""

import base64
import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from shadowproxy.echoes import Echoes
from shadowproxy.exchange import Exchange, Failure, Outcome, Reply, ShadowLeg, Skipped, Verdict
from shadowproxy.record import (
    NO_HEADERS,
    SCHEMA,
    Body,
    Difference,
    Headers,
    Judgement,
    Record,
    RecordedLeg,
    leg_in,
)
from shadowproxy.recorder.bodies import Content, add_body, read_body
from shadowproxy.recorder.heads import read_head, text_of
from shadowproxy.recorder.hiding import hide_echoes, hide_in_body, hide_in_parameters, hide_in_path
from shadowproxy.recorder.policy import Judge, Policy
from shadowproxy.redaction import BLANK

_OK: Final = Outcome.OK  # on Python 3.11 looking a member up costs as much as reading three fields


def encode(
    exchange: Exchange,
    *,
    proxy: str,
    policy: Policy,
    judge: Judge | None,
    on_verdict: Callable[[str, Verdict], object] = lambda name, verdict: None,
) -> bytes:
    """The record of an exchange: one line of UTF-8 that ends in a newline. Raises for no bytes a peer can send.

    `judge` compares each shadow's answer, and the control's, with live's, where both legs ended well. It sees bodies
    before they are redacted; its differences are then redacted as the bodies are. What was redacted in the request is
    then looked for in the answers too. `on_verdict` gets each verdict, with the shadow's name or `control`.

    A body over `body_limit` is not compared, and not even parsed: orjson holds the interpreter for a whole one, and so
    the event loop (eight answers of 4 MiB made live's median latency 150 ms).
    """
    request, live, shadows, control = exchange
    path, _, query = request.target.partition(b"?")
    head = read_head(request.fields, policy.redaction, policy.heads.plain)
    secrets = [*head.secrets, *policy.own_secrets]
    recorded: dict[str, Any] = {
        "method": request.method,
        "path": hide_in_path(text_of(path), policy.redaction, secrets),
        "query": hide_in_parameters(text_of(query), policy.redaction, secrets) if query else "",
        "headers": head.headers,
    }
    body = read_body(head, request.body, request.body_bytes, policy.body_limit)
    add_body(recorded, body, policy, hide_in_body(body, policy.redaction, secrets))
    echoes = Echoes(secrets, policy.redaction.mark) if secrets else None
    content = _content_of(live, policy)
    answer = _answer(live, content) if judge is not None and isinstance(live, Reply) and content is not None else None
    line: dict[str, Any] = {
        "schema": SCHEMA,
        "id": request.id,
        "record": request.record,
        "at": _iso(request.at_ns),
        "proxy": proxy,
        "request": recorded,
        "live": _leg(live, content, policy, echoes),
        "shadows": {},
        "control": None,
    }
    for name, leg in shadows.items():
        line["shadows"][name], verdict = _beside(content, answer, leg, policy, judge, echoes)
        if verdict is not None:
            on_verdict(name, verdict)
    if control is not None:
        line["control"], verdict = _beside(content, answer, control, policy, judge, echoes)
        if verdict is not None:
            on_verdict("control", verdict)
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
    """The record of a logged request that was sent again later, to `shadow` alone; and the verdict on its answer.

    `request` and `live` are the old record's, as JSON, and stay byte for byte; so do its `id` and its time. The key
    `replay` has the old record's ID and when the request was sent again. `judge` sees what the log has of both answers,
    the new one redacted by `policy` as the old one was by its own: a report on the new log says the same.
    """
    echoes = Echoes(policy.own_secrets, policy.redaction.mark) if policy.own_secrets else None
    parts = _leg(leg, _content_of(leg, policy), policy, echoes)
    verdict = None
    if isinstance(leg, Reply) and old.live.outcome is Outcome.OK:
        judgement = judge(old.live, leg_in(_written(parts)))
        _add_judgement(parts, judgement, policy, echoes)
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


def _written(record: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # A lone surrogate in a text, or in a difference a value that orjson has no form for: rare, so only now.
        return orjson.dumps(_storable(record), option=orjson.OPT_APPEND_NEWLINE)


def _content_of(leg: ShadowLeg, policy: Policy, beside: Content | None = None) -> Content | None:
    reply = leg if isinstance(leg, Reply) else leg.reply if isinstance(leg, Failure) else None
    if reply is None:
        return None
    head = policy.heads.read(reply.fields, policy.redaction)
    return read_body(head, reply.body, reply.body_bytes, policy.body_limit, beside)


def _answer(reply: Reply, content: Content) -> RecordedLeg:
    """A leg for the judge, with what it looks at: the status, the body, and the Content-Type."""
    head, kind, value, _, _, size, whole, over, coding = content
    body = Body(kind, value, size, over or not whole, None, coding)
    types = head.types
    headers: Headers = {"content-type": types[0] if len(types) == 1 else list(types)} if types else NO_HEADERS
    return RecordedLeg(_OK, reply.status, headers, body, reply.first_byte_ms, reply.total_ms)


def _leg(leg: ShadowLeg, content: Content | None, policy: Policy, echoes: Echoes | None) -> dict[str, Any]:
    reply = leg if isinstance(leg, Reply) else leg.reply if isinstance(leg, Failure) else None
    parts: dict[str, Any] = {"outcome": "ok" if isinstance(leg, Reply) else leg.outcome.value}
    if reply is not None and content is not None:
        parts["status"] = reply.status
        parts["headers"] = content.head.headers if echoes is None else echoes.headers(content.head.headers)
        redacted = hide_in_body(content, policy.redaction)
        if echoes is not None:
            redacted = hide_echoes(content, redacted, echoes)
        add_body(parts, content, policy, redacted)
        parts["first_byte_ms"] = round(reply.first_byte_ms, 3)
    if not isinstance(leg, Skipped):
        parts["total_ms"] = round(leg.total_ms, 3)
    if not isinstance(leg, Reply):
        error = policy.redaction.error(leg.error)
        parts["error"] = error if echoes is None else echoes.text(error)
    return parts


def _beside(
    content: Content | None,
    answer: RecordedLeg | None,
    leg: ShadowLeg,
    policy: Policy,
    judge: Judge | None,
    echoes: Echoes | None,
) -> tuple[dict[str, Any], Verdict | None]:
    """A leg's parts, read beside live's `content`; and the verdict, where live gave an `answer` to compare it with."""
    own = _content_of(leg, policy, content)
    parts = _leg(leg, own, policy, echoes)
    if judge is None or answer is None or own is None or not isinstance(leg, Reply):
        return parts, None
    judgement = judge(answer, _answer(leg, own))
    searchable = content is not None and content.kind == own.kind == "json"
    _add_judgement(parts, judgement, policy, echoes, searchable=searchable)
    return parts, judgement.verdict


def _add_judgement(
    parts: dict[str, Any], judgement: Judgement, policy: Policy, echoes: Echoes | None, *, searchable: bool = True
) -> None:
    """Add the verdict and its differences. `searchable`: both bodies are JSON as received, in which a
    difference's path means what the pointers to redact mean. In a stream, put together for comparing, it does not."""
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
        return {"path": path, "kind": kind}  # without bodies, no values out of them either
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


def _iso(at_ns: int) -> str:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    # Six digits: a format that fills up with zeros takes twice as long.
    return f"{_second(seconds)}.{str(1_000_000 + rest // 1000)[1:]}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _storable(value: Any, depth: int = 0) -> Any:
    """`value` with what orjson refuses replaced: lone surrogates, integers beyond 64 bits, bytes, deep nesting."""
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
