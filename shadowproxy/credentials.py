"""Which header fields and query parameters carry credentials: one list for the shadows and for the log.

A name counts if it is in the exact table, or if it contains one of CREDENTIAL_WORDS after the harmless phrases were
removed; the name of a header field also if its last word is one of a few, as in `X-Acme-Auth`. So `X-Acme-Token`
counts, and `X-Token-Count` or `X-RateLimit-Remaining-Tokens`, which model servers send with every response, do not.
Case, `_` for `-` and `privateKey` for `private-key` make no difference. Some names are doubtful: they count if the
value looks like a key. A name that could be either counts: the configuration can bring a blanked value back, but
nothing undoes a leak. credential_values.py recognizes credentials by their values, under any name.

Pure tables; docs/reference/log.md prints them for the people who review where data goes.
"""

import re
from typing import Final

from shadowproxy.caches import remembered

CREDENTIAL_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "cookie2",
        "set-cookie",
        "set-cookie2",
        "api-key",
        "x-api-key",
        "x-goog-api-key",
        "x-amz-security-token",
        "auth",
        "x-auth",
        "helicone-auth",
        "x-litellm-key",
        "authentication",
        "x-authentication",
        "x-key",
        "x-rapidapi-key",
        "x-functions-key",
        "ocp-apim-subscription-key",
        "x-honeycomb-team",
        "x-amzn-oidc-data",
        "x-ms-client-principal",
        "dpop",
        "sec-websocket-protocol",
        "x-forwarded-client-cert",
        "x-pass",
    }
)
"""Lower case. Names that the words below would match too are listed as well: people look for them here."""

CREDENTIAL_PARAMETERS = frozenset(
    {
        "api-key",
        "token",
        "access-token",
        "auth",
        "sig",
        "signature",
        "hmac",
        "secret",
        "password",
        "passwd",
        "pwd",
        "pass",
        "otp",
        "totp",
        "sid",
        "ticket",
        "assertion",
        "client-assertion",
        "code-verifier",
        "samlresponse",
        "x-amz-credential",
        "x-amz-signature",
        "x-amz-security-token",
        "x-goog-credential",
        "x-goog-signature",
        "awsaccesskeyid",
        "googleaccessid",
        "key-pair-id",
        "phpsessid",
        "sessid",
    }
)
"""Lower case, `_` written as `-`. The keys of JSON in a header field are looked up here too."""

CREDENTIAL_ENDINGS = ("auth", "pwd", "otp", "totp", "sid", "sig", "hmac")
"""A header field's last word. `X-Sid` counts; `X-Inside` and `X-Sig-Figures` do not."""

DOUBTFUL_NAMES = frozenset({"key", "code", "appid", "app-id", "sign"})
"""Parameters that carry a credential where the value looks like a key: `key=user:42` is a question, `code=LHR` an
airport. A name that ends in `-sign` or `-key` is as doubtful, and a header field's too, but for the keys below."""

HARMLESS_KEYS = frozenset(
    {
        "cache",
        "correlation",
        "dedup",
        "deduplication",
        "foreign",
        "group",
        "hash",
        "idempotency",
        "message",
        "object",
        "partition",
        "primary",
        "product",
        "public",
        "range",
        "routing",
        "row",
        "sampling",
        "shard",
        "sort",
        "surrogate",
        "websocket",
    }
)
"""Words before `key` that make it harmless, even if its value is random: `Idempotency-Key`, `X-Cache-Key`."""

CREDENTIAL_WORDS = (
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "hmac-sha",
    "saml-response",
    "credential",
    "authorization",
    "bearer",
    "cookie",
    "jwt",
    "session",
    "signature",
    "apikey",
    "api-key",
    "access-key",
    "accesskey",
    "account-key",
    "accountkey",
    "admin-key",
    "app-key",
    "application-key",
    "auth-key",
    "client-key",
    "customer-key",
    "encryption-key",
    "license-key",
    "master-key",
    "private-key",
    "privatekey",
    "sas-key",
    "shared-key",
    "signing-key",
    "subscription-key",
    "virtual-key",
)
"""A name that contains one of these counts. `key` alone is not one of them: Idempotency-Key is no secret."""

