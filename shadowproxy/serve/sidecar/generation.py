"""A generation: all that one configuration builds in a live process's rooms. The next one takes over what did not
change.

Requests under way end under the generation with which they began; its connections are closed after the last one.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from shadowproxy.exchange import CONTROL, Exchange
from shadowproxy.serve.callers.link import Limits
from shadowproxy.serve.candidates.endpoint import CandidateEndpoint
from shadowproxy.serve.candidates.registry import Candidates
from shadowproxy.serve.live.service import FixedAnswer, Service
from shadowproxy.serve.mirror.lane import Lane, MirrorPlan
from shadowproxy.serve.mirror.shadow import ShadowCounts, ShadowSettings
from shadowproxy.serve.policy import sampling
from shadowproxy.serve.policy.logged import LogNeeds
from shadowproxy.serve.policy.rewrite import Rewrite
from shadowproxy.serve.sidecar.contexts import Contexts
from shadowproxy.serve.sidecar.endpoints import endpoint_of
from shadowproxy.serve.sidecar.room import in_flight_of_shadows
from shadowproxy.serve.sidecar.specs import EndpointSpec, LiveSpec, ShadowSpec
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering
from shadowproxy.serve.system import descriptors
from shadowproxy.serve.upstreams.endpoint import Endpoint

HELD_OUT = "held-out"
"""A salt of its own: whether a request is held out must not depend on whether percent chooses it."""

AnyEndpoint: TypeAlias = Endpoint | CandidateEndpoint


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """One configuration, built. `endpoints` are by section: `live`, `shadows.NAME`, and `control` for the control.

    `unusable` has, by name, the reason why a shadow cannot be used: something that its section names does not exist.
    """

    spec: LiveSpec
    service: Service
    plan: MirrorPlan
    endpoints: Mapping[str, AnyEndpoint]
    unusable: Mapping[str, str]


def build(
    spec: LiveSpec,
    contexts: Contexts,
    *,
    append: Callable[[Exchange], object],
    counts: dict[str, ShadowCounts],
    now: float,
    steering: Steering = UNSTEERED,
    before: Generation | None = None,
    candidates: Candidates | None = None,
) -> Generation:
    """Build `spec`, and take over from the generation `before` all whose section is unchanged. Opens nothing.

    An unchanged endpoint for which `contexts` has nothing new keeps its context. `append` gets each settled exchange;
    `counts` gets an entry for each new shadow. `candidates` run those that are callables. `steering` sets the pauses
    and percents of new lanes.
    """
    callables = set() if candidates is None else {f"shadows.{name}" for name in spec.candidates or ()}
    endpoints: dict[str, AnyEndpoint] = {}
    for where, each in spec.endpoints.items():
        if (same := _kept_endpoint(where, spec, contexts, before)) is not None:
            endpoints[where] = same
        elif candidates is not None and where in callables:
            endpoints[where] = CandidateEndpoint(where.removeprefix("shadows."), each.url, candidates)
        else:
            endpoints[where] = endpoint_of(each, _trust(where, contexts))
    if spec.control is not None:
        unchanged = (
            before is not None and before.spec.live == spec.live and endpoints["live"] is before.endpoints["live"]
        )
        kept = before.endpoints.get(CONTROL) if before is not None and unchanged else None
        endpoints[CONTROL] = kept or endpoint_of(spec.control.endpoint, contexts.given.get("live"))
    for where, made in endpoints.items():
        previous = before.endpoints.get(where) if before is not None else None
        if isinstance(previous, Endpoint) and isinstance(made, Endpoint) and previous is not made:
            made.take_over(previous)

    _limit_shadows(spec, endpoints)

    def lane(settings: ShadowSettings, endpoint: AnyEndpoint) -> Lane:
        previous = _lane_before(settings.name, before)
        if previous is not None and previous.shadow == settings and previous.endpoint is endpoint:
            return previous
        new = Lane(settings, endpoint, counts.setdefault(settings.name, ShadowCounts()), now)
        new.paused = settings.name in steering.paused_shadows
        new.percent = steering.percent(settings.name, settings.percent)
        new.hold_out = settings.hold_out if steering.ramps_on(settings.name) else 0.0
        if previous is not None:
            new.take_over(previous)
        return new

    lanes_of_shadows = tuple(
        lane(replace(_shadow(name, each), unusable=contexts.unusable.get(name)), endpoints[f"shadows.{name}"])
        for name, each in spec.shadows.items()
    )
    control = lane(_shadow(CONTROL, spec.control), endpoints[CONTROL]) if spec.control is not None else None
    plan = MirrorPlan(
        lanes=lanes_of_shadows,
        control=control,
        append=append,
        position=sampling.sampler(spec.sampling_key, spec.sampling_salt),
        control_position=sampling.sampler(spec.sampling_key, f"{CONTROL}/{spec.sampling_salt}"),
        capture=spec.capture,
        reads_bodies=spec.sampling_key.startswith("json:")
        or any(each.shadow.match.reads_body for each in lanes_of_shadows),
        sampling_key=spec.sampling_key,
        needs=LogNeeds(
            beginning=max(1, spec.body_limit),  # an empty beginning would be that of an empty body
            hashed=spec.hashed,
            searched=spec.searched,
            names_secrets=spec.names_secrets,
            compared=spec.compared,
        ),
        keeps_state=any(each.state is not None for each in lanes_of_shadows),
        hold_out_position=sampling.sampler(spec.sampling_key, f"{HELD_OUT}/{spec.sampling_salt}")
        if any(each.shadow.hold_out for each in lanes_of_shadows)
        else None,
    )
    service = Service(
        live=FixedAnswer(*spec.answer) if spec.answer is not None else _live(endpoints),
        buffer=spec.buffer,
        in_flight=spec.in_flight,
        tunnel_timeout=spec.tunnel_timeout,
        id_header=spec.id_header.encode(),
        id_name=spec.id_header.lower().encode(),
        respond_id=spec.respond_id,
        forwarded=spec.forwarded,
    )
    return Generation(spec, service, plan, endpoints, contexts.unusable)


def _live(endpoints: Mapping[str, AnyEndpoint]) -> Endpoint:
    live = endpoints["live"]
    assert isinstance(live, Endpoint)  # only a shadow can be a callable
    return live


def descriptor_shares(spec: LiveSpec) -> descriptors.Shares | None:
    """How this process shares out its descriptors; None where nothing limits them."""
    most = descriptors.limit()
    return None if most is None else descriptors.share_out(most, spec.in_flight, in_flight_of_shadows(spec))


def _limit_shadows(spec: LiveSpec, endpoints: Mapping[str, AnyEndpoint]) -> None:
    names = [*(f"shadows.{name}" for name in spec.shadows), *([CONTROL] if spec.control is not None else [])]
    shares = descriptor_shares(spec)
    for number, (name, in_flight) in enumerate(zip(names, in_flight_of_shadows(spec), strict=True)):
        share = None if shares is None else shares.shadows[number]
        # With a descriptor for each of its requests a shadow cannot take another's, and needs no bound.
        endpoint = endpoints[name]
        if isinstance(endpoint, Endpoint):
            endpoint.limit(None if share is None or share >= in_flight else share)


def caller_limits(spec: LiveSpec) -> Limits:
    return Limits(
        headers=spec.headers,
        buffer=spec.buffer,
        head_timeout=spec.head_timeout,
        body_timeout=spec.body_timeout,
        idle_timeout=spec.idle_timeout,
    )


def _trust(where: str, contexts: Contexts) -> ssl.SSLContext | None:
    if where.removeprefix("shadows.") in contexts.unusable:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it gets no requests; this context trusts no certificate
    return contexts.given.get(where)


def _kept_endpoint(where: str, spec: LiveSpec, contexts: Contexts, before: Generation | None) -> AnyEndpoint | None:
    """The endpoint of before, if its section is unchanged and no new certificates were read for it."""
    if before is None or _section(before.spec, where) != (section := _section(spec, where)) or section is None:
        return None
    name, tls = where.removeprefix("shadows."), spec.endpoints[where].tls
    if where in contexts.given and (tls.files or name in before.unusable):
        return None
    return before.endpoints.get(where)


def _section(spec: LiveSpec, where: str) -> EndpointSpec | ShadowSpec | None:
    return spec.live if where == "live" else spec.shadows.get(where.removeprefix("shadows."))


def _lane_before(name: str, before: Generation | None) -> Lane | None:
    lanes_before = before.plan.all_lanes if before is not None else ()
    return next((lane for lane in lanes_before if lane.shadow.name == name), None)


def _shadow(name: str, spec: ShadowSpec) -> ShadowSettings:
    match, unless = spec.match, spec.unless
    return ShadowSettings(
        name=name,
        percent=spec.percent,
        match=sampling.Match.of(
            match.methods,
            match.paths,
            match.headers,
            match.json,
            sampling.Unless.of(unless.methods, unless.paths, unless.headers, unless.json),
        ),
        rewrite=Rewrite.of(spec.rewrite_path, spec.rewrite_json),
        timeout=spec.timeout,
        in_flight=spec.in_flight,
        lane=spec.lane,
        breaker_failures=spec.breaker_failures,
        breaker_pause=spec.breaker_pause,
        budget_requests=spec.budget_requests,
        budget_duration=spec.budget_duration,
        budget_tokens=spec.budget_tokens,
        budget_cost=spec.budget_cost,
        forward_credentials=spec.forward_credentials,
        repeats_by_default=spec.repeats_by_default,
        state=spec.state,
        ramped=spec.ramp is not None,
        hold_out=0.0 if spec.ramp is None else spec.ramp.hold_out,
    )
