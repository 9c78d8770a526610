"""Reads the certificates and keys that a configuration names into one TLS context for each https endpoint.

Live's files must exist, a shadow's may come later. Reading a file may also hang, as for a pipe or on a lost mount. So
each section's files are read in a thread of their own, all at once, and with a time limit.
"""

import asyncio
import ssl
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from shadowproxy.apart import apart
from shadowproxy.serve.sidecar.specs import EndpointSpec, LiveSpec, TlsSpec
from shadowproxy.serve.upstreams.tls import tls_context

WITHIN = 10.0
SHADOW_WITHIN = 2.0
"""Seconds that reading live's files may take, and a shadow's: callers wait for them during a start."""


class ContextError(Exception):
    """Live's files cannot be used. One line."""


class GenerationError(Exception):
    """The configuration cannot be put in force. One line."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """`given` has the contexts by section; `unusable` has, by name, the reason why a shadow cannot be used."""

    given: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)


class Reader:
    """Reads the files of sections. Owns its threads; a hanging one is abandoned, and its files are not read twice."""

    def __init__(self) -> None:
        self._ended: dict[tuple[str, TlsSpec], threading.Event] = {}

    async def read(self, spec: LiveSpec, only: Collection[str] | None = None) -> Contexts:
        """Raises ContextError for live's files. With `only`, reads the files of these shadows alone."""
        unusable = spec.missing
        wanted = {
            where: endpoint
            for where, endpoint in spec.endpoints.items()
            if endpoint.url.startswith("https:")
            and where.removeprefix("shadows.") not in unusable
            and (only is None or where.removeprefix("shadows.") in only)
        }
        contexts = await asyncio.gather(*(self._one(where, endpoint) for where, endpoint in wanted.items()))
        given: dict[str, ssl.SSLContext] = {}
        for where, each in zip(wanted, contexts, strict=True):
            if isinstance(each, ssl.SSLContext):
                given[where] = each
            elif where == "live":
                raise ContextError(each)
            else:
                unusable[where.removeprefix("shadows.")] = each
        return Contexts(given, unusable)

    async def _one(self, where: str, endpoint: EndpointSpec) -> ssl.SSLContext | str:
        """The context, or the reason why there is none."""
        tls, within = endpoint.tls, WITHIN if where == "live" else SHADOW_WITHIN
        too_long = f"{where}.tls: reading its files takes longer than {within:g} s"
        before = self._ended.get((where, tls))
        if before is not None and not before.is_set():
            return too_long
        ended = self._ended[where, tls] = threading.Event()

        def read() -> ssl.SSLContext | str:
            try:
                return _context(where, tls)
            finally:
                ended.set()

        try:
            async with asyncio.timeout(within):
                context = await apart(read)
        except TimeoutError:
            return too_long
        del self._ended[where, tls]
        return context


def tls_of(tls: TlsSpec) -> ssl.SSLContext:
    """Reads the files. Raises OSError or ssl.SSLError for a file that cannot be used."""
    ca, cert, key = (None if path is None else str(path) for path in (tls.ca, tls.cert, tls.key))
    return tls_context(ca=ca, cert=cert, key=key, verify=tls.verify)


def _context(where: str, tls: TlsSpec) -> ssl.SSLContext | str:
    for key, path in tls.files.items():
        try:
            path.open("rb").close()  # OpenSSL's errors do not name the file
        except OSError as error:
            return f"{where}.tls.{key}: {path} cannot be read: {error.strerror}"
    try:
        return tls_of(tls)
    except (OSError, ssl.SSLError) as error:
        return f"{where}.tls: its files cannot be used: {error}"
