"""What a secret is replaced by in the log, and where it is looked for: header fields, URLs, form and JSON bodies.

Three rules. What is not redacted stays byte for byte as it was: values are cut out of the raw text, nothing is
serialised anew. What cannot be searched is not told: a body that should be redacted and is not JSON is left out.
A shared secret looks the same wherever it stands: with a key, the mark is an HMAC of the value, so records join.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import unquote_plus

from shadowproxy.credentials import is_credential_header, is_credential_parameter

BLANK = "[redacted]"


@dataclass(frozen=True, slots=True)
class Redaction:
    """What to redact beyond the built-in list. Header and parameter names in lower case; `json` are JSON pointers in
    which `*` stands for any key or index. With `hash_key`, marks are `[redacted:hmac:<16 hex>]` instead of blank.
    """

    headers: frozenset[str] = frozenset()
    query: frozenset[str] = frozenset()
    json: tuple[str, ...] = ()
    hash_key: bytes | None = None

    def mark(self, secret: bytes) -> str:
        """What stands in a secret's place. Equal secrets have equal marks under one key, wherever they stood."""
        if self.hash_key is None:
            return BLANK
        return f"[redacted:hmac:{hmac.digest(self.hash_key, secret, hashlib.sha256).hex()[:16]}]"

    def hides_header(self, name: bytes) -> bool:
        """Whether a header field of this name (any case) is told of by its mark only."""
        if is_credential_header(name):
            return True
        return bool(self.headers) and name.decode("latin-1").lower() in self.headers

    def parameters(self, text: str) -> str:
        """A query string, or a form body, with the values of credential parameters replaced; the rest as it was."""
        if "=" not in text:
            return text
        return "".join(map(self._parameter, _SEPARATOR.split(text)))

    def _parameter(self, text: str) -> str:
        name, equals, value = text.partition("=")
        if equals and value:
            plain = unquote_plus(name)
            if is_credential_parameter(plain) or plain.lower() in self.query:
                return f"{name}={self.mark(unquote_plus(value).encode())}"
        return text

    def urls(self, text: str) -> str:
        """Text that may hold URLs (Referer, Location, Link), with their user information and credentials replaced."""
        if "//" in text and "@" in text:
            text = _USERINFO.sub(lambda match: f"//{self.mark(match[1].encode())}@", text)
        if "=" in text and "?" in text:
            text = _URL_QUERY.sub(lambda match: match[1] + self.parameters(match[2]), text)
        return text

    def error(self, text: str) -> str:
        """An error's text as one line that holds no URL's user information or query."""
        return _ERROR_QUERY.sub(r"\1?...", self.urls(" ".join(text.split())))


_SEPARATOR = re.compile(r"([&;])")
_USERINFO = re.compile(r"//([^/?#\s\"'<>@]++)@")
_URL_QUERY = re.compile(r"([?#])([^?#\s\"'<>]++)")
_ERROR_QUERY = re.compile(r"(//[^\s?\"'<>]++)\?[^\s\"'<>]++")
