"""Encodes an exchange as its record: one line of JSON, redacted (docs/reference/log.md has the format field by field).

`encode` runs in the journal's thread, once an exchange.
"""

import base64
import contextlib
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from shadowproxy.answers import About, about
from shadowproxy.answers.body import value_in
from shadowproxy.answers.issued import NOTHING_ISSUED, Issued, issued_in, pairs_of
from shadowproxy.budget import Budget, Exhausted
from shadowproxy.echoes import Echoes
from shadowproxy.exchange import CALL, CONTROL, LIVE, Exchange, Failure, Outcome, Reply, ShadowLeg, Skipped, Verdict
from shadowproxy.record import (
    NO_HEADERS,
    SCHEMA,
    Body,
    Difference,
    Judgement,
    Record,
    RecordedLeg,
    leg_in,
)
from shadowproxy.recorder.bodies import ANSWER, Content, body_json, read_body
from shadowproxy.recorder.heads import Head, fields_of_body, read_head, text_of
from shadowproxy.recorder.hiding import hide_echoes, hide_in_body, hide_in_parameters, hide_in_path
from shadowproxy.recorder.issued import add_issued, secrets_sent
from shadowproxy.recorder.policy import Judge, JudgeValues, Policy
from shadowproxy.recorder.said import Said, read_leg
from shadowproxy.recorder.sample import FAILED, KINDS, MISMATCH, Sample, kind_of
from shadowproxy.recorder.times import events_json, milliseconds
from shadowproxy.redaction import BLANK

_OVER_CAPTURE: Final = "longer than limits.capture"
_NOT_COPIED: Final = "not copied: the server sent it by itself, or there was no memory for it"
_NO_JSON: Final = "a part of it has no JSON"
"""As the report reads them (answers/left_out.py)."""

_OK: Final = Outcome.OK  # on Python 3.11 looking a member up costs as much as reading three fields


def _ignore(name: str, verdict: Verdict) -> None:
    """For `encode`: with a lambda in its place compiled code would keep all of its local variables in an object."""


def _ignore_name(name: str) -> None:
    """The same with a name alone."""


def encode(
    exchange: Exchange,
    *,
    proxy: str,
    policy: Policy,
    judge: Judge | None,
    judge_values: JudgeValues | None = None,
    rules: str | None = None,
    on_verdict: Callable[[str, Verdict], object] = _ignore,
    on_failed: Callable[[str], object] = _ignore_name,
    clock: Callable[[], float] = time.monotonic,
) -> bytes:
    """The record of an exchange: one line of UTF-8 that ends in a newline. Raises for no bytes a peer can send.

    `judge` compares each shadow's answer, and the control's, with live's, where both legs ended well; `judge_values`
    does so where both are JSON; `rules` is the digest of the rules of both. They see bodies whole, before they are
    redacted; their differences are then redacted as the bodies are. What was redacted in the request is then looked
    for in the answers too. `on_verdict` gets each verdict, with the shadow's name or `control`; `on_failed` the name of
    each endpoint, also `live`, whose answer says that it failed though its status is a success.

    Answers that are the same byte for byte match by any rules, and are not even parsed beyond `body_limit`.
    """
    request, _, shadows, control, tunnel = exchange
    parts_left = 1 + len(shadows) + (control is not None)
    budget = Budget(policy.seconds, steps=_UNBOUNDED, memory=policy.memory, clock=clock)
    budget.share(parts_left)
    redaction = policy.redaction
    path, _, query = request.target.partition(b"?")
    if request.method == CALL:
        path = path.removeprefix(b"/")  # a function's name
    head = read_head(request.fields, redaction, policy.heads.plain)
    secrets = [*head.secrets, *policy.own_secrets, *secrets_sent(exchange.shadows.values(), redaction)]
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
    at_body = len(line) - 2
    echoes = Echoes(secrets, redaction.mark) if secrets else None
    if echoes is not None and not echoes:
        echoes = None
    beside = _Beside(exchange, body, policy, judge, judge_values, echoes, budget)
    beside.add_live(line)
    line.append(b'},"shadows":{')
    first = True
    verdicts: list[Verdict] = []
    for name, leg in shadows.items():
        budget.share(parts_left)
        parts_left -= 1
        line += (_json(name) if first else b"," + _json(name), b":{")
        first = False
        verdict = beside.add(name, leg, line)
        line.append(b"}")
        if verdict is not None:
            verdicts.append(verdict)
            on_verdict(name, verdict)
    if control is None:
        line.append(b'},"control":null')
    else:
        budget.share(1)
        line.append(b'},"control":{')
        verdict = beside.add(CONTROL, control, line)
        line.append(b"}")
        if verdict is not None:
            on_verdict(CONTROL, verdict)
    beside.add_what_live_says(line)
    for name in beside.failed:
        on_failed(name)
    if tunnel is not None:
        line.append(
            b',"tunnel":{"from_caller_bytes":%d,"from_live_bytes":%d,"ended_by":"%b"}'
            % (tunnel.from_caller, tunnel.from_live, tunnel.ended_by.encode())
        )
    if judge is not None and rules is not None:
        line += (b',"rules":', _json(rules))
    if judge is not None and (policy.sample is not None or policy.bodies_by is not None):
        kind = kind_of(exchange, verdicts, beside.failed)
        if policy.sample is not None:
            sampled = _sampled(exchange, kind, policy.sample)
            if not sampled:
                return b""
            line.append(sampled)
        bodies = policy.bodies if policy.bodies_by is None else policy.bodies_by[kind]
        if bodies != "full":
            line[at_body] = body_json(body, policy, redacted, bodies)
            for at, said in beside.bodies:
                line[at] = body_json(said.content, policy, said.redacted, bodies, ANSWER)
    line.append(b"}\n")
    return b"".join(line)


