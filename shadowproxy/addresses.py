"""Where the program listens, as plain data: a TCP address, or a path in the file system."""

from dataclasses import dataclass
from ipaddress import ip_address

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

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """Where to listen, as a path in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


def token_fault(admin: TcpAddress | UnixAddress | None, token: str) -> str | None:
    """Why the token cannot protect an admin server at that address; None if it can."""
    if len(token) >= SHORT_TOKEN or not isinstance(admin, TcpAddress) or admin.is_loopback:
        return None
    return (
        f"is shorter than {SHORT_TOKEN} characters and admin listens beyond loopback, where it could be guessed: "
        "use openssl rand -hex 32"
    )
