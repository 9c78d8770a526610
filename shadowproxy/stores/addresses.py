"""Addresses of objects in stores: what they name, and how a message shows them, without what must stay secret."""

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KINDS: Final = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
    "http": "http",
    "https": "http",
}
SCHEMES: Final = "s3://, gs://, az://, file:// and https://"
"""What messages name."""

_MAGIC: Final = re.compile(r"[*?\[]")


class AddressError(ValueError):
    """An address that names nothing. The text is one line and shows no secret."""


class Address(NamedTuple):
    """The place of an object, of a folder of them (its key ends with "/" or is empty), or a pattern.

    Attributes:
        kind: "s3", "gs", "az", or "http" for a web server's file.
        root: as it was written, up to the key: `s3://bucket/`; for a web server the whole address without its user.
        bucket: the bucket or the container; the host of a web server.
        key: below the bucket, without a slash at its beginning; empty for a web server.
        account: of Azure, if the address names it.
        user: the user and password of a web server, as `name:password`.
    """

    kind: str
    root: str
    bucket: str
    key: str
    account: str | None = None
    user: str | None = None

    @property
    def shown(self) -> str:
        """The address for a message: no user, no password, no query, which may be a signature."""
        return self.root.partition("?")[0].partition("#")[0] + self.key

    @property
    def text(self) -> str:
        """The address that can be parsed again."""
        if self.user is None:
            return self.root + self.key
        scheme, _, rest = self.root.partition("://")
        return f"{scheme}://{self.user}@{rest}"

    @property
    def is_pattern(self) -> bool:
        return _MAGIC.search(self.key) is not None

    def at(self, key: str) -> "Address":
        """Another place in the same bucket."""
        return self._replace(key=key)


def is_address(path: object) -> bool:
    """Whether this is written as an address, not as a path of this machine."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def local_path(path: str) -> str | None:
    """The path that a `file://` address names; None for any other text. Raises AddressError for another machine's."""
    if path[:7].lower() != "file://":
        return None
    host, slash, rest = path[7:].partition("/")
    if host not in ("", "localhost") or not slash:
        raise AddressError("a file:// address needs a path from the root, as in file:///var/log/shadow")
    return "/" + unquote(rest)


def address_of(text: str) -> Address:
    """The address in a text. Raises AddressError."""
    found = _ADDRESS.match(text)
    scheme = found[1].lower() if found else ""
    kind = _KINDS.get(scheme)
    if found is None or kind is None:
        raise AddressError(f"not a kind of address that can be read; known are {SCHEMES}")
    if kind == "http":
        return _web(text)
    bucket, _, key = text[found.end() :].partition("/")
    account = None
    if kind == "az" and "@" in bucket:
        bucket, _, host = bucket.partition("@")
        account = host.partition(".")[0]
    if not bucket or "@" in bucket or ":" in bucket:
        raise AddressError(f"an address needs a bucket, as in {scheme}://bucket/folder/")
    return Address(kind, f"{text[: found.end()]}{text[found.end() :].partition('/')[0]}/", bucket, key, account)


def _web(text: str) -> Address:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressError("not an address of a web server") from None
    if not host:
        raise AddressError("an address needs a host, as in https://host/file.jsonl.zst")
    user, at, place = parts.netloc.rpartition("@")
    root = parts._replace(netloc=place, fragment="").geturl()
    return Address("http", root, host if port is None else f"{host}:{port}", "", user=unquote(user) if at else None)


def shown(path: str) -> str:
    """A path or an address for a message, without what must stay secret."""
    if not is_address(path):
        return path
    try:
        return path if local_path(path) is not None else address_of(path).shown
    except AddressError:
        return path.partition("?")[0].rpartition("@")[2]
