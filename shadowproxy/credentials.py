"""Which header fields and query parameters carry credentials: one list for the shadows and for the log.

A name counts when it is in the exact table, or when it contains one of the telling words once the harmless phrases are
taken out of it. So `X-Acme-Token` counts, and `X-Token-Count` or `X-RateLimit-Remaining-Tokens`, which model servers
send with every answer, do not. Case and `_` for `-` make no difference. Where a name could be either, it counts: a
blanked value can be had back by configuration, a leaked one cannot.

Pure tables; docs/log.md prints them for the people who review where data goes.
"""

import re
from functools import lru_cache

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
    }
)
"""Lower case. Those that the words below would catch too are listed all the same: people look for them here."""

CREDENTIAL_PARAMETERS = frozenset(
    {
        "key",
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
        "sid",
        "ticket",
        "assertion",
        "client-assertion",
        "code-verifier",
        "samlresponse",
        "x-amz-credential",
        "x-amz-signature",
        "x-amz-security-token",
        "awsaccesskeyid",
    }
)
"""Lower case, `_` written as `-`. `code` is not here: it is less often an OAuth grant than an airport."""

CREDENTIAL_WORDS = (
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passcode",
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
    "app-key",
    "application-key",
    "auth-key",
    "client-key",
    "customer-key",
    "license-key",
    "master-key",
    "private-key",
    "sas-key",
    "shared-key",
    "subscription-key",
)
"""A name that contains one of these counts. Bare `key` is not one: Idempotency-Key is no secret."""

HARMLESS_PHRASES = (
    "tokens",
    "tokenizer",
    "tokenization",
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
)
"""What language models and TensorFlow Serving call things: taken out of a name before the words are looked for."""

_HARMLESS = re.compile("|".join(map(re.escape, HARMLESS_PHRASES)))
_TELLING = re.compile("|".join(map(re.escape, CREDENTIAL_WORDS)))


_CACHED_NAME = 64
"""Bytes of the longest name remembered: callers choose names, and 4096 of them must stay small."""


def is_credential_header(name: bytes) -> bool:
    """Whether a header field of this name, in any case, is taken to carry a credential."""
    plain = name.decode("latin-1")
    return _is_header(plain) if len(plain) <= _CACHED_NAME else _is_header.__wrapped__(plain)


def is_credential_parameter(name: str) -> bool:
    """Whether a query parameter of this name (percent-decoded, any case) is taken to carry a credential."""
    return _is_parameter(name) if len(name) <= _CACHED_NAME else _is_parameter.__wrapped__(name)


@lru_cache(maxsize=4096)
def _is_header(name: str) -> bool:
    plain = name.lower().replace("_", "-")
    return plain in CREDENTIAL_HEADERS or _tells(plain)


@lru_cache(maxsize=4096)
def _is_parameter(name: str) -> bool:
    plain = name.lower().replace("_", "-")
    return plain in CREDENTIAL_PARAMETERS or _tells(plain)


def _tells(plain: str) -> bool:
    # A placeholder, not nothing, or taking a phrase out could join its neighbours into a word.
    return _TELLING.search(_HARMLESS.sub("|", plain)) is not None
