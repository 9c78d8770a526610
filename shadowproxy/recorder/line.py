"""Encodes an exchange as its record: one line of JSON, redacted (docs/log.md has the format field by field).

`encode` runs in the journal's thread, once an exchange.
"""

import base64
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from shadowproxy.budget import Budget, Exhausted
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
from shadowproxy.recorder.bodies import Content, body_json, read_body
from shadowproxy.recorder.heads import Head, read_head, text_of
from shadowproxy.recorder.hiding import hide_echoes, hide_in_body, hide_in_parameters, hide_in_path
from shadowproxy.recorder.policy import Judge, JudgeValues, Policy
from shadowproxy.redaction import BLANK

_OVER_CAPTURE: Final = "longer than limits.capture"
"""As the report reads it (answers/left_out.py)."""

_OK: Final = Outcome.OK  # on Python 3.11 looking a member up costs as much as reading three fields


def _ignore(name: str, verdict: Verdict) -> None:
    """For `encode`: with a lambda in its place compiled code would keep all of its local variables in an object."""


def encode(
    exchange: Exchange,
    *,
    proxy: str,
    policy: Policy,
    judge: Judge | None,
    judge_values: JudgeValues | None = None,
    rules: str | None = None,
    on_verdict: Callable[[str, Verdict], object] = _ignore,
    clock: Callable[[], float] = time.monotonic,
) -> bytes:
    """The record of an exchange: one line of UTF-8 that ends in a newline. Raises for no bytes a peer can send.

    `judge` compares each shadow's answer, and the control's, with live's, where both legs ended well; `judge_values`
    does so where both are JSON; `rules` is the digest of the rules of both. They see bodies whole, before they are
    redacted; their differences are then redacted as the bodies are. What was redacted in the request is then looked
    for in the answers too. `on_verdict` gets each verdict, with the shadow's name or `control`.

    Answers that are the same byte for byte match by any rules, and are not even parsed beyond `body_limit`.
    """
    request, _, shadows, control, tunnel = exchange
    parts_left = 1 + len(shadows) + (control is not None)
    budget = Budget(policy.seconds, steps=_UNBOUNDED, memory=policy.memory, clock=clock)
    budget.share(parts_left)
    redaction = policy.redaction
    path, _, query = request.target.partition(b"?")
    head = read_head(request.fields, redaction, policy.heads.plain)
    secrets = [*head.secrets, *policy.own_secrets]
    shown_path = hide_in_path(text_of(path), redaction, secrets)
    shown_query = hide_in_parameters(text_of(query), redaction, secrets) if query else ""
    body = read_body(head, request.body, request.body_bytes, policy.body_limit, budget)
    body.sha256 = request.body_sha256
    redacted = hide_in_body(body, redaction, budget, secrets)
    line = [
        _START,
        _json(request.id),
        b',"record":',
        _json(request.record),
        b',"at":"',
        _iso(request.at_ns),
        b'","proxy":',
        _json(proxy),
        b',"request":{"method":',
        _json(request.method),
        b',"path":',
        _json(shown_path),
        b',"query":',
        _json(shown_query),
        b',"headers":',
        head.json,
        body_json(body, policy, redacted),
        b'},"live":{',
    ]
    echoes = Echoes(secrets, redaction.mark) if secrets else None
    if echoes is not None and not echoes:
        echoes = None
    beside = _Beside(exchange, policy, judge, judge_values, echoes, budget)
    line += beside.live()
    line.append(b'},"shadows":{')
    first = True
    for name, leg in shadows.items():
        budget.share(parts_left)
        parts_left -= 1
        line += (_json(name) if first else b"," + _json(name), b":{")
        first = False
        verdict = beside.add(leg, line)
        line.append(b"}")
        if verdict is not None:
            on_verdict(name, verdict)
    if control is None:
        line.append(b'},"control":null')
    else:
        budget.share(1)
        line.append(b'},"control":{')
        verdict = beside.add(control, line)
        line.append(b"}")
        if verdict is not None:
            on_verdict("control", verdict)
    if tunnel is not None:
        line.append(
            b',"tunnel":{"from_caller_bytes":%d,"from_live_bytes":%d,"ended_by":"%b"}'
            % (tunnel.from_caller, tunnel.from_live, tunnel.ended_by.encode())
        )
    if judge is not None and rules is not None:
        line += (b',"rules":', _json(rules))
    line.append(b"}\n")
    return b"".join(line)


