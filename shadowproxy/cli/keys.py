"""The keys of APIs that texts are sent to: from the environment, and each to the one origin that it is meant for."""

import os
from urllib.parse import urlsplit

from shadowproxy.cli.group import UserError, print_error

_OPENAI_KEY = "OPENAI_API_KEY"
_OPENAI = "api.openai.com"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def key_for(name: str, url: str) -> str | None:
    """The key in this variable of the environment; for OpenAI also the one that its own clients use.

    Warns on standard error if what is sent to the URL is not encrypted.
    """
    parts = urlsplit(url)
    key = _key(name, openai=parts.scheme == "https" and parts.hostname == _OPENAI)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        what = "the key and the answers are" if key is not None else "the answers are"
        print_error(f"{what} sent unencrypted: {parts.scheme}://{parts.hostname} is no https URL")
    return key


def _key(name: str, *, openai: bool) -> str | None:
    for each in (name, *((_OPENAI_KEY,) if openai else ())):
        key = os.environ.get(each, "").strip()
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise UserError(f"{each} holds characters that no key has")
        if key:
            return key
    return None
