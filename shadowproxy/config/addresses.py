"""Addresses: where the proxy listens, the URLs of endpoints, and the Host header."""

import os
import re
from base64 import b64encode
from urllib.parse import unquote, urlsplit

from shadowproxy.addresses import Address, TcpAddress, UnixAddress, overlap

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_LONGEST_PATH = 107
"""Bytes of a Unix socket's path that Linux accepts (unix(7)), without the 0 behind it."""


def read_url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a URL, such as http://model:8000")
    url = str(value)
    if not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError("has a space or a character outside ASCII: percent-encode it, or write the host in punycode")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL: its host or port cannot be read") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        # The value is not quoted: what stands before the @ is likely a password.
        raise ValueError("must not carry a user or password: set the Authorization header with headers.set and ${NAME}")
    if not parts.hostname or not _HOST.fullmatch(parts.netloc) or port == 0:
        raise ValueError("needs a host, such as http://model:8000")
    if "?" in url or "#" in url:
        raise ValueError("must end with its path: a query or fragment belongs to each request")
    return url


def read_proxy_url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a URL, such as http://proxy:3128")
    read_proxy(value)
    return value  # unchanged: `shown` must see whether it came from the environment


def read_proxy(url: str) -> tuple[str, int, str | None]:
    """Its host, its port, and the value of Proxy-Authorization; None without credentials.

    Raises ValueError, which quotes nothing: what it was given may be a password. A password with / or @ in it is read
    as it stands: a proxy's URL has no path, so all before the last @ is the user and the password.
    """
    if not url.startswith("http://"):
        raise ValueError("must begin with http://, also for an https url: TLS then goes through the proxy")
    credentials, at, place = url.removeprefix("http://").rpartition("@")
    place = place.removesuffix("/")
    host, _, port = place.rpartition(":")
    if not _HOST.fullmatch(place) or not host or not port.isdigit() or not 0 < int(port) <= 65535:
        raise ValueError("needs the proxy's host and port and nothing after them, such as http://proxy:3128")
    host = host.removeprefix("[").removesuffix("]")
    if not at:
        return host, int(port), None
    user, colon, password = map(unquote, credentials.partition(":"))
    if not colon or re.search(r"[\x00-\x1f\x7f]", user + password):
        raise ValueError("needs user:password before the @, without a line break or another control character")
    if ":" in user:
        raise ValueError("has a colon in its user, which cannot be sent (RFC 7617)")
    return host, int(port), f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def read_listen(value: object) -> TcpAddress | UnixAddress:
    if isinstance(value, TcpAddress | UnixAddress):
        return value
    text = value if isinstance(value, str) else ""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError("must be unix: and an absolute path")
        if "\0" in path or len(os.fsencode(path)) > _LONGEST_PATH:
            raise ValueError(f"must be unix: and a path of at most {_LONGEST_PATH} bytes, none of them 0")
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (
        not (colon and bare and re.fullmatch(r"[0-9]{1,5}", port))
        or int(port) > 65535
        or (":" in bare and bare == host)
    ):
        raise ValueError("must be host:port, [IPv6 address]:port, or unix:/path")
    return TcpAddress(bare, int(port))


def read_listens(value: object) -> object:
    """One address as a list of one. The items of a list are read one by one, so that an error names the item."""
    if not isinstance(value, list | tuple):
        return (read_listen(value),)
    if not value:
        raise ValueError("must be an address, or a list of at least one")
    return value


def check_apart(listen: tuple[Address, ...]) -> tuple[Address, ...]:
    for place, one in enumerate(listen):
        for other in listen[:place]:
            if one == other and not (isinstance(one, TcpAddress) and one.port == 0):
                raise ValueError(f"has {one} twice")
            if overlap(one, other):
                raise ValueError(f"has {other} and {one}, of which one includes the other: leave that one out")
    return listen


def written_listens(listen: tuple[Address, ...]) -> str | list[str]:
    """As in a file: a single address is no list."""
    return str(listen[0]) if len(listen) == 1 else [str(each) for each in listen]


def read_host_header(value: object) -> str:
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError("must be upstream, preserve, or the Host to send, as in model.example:8000")
    return value
