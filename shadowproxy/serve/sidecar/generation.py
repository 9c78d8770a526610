"""A generation: all that one configuration builds in the sidecar's rooms. The next one takes over what did not change.

Requests under way end under the generation with which they began; its connections are closed after the last one.
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from shadowproxy.compare.judge.rules import Rules, Tolerance
from shadowproxy.compare.judge.verdict import judge
from shadowproxy.config import REPEATABLE, Config, Live, Match, Shadow
from shadowproxy.exchange import CONTROL, Exchange, Verdict
from shadowproxy.record import Judgement, RecordedLeg
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import Redaction
from shadowproxy.serve.callers.link import Limits
from shadowproxy.serve.journal.queue import Encode
from shadowproxy.serve.journal.settings import Settings
from shadowproxy.serve.live.service import FixedAnswer, Service
from shadowproxy.serve.mirror.lane import Lane, MirrorPlan
from shadowproxy.serve.mirror.shadow import ShadowCounts, ShadowSettings
from shadowproxy.serve.policy import sampling
from shadowproxy.serve.policy.rewrite import Rewrite
from shadowproxy.serve.sidecar.contexts import Contexts, sections
from shadowproxy.serve.sidecar.endpoints import endpoint_of
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering
from shadowproxy.serve.telemetry.spans import LIVE, Destination
from shadowproxy.serve.upstreams.endpoint import Endpoint

Seen: TypeAlias = Callable[[bytes, Mapping[str, Verdict | None]], object]
Trace: TypeAlias = Callable[[Exchange, Mapping[str, Verdict | None], Mapping[str, Destination]], object]


class GenerationError(Exception):
    """The configuration cannot be put in force. One line."""


def proxy_name(worker: int) -> str:
    """The name in the records of the proxy that writes them: host and worker."""
    return f"{socket.gethostname()}/{worker}"


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """One configuration, built. `endpoints` are by section: `live`, `shadows.NAME`, and `control` for the control.

    `unusable` has, by name, the reason why a shadow cannot be used: something that its section names does not exist.
    """

    config: Config
    service: Service
    plan: MirrorPlan
    endpoints: Mapping[str, Endpoint]
    unusable: Mapping[str, str]


def build(
    config: Config,
    contexts: Contexts,
    *,
    writer: str,
    append: Callable[[Exchange, Encode], object],
    seen: Seen,
    counts: dict[str, ShadowCounts],
    now: float,
    steering: Steering = UNSTEERED,
    before: Generation | None = None,
    trace: Trace | None = None,
) -> Generation:
    """Build `config`, and take over from the generation `before` all whose section is unchanged. Opens nothing.

    An unchanged endpoint for which `contexts` has nothing new keeps its context.
    `writer` is the proxy's name in the records; `counts` gets an entry for each new shadow. `seen` is called with each
    record's line and its shadows' verdicts (None if nothing was compared), `trace` with its exchange, verdicts and
    each leg's destination: both in the journal's thread. `steering` sets the pauses and percents of new lanes.
    """
    endpoints = {
        where: _kept_endpoint(where, section, contexts, before) or endpoint_of(section, _trust(where, contexts))
        for where, section in sections(config)
    }
    if config.control.percent:
        same = (
            before is not None and before.config.live == config.live and endpoints["live"] is before.endpoints["live"]
        )
        kept = before.endpoints.get(CONTROL) if before is not None and same else None
        endpoints[CONTROL] = kept or endpoint_of(config.live, contexts.given.get("live"))

    def lane(settings: ShadowSettings, endpoint: Endpoint) -> Lane:
        previous = _lane_before(settings.name, before)
        if previous is not None and previous.shadow == settings and previous.endpoint is endpoint:
            return previous
        new = Lane(settings, endpoint, counts.setdefault(settings.name, ShadowCounts()), now)
        new.paused = settings.name in steering.paused_shadows
        new.percent = steering.percents.get(settings.name, settings.percent)
        if previous is not None:
            new.take_over(previous)
        return new

    lanes_of_shadows = tuple(
        lane(replace(_shadow(name, each), unusable=contexts.unusable.get(name)), endpoints[f"shadows.{name}"])
        for name, each in config.shadows.items()
    )
    control = lane(_control(config), endpoints[CONTROL]) if config.control.percent else None
    destinations = {
        each.shadow.name: Destination.of(each.endpoint.url, each.shadow.rewrite.apply_path) for each in lanes_of_shadows
    }
    if config.live.url is not None:
        destinations[LIVE] = destinations[CONTROL] = Destination.of(config.live.url, lambda target: target)
    encode = _encoder(config, writer, counts, seen, trace, destinations)
    key = config.sampling.key
    plan = MirrorPlan(
        lanes=lanes_of_shadows,
        control=control,
        append=lambda exchange: append(exchange, encode),
        position=sampling.sampler(key, config.sampling.salt),
        control_position=sampling.sampler(key, f"{CONTROL}/{config.sampling.salt}"),
        capture=config.limits.capture,
        reads_bodies=key.startswith("json:") or any(each.shadow.match.reads_body for each in lanes_of_shadows),
        sampling_key=key,
    )
    service = Service(
        live=endpoints["live"] if config.live.respond is None else FixedAnswer(*config.live.respond.reply()),
        buffer=config.limits.buffer,
        in_flight=config.limits.in_flight,
        id_header=config.request_id.header.encode(),
        id_name=config.request_id.header.lower().encode(),
        respond_id=config.request_id.respond,
        forwarded=config.forwarded,
    )
    return Generation(config, service, plan, endpoints, contexts.unusable)


def journal_settings(config: Config) -> Settings:
    log = config.log
    return Settings(
        rotate_size=log.rotate.size,
        rotate_every=log.rotate.every,
        compress=log.compress,
        keep_size=log.keep.size,
        keep_age=log.keep.age,
        queue_bytes=config.limits.memory,
    )


def caller_limits(config: Config) -> Limits:
    limits = config.limits
    return Limits(
        headers=limits.headers,
        buffer=limits.buffer,
        head_timeout=limits.head_timeout,
        body_timeout=limits.body_timeout,
        idle_timeout=limits.idle_timeout,
    )


def recording(config: Config) -> Policy:
    """How exchanges are recorded: bodies and redaction."""
    log = config.log
    redaction = Redaction(
        headers=frozenset(log.redact.headers),
        query=frozenset(log.redact.query),
        json=log.redact.json,
        hash_key=log.redact.hash_key.encode() if log.redact.hash_key else None,
    )
    own = [each for _, section in sections(config) for each in redaction.hidden(section.headers.set, section.query.set)]
    return Policy(log.bodies, log.body_limit, redaction, tuple(own))


def _encoder(
    config: Config,
    writer: str,
    counts: Mapping[str, ShadowCounts],
    seen: Seen,
    trace: Trace | None,
    destinations: Mapping[str, Destination],
) -> Encode:
    """How the journal's thread makes a record's line."""
    policy, compare = recording(config), config.compare
    rules = Rules(
        ignore=compare.ignore,
        tolerance={pointer: Tolerance(abs=t.abs, rel=t.rel) for pointer, t in compare.tolerance.items()},
        unordered=compare.unordered,
    )

    def judged(live: RecordedLeg, shadow: RecordedLeg) -> Judgement:
        return judge(live, shadow, rules)

    judging = judged if compare.online else None

    def record_line(exchange: Exchange) -> tuple[bytes, Mapping[str, Verdict | None]]:
        verdicts: dict[str, Verdict | None] = dict.fromkeys(exchange.shadows)
        line = encode(exchange, proxy=writer, policy=policy, judge=judging, on_verdict=verdicts.__setitem__)
        seen(line, verdicts)  # before counting: a record that is counted can already be read
        for name, verdict in verdicts.items():
            if verdict is not None:
                counts[name].verdicts[verdict] += 1
        if trace is not None:
            trace(exchange, verdicts, destinations)
        return line, verdicts

    return record_line


def _trust(where: str, contexts: Contexts) -> ssl.SSLContext | None:
    if where.removeprefix("shadows.") in contexts.unusable:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it gets no requests; this context trusts no certificate
    return contexts.given.get(where)


def _kept_endpoint(
    where: str, section: Live | Shadow, contexts: Contexts, before: Generation | None
) -> Endpoint | None:
    """The endpoint of before, if its section is unchanged and no new certificates were read for it."""
    if before is None or dict(sections(before.config)).get(where) != section:
        return None
    if where in contexts.given and (section.tls.files or where.removeprefix("shadows.") in before.unusable):
        return None
    return before.endpoints.get(where)


def _lane_before(name: str, before: Generation | None) -> Lane | None:
    lanes_before = before.plan.all_lanes if before is not None else ()
    return next((lane for lane in lanes_before if lane.shadow.name == name), None)


def _shadow(name: str, shadow: Shadow) -> ShadowSettings:
    match, unless = shadow.match, shadow.match.not_
    return ShadowSettings(
        name=name,
        percent=shadow.percent,
        match=sampling.Match.of(
            match.methods,
            match.paths,
            match.headers,
            match.json,
            sampling.Unless.of(unless.methods, unless.paths, unless.headers, unless.json),
        ),
        rewrite=Rewrite.of(shadow.rewrite.path, shadow.rewrite.json),
        timeout=shadow.timeout,
        in_flight=shadow.in_flight,
        lane=shadow.lane,
        breaker_failures=shadow.breaker.failures,
        breaker_pause=shadow.breaker.pause,
        budget_requests=shadow.budget.requests,
        budget_duration=shadow.budget.duration,
        forward_credentials=shadow.forward_credentials,
        repeats_by_default=match.methods == REPEATABLE,
    )


def _control(config: Config) -> ShadowSettings:
    """Live as a second endpoint: a shadow with default settings, which gets the callers' credentials."""
    as_shadow = Shadow(
        url=config.live.url or "",
        percent=config.control.percent,
        match=Match(methods=config.control.methods),
        timeout=config.live.timeout,
        forward_credentials=True,
    )
    return _shadow(CONTROL, as_shadow)