_START: Final = b'{"schema":%d,"id":' % SCHEMA
_UNBOUNDED: Final = 1 << 60


class _Beside:
    """The legs of one exchange: live's, and others beside it."""

    __slots__ = (
        "_answer",
        "_answer_held",
        "_budget",
        "_content",
        "_echoes",
        "_judge",
        "_judge_values",
        "_leg",
        "_policy",
        "_shown",
    )

    def __init__(
        self,
        exchange: Exchange,
        policy: Policy,
        judge: Judge | None,
        judge_values: JudgeValues | None,
        echoes: Echoes | None,
        budget: Budget,
    ) -> None:
        self._policy = policy
        self._judge = judge
        self._judge_values = judge_values
        self._echoes = echoes
        self._budget = budget
        self._leg = exchange.live
        self._content = _content_of(exchange.live, policy, budget)
        self._answer: RecordedLeg | None = None
        self._answer_held = 0  # bytes of the budget that live's answer holds
        self._shown = b""

    def live(self) -> list[bytes]:
        """The members of live's leg."""
        line: list[bytes] = []
        content = self._content
        if content is not None:
            self._shown = self._body(content)
        _add_leg(self._leg, content, self._shown, self._policy, self._echoes, line)
        return line

    def add(self, leg: ShadowLeg, line: list[bytes]) -> Verdict | None:
        """Add the members of another leg to a line. Returns the verdict, where live's is there to be compared with."""
        budget = self._budget
        held = budget.held - self._answer_held
        live, policy, echoes = self._content, self._policy, self._echoes
        content = _content_of(leg, policy, budget, live)
        shown = b""
        if content is not None:
            same = (
                live is not None
                and content.twin is live
                and content.wire == live.wire
                and content.sha256 == live.sha256
            )
            shown = self._shown if same else self._body(content)
        _add_leg(leg, content, shown, policy, echoes, line)
        judge, first = self._judge, self._leg
        if (
            judge is None
            or live is None
            or content is None
            or not isinstance(first, Reply)
            or not isinstance(leg, Reply)
        ):
            budget.held = held + self._answer_held
            return None
        judgement = self._judged(judge, first, live, leg, content)
        # Both are JSON as received, in which a difference's path means what the pointers to redact mean. In a stream,
        # put together for comparing, it does not.
        searchable = live.is_json() and content.is_json()
        _add_judgement(judgement, policy, echoes, searchable, line)
        budget.held = held + self._answer_held
        return judgement.verdict

    def _judged(self, judge: Judge, first: Reply, live: Content, leg: Reply, content: Content) -> Judgement:
        if first.status == leg.status:
            if not live.whole or not content.whole:
                return Judgement(Verdict.INCOMPARABLE, (), f"{'shadow' if live.whole else 'live'}: {_OVER_CAPTURE}")
            if content.twin is live:
                return _MATCH
        else:  # nothing else counts
            return judge(_status(first), _status(leg), self._budget)
        budget = self._budget
        try:
            before = budget.held
            one, mine = live.answer(budget)
            self._answer_held += budget.held - before
        except Exhausted as why:
            return Judgement(Verdict.INCOMPARABLE, (), f"live: not read, as {why}")
        try:
            other, theirs = content.answer(budget)
        except Exhausted as why_not:
            return Judgement(Verdict.INCOMPARABLE, (), f"shadow: not read, as {why_not}")
        if one == other == "json" and self._judge_values is not None:
            return self._judge_values(mine, theirs, budget)
        answer = self._answer
        if answer is None:
            answer = self._answer = _answer(first, live, budget)
        return judge(answer, _answer(leg, content, budget), budget)

    def _body(self, content: Content) -> bytes:
        """An answer's body for the record."""
        redacted = hide_in_body(content, self._policy.redaction, self._budget)
        if self._echoes is not None:
            redacted = hide_echoes(content, redacted, self._echoes, self._budget)
        return body_json(content, self._policy, redacted)


