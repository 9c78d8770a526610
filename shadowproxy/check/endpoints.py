"""Whether an endpoint works from here: its name, a connection, TLS and its certificates, and a response.

Each step is a finding of its own, which shows how far it gets. The first three use sockets directly; the request is
sent by the client that `serve` uses, since `serve` will reject what that client rejects.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from shadowproxy import __version__
from shadowproxy.addresses import TcpAddress
from shadowproxy.check.certificates import dated, in_file
from shadowproxy.check.connecting import Outcomes, Way, connect_all
from shadowproxy.check.finding import Finding, Level, fail, ok, warn
from shadowproxy.config import Live, Shadow
from shadowproxy.credential_values import is_credential, is_credential_field
from shadowproxy.exchange import Field
from shadowproxy.serve.policy.headers import fields_for_shadow
from shadowproxy.serve.sidecar import specify
from shadowproxy.serve.sidecar.contexts import file_fault, tls_of
from shadowproxy.serve.sidecar.endpoints import endpoint_of, forward_proxy
from shadowproxy.serve.upstreams.dial import HANDSHAKE_AFTER
from shadowproxy.serve.upstreams.endpoint import UpstreamError
from shadowproxy.serve.upstreams.errors import ConnectError
from shadowproxy.serve.upstreams.names import Address, resolve
from shadowproxy.serve.upstreams.tls import tls_hint

PATIENCE = 5.0
"""Seconds to wait for a response, and for a handshake: after more, a user at a terminal thinks that it hangs."""

_PORTS = {"http": 80, "https": 443}
_SHOWN = 4  # addresses of a name
_READ = 64 << 10  # bytes of a response to read, so that the connection ends cleanly; they are ignored


@dataclass(frozen=True, slots=True)
class Probe:
    """The request to each endpoint; the path is below its base path, as for a caller's request."""

    method: str = "GET"
    path: str = "/"


def examine(name: str, section: Live | Shadow, probe: Probe | None) -> Iterator[Finding]:
    """The findings on one endpoint, in the order of the steps, up to the first that fails.

    A slow generator: its user bounds the time, and keeps the findings that came by then.
    """
    parts = urlsplit(section.url or "")
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    now = datetime.now(UTC)
    context: ssl.SSLContext | None = None
    if parts.scheme == "https":
        if section.tls.cert is not None:
            yield from in_file("our certificate", section.tls.cert, now)
        if section.tls.ca is not None:
            yield from in_file("the authority", section.tls.ca, now)
        if section.tls.key is not None:
            yield from _key(section.tls.key)
        try:
            context = tls_of(specify.tls(section.tls))
        except (OSError, ssl.SSLError) as error:
            yield fail(f"the tls files cannot be used: {file_fault(error)}")
            return
    proxy = forward_proxy(specify.proxy(section))
    dialled, at = (host, port) if proxy is None else (proxy.host, proxy.port)
    began = perf_counter()
    try:
        addresses = resolve(dialled, at, 0)
    except (socket.gaierror, UnicodeError):
        yield fail(f"the host name {dialled} cannot be resolved")
        return
    if not _is_address(dialled):
        shown = _some([str(each[1][0]) for each in addresses], ", ")
        yield ok(f"{dialled} is {shown} ({_ms(began)})")
    within = min(section.connect_timeout, PATIENCE)
    outcomes = connect_all(addresses, within)
    connecting = _connecting(outcomes, within)
    yield connecting
    if connecting.level is Level.FAIL:
        return
    if context is not None:
        accepting = [each for each, outcome in outcomes.items() if isinstance(outcome, float)]
        way = Way(accepting, host, port, proxy)
        if proxy is not None:
            tunnel = _tunnel(way)
            yield tunnel
            if tunnel.level is Level.FAIL:
                return
        shaken = _handshakes(way, context, section, now)
        yield from shaken
        if shaken[0].level is Level.FAIL:
            return
    if probe is not None:
        yield _answer(name, section, probe, context)


def _key(path: Path) -> Iterator[Finding]:
    """A finding only if the key cannot be read: OpenSSL does not name the file in its errors."""
    try:
        path.open("rb").close()
    except OSError as error:
        yield fail(f"the key {path} cannot be read: {error.strerror}")


def _connecting(outcomes: Outcomes, within: float) -> Finding:
    """Whether `serve` can connect. An address that does not accept costs time, unless it is on this machine."""
    took = [outcome for outcome in outcomes.values() if isinstance(outcome, float)]
    failed = {each: outcome for each, outcome in outcomes.items() if isinstance(outcome, OSError)}
    why = _some([_why(each, error, within) for each, error in failed.items()], "; ")
    if not took:
        return fail(f"cannot connect: {why}")
    time = f"in {max(took) * 1000:.0f} ms"
    if len(outcomes) == 1:
        return ok(f"connected to {_pair(next(iter(outcomes)))} {time}")
    if not failed:
        return ok(f"connected to all {len(outcomes)} addresses {time}")
    words = f"connected to {len(took)} of {len(outcomes)} addresses {time}; {why}"
    return ok(words) if all(ip_address(each[1][0]).is_loopback for each in outcomes) else warn(words)


def _why(address: Address, error: OSError, within: float) -> str:
    if isinstance(error, TimeoutError) and not error.errno:
        return f"no answer from {_pair(address)} within {within:g} s"
    return f"{_pair(address)}: {(error.strerror or str(error)).lower()}"


