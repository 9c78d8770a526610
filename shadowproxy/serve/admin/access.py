"""Which requests may see what, and which may change something: decided from a request's head alone.

The admin server has no users. Its guards are the address that it listens on, a token, and two rules against web pages
that the operator's browser happens to show:

1. A page of another site can send a request here, by a form or by a name of its own that leads to this address (DNS
   rebinding). So a path that shows or changes something answers only to a Host that such a page cannot have: an IP
   address, localhost, or the name that `admin` itself is configured with.
2. A form cannot send header fields of its own choosing, and a script of another origin would need a permission (CORS)
   that is never given. So a request that changes something needs `X-Shadowproxy-Admin: 1`.

The right token proves more than both: no page of another site knows it. With it, rule 1 does not apply, so that the
server can be reached by the name of a service.
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address

ADMIN_FIELD = "X-Shadowproxy-Admin"


class Kind(Enum):
    """What a path shows or does, from the least to the most."""

    OPEN = (
        "counts and health, or what is the same for everybody: for probes and scrapers, by whatever name they connect"
    )
    STATE = "the shadows' addresses and states"
    PRIVATE = "requests, responses and the configuration"
    CHANGE = "changes what is mirrored"


@dataclass(frozen=True, slots=True)
class AdminError:
    """An error response of the admin server: its status, a word for programs and a sentence for people."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Access:
    """`host` is where the admin server listens, None for a Unix socket, which no browser and no other host reaches."""

    host: str | None
    token: str | None = field(default=None, repr=False)

    def error(self, kind: Kind, fields: Iterable[tuple[bytes, bytes]]) -> AdminError | None:
        """The error for a request with these header fields (names in lower case) to a path of this kind.

        None where the request is allowed.
        """
        if kind is Kind.OPEN:
            return None
        given = list(fields)
        tokens = [value for name, value in given if name == b"authorization"]
        proven = self.token is not None and len(tokens) == 1 and _is_bearer(tokens[0], self.token)
        if not proven and not self._is_known([value for name, value in given if name == b"host"]):
            return _HOST_NOT_KNOWN
        if kind is Kind.STATE:
            return None
        marks = [value for name, value in given if name == ADMIN_FIELD.lower().encode()]
        if kind is Kind.CHANGE and marks != [b"1"]:
            return _HEADER_NEEDED
        if proven:
            return None
        if self.token is not None:
            return _TOKEN_WRONG if tokens else _TOKEN_NEEDED
        return None if self._is_loopback() else _TOKEN_NOT_CONFIGURED

    def _is_known(self, hosts: list[bytes]) -> bool:
        if self.host is None:
            return True
        if len(hosts) != 1:
            return False
        name = _without_port(hosts[0].decode("latin-1")).lower()
        return name in ("localhost", self.host.lower()) or _is_address(name)

    def _is_loopback(self) -> bool:
        # By where it listens, not by where requests come from: a service mesh delivers remote ones from 127.0.0.1.
        if self.host is None or self.host.lower() == "localhost":
            return True
        return _is_address(self.host) and ip_address(self.host).is_loopback


_HOST_NOT_KNOWN = AdminError(
    421,
    "host_not_known",
    "the Host field must be an IP address, localhost, or the name that `admin` is configured with; any other name "
    "needs the token (Authorization: Bearer TOKEN)",
)
_HEADER_NEEDED = AdminError(
    403, "header_needed", f"a request that changes something needs the header field {ADMIN_FIELD}: 1"
)
_CHALLENGE = {"www-authenticate": 'Bearer realm="shadowproxy admin"'}
_TOKEN_NEEDED = AdminError(
    401, "token_needed", "admin_token is configured: send it as Authorization: Bearer TOKEN", _CHALLENGE
)
_TOKEN_WRONG = AdminError(
    401,
    "token_wrong",
    "the Authorization field must be Bearer and the configured admin_token",
    {"www-authenticate": 'Bearer realm="shadowproxy admin", error="invalid_token"'},
)
_TOKEN_NOT_CONFIGURED = AdminError(
    403,
    "token_not_configured",
    "admin listens beyond loopback and no admin_token is configured: configure one, or have admin listen on 127.0.0.1",
)


def _is_bearer(value: bytes, token: str) -> bool:
    scheme, _, given = value.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(b" "), token.encode())


def _without_port(host: str) -> str:
    """The name or address of a Host field: `h`, `h:1`, `1.2.3.4:1`, `[::1]`, `[::1]:1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