def _sampled(exchange: Exchange, kind: str, sample: Sample) -> bytes:
    """The members that say for how many exchanges this one stands; nothing if it is not written."""
    weight, share = sample.weight(exchange, kind)
    if not weight:
        return b""
    members = b',"sample":%b' % _json(share)
    return members if weight == 1 else b',"weight":%d%b' % (weight, members)


_START: Final = b'{"schema":%d,"id":' % SCHEMA
_UNBOUNDED: Final = 1 << 60


class _Beside:
    """The legs of one exchange: live's, and others beside it. `failed` are the names of those that say so, `bodies` the
    places of their bodies in the line, if these depend on what becomes of the exchange."""

    __slots__ = (
        "_alone",
        "_answer_held",
        "_budget",
        "_echoes",
        "_found_at",
        "_is_call",
        "_judge",
        "_judge_values",
        "_leg",
        "_live",
        "_policy",
        "_request",
        "_shown",
        "bodies",
        "failed",
    )

    def __init__(
        self,
        exchange: Exchange,
        request: Content,
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
        self._request = request
        self._leg = exchange.live
        content = read_leg(exchange.live, policy, budget)
        self._live = None if content is None else Said(exchange.live, content)
        self._alone = not exchange.shadows and exchange.control is None
        self._answer_held = 0  # bytes of the budget that live's answer holds
        self._found_at = 0  # in the line
        self._is_call = exchange.request.method == CALL
        self._shown = b""
        self.failed: list[str] = []
        self.bodies: list[tuple[int, Said]] = []

    def add_live(self, line: list[bytes]) -> None:
        """Add the members of live's leg to a line."""
        said = self._live
        if said is not None:
            self._shown = self._body(said)
            self._read(said)
        start = len(line)
        _add_leg(self._leg, said, self._shown, self._policy, self._echoes, line)
        self._note_body(said, self._shown, line, start)
        self._found_at = len(line)
        line.append(b"")

    def add_what_live_says(self, line: list[bytes]) -> None:
        """Add what live's answer was found to be. A long one is read only when another is compared with it."""
        if self._live is not None:
            line[self._found_at] = _found_in(self._live, self._policy, self._echoes, self._budget)
            if self._live.failed is not None:
                self.failed.append(LIVE)

    def add(self, name: str, leg: ShadowLeg, line: list[bytes]) -> Verdict | None:
        """Add the members of another leg to a line. Returns the verdict, where live's is there to be compared with."""
        budget = self._budget
        held = budget.held - self._answer_held
        live, policy, echoes = self._live, self._policy, self._echoes
        content = read_leg(leg, policy, budget, None if live is None else live.content)
        shown = b""
        said: Said | None = None
        if content is not None and not isinstance(leg, Skipped):
            said = Said(leg, content)
            if live is not None and content.twin is live.content:
                said.repeat(live)
            same = (
                live is not None
                and content.twin is live.content
                and content.wire == live.content.wire
                and content.sha256 == live.content.sha256
            )
            shown = self._shown if same else self._body(said)
            if same and live is not None:
                said.redacted = live.redacted
            self._read(said)
        start = len(line)
        _add_leg(leg, said, shown, policy, echoes, line)
        self._note_body(said, shown, line, start)
        judge, first = self._judge, self._leg
        if judge is None or live is None or said is None or not isinstance(first, Reply) or not isinstance(leg, Reply):
            if said is not None:
                self._add_found(name, said, line)
            budget.held = held + self._answer_held
            return None
        judgement = self._judged(judge, name, first, live, leg, said)
        self._add_found(name, said, line)
        # Both are JSON as received, in which a difference's path means what the pointers to redact mean. In a stream,
        # put together for comparing, it does not.
        searchable = live.content.is_json() and said.content.is_json()
        _add_judgement(judgement, policy, echoes, searchable, line)
        budget.held = held + self._answer_held
        return judgement.verdict

    def _note_body(self, said: Said | None, shown: bytes, line: list[bytes], start: int) -> None:
        """Note where in the line a leg's body is."""
        if self._policy.bodies_by is None or said is None:
            return
        for at in range(start, len(line)):
            if line[at] is shown:
                self.bodies.append((at, said))
                return

    def _add_found(self, name: str, said: Said, line: list[bytes]) -> None:
        line.append(_found_in(said, self._policy, self._echoes, self._budget))
        if said.failed is not None:
            self.failed.append(name)

    def _judged(self, judge: Judge, name: str, first: Reply, live: Said, leg: Reply, said: Said) -> Judgement:
        budget = self._budget
        pair = About(name, self._asked, issued=_issued_in(leg))
        if first.status != leg.status:  # nothing else counts
            return judge(_status(first), _status(leg), budget, pair)
        if not live.content.whole or not said.content.whole:
            side, cut = ("shadow", leg) if live.content.whole else ("live", first)
            return Judgement(Verdict.INCOMPARABLE, (), f"{side}: {self._why_not_whole(cut)}")
        if said.content.twin is live.content:
            return _MATCH
        try:
            before = budget.held
            one = live.read(budget)
            self._answer_held += budget.held - before
        except Exhausted as why:
            return Judgement(Verdict.INCOMPARABLE, (), f"live: not read, as {why}")
        try:
            other = said.read(budget)
        except Exhausted as why_not:
            return Judgement(Verdict.INCOMPARABLE, (), f"shadow: not read, as {why_not}")
        if (live.failed is None) != (said.failed is None):
            reasons = [_shown_failure(each, self._policy, self._echoes) for each in (live, said)]
            return Judgement(Verdict.MISMATCH, (Difference("", "failed", reasons[0], reasons[1]),))
        plain = one.kind == other.kind == "json" and one.stream is None and other.stream is None
        if plain and live.failed is None and self._judge_values is not None:
            return self._judge_values(one.value, other.value, budget, pair)
        return judge(live.answer(budget), said.answer(budget), budget, pair._replace(contents=(one, other)))

    def _why_not_whole(self, cut: Reply) -> str:
        """Why an answer was not captured whole. Of a function's result that JSON does not show, one byte is missing."""
        if not cut.body:
            return _NOT_COPIED
        return _NO_JSON if self._is_call and cut.body_bytes == len(cut.body) + 1 else _OVER_CAPTURE

    def _asked(self) -> Any:
        """The value of the request's body; None if it has none, or it would cost too much to read."""
        content = self._request
        try:
            kind, value = content.answer(self._budget)
        except Exhausted:
            return None
        body = Body(kind, value, content.size, not content.whole, None, content.coding)
        return value_in(body, fields_of_body(content.head), self._budget)

    def _read(self, said: Said) -> None:
        """See whether an answer says that it failed.

        One that the log has in part is read only to be compared; so is one that nothing is compared with, unless it is
        JSON and has been read: to put a stream together takes longer than all else.
        """
        content = said.content
        if self._judge is None or content.over or not content.whole or not isinstance(said.leg, Reply):
            return
        if self._alone and content.kind != "json":
            return
        with contextlib.suppress(Exhausted):
            said.read(self._budget)

    def _body(self, said: Said) -> bytes:
        """An answer's body for the record."""
        return _shown_body(said, self._policy, self._echoes, self._budget)


def _issued_in(leg: Reply) -> Issued:
    if not leg.translated and not leg.learnt:
        return NOTHING_ISSUED
    found = [(each.live, each.shadow, each.place) for each in leg.translated]
    found += [(each.live, each.shadow, each.place) for each in leg.learnt]
    return pairs_of(found)


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
    the new one redacted by `policy` as the old one was by its own: a report on the new log says the same. The record
    stands for as many requests as the old one, whatever the new answer.
    """
    secrets = [*policy.own_secrets, *secrets_sent((leg,), policy.redaction)]
    echoes = Echoes(secrets, policy.redaction.mark) if secrets else None
    budget = Budget(steps=_UNBOUNDED, memory=policy.memory)
    content = read_leg(leg, policy, budget)
    body = b""
    said: Said | None = None
    if content is not None and not isinstance(leg, Skipped):
        said = Said(leg, content)
        body = _shown_body(said, policy, echoes or None, budget)
        if content.whole and isinstance(leg, Reply):
            with contextlib.suppress(Exhausted):
                said.read(budget)
    parts: list[bytes] = []
    _add_leg(leg, said, body, policy, echoes, parts)
    if said is not None:
        parts.append(_found_in(said, policy, echoes, budget))
    verdict = None
    if isinstance(leg, Reply) and old.live.outcome is Outcome.OK:
        recorded = leg_in(b"{%b}" % b"".join(parts))
        judgement = judge(old.live, recorded, Budget(), about(old, shadow)._replace(issued=issued_in(recorded)))
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
    if old.heaviest > 1:
        line.append(b',"weight":%d,"sample":%b' % (old.weight, _json(1 / old.heaviest)))
    line.append(b"}\n")
    return b"".join(line), verdict


def _shown_body(said: Said, policy: Policy, echoes: Echoes | None, budget: Budget) -> bytes:
    content = said.content
    redacted = hide_in_body(content, policy.redaction, budget)
    if echoes is not None:
        redacted = hide_echoes(content, redacted, echoes, budget)
    said.redacted = redacted
    said.hidden = redacted is not None and (redacted.withheld is not None or redacted.text != content.raw)
    return body_json(content, policy, redacted)


def _shown_failure(said: Said, policy: Policy, echoes: Echoes | None) -> str | None:
    """How an answer says that it failed, as the record has it: without what the record does not have of its body."""
    failed = said.failed
    if failed is None:
        return None
    without = not policy.shows(FAILED)
    return BLANK if without or _has_no_words_of(said, policy) else _shown_words(failed, policy, echoes)


def _has_no_words_of(said: Said, policy: Policy) -> bool:
    """Whether the record may repeat nothing of an answer's body, as it has none of it, or not all."""
    return policy.bodies != "full" or bool(policy.redaction.json and (said.hidden or not said.content.is_json()))


def _shown_words(text: str, policy: Policy, echoes: Echoes | None) -> str:
    shown = policy.redaction.error(text)
    return shown if echoes is None else echoes.text(shown)


def _status(reply: Reply) -> RecordedLeg:
    return RecordedLeg(_OK, reply.status, NO_HEADERS, None, reply.first_byte_ms, reply.total_ms)


def _add_leg(
    leg: ShadowLeg, said: Said | None, body: bytes, policy: Policy, echoes: Echoes | None, line: list[bytes]
) -> None:
    """Add the members of a leg; `body` are those of its body."""
    line.append(b'"outcome":"ok"' if isinstance(leg, Reply) else b'"outcome":' + _json(leg.outcome.value))
    reply = leg if isinstance(leg, Reply) else leg.reply if isinstance(leg, Failure) else None
    if reply is not None and said is not None:
        head = said.content.head
        headers = head.json if echoes is None else _without_echoes(head, echoes)
        line += (b',"status":%d' % reply.status, b',"headers":', headers, body)
        line += (b',"first_byte_ms":', milliseconds(reply.first_byte_ms))
    if not isinstance(leg, Skipped):
        line += (b',"total_ms":', milliseconds(leg.total_ms))
    if not isinstance(leg, Reply):
        error = policy.redaction.error(leg.error)
        line += (b',"error":', _json(error if echoes is None else echoes.text(error)))
    elif leg.caller_left:
        line.append(b',"caller_left":true')
    add_issued(leg, policy, echoes, _json, line)


def _found_in(said: Said, policy: Policy, echoes: Echoes | None, budget: Budget) -> bytes:
    """The members that say what an answer was found to be: when its events came and, if it was read, its format where
    that is not JSON, what is wrong with it, and how it failed.

    After the verdict, so that nothing of it takes time from comparing.
    """
    shown = _shown_failure(said, policy, echoes)
    failed = events_json(said.leg, said.content, budget)
    if shown is not None:
        failed += b',"failed":' + _json(shown)
    meaning = said.meaning
    if meaning is None or (meaning.format in _PLAIN and not meaning.warnings):
        return failed
    found = b"" if meaning.format in _PLAIN else b',"format":' + _json(_shown_words(meaning.format, policy, echoes))
    if meaning.warnings and policy.shows(*KINDS) and not _has_no_words_of(said, policy):
        found += b',"warnings":' + _json([_shown_words(each, policy, echoes) for each in meaning.warnings])
    return found + failed


_PLAIN: Final = frozenset({"", "json", "text", "bytes"})


def _without_echoes(head: Head, echoes: Echoes) -> bytes:
    shown = echoes.headers(head.headers)
    return head.json if shown is head.headers else _json(shown)


def _add_judgement(
    judgement: Judgement, policy: Policy, echoes: Echoes | None, searchable: bool, line: list[bytes]
) -> None:
    """Add the verdict and its differences. `searchable`: in both bodies a difference's path means what the pointers to
    redact mean."""
    verdict, differences, why, set_aside = judgement
    line.append(_VERDICTS[verdict])
    if differences:
        line += (b',"differences":', _json([_difference(each, policy, echoes, searchable) for each in differences]))
    if why is not None:
        line += (b',"why":', _json(why))
    if set_aside:
        line += (b',"set_aside":', _json(list(set_aside)))


def _difference(difference: Difference, policy: Policy, echoes: Echoes | None, searchable: bool) -> dict[str, Any]:
    path, kind, live, shadow, beside = difference
    if kind == "failed":
        return {"path": path, "kind": kind, "live": live, "shadow": shadow}  # as the legs show it
    redaction = policy.redaction
    places: dict[str, Any] = {"path": path, "kind": kind}
    if beside is not None:
        places["shadow_path"] = beside
    if redaction.json:
        shown, live, shadow = redaction.difference(path, live, shadow)
        places["path"] = shown
        if beside is not None:  # both are places of another form, in which the pointers to redact mean nothing
            live = shadow = BLANK
            if shown != path:  # the names below it are part of the secret
                del places["shadow_path"]
    if not policy.shows(MISMATCH, FAILED):  # another shadow may fail yet
        return places  # without bodies, no values out of them either
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
    places["live"] = live
    places["shadow"] = shadow
    return places


_VERDICTS: Final = {each: b',"verdict":"%b"' % each.value.encode() for each in Verdict}
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
