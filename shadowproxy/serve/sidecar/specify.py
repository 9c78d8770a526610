"""A configuration to what it means for each process, as plain data (specs.py). Only this module knows both."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from hashlib import blake2b
from typing import Any

import orjson

from shadowproxy import container
from shadowproxy.addresses import TcpAddress
from shadowproxy.config import (
    REPEATABLE,
    BodiesBy,
    Companion,
    Config,
    ListenTls,
    Live,
    Match,
    Options,
    Shadow,
    Tls,
    Unless,
    UnusableShadow,
    shown,
    strays,
    warnings_for,
)
from shadowproxy.config.addresses import read_proxy
from shadowproxy.config.repeating import repeats
from shadowproxy.credentials import is_credential_header, is_credential_parameter
from shadowproxy.exchange import CALL, CONTROL
from shadowproxy.redaction import Redaction
from shadowproxy.serve.policy.ramping import RampSettings
from shadowproxy.serve.sidecar.room import share_out_memory
from shadowproxy.serve.sidecar.specs import (
    CALLABLE,
    EndpointSpec,
    JournalSpec,
    ListenTlsSpec,
    LiveSpec,
    ProgramSpec,
    ProxySpec,
    RecorderSpec,
    RequestsSpec,
    ShadowSpec,
    Specs,
    StandingSpec,
    TlsSpec,
)
from shadowproxy.serve.state.settings import StateSettings

PACE = 0.005  # seconds between half milliseconds of reading a shadow's tiny chunks: a tenth of a core, at most
LIVE = "live"


def specify(config: Config, options: Options = ()) -> Specs:
    """`options` are those that set keys in it, which a reload applies again."""
    return Specs(live(config), recorder(config), _program(config, options))


def specify_companion(companion: Companion) -> Specs:
    """The same for what an application is served by: its calls are repeated, and its candidates have no address."""
    config = companion.config
    specs = specify(config)
    candidates = companion.candidates
    shadows = {name: _in_companion(name, each, candidates) for name, each in specs.live.shadows.items()}
    urls = {name: each.endpoint.url for name, each in shadows.items()}
    destinations = {name: (urls[name], paths) for name, (_, paths) in specs.recorder.destinations.items()}
    standing = specs.recorder.standing
    if standing is not None:
        programs = {name: f"{CALLABLE}{name}" for name in candidates}
        standing = replace(standing, shadows={**standing.shadows, **programs})
    here = {"live", "listen", "listen_tls", "workers", "forwarded", "control"}
    shown_values = {key: value for key, value in specs.recorder.shown.items() if key not in here}
    for name in candidates:
        shown_values["shadows"][name]["url"] = urls[name]
    files = specs.program.files if companion.file is None else (companion.file, *specs.program.files)
    return Specs(
        replace(specs.live, shadows=shadows, candidates=dict(candidates)),
        replace(specs.recorder, destinations=destinations, shown=shown_values, standing=standing),
        replace(
            specs.program,
            shadows=urls,
            files=files,
            warnings=tuple(each for each in specs.program.warnings if not _is_for_callers(each)),
            repeats=(),
            is_companion=True,
        ),
    )


def _is_for_callers(warning: str) -> bool:
    """Whether a warning says nothing of an application: its shadows come later, and live is no fixed answer."""
    return warning.startswith("no shadows:") or "about live.respond" in warning


def _in_companion(name: str, shadow: ShadowSpec, candidates: Mapping[str, int | None]) -> ShadowSpec:
    match = shadow.match
    if match.methods == REPEATABLE:
        match = replace(match, methods=(*REPEATABLE, CALL))
    endpoint = replace(shadow.endpoint, url=f"{CALLABLE}{name}") if name in candidates else shadow.endpoint
    return replace(shadow, match=match, endpoint=endpoint)


def live(config: Config) -> LiveSpec:
    limits, answer, log = config.limits, config.live.respond, config.log
    return LiveSpec(
        live=None if config.live.url is None else endpoint(config.live),
        answer=None if answer is None else answer.reply(),
        shadows={str(name): _shadow(each) for name, each in config.shadows.items()},
        control=_control(config) if config.control.percent else None,
        sampling_key=str(config.sampling.key),
        sampling_salt=str(config.sampling.salt),
        id_header=str(config.request_id.header),
        respond_id=config.request_id.respond,
        forwarded=config.forwarded,
        headers=limits.headers,
        buffer=min(limits.buffer, capture(config)),
        capture=capture(config),
        memory=memory(config),
        in_flight=limits.in_flight,
        head_timeout=limits.head_timeout,
        body_timeout=limits.body_timeout,
        idle_timeout=limits.idle_timeout,
        tunnel_timeout=limits.tunnel_timeout,
        loop_lag=config.overload.loop_lag,
        drain=config.drain,
        body_limit=log.body_limit,
        hashed=log.bodies != "none",
        searched=bool(log.redact.json),
        names_secrets=bool(log.redact.headers or log.redact.query or _own_secrets(config)),
        compared=config.compare.online,
        listen_tls=None if config.listen_tls is None else listen_tls(config.listen_tls),
    )


def memory(config: Config) -> int:
    """`limits.memory` in bytes; `auto` is a share of what this process's container allows."""
    given = config.limits.memory
    return share_out_memory(container.memory(), config.workers) if given == "auto" else given


