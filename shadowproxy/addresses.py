"""Where the program listens, as plain data: a TCP address, or a path in the file system."""

from dataclasses import dataclass
from ipaddress import ip_address
from posixpath import normpath
from typing import TypeAlias

SHORT_TOKEN = 16
"""Fewer characters give a warning, and an error if other machines can reach the admin server."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Where to listen. `port` 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect. The only name that counts is localhost."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of this machine: 0.0.0.0 for those of IPv4, :: for all."""
        try:
            return ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """Where to listen, as a path in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = TcpAddress | UnixAddress


def overlap(one: Address, other: Address) -> bool:
    """Whether the system cannot give a program both. `[::]` and an IPv4 address go together (callers/addresses.py)."""
    if isinstance(one, UnixAddress) and isinstance(other, UnixAddress):
        return normpath(one.path) == normpath(other.path)
    if not isinstance(one, TcpAddress) or not isinstance(other, TcpAddress):
        return False
    if one.port != other.port or one.port == 0 or one.is_ipv6 != other.is_ipv6:
        return False
    return _canonical(one.host) == _canonical(other.host) or one.is_wildcard or other.is_wildcard


def _canonical(host: str) -> str:
    """`host` as the standard writes it: an IPv6 address has many spellings."""
    try:
        return str(ip_address(host))
    except ValueError:
        return host.lower()


def plain_host(host: str) -> str:
    """A socket of both families gives the IPv4 address 192.0.2.1 as ::ffff:192.0.2.1, by which nobody knows it."""
    return host.removeprefix("::ffff:") if "." in host else host


def token_fault(admin: TcpAddress | UnixAddress | None, token: str) -> str | None:
    """Why the token cannot protect an admin server at that address; None if it can."""
    if len(token) >= SHORT_TOKEN or not isinstance(admin, TcpAddress) or admin.is_loopback:
        return None
    return (
        f"is shorter than {SHORT_TOKEN} characters and admin listens beyond loopback, where it could be guessed: "
        "use openssl rand -hex 32"
    )
