"""Who may look at what, and who may change it: decided from a request's head alone.

The admin server has no users. What guards it is where it listens, a token, and two rules against web pages that a
browser of the operator's happens to show:

1. A page of another site can send a request here, by a form or by a name of its own that leads to this address (DNS
   rebinding). So what tells or changes anything answers only to a Host that such a page cannot have: an IP address,
   localhost, or the name that `admin` itself is configured with.
2. A form cannot send header fields of its own choosing, and a script of another origin would have to ask first, which
   nothing here grants. So whatever changes something needs `X-Shadowproxy-Admin: 1`.

The right token proves more than both: no page of another site knows it. With it, rule 1 is waived, so that the server
can be reached by the name of a service.
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address

ADMIN_FIELD = "X-Shadowproxy-Admin"


class Kind(Enum):
    """What a path gives away, from the least to the most."""

    OPEN = "counts and health, or the same for everybody: probes and scrapers get it, whatever they call this server"
    STATE = "where the shadows are and how they stand"
    PRIVATE = "what callers sent and were answered, and the configuration"
    CHANGE = "it changes what is mirrored"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered as asked: a status, a word for programs and a sentence for people."""

    status: int
    reason: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Access:
    """`host` is where the admin server listens, None for a Unix socket, which no browser and no other host reaches."""

    host: str | None
    token: str | None = field(default=None, repr=False)

    def refusal(self, kind: Kind, fields: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
        """Why a request with these header fields (names in lower case) may not have what `kind` is, if it may not."""
        if kind is Kind.OPEN:
            return None
        said = list(fields)
        tokens = [value for name, value in said if name == b"authorization"]
        proven = self.token is not None and len(tokens) == 1 and _is_bearer(tokens[0], self.token)
        if not proven and not self._knows([value for name, value in said if name == b"host"]):
            return _HOST_NOT_KNOWN
        if kind is Kind.STATE:
            return None
        marks = [value for name, value in said if name == ADMIN_FIELD.lower().encode()]
        if kind is Kind.CHANGE and marks != [b"1"]:
            return _HEADER_NEEDED
        if proven:
            return None
        if self.token is not None:
            return _TOKEN_WRONG if tokens else _TOKEN_NEEDED
        return None if self._is_loopback() else _TOKEN_NOT_CONFIGURED

    def _knows(self, hosts: list[bytes]) -> bool:
        if self.host is None:
            return True
        if len(hosts) != 1:
            return False
        name = _without_port(hosts[0].decode("latin-1")).lower()
        return name in ("localhost", self.host.lower()) or _is_address(name)

    def _is_loopback(self) -> bool:
        # By where it listens and not by who asks: a service mesh delivers what comes from afar from 127.0.0.1.
        if self.host is None or self.host.lower() == "localhost":
            return True
        return _is_address(self.host) and ip_address(self.host).is_loopback


_HOST_NOT_KNOWN = Refusal(
    421,
    "host_not_known",
    "the Host field must be an IP address, localhost, or the name that `admin` is configured with; by another name, "
    "the token is needed (Authorization: Bearer ...)",
)
_HEADER_NEEDED = Refusal(403, "header_needed", f"what changes something must be asked with {ADMIN_FIELD}: 1")
_CHALLENGE = {"www-authenticate": 'Bearer realm="shadowproxy admin"'}
_TOKEN_NEEDED = Refusal(
    401, "token_needed", "admin_token is configured: send it as Authorization: Bearer ...", _CHALLENGE
)
_TOKEN_WRONG = Refusal(
    401,
    "token_wrong",
    "the Authorization field is not Bearer and the configured admin_token",
    {"www-authenticate": 'Bearer realm="shadowproxy admin", error="invalid_token"'},
)
_TOKEN_NOT_CONFIGURED = Refusal(
    403,
    "token_not_configured",
    "admin listens beyond loopback and there is no admin_token: configure one, or let admin listen on 127.0.0.1",
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