_MATCH: Final = Judgement(Verdict.MATCH)


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
    rules: str | None = None,
) -> tuple[bytes, Verdict | None]:
    """The record of a logged request that was sent again later, to `shadow` alone; and the verdict on its answer.

    `request` and `live` are the old record's, as JSON, and stay byte for byte; so do its `id` and its time. The key
    `replay` has the old record's ID and when the request was sent again. `judge` sees what the log has of both answers,
    the new one redacted by `policy` as the old one was by its own: a report on the new log says the same.
    """
    echoes = Echoes(policy.own_secrets, policy.redaction.mark) if policy.own_secrets else None
    budget = Budget(steps=_UNBOUNDED, memory=policy.memory)
    content = _content_of(leg, policy, budget)
    body = b""
    if content is not None:
        redacted = hide_in_body(content, policy.redaction, budget)
        if echoes:
            redacted = hide_echoes(content, redacted, echoes, budget)
        body = body_json(content, policy, redacted)
    parts: list[bytes] = []
    _add_leg(leg, content, body, policy, echoes, parts)
    verdict = None
    if isinstance(leg, Reply) and old.live.outcome is Outcome.OK:
        judgement = judge(old.live, leg_in(b"{%b}" % b"".join(parts)), Budget())
        _add_judgement(judgement, policy, echoes, True, parts)
        verdict = judgement.verdict
    line = [
        _START,
        _json(old.id),
        b',"record":',
        _json(record_id),
        b',"at":',
        _json(old.at),
        b',"proxy":',
        _json(proxy),
        b',"request":',
        request,
        b',"live":',
        live,
        b',"shadows":{',
        _json(shadow),
        b":{",
        *parts,
        b'}},"control":null,"replay":{"of":',
        _json(old.record),
        b',"at":"',
        _iso(sent_ns),
        b'"}',
    ]
    if rules is not None:
        line += (b',"rules":', _json(rules))
    line.append(b"}\n")
    return b"".join(line), verdict


def _content_of(leg: ShadowLeg, policy: Policy, budget: Budget, beside: Content | None = None) -> Content | None:
    reply = leg if isinstance(leg, Reply) else leg.reply if isinstance(leg, Failure) else None
    if reply is None:
        return None
    head = policy.heads.read(reply.fields, policy.redaction)
    content = read_body(head, reply.body, reply.body_bytes, policy.body_limit, budget, beside)
    content.sha256 = reply.body_sha256
    return content


def _answer(reply: Reply, content: Content, budget: Budget) -> RecordedLeg:
    """A leg for the judge, with what it looks at: the status, the body, and the Content-Type."""
    kind, value = content.answer(budget) if content.whole else (content.kind, content.value)
    body = Body(kind, value, content.size, not content.whole, None, content.coding)
    types = content.head.types
    headers: Headers = {"content-type": types[0] if len(types) == 1 else list(types)} if types else NO_HEADERS
    return RecordedLeg(_OK, reply.status, headers, body, reply.first_byte_ms, reply.total_ms)


def _status(reply: Reply) -> RecordedLeg:
    return RecordedLeg(_OK, reply.status, NO_HEADERS, None, reply.first_byte_ms, reply.total_ms)


