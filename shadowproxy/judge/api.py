"""What the endpoints of an OpenAI-compatible API have in common: addresses, and what a server says of an error."""

from typing import Final
from urllib.parse import urlsplit

import orjson

from shadowproxy.compare.judge.visible import visible

AGAIN: Final = frozenset({429, 500, 502, 503, 504})
"""Statuses after which the same call may succeed."""

_USUAL: Final = "/v1"  # for a URL that is an origin only
_SHOWN: Final = 160  # characters of what a server says


def address(text: str, suffix: str, key_name: str) -> str:
    """The address whose path ends in `suffix`, for the base URL of an API or for the address itself.

    `key_name` is the variable of the environment that has the key. Raises ValueError.
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("it holds characters that no URL has")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is no http or https URL, such as https://api.openai.com/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"it holds a user name or password: give the key in {key_name}")
    _ = parts.port  # raises ValueError for one that is no port
    path = parts.path.rstrip("/")
    if not path.endswith(suffix):
        path = f"{path or _USUAL}{suffix}"
    return parts._replace(path=path, fragment="").geturl()


def shown_address(url: str) -> str:
    """An address as it may be shown and kept: without its query, which may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def message_in(raw: bytes, key: str | None) -> str:
    """What the body of an error says, as the end of a message."""
    try:
        error = orjson.loads(raw)["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, TypeError, KeyError):
        return ""
    return f": {cleaned(text, key)}" if isinstance(text, str) else ""


def cleaned(message: object, key: str | None) -> str:
    """A message of a server, or an error, as one short line without the key."""
    text = str(message)
    if key:
        text = text.replace(key, "[key]")
    text = " ".join(visible(" ".join(text.split())).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
