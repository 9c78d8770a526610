"""Builds endpoints from the configuration's sections, for `serve`, `check` and `replay`."""

import ssl

from shadowproxy.config import Live, Shadow, Tls
from shadowproxy.serve.policy.query import QueryEdits
from shadowproxy.serve.upstreams.endpoint import Endpoint, tls_context

PACE = 0.005  # seconds between half milliseconds of reading a shadow's tiny chunks: a tenth of a core, at most


def endpoint_of(section: Live | Shadow, tls: ssl.SSLContext | None) -> Endpoint:
    """The endpoint of a section with a `url`; `tls` is needed for https."""
    return Endpoint(
        section.url or "",
        tls=tls,
        connect_timeout=section.connect_timeout,
        silence=section.timeout,
        host=section.host,
        removed=frozenset(name.lower().encode() for name in section.headers.remove),
        put=tuple((name.encode(), value.encode()) for name, value in section.headers.set.items()),
        query=QueryEdits.of(section.query.set, section.query.remove),
        retry=not isinstance(section, Live) or section.retry == "idle",
        pace=0.0 if isinstance(section, Live) else PACE,
    )


def tls_of(tls: Tls) -> ssl.SSLContext:
    """Reads the section's files. Raises OSError or ssl.SSLError for a file that cannot be used."""
    ca, cert, key = (None if path is None else str(path) for path in (tls.ca, tls.cert, tls.key))
    return tls_context(ca=ca, cert=cert, key=key, verify=tls.verify)
