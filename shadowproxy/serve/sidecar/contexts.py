"""Reads the certificates and keys that a configuration names into one TLS context for each https endpoint, and one for
the callers.

Live's files and those for callers must exist, a shadow's may come later. Reading a file may also hang, as for a pipe or
on a lost mount. So each section's files are read in a thread of their own, all at once, and with a time limit.
"""

import asyncio
import ssl
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from shadowproxy.apart import apart
from shadowproxy.serve.callers.tls import server_context
from shadowproxy.serve.sidecar.specs import ListenTlsSpec, LiveSpec, TlsSpec
from shadowproxy.serve.upstreams.tls import tls_context

WITHIN = 10.0
SHADOW_WITHIN = 2.0
"""Seconds that reading live's files may take, and a shadow's: callers wait for them during a start."""

LISTEN = "listen_tls"
_NEEDED = frozenset({"live", LISTEN})


class ContextError(Exception):
    """Live's files, or those for callers, cannot be used. One line."""


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
        self._ended: dict[tuple[str, TlsSpec | ListenTlsSpec], threading.Event] = {}

    async def read(self, spec: LiveSpec, only: Collection[str] | None = None) -> Contexts:
        """Raises ContextError for live's files and callers'. With `only`, reads the files of these shadows alone."""
        unusable = spec.missing
        wanted: dict[str, TlsSpec | ListenTlsSpec] = {
            where: endpoint.tls
            for where, endpoint in spec.endpoints.items()
            if endpoint.url.startswith("https:")
            and where.removeprefix("shadows.") not in unusable
            and (only is None or where.removeprefix("shadows.") in only)
        }
        if spec.listen_tls is not None and only is None:
            wanted[LISTEN] = spec.listen_tls
        contexts = await asyncio.gather(*(self._one(where, tls) for where, tls in wanted.items()))
        given: dict[str, ssl.SSLContext] = {}
        for where, each in zip(wanted, contexts, strict=True):
            if isinstance(each, ssl.SSLContext):
                given[where] = each
            elif where in _NEEDED:
                raise ContextError(each)
            else:
                unusable[where.removeprefix("shadows.")] = each
        return Contexts(given, unusable)

    async def _one(self, where: str, tls: TlsSpec | ListenTlsSpec) -> ssl.SSLContext | str:
        """The context, or the reason why there is none."""
        within = WITHIN if where in _NEEDED else SHADOW_WITHIN
        section = where if isinstance(tls, ListenTlsSpec) else f"{where}.tls"
        too_long = f"{section}: reading its files takes longer than {within:g} s"
        before = self._ended.get((where, tls))
        if before is not None and not before.is_set():
            return too_long
        ended = self._ended[where, tls] = threading.Event()

        def read() -> ssl.SSLContext | str:
            try:
                return _context(section, tls)
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


def listen_tls_of(tls: ListenTlsSpec) -> ssl.SSLContext:
    """The same for callers."""
    cert, key, client_ca = (None if path is None else str(path) for path in (tls.cert, tls.key, tls.client_ca))
    return server_context(cert=cert or "", key=key, client_ca=client_ca)


def _context(section: str, tls: TlsSpec | ListenTlsSpec) -> ssl.SSLContext | str:
    for key, path in tls.files.items():
        try:
            path.open("rb").close()  # OpenSSL's errors do not name the file
        except OSError as error:
            return f"{section}.{key}: {path} cannot be read: {error.strerror}"
    try:
        return listen_tls_of(tls) if isinstance(tls, ListenTlsSpec) else tls_of(tls)
    except (OSError, ssl.SSLError) as error:
        return f"{section}: its files cannot be used: {file_fault(error)}"


def file_fault(error: OSError) -> str:
    """Why TLS files cannot be used. OpenSSL names neither the file nor, for one without any PEM, the fault."""
    if isinstance(error, ssl.SSLError):
        reason = error.reason or "PEM_LIB"
        return "one of them holds no usable certificate or key" if "PEM" in reason else reason.replace("_", " ").lower()
    return (error.strerror or str(error)).lower()