def capture(config: Config) -> int:
    """`limits.capture`; where the memory is shared out by itself, no more than a live process's part of it."""
    return min(config.limits.capture, memory(config) // config.workers)


def _lowered(config: Config) -> Iterator[str]:
    if (copied := capture(config)) < config.limits.capture:
        yield (
            f"limits.capture is {copied >> 20} MiB here: a worker's part of limits.memory, which follows the "
            "container's limit"
        )


def recorder(config: Config) -> RecorderSpec:
    log, compare = config.log, config.compare
    destinations: dict[str, tuple[str, Mapping[str, str]]] = {
        str(name): (str(each.url), _plain(each.rewrite.path)) for name, each in config.shadows.items()
    }
    if config.live.url is not None:
        destinations[LIVE] = destinations[CONTROL] = (str(config.live.url), {})
    return RecorderSpec(
        journal=JournalSpec(
            path=str(log.path),
            rotate_size=log.rotate.size,
            rotate_every=log.rotate.every,
            compress=log.compress,
            keep_size=log.keep.size,
            keep_age=log.keep.age,
            queue_bytes=memory(config),
            upload=log.upload.to,
            summaries=log.upload.summaries,
            prediction=compare.prediction if isinstance(compare.prediction, str) else None,
        ),
        bodies="full" if isinstance(log.bodies, BodiesBy) else log.bodies,
        bodies_by=asdict(log.bodies) if isinstance(log.bodies, BodiesBy) else None,
        sample=(log.sample.match, log.sample.alone, log.sample.slow) if log.sample.writes_shares else None,
        body_limit=log.body_limit,
        redact_headers=_plain(log.redact.headers),
        redact_query=_plain(log.redact.query),
        redact_json=_plain(log.redact.json),
        hash_key=_plain(log.redact.hash_key),
        own_secrets=tuple(map(str, _own_secrets(config))),
        ignore=_plain(compare.ignore),
        tolerance={str(pointer): (each.abs, each.rel) for pointer, each in compare.tolerance.items()},
        unordered=_plain(compare.unordered),
        set_aside=compare.set_aside,
        predictions=_plain(compare.predictions(config.shadows)),
        online=compare.online,
        destinations=destinations,
        shown=shown(config),
        admin_host=config.admin.host if isinstance(config.admin, TcpAddress) else None,
        admin_token=_plain(config.admin_token),
        drain=config.drain,
        standing=_standing(config),
    )


def _standing(config: Config) -> StandingSpec | None:
    section = config.verdict
    if section is None:
        return None
    return StandingSpec(
        window=section.window,
        cpu=section.cpu,
        gates=_plain(dict(section.gates.values())),
        live=_identity(config.live),
        shadows={str(name): _identity(each) for name, each in config.shadows.items()},
    )


def _identity(section: Live | Shadow) -> str:
    """What identifies an endpoint: where requests go, and what is sent there beside what callers sent.

    Credentials are left out: a new token is no new model.
    """
    fields = {name.lower(): each for name, each in section.headers.set.items()}
    parameters = section.query.set
    rewrite = section.rewrite if isinstance(section, Shadow) else None
    answer = section.respond.reply() if isinstance(section, Live) and section.respond is not None else None
    parts: Any = [
        section.url,
        section.host,
        {name: each for name, each in fields.items() if not is_credential_header(name.encode())},
        {name: each for name, each in parameters.items() if not is_credential_parameter(name)},
        None if rewrite is None else [rewrite.path, rewrite.json],
        None if answer is None else repr(answer),
    ]
    raw = orjson.dumps(_plain(parts), option=orjson.OPT_SORT_KEYS, default=str)
    return blake2b(raw, digest_size=8).hexdigest()


def _own_secrets(config: Config) -> list[str]:
    """The secrets that the endpoints are sent beside what callers sent."""
    redact = config.log.redact
    redaction = Redaction(headers=frozenset(redact.headers), query=frozenset(redact.query))
    sections: list[Live | Shadow] = [config.live, *config.shadows.values()]
    own = [each for section in sections for each in redaction.hidden(section.headers.set, section.query.set)]
    own += [found.authorization for each in sections if (found := proxy(each)) is not None and found.authorization]
    return own


def endpoint(section: Live | Shadow) -> EndpointSpec:
    """The endpoint of a section with a `url`."""
    return EndpointSpec(
        url=str(section.url or ""),
        connect_timeout=section.connect_timeout,
        max_age=section.max_age,
        timeout=section.timeout,
        host=str(section.host),
        remove_headers=_plain(section.headers.remove),
        set_headers=_plain(section.headers.set),
        remove_parameters=_plain(section.query.remove),
        set_parameters=_plain(section.query.set),
        retry=not isinstance(section, Live) or section.retry == "idle",
        pace=0.0 if isinstance(section, Live) else PACE,
        tls=tls(section.tls),
        proxy=proxy(section),
    )


def proxy(section: Live | Shadow) -> ProxySpec | None:
    return None if section.proxy is None else ProxySpec(*read_proxy(section.proxy))


def tls(section: Tls) -> TlsSpec:
    return TlsSpec(section.ca, section.cert, section.key, section.verify)


def listen_tls(section: ListenTls) -> ListenTlsSpec:
    return ListenTlsSpec(section.cert, section.key, section.client_ca)


def _program(config: Config, options: Options) -> ProgramSpec:
    sections: list[Live | Shadow] = [config.live, *config.shadows.values()]
    files = [path for each in sections if each.url is not None for path in each.tls.files.values()]
    if config.listen_tls is not None:
        files += listen_tls(config.listen_tls).files.values()
    return ProgramSpec(
        listen=config.listen,
        admin=config.admin,
        workers=config.workers,
        drain=config.drain,
        log_path=str(config.log.path),
        live_url=_plain(config.live.url),
        shadows={str(name): str(each.url) for name, each in config.shadows.items()},
        files=tuple(files),
        warnings=(*warnings_for(config), *_lowered(config), *strays(os.environ)),
        repeats=tuple((str(name), _plain(tuple(methods)), line) for name, methods, line in repeats(config)),
        options=tuple(options),
        shared_out=(config.limits.capture, config.limits.buffer) if config.limits.memory == "auto" else None,
    )


def _shadow(shadow: Shadow) -> ShadowSpec:
    match = shadow.match
    return ShadowSpec(
        endpoint=endpoint(shadow),
        percent=float(shadow.first_percent),
        match=_requests(match),
        unless=_requests(match.not_),
        rewrite_path=_plain(shadow.rewrite.path),
        rewrite_json=_plain(shadow.rewrite.json),
        timeout=shadow.timeout,
        in_flight=shadow.in_flight,
        lane=shadow.lane,
        breaker_failures=shadow.breaker.failures,
        breaker_pause=shadow.breaker.pause,
        budget_requests=shadow.budget.requests,
        budget_duration=shadow.budget.duration,
        budget_tokens=shadow.budget.tokens,
        budget_cost=shadow.budget.cost,
        forward_credentials=shadow.forward_credentials,
        repeats_by_default=match.methods == REPEATABLE,
        missing=shadow.reason if isinstance(shadow, UnusableShadow) else None,
        state=state(shadow),
        ramp=ramp(shadow),
    )


def ramp(shadow: Shadow) -> RampSettings | None:
    """How the shadow's percent rises; None if it is a number."""
    given = shadow.ramp
    if given is None:
        return None
    conditions = given.while_
    return RampSettings(
        start=float(given.from_),
        to=float(given.to),
        over=given.over,
        hold_out=0.0 if conditions.live_p99_ratio is None else float(given.hold_out),
        live_p99_ratio=_plain(conditions.live_p99_ratio),
        shadow_errors=_plain(conditions.shadow_errors),
        timeout=shadow.timeout,
    )


def state(shadow: Shadow) -> StateSettings | None:
    """How the shadow's own IDs are learnt; None if requests are sent as they are."""
    given = shadow.state
    if given is None:
        return None
    return StateSettings(_plain(given.learn) or None, _plain(given.into), given.pairs, given.age)


def _control(config: Config) -> ShadowSpec:
    """Live as a second endpoint: a shadow with default settings, which gets the callers' credentials."""

    as_shadow = Shadow(
        url=config.live.url or "",
        percent=config.control.percent,
        match=Match(methods=config.control.methods),
        timeout=config.live.timeout,
        forward_credentials=True,
    )
    return replace(_shadow(as_shadow), endpoint=endpoint(config.live))


def _requests(match: Match | Unless) -> RequestsSpec:
    return RequestsSpec(_plain(match.methods), _plain(match.paths), _plain(match.headers), _plain(match.json))


def _plain(value: Any) -> Any:
    """`value` of Python's own types alone: what came from the environment has a type of its own."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value