HARMLESS_PHRASES = (
    "tokens",
    "tokeniz",
    "bos-token",
    "cls-token",
    "continuation-token",
    "eos-token",
    "mask-token",
    "next-token",
    "pad-token",
    "page-token",
    "pagination-token",
    "sep-token",
    "special-token",
    "start-token",
    "stop-token",
    "sync-token",
    "unk-token",
    "token-budget",
    "token-count",
    "token-latency",
    "token-length",
    "token-limit",
    "token-rate",
    "token-type",
    "token-usage",
    "first-token",
    "max-token",
    "num-token",
    "per-token",
    "total-token",
    "model-signature",
    "signature-input",
    "signature-name",
    "signature-version",
    "secretary",
    "session-affinity",
    "session-count",
    "session-duration",
    "session-length",
)
"""Names in the APIs of language models and TensorFlow Serving, page tokens, and figures: removed from a name before the
words are looked for."""

_HARMLESS = re.compile("|".join(map(re.escape, HARMLESS_PHRASES)))
_TELLING = re.compile("|".join(map(re.escape, CREDENTIAL_WORDS)))


_LONGEST_DOUBTFUL: Final = 64
"""Characters. A longer name is never doubtful."""


def is_credential_header(name: bytes) -> bool:
    """Whether a header field of this name, in any case, is taken to carry a credential."""
    return _headers[name]


def is_credential_parameter(name: str) -> bool:
    """Whether a query parameter of this name (percent-decoded, any case) is taken to carry a credential."""
    return _parameters[name]


def may_be_credential_parameter(name: str) -> bool:
    """Whether a query parameter of this name carries a credential where its value looks like one."""
    return len(name) <= _LONGEST_DOUBTFUL and _doubtful_parameters[name]


def may_be_credential_header(name: bytes) -> bool:
    """Whether a header field of this name, in any case, carries a credential where its value looks like one."""
    return len(name) <= _LONGEST_DOUBTFUL and _doubtful_headers[name]


def _is_doubtful_parameter(name: str) -> bool:
    return not DOUBTFUL_NAMES.isdisjoint(_plain(name)) or _ends_doubtfully(name)


def _is_doubtful_header(name: bytes) -> bool:
    return _ends_doubtfully(name.decode("latin-1"))


def _ends_doubtfully(name: str) -> bool:
    plain, parted = _plain(name)
    words = parted.split("-")
    if len(words) == 1:
        return False
    return words[-1] == "sign" or (words[-1] == "key" and HARMLESS_KEYS.isdisjoint((*words, *plain.split("-"))))


def _is_header(name: bytes) -> bool:
    plain, parted = _plain(name.decode("latin-1"))
    return (
        not CREDENTIAL_HEADERS.isdisjoint((plain, parted))
        or plain.rpartition("-")[2] in CREDENTIAL_ENDINGS
        or _tells(plain, parted)
    )


def _is_parameter(name: str) -> bool:
    plain, parted = _plain(name)
    # connect.sid, user[pass]: each part is a name.
    return not CREDENTIAL_PARAMETERS.isdisjoint((plain, parted, *_PARTS.split(plain))) or _tells(plain, parted)


_headers: Final = remembered("credential header names", _is_header)
_parameters: Final = remembered("credential parameter names", _is_parameter)
_doubtful_headers: Final = remembered("doubtful header names", _is_doubtful_header)
_doubtful_parameters: Final = remembered("doubtful parameter names", _is_doubtful_parameter)


_PARTS = re.compile(r"[.\[\]]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _plain(name: str) -> tuple[str, str]:
    """A name in lower case with `-` for `_`, and that of `privateKey` with its words parted, `private-key`."""
    plain = name.replace("_", "-")
    return plain.lower(), _CAMEL.sub("-", plain).lower()


def _tells(plain: str, parted: str) -> bool:
    # A placeholder, not nothing, or taking a phrase out could join its neighbours into a word.
    if _TELLING.search(_HARMLESS.sub("|", parted)) is not None:
        return True
    # passWord is one word; but totalTokenCount is harmless.
    return plain != parted and _TELLING.search(_HARMLESS.sub("|", plain)) is not None and not _HARMLESS.search(parted)
