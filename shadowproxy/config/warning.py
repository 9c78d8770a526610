"""Warnings: settings that are valid but likely a mistake."""

from collections.abc import Iterator

from shadowproxy.addresses import SHORT_TOKEN
from shadowproxy.config.endpoints import Live, Ramp, Shadow
from shadowproxy.config.models import Config
from shadowproxy.config.source import FromEnvironment
from shadowproxy.credential_values import is_credential, is_credential_field
from shadowproxy.redaction import Redaction

_WILD = frozenset("*?[")


def _ramp_warnings(config: Config, name: str, ramp: Ramp) -> Iterator[str]:
    if ramp.while_.live_p99_ratio is None:
        return
    if config.live.respond is not None:
        yield f"shadows.{name}.percent.while.live_p99_ratio says nothing about live.respond, which always answers alike"
    if config.sampling.key != "request_id":
        yield (
            f"shadows.{name}.percent.while.live_p99_ratio compares requests of other sampling keys with each other: "
            "if live is slower for some keys than for others, that counts too"
        )
    others = [other for other, each in config.shadows.items() if other != name and 0 < each.first_percent < 100]
    if others:
        yield (
            f"shadows.{name}.percent.while.live_p99_ratio cannot tell this shadow from {others[0]}, which gets a part "
            "of the requests too: raise one after the other"
        )


def warnings_for(config: Config) -> tuple[str, ...]:
    """One line for each."""
    return tuple(_warnings(config))


def _chooses(shadow: Shadow) -> bool:
    """Whether its percent chooses some of the requests, and leaves others."""
    return 0 < shadow.first_percent < 100


def _is_written_out(glob: str) -> bool:
    """Whether a glob over a secret is that secret itself. A glob with a wildcard seldom gives it away."""
    return not isinstance(glob, FromEnvironment) and not set(glob) & _WILD


def _warnings(config: Config) -> Iterator[str]:
    endpoints: dict[str, Live | Shadow] = {"live": config.live}
    endpoints |= {f"shadows.{name}": shadow for name, shadow in config.shadows.items()}
    written_out = "is a secret written into the file: take it from the environment, ${NAME}"
    for where, endpoint in endpoints.items():
        if not endpoint.tls.verify:
            yield f"{where}.tls.verify is false: anyone in between can read the requests and answer them"
        if endpoint.tls != type(endpoint.tls)() and not (endpoint.url or "").startswith("https:"):
            yield f"{where}.tls has no effect: its url is not https"
        if endpoint.proxy is not None:
            if "@" in endpoint.proxy and not isinstance(endpoint.proxy, FromEnvironment):
                yield f"{where}.proxy {written_out}"
            if not endpoint.url:
                yield f"{where}.proxy has no effect: there is no url"
            elif endpoint.host != "upstream" and not endpoint.url.startswith("https:"):
                yield f"{where}.host likely has no effect: an HTTP proxy sends the url's own (RFC 9112 section 3.2.2)"
        for name, value in endpoint.headers.set.items():
            if is_credential_field(name, value) and not isinstance(value, FromEnvironment):
                yield f"{where}.headers.set.{name} {written_out}"
        for name, value in endpoint.query.set.items():
            if is_credential(name, value) and not isinstance(value, FromEnvironment):
                yield f"{where}.query.set.{name} {written_out}"
    if config.log.redact.hash_key is not None and not isinstance(config.log.redact.hash_key, FromEnvironment):
        yield f"log.redact.hash_key {written_out}"
    id_header = config.request_id.header
    if Redaction(headers=frozenset(config.log.redact.headers)).hides_header(id_header.encode()):
        yield f"log.redact.headers covers {id_header}, but each record still has the ID, as its id"
    if config.admin_token is not None:
        if not isinstance(config.admin_token, FromEnvironment):
            yield f"admin_token {written_out}"
        if len(config.admin_token) < SHORT_TOKEN:
            yield f"admin_token is shorter than {SHORT_TOKEN} characters, it can be guessed: use openssl rand -hex 32"
        if config.admin is None:
            yield "admin_token has no effect: admin is off"
    for name, shadow in config.shadows.items():
        for place, match in (("match", shadow.match), ("match.not", shadow.match.not_)):
            for header, glob in match.headers.items():
                if is_credential_field(header, glob) and _is_written_out(glob):
                    yield f"shadows.{name}.{place}.headers.{header} {written_out}"
            for pointer, glob in match.json.items():
                if is_credential(pointer.rpartition("/")[2], glob) and _is_written_out(glob):
                    yield f"shadows.{name}.{place}.json.{pointer} {written_out}"
        for pointer, value in shadow.rewrite.json.items():
            literal = isinstance(value, str) and not isinstance(value, FromEnvironment)
            if literal and is_credential(pointer.rpartition("/")[2], value):
                yield f"shadows.{name}.rewrite.json.{pointer} {written_out}"
        if shadow.state is not None and _chooses(shadow) and config.sampling.key == "request_id":
            yield (
                f"shadows.{name}.percent tears sessions apart, whose other requests are then state_unknown: "
                "choose whole ones by sampling.key"
            )
        if shadow.ramp is not None:
            yield from _ramp_warnings(config, name, shadow.ramp)
        if shadow.timeout > config.drain:
            yield f"shadows.{name}.timeout is longer than drain: stopping may cut off answers that are still in time"
        # Another model, version or setting of the same server is a shadow like any other.
        same = not (shadow.rewrite.path or shadow.rewrite.json or shadow.headers.set or shadow.query.set)
        if shadow.url == config.live.url and same:
            yield f"shadows.{name}.url is the same as live.url: to measure live's noise, use control.percent"
    if not config.shadows:
        yield "no shadows: requests are forwarded and recorded, nothing is compared"
