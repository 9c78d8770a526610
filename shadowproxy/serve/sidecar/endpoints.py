"""Builds endpoints from their specs, for `serve`, `check` and `replay`."""

import ssl

from shadowproxy.serve.policy.query import QueryEdits
from shadowproxy.serve.sidecar.specs import EndpointSpec, ProxySpec
from shadowproxy.serve.upstreams.endpoint import Endpoint
from shadowproxy.serve.upstreams.through import ForwardProxy


def endpoint_of(spec: EndpointSpec, tls: ssl.SSLContext | None) -> Endpoint:
    """`tls` is needed for https."""
    return Endpoint(
        spec.url,
        tls=tls,
        proxy=forward_proxy(spec.proxy),
        connect_timeout=spec.connect_timeout,
        max_age=spec.max_age,
        silence=spec.timeout,
        host=spec.host,
        removed=frozenset(name.lower().encode() for name in spec.remove_headers),
        put=tuple((name.encode(), value.encode()) for name, value in spec.set_headers.items()),
        query=QueryEdits.of(spec.set_parameters, spec.remove_parameters),
        retry=spec.retry,
        pace=spec.pace,
    )


def forward_proxy(spec: ProxySpec | None) -> ForwardProxy | None:
    if spec is None:
        return None
    return ForwardProxy(spec.host, spec.port, None if spec.authorization is None else spec.authorization.encode())