def _tunnel(way: Way) -> Finding:
    began = perf_counter()
    try:
        way.open(PATIENCE).close()
    except TimeoutError:
        return fail(f"the proxy does not answer CONNECT within {PATIENCE:g} s")
    except ConnectError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"no tunnel through the proxy: {(error.strerror or str(error)).lower()}")
    return ok(f"the proxy opens a tunnel to {TcpAddress(way.host, way.port)} in {_ms(began)}")


def _handshakes(way: Way, context: ssl.SSLContext, section: Live | Shadow, now: datetime) -> list[Finding]:
    """The handshake with the first address that completes one, since `serve` goes on to the next too.

    A warning names those that fail before it. If all fail, the first one's failure is that of the endpoint.
    """
    failed: list[tuple[Address, list[Finding]]] = []
    within = max(HANDSHAKE_AFTER, PATIENCE / len(way.addresses))
    for address in way.addresses:
        found = list(_handshake(replace(way, addresses=[address]), context, section, now, within))
        if found[0].level is not Level.FAIL:
            return found + [warn(f"{_pair(other)}: {why[0].words}") for other, why in failed]
        failed.append((address, found))
    return failed[0][1]


def _handshake(
    way: Way, context: ssl.SSLContext, section: Live | Shadow, now: datetime, within: float
) -> Iterator[Finding]:
    """The handshake as `serve` does it, and the certificate that was presented, even if it was not accepted."""
    began = perf_counter()
    shown: bytes | None
    try:
        version, shown = _shaken(way, context, within)
        trusted = "" if section.tls.verify else ", with any certificate accepted (verify: false)"
        yield ok(f"{version.replace('v', ' ')} in {_ms(began)}{trusted}")
    except ssl.SSLCertVerificationError as error:
        yield fail(f"its certificate is not accepted: {error.verify_message.rstrip('.')}")
        blind = ssl.create_default_context()
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        try:
            _, shown = _shaken(way, blind, within)
        except (OSError, ConnectError):
            return
    except TimeoutError:
        yield fail(f"no TLS handshake within {within:.2g} s")
        return
    except ConnectError as error:
        yield fail(str(error))
        return
    except OSError as error:
        yield fail(f"TLS failed: {_tls_words(error)}{tls_hint(error)}")
        return
    if shown is not None:
        found = dated("its certificate", shown, now)
        yield found if section.tls.verify else Finding(min(found.level, Level.WARN), found.words)


def _shaken(way: Way, context: ssl.SSLContext, within: float) -> tuple[str, bytes | None]:
    with way.open(within) as connection, context.wrap_socket(connection, server_hostname=way.host) as wrapped:
        return wrapped.version() or "TLS", wrapped.getpeercert(binary_form=True)


def _answer(name: str, section: Live | Shadow, probe: Probe, context: ssl.SSLContext | None) -> Finding:
    words = f"{probe.method} {urlsplit(section.url or '').path.rstrip('/')}{probe.path}"
    began = perf_counter()
    try:
        status = asyncio.run(_status(name, section, probe, context))
    except UpstreamError as error:
        return fail(f"{words}: {error.outcome}: {error}")
    except TimeoutError:
        return fail(f"{words}: no answer within {PATIENCE:g} s")
    answered = f"{words}: answered {status}{_phrase(status)} in {_ms(began)}"
    if status in (401, 403):
        own = "the configured ones are not accepted" if _has_credentials(section) else "none were sent"
        if isinstance(section, Live):
            return ok(f"{answered}: it requires credentials; {own}, callers send theirs")
        if section.forward_credentials:
            return ok(f"{answered}: it requires credentials; {own}, callers' are forwarded")
        return warn(f"{answered}: it requires credentials; {own}, and callers' are removed: see headers.set")
    return warn(f"{answered}: the server has a fault") if status >= 500 else ok(answered)


async def _status(name: str, section: Live | Shadow, probe: Probe, context: ssl.SSLContext | None) -> int:
    fields: list[Field] = [(b"User-Agent", f"shadowproxy-check/{__version__}".encode()), (b"Accept", b"*/*")]
    if isinstance(section, Shadow):
        fields, _ = fields_for_shadow(fields, name, credentials=False, record="")  # no trace goes on here
    async with asyncio.timeout(PATIENCE), endpoint_of(specify.endpoint(section), context) as endpoint:
        answering = await endpoint.request(probe.method, probe.path.encode(), fields, b"")
        read = 0
        try:
            async for chunk in answering:
                read += len(chunk)
                if read > _READ:
                    break
        finally:
            answering.abandon()
        return answering.status


def _has_credentials(section: Live | Shadow) -> bool:
    fields, parameters = section.headers.set.items(), section.query.set.items()
    return any(is_credential_field(*each) for each in fields) or any(is_credential(*each) for each in parameters)


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _tls_words(error: OSError) -> str:
    """OpenSSL's reason in lower case: its own are names in capitals."""
    if isinstance(error, ssl.SSLError):
        if error.reason:
            return error.reason.replace("_", " ").lower()
        _, _, words = str(error).partition("[SSL] ")  # of a reason that this Python has no name for
        return words.partition(" (")[0] or "the peer hung up"
    return (error.strerror or str(error)).lower()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _pair(address: Address) -> str:
    host, port = address[1][:2]
    return str(TcpAddress(host, port))


def _some(texts: list[str], between: str) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{between.join(texts[:_SHOWN])}{more}"


def _ms(began: float) -> str:
    return f"{(perf_counter() - began) * 1000:.0f} ms"
