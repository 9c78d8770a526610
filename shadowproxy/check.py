"""What `shadowproxy check` says of a configuration: what it means in plain words, and what of it can be reached.

Endpoints are connected to, and shaken hands with where they speak TLS; no request is sent, so checking never shows in
a model's own books. Nothing is written: whether the log's directory can be made is asked of the one around it.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from shadowproxy.config import Config, Live, Shadow, Tls
from shadowproxy.serve.upstream import tls_context

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one try. `words` follow the name of what was tried."""

    sound: bool
    words: str


@dataclass(frozen=True, slots=True)
class Findings:
    """`endpoints` by name; live is there unless it is a fixed answer."""

    endpoints: dict[str, Finding]
    log: Finding

    @property
    def sound(self) -> bool:
        return self.log.sound and all(finding.sound for finding in self.endpoints.values())


def examine(config: Config) -> Findings:
    """Try every endpoint at once, each within its `connect_timeout`, and ask whether the log can be written."""
    endpoints: dict[str, Live | Shadow] = {"live": config.live, **config.shadows}
    with ThreadPoolExecutor(max_workers=16) as pool:
        tries = {
            name: pool.submit(_reach, endpoint.url, endpoint.tls, endpoint.connect_timeout)
            for name, endpoint in endpoints.items()
            if endpoint.url is not None
        }
    return Findings({name: attempt.result() for name, attempt in tries.items()}, _writable(config.log.path))


def _reach(url: str, tls: Tls, timeout: float) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    start = perf_counter()
    try:
        with socket.create_connection((host, port), timeout) as connection:
            if parts.scheme == "https":
                with _context(tls).wrap_socket(connection, server_hostname=host) as wrapped:
                    protocol = wrapped.version()
            else:
                protocol = "TCP"
    except socket.gaierror:
        return Finding(False, f"out of reach: the name {host} is not known")
    except TimeoutError:
        return Finding(False, f"out of reach: no connection within {_duration(timeout)}")
    except ssl.SSLCertVerificationError as error:
        return Finding(False, f"its certificate is not trusted: {error.verify_message.rstrip('.')}")
    except ssl.SSLError as error:
        return Finding(False, f"TLS failed: {(error.reason or 'the peer hung up').replace('_', ' ').lower()}")
    except OSError as error:
        return Finding(False, f"out of reach: {(error.strerror or str(error)).lower()}")
    return Finding(True, f"reached by {protocol} in {(perf_counter() - start) * 1000:.0f} ms")


def _context(tls: Tls) -> ssl.SSLContext:
    ca, cert, key = (None if path is None else str(path) for path in (tls.ca, tls.cert, tls.key))
    return tls_context(ca=ca, cert=cert, key=key, verify=tls.verify)


def _writable(path: str) -> Finding:
    if path == "-":
        return Finding(True, "standard output")
    directory = Path(path)
    if directory.is_dir():
        sound = os.access(directory, os.W_OK | os.X_OK)
        return Finding(sound, "a directory, writable" if sound else "a directory that cannot be written to")
    if directory.exists() or directory.is_symlink():
        return Finding(False, "is there and is no directory")
    around = next(parent for parent in directory.absolute().parents if parent.exists())
    sound = around.is_dir() and os.access(around, os.W_OK | os.X_OK)
    return Finding(sound, "will be made" if sound else f"cannot be made: {around} cannot be written to")


def lines(config: Config, found: Findings) -> Iterator[str]:
    """One screen of words. Header values, keys and whatever else may be a secret do not appear in them."""
    yield f"listens on  {config.listen}"
    yield from _live_lines(config, found)
    for name, shadow in config.shadows.items():
        yield ""
        yield from _shadow_lines(name, shadow, found.endpoints[name])
    yield ""
    yield from _log_lines(config, found.log)
    if config.warnings:
        yield ""
    for warning in config.warnings:
        yield f"warning: {warning}"
    yield ""
    bad = [name for name, finding in found.endpoints.items() if not finding.sound] + ["log"] * (not found.log.sound)
    yield f"not ready: {', '.join(bad)}" if bad else "ready: all of it is within reach"


def _live_lines(config: Config, found: Findings) -> Iterator[str]:
    live = config.live
    yield ""
    if live.url is None:
        yield "live        a fixed answer; no system is asked"
        return
    yield f"live        {live.url}"
    yield f"            {found.endpoints['live'].words}"
    yield "            every request as it came, credentials included"
    yield f"            given up after {_duration(live.timeout)} of silence"
    yield from _edits(live)
    if config.control.percent:
        yield f"            asked a second time for {config.control.percent:g} % of the mirrored requests"


def _shadow_lines(name: str, shadow: Shadow, finding: Finding) -> Iterator[str]:
    yield f"{'shadow':<11} {name}: {shadow.url}"
    yield f"            {finding.words}"
    match = shadow.match
    conditions = [
        *([f"the method is {' or '.join(match.methods)}"] if match.methods else []),
        *([f"the path is {' or '.join(match.paths)}"] if match.paths else []),
        *(f"{header} is {glob}" for header, glob in match.headers.items()),
    ]
    share = "no request" if shadow.percent == 0 else f"{shadow.percent:g} % of requests"
    yield f"            {share}{', where ' + ', '.join(conditions) if conditions else ''}"
    yield f"            {shadow.in_flight} at once, {shadow.lane} waiting, each within {_duration(shadow.timeout)}"
    if shadow.budget.requests is not None:
        yield f"            at most {shadow.budget.requests} requests"
    if shadow.budget.duration is not None:
        yield f"            for {_duration(shadow.budget.duration)}"
    if shadow.forward_credentials:
        yield "            the callers' credentials are sent along (forward_credentials: true)"
    else:
        yield "            the callers' credentials are held back"
    yield from _edits(shadow)
    changes = [f"{old} becomes {new}" for old, new in shadow.rewrite.path.items()] + list(shadow.rewrite.json)
    if changes:
        yield f"            rewritten: {', '.join(changes)}"


def _edits(endpoint: Live | Shadow) -> Iterator[str]:
    if endpoint.host != "upstream":
        yield f"            Host: {'the one the caller sent' if endpoint.host == 'preserve' else endpoint.host}"
    if endpoint.headers.set:
        yield f"            headers set: {', '.join(endpoint.headers.set)}"
    if endpoint.headers.remove:
        yield f"            headers removed: {', '.join(endpoint.headers.remove)}"
    if endpoint.tls.cert is not None:
        yield f"            shows the certificate {endpoint.tls.cert}"


def _log_lines(config: Config, finding: Finding) -> Iterator[str]:
    log = config.log
    yield f"log         {'standard output' if log.path == '-' else f'{log.path}: {finding.words}'}"
    match log.bodies:
        case "full":
            yield f"            bodies whole up to {_size(log.body_limit)}"
        case "hash":
            yield "            of bodies their length and SHA-256"
        case "none":
            yield "            of bodies their length"
    how = "as a keyed hash" if log.redact.hash_key is not None else "blanked"
    own = [*log.redact.headers, *log.redact.query, *log.redact.json]
    yield f"            credentials {how}{', and ' + ', '.join(own) if own else ''}"
    if log.path != "-":
        size = "of any size" if log.keep.size is None else f"up to {_size(log.keep.size)}"
        age = "for ever" if log.keep.age is None else f"for {_duration(log.keep.age)}"
        yield f"            kept {size}, {age}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def _size(size: int) -> str:
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= length and size % length == 0:
            return f"{size // length} {unit}"
    return f"{size} bytes"
