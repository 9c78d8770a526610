"""Tests, over its admin server, whether a running sidecar accepts requests: for Docker's HEALTHCHECK and its like.

A supervisor runs this every few seconds next to the proxy, so it imports next to nothing: `__main__` calls it before
the command line's library is loaded. Only `-c FILE`, which reads the whole file as `serve` does, costs more.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence

ADMIN = "127.0.0.1:9901"
TIMEOUT = 2.0
"""Seconds, for all of it: connecting, asking and reading."""

REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
STATUS_LINE = 64  # bytes; "HTTP/1.1 200 OK" and a reason phrase

WILDCARDS = {"0.0.0.0": ("127.0.0.1",), "[::]": ("[::1]", "127.0.0.1")}
"""A server that listens on every address is reached on loopback, of which a machine may have that of IPv4 alone."""


VARIABLE = "SHADOWPROXY_ADMIN"
FILE_VARIABLE = "SHADOWPROXY_CONFIG"
OPTIONS = "SHADOWPROXY_HEALTHCHECK__"
"""The variables of `admin`, of `-c FILE` and of the command's own options, where no words give them.

`admin` comes over what the file says, so that the file is not read, and may be broken, where the address is known."""


def run(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> int | None:
    """The exit status for no words or `--admin ADDRESS`; None for any other command line, which click must parse."""
    match words:
        case [] if any(each.startswith(OPTIONS) for each in environment):
            return None
        case [] if environment.get(FILE_VARIABLE) and admin_variable(environment) in ("", "null"):
            return None
        case []:
            return probe_default(environment)
        case ["--admin", address] if not address.startswith("-"):
            return probe(address)
        case _:
            return None


def probe_default(environment: Mapping[str, str]) -> int:
    """The same for the address that the environment gives, or the default one."""
    return probe(admin_variable(environment) or ADMIN)


def admin_variable(environment: Mapping[str, str]) -> str:
    """What the environment says of `admin`, "" for nothing. Quotes around it, as env files keep them, do not count."""
    text = environment.get(VARIABLE, "").strip()
    quoted = len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]
    return text[1:-1].strip() if quoted else text


def probe(admin: str) -> int:
    """0 if the sidecar with its admin server at `admin` accepts requests; else 1, with the reason on standard error."""
    deadline = time.monotonic() + TIMEOUT
    try:
        with _connected(admin, deadline) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(REQUEST)
            head = b""
            while b"\r\n" not in head and len(head) < STATUS_LINE:
                connection.settimeout(_left(deadline))
                received = connection.recv(STATUS_LINE)
                if not received:
                    break
                head += received
    except (OSError, ValueError) as error:
        return _unready(f"no answer from {admin}: {error}")
    protocol, _, rest = head.partition(b" ")
    if protocol != b"HTTP/1.1" or rest[:3] != b"200":
        return _unready(f"{admin} answers {head.partition(bytes([13]))[0].decode('latin-1')!r} instead of 200")
    return 0


def _connected(admin: str, deadline: float) -> socket.socket:
    """Raises OSError, of which TimeoutError is one, and ValueError for a text that is not an address."""
    if admin.startswith("unix:"):
        return _reached(socket.AF_UNIX, admin.removeprefix("unix:"), deadline)
    host, _, port = admin.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("not host:port, [IPv6 address]:port or unix:/path")
    failed: OSError | None = None
    for name in WILDCARDS.get(host, (host,)):
        bare = name.removeprefix("[").removesuffix("]")
        # Not create_connection: it gives each address of a name the whole time.
        for family, _, _, _, address in socket.getaddrinfo(bare, int(port), type=socket.SOCK_STREAM):
            try:
                return _reached(family, address, deadline)
            except OSError as error:
                failed = error
    raise failed or OSError("the name has no address")


def _reached(family: int, address: object, deadline: float) -> socket.socket:
    connection = socket.socket(family)
    try:
        connection.settimeout(_left(deadline))
        connection.connect(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
    except OSError:
        connection.close()
        raise
    return connection


def _left(deadline: float) -> float:
    """Seconds until then. Raises TimeoutError when none are left."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _unready(why: str) -> int:
    sys.stderr.write(f"shadowproxy: not ready: {why}\n")
    return 1