def _add_leg(
    leg: ShadowLeg, content: Content | None, body: bytes, policy: Policy, echoes: Echoes | None, line: list[bytes]
) -> None:
    """Add the members of a leg; `body` are those of its body."""
    line.append(b'"outcome":"ok"' if isinstance(leg, Reply) else b'"outcome":' + _json(leg.outcome.value))
    reply = leg if isinstance(leg, Reply) else leg.reply if isinstance(leg, Failure) else None
    if reply is not None and content is not None:
        head = content.head
        headers = head.json if echoes is None else _without_echoes(head, echoes)
        line += (b',"status":%d' % reply.status, b',"headers":', headers, body)
        line += (b',"first_byte_ms":', _milliseconds(reply.first_byte_ms))
    if not isinstance(leg, Skipped):
        line += (b',"total_ms":', _milliseconds(leg.total_ms))
    if not isinstance(leg, Reply):
        error = policy.redaction.error(leg.error)
        line += (b',"error":', _json(error if echoes is None else echoes.text(error)))


def _without_echoes(head: Head, echoes: Echoes) -> bytes:
    shown = echoes.headers(head.headers)
    return head.json if shown is head.headers else _json(shown)


def _add_judgement(
    judgement: Judgement, policy: Policy, echoes: Echoes | None, searchable: bool, line: list[bytes]
) -> None:
    """Add the verdict and its differences. `searchable`: in both bodies a difference's path means what the pointers to
    redact mean."""
    verdict, differences, why = judgement
    line.append(_VERDICTS[verdict])
    if differences:
        line += (b',"differences":', _json([_difference(each, policy, echoes, searchable) for each in differences]))
    if why is not None:
        line += (b',"why":', _json(why))


def _difference(difference: Difference, policy: Policy, echoes: Echoes | None, searchable: bool) -> dict[str, Any]:
    path, kind, live, shadow = difference
    if policy.redaction.json:
        path, live, shadow = policy.redaction.difference(path, live, shadow)
    if policy.bodies != "full":
        return {"path": path, "kind": kind}  # without bodies, no values out of them either
    if policy.redaction.json and not searchable and kind != "status":
        live = shadow = BLANK
    if echoes is not None:
        if kind == "bytes" and echoes.met:
            live = shadow = BLANK  # as digits, in which no secret is found
        live = echoes.difference(live)
        shadow = echoes.difference(shadow)
    # JSON has no NaN, and null would be another value.
    if isinstance(live, float) and not math.isfinite(live):
        live = str(live)
    if isinstance(shadow, float) and not math.isfinite(shadow):
        shadow = str(shadow)
    return {"path": path, "kind": kind, "live": live, "shadow": shadow}


_VERDICTS: Final = {each: b',"verdict":"%b"' % each.value.encode() for each in Verdict}
_THOUSANDTHS: Final = tuple([b".%b" % (b"%03d" % each).rstrip(b"0") if each else b".0" for each in range(1000)])
_MOST_COUNTED: Final = 1e9


def _milliseconds(value: float) -> bytes:
    """A time with three decimals at most, as orjson writes it. To round the number and have it written takes thrice as
    long."""
    if 0.0 <= value < _MOST_COUNTED:
        micros = int(value * 1000 + 0.5)
        return b"%d%b" % (micros // 1000, _THOUSANDTHS[micros % 1000])
    return _json(round(value, 3))


_dumps: Final[Callable[[Any], bytes]] = orjson.dumps  # compiled code looks an attribute of a module up each time


def _json(value: Any) -> bytes:
    try:
        return _dumps(value)
    except orjson.JSONEncodeError:
        # A lone surrogate in a text, or in a difference a value that orjson has no form for: rare, so only now.
        return orjson.dumps(_storable(value))


def _iso(at_ns: int) -> bytes:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    # Six digits: a format that fills up with zeros takes twice as long.
    return b"%b.%bZ" % (_second(seconds), str(1_000_000 + rest // 1000)[1:].encode())


@lru_cache(maxsize=4)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


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
