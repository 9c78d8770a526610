r"""What a credential looks like, whatever the name it comes under: one set of shapes for the shadows and for the log.

The rules, each of which finds parts of a text:

1. A scheme of HTTP authentication and what only such a scheme is followed by: `Bearer 6f1c...`, `Basic dXNlcjpwYXNz`.
   A word behind it is a word: `Basic`, `bearer of news` and `token classification` hold none.
2. A JSON Web Token, a PASETO, a PEM private key, or a key that begins as its issuer's documentation says: `ghp_...`.
3. What stands beside a name that credentials.py knows: `"api_key": "..."`, `sid=...; Path=/`, `?token=...`,
   `api_key: ...`.
4. User information in a URL.
5. Percent-encoded or base64-encoded text in which the rules above find something, which is then taken whole.

A shape has to tell a key from a word, a version, a date, a UUID, a hash: `sk-learn` and `"33a64df551425fcc"` are none.
Every pattern reads a text once, so that a header of 64 KiB takes milliseconds at most.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from sys import getsizeof
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_plus

from shadowproxy.caches import remembered
from shadowproxy.credentials import (
    is_credential_header,
    is_credential_parameter,
    may_be_credential_header,
    may_be_credential_parameter,
)


class Found(NamedTuple):
    """Where in a text a credential stands, and what it is there: the text itself, or what was decoded from it.

    `quote` goes around what is put in its place: JSON stays JSON where the value was no string.
    """

    start: int
    end: int
    secret: str
    quote: str = ""


SHORTEST: Final = 6
"""Characters. A shorter value of a header field is not looked into: `pwd=a` is the shortest that would be found."""

_LONGEST_NAME: Final = 128
"""Characters of the name in a pair."""

_NESTED: Final = 3
"""How deep what is encoded is decoded: a URL within a parameter of a URL within one."""

# --- 1. schemes ------------------------------------------------------------------------------------------------------

# What follows one of these and ends the value is a credential, unless it is a word or a number.
_PLAIN_SCHEMES: Final = "bearer|apikey|api-key|x-api-key|jwt|ssws|geniekey|privatetoken|splunk|access-token"
# These are words, too: what follows has to look like a key.
_WORD_SCHEMES: Final = (
    "token|basic|key|bot|negotiate|ntlm|kerberos|dpop|oauth|hmac|aws|sharedkey|sharedkeylite|client-id|digest|secret"
    "|oauthtoken|api-token|apitoken|authtoken|accesstoken|accesskey|secretkey"
)
# These are followed by parameters, one of which is the proof.
_PARAMETER_SCHEMES: Final = (
    "digest|oauth|hawk|mac|signature|token|vapid|gnap|mutual|snowflake|privatetoken|sharedaccesssignature|scram-sha-1"
    "|scram-sha-256|hmac-sha1|hmac-sha256|hmac-sha512|aws4-hmac-sha256|aws4-ecdsa-p256-sha256|goog4-hmac-sha256"
    "|goog4-rsa-sha256|tc3-hmac-sha256|acs3-hmac-sha256|sdk-hmac-sha256"
)
_PROOFS: Final = "response|credential|signature|oauth_signature|mac|sig|token|oauth_token|access_token|data|k|h"

_NOT_INSIDE: Final = r"(?<![A-Za-z0-9_-])"
_SCHEME: Final = re.compile(
    # Of some, issuers make schemes of their own: `Api-Token`, `Zoho-oauthtoken`.
    rf"(?:{_NOT_INSIDE}(?i:(?P<plain>{_PLAIN_SCHEMES}))|(?<![A-Za-z0-9])(?i:(?P<word>{_WORD_SCHEMES})))"
    r"(?:(?:[ \t]*+:)?+[ \t]++|(?<=(?i:bearer)):)"
    r"(?P<credential>[^\s,;\"'=(){}<>\[\]\\]{6,}+=*+)"
    r"(?=$|[\s,;)}\]>&\\]|[\"'](?:[\s,;:)}\]>\\]|$))"
)
_WITH_PARAMETERS: Final = re.compile(
    rf"{_NOT_INSIDE}(?i:{_PARAMETER_SCHEMES})[ \t]++(?=[^\s=,]++[ \t]*+=)(?P<credential>.++)", re.DOTALL
)
_PROOF: Final = re.compile(rf"(?<![A-Za-z0-9_-])(?i:{_PROOFS})[ \t]*+=[ \t]*+[^\s,;]{{6}}")

# --- 2. keys ---------------------------------------------------------------------------------------------------------

# What issuers document of their keys (and scanners of repositories look for): how they begin, in which characters they
# go on, and for how long at least. Lower bounds are somewhat below the real lengths, as those have grown before.
_KEYS: Final = (
    r"sk-(?:ant|proj|svcacct|admin|or-v1|lf|helicone|litellm)-[A-Za-z0-9_-]{10,}+",  # OpenAI, Anthropic, gateways
    r"sk-[A-Za-z0-9]{20,}+",
    r"gh[pousr]_[A-Za-z0-9_]{20,}+",  # GitHub
    r"github_pat_[A-Za-z0-9_]{20,}+",
    r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat)-[A-Za-z0-9_.-]{16,}+",  # GitLab
    r"xox[abceoprs]-[A-Za-z0-9-]{10,}+",  # Slack
    r"xapp-[0-9]-[A-Za-z0-9-]{10,}+",
    r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS
    r"AIza[A-Za-z0-9_-]{20,}+",  # Google
    r"ya29\.[A-Za-z0-9_.-]{16,}+",
    r"GOCSPX-[A-Za-z0-9_-]{20,}+",
    r"hf_[A-Za-z0-9]{20,}+",  # Hugging Face
    r"api_org_[A-Za-z0-9]{20,}+",
    r"npm_[A-Za-z0-9]{30,}+",
    r"pypi-Ag[A-Za-z0-9_-]{40,}+",
    r"[sr]k_(?:live|test)_[A-Za-z0-9_]{10,}+",  # Stripe
    r"whsec_[A-Za-z0-9+/]{16,}+=*+",
    r"SG\.[A-Za-z0-9_-]{16,}+\.[A-Za-z0-9_-]{16,}+",  # SendGrid
    r"do[opr]_v1_[a-f0-9]{32,}+",  # DigitalOcean
    r"gsk_[A-Za-z0-9]{20,}+",  # Groq
    r"xai-[A-Za-z0-9]{40,}+",
    r"pplx-[A-Za-z0-9]{32,}+",  # Perplexity
    r"r8_[A-Za-z0-9]{30,}+",  # Replicate
    r"nvapi-[A-Za-z0-9_-]{40,}+",
    r"dapi[a-f0-9]{32}(?![A-Za-z0-9])",  # Databricks
    r"lsv2_(?:pt|sk)_[a-f0-9_]{32,}+",  # LangSmith
    r"pcsk_[A-Za-z0-9_]{30,}+",  # Pinecone
    r"sbp_[a-f0-9]{40}",  # Supabase
    r"shp(?:at|ca|pa|ss|tka)_[a-fA-F0-9]{32}",  # Shopify
    r"hv[sbr]\.[A-Za-z0-9_-]{24,}+",  # HashiCorp Vault
    r"glsa_[A-Za-z0-9_]{32,}+",  # Grafana
    r"NRAK-[A-Z0-9]{27}",  # New Relic
    r"PMAK-[a-f0-9-]{40,}+",  # Postman
    r"lin_api_[A-Za-z0-9]{32,}+",  # Linear
    r"dckr_pat_[A-Za-z0-9_-]{20,}+",  # Docker
    r"rubygems_[a-f0-9]{40,}+",
    r"sntr[ysu]s?_[A-Za-z0-9+/=_-]{40,}+",  # Sentry
    r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{30,}+",
    r"ATATT3[A-Za-z0-9_=-]{50,}+",  # Atlassian
    r"AGE-SECRET-KEY-1[A-Z0-9]{50,}+",
    r"key-[a-f0-9]{32}(?![A-Za-z0-9])",  # Mailgun
    r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])",  # Telegram
    r"v[1-4]\.(?:local|public)\.[A-Za-z0-9_-]{20,}+[A-Za-z0-9_.-]*+",  # PASETO
    r"ABSK[A-Za-z0-9+/]{40,}+=*+",  # AWS Bedrock
    r"bedrock-api-key-[A-Za-z0-9+/]{40,}+=*+",
    r"LTAI[A-Za-z0-9]{12,26}(?![A-Za-z0-9])",  # Alibaba
    r"AKID[A-Za-z0-9]{32}(?![A-Za-z0-9])",  # Tencent
    r"fw_[A-Za-z0-9]{20,}+",  # Fireworks
    r"tgp_v1_[A-Za-z0-9_-]{30,}+",  # Together
    r"csk-[A-Za-z0-9]{40,}+",  # Cerebras
    r"jina_[A-Za-z0-9_-]{40,}+",
    r"tvly-(?:dev-|prod-)?[A-Za-z0-9]{20,}+",  # Tavily
    r"fc-[a-f0-9]{32}(?![A-Za-z0-9])",  # Firecrawl
    r"llx-[A-Za-z0-9]{40,}+",  # LlamaCloud
    r"rpa_[A-Z0-9]{36,}+",  # RunPod
    r"e2b_[a-f0-9]{32,}+",
    r"ls__[a-f0-9]{32}",  # LangSmith, of old
    r"wandb_v1_[A-Za-z0-9_]{30,}+",  # Weights & Biases
    r"sgp_[a-f0-9_]{40,}+",  # Sourcegraph
    r"sha256~[A-Za-z0-9_-]{40,}+",  # OpenShift
    r"figd_[A-Za-z0-9_-]{30,}+",  # Figma
    r"(?:secret|ntn)_[A-Za-z0-9]{40,}+",  # Notion
    r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}",  # Airtable
    r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{40,}+",  # Terraform
    r"CCIPAT_[A-Za-z0-9]{20,}+_[a-f0-9]{32,}+",  # CircleCI
    r"bkua_[a-f0-9]{32,}+",  # Buildkite
    r"tskey-[a-z]{3,}-[A-Za-z0-9]{8,}+(?:-[A-Za-z0-9]{16,}+)?+",  # Tailscale
    r"shippo_(?:live|test)_[a-f0-9]{32,}+",
    r"sq0(?:csp|atp)-[A-Za-z0-9_-]{20,}+",  # Square
    r"(?:fo1|fm[12][ar]?)_[A-Za-z0-9+/_-]{30,}+=*+",  # Fly
    r"rnd_[A-Za-z0-9]{28,}+",  # Render
    r"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}(?![A-Za-z0-9])",  # Resend
    r"phx_[A-Za-z0-9]{40,}+",  # PostHog
    r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{36,}+",  # Doppler
    # What an address for messages lets whoever knows it post: its path is the secret.
    r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}+",
    r"discord(?:app)?\.com/api/(?:v[0-9]+/)?webhooks/[0-9]{15,}/[A-Za-z0-9_-]{40,}+",
)
# eyJ is {" in base64: a JSON object. JWS (RFC 7515) has three parts, JWE (RFC 7516) five; some may be empty.
_JWT: Final = r"e(?:yJ|yA|wo|w0)[A-Za-z0-9_-]{6,}+(?:\.[A-Za-z0-9_-]*+){2,4}"
_KEY: Final = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join((*_KEYS, _JWT))})")
# As above with words in it, as `sk-learn-random-forest` has: one of its parts must be no word.
_WORDY_KEY: Final = re.compile(r"(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{13,}+")
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END).)*+(?:-----END [A-Z0-9 ]*+-----)?",
    re.DOTALL,
)

# --- 3. names --------------------------------------------------------------------------------------------------------

_NAME: Final = re.compile(r"(?P<name>[\w.%\[\]-]++)(?:(?P<equals>[ \t]*+=[ \t]*+)|(?P<colon>[ \t]*+:[ \t]++))?+")
_VALUE: Final = re.compile(r"\"(?P<quoted>[^\"]++)\"|(?P<value>[^\s;,&\"'<>(){}?#]++)")
_JSON_NAME: Final = re.compile(
    r"(?P<escapes>\\{0,7}+)(?P<quote>[\"'])(?P<name>[\w.\[\] $@-]{2,128}+)(?P=escapes)(?P=quote)\s*+:\s*+"
)
_BRACKET_OR_STRING: Final = re.compile(r"\"(?:[^\"\\]++|\\.)*+\"?|[\[{]|[\]}]", re.DOTALL)
_SCALAR: Final = re.compile(r"[^\s,}\]]*+")
_HARMLESS: Final = re.compile(r"(?i:true|false|null|none|nil|yes|no|on|off|required|optional|[0-9]{1,3}|\*+)")
"""What says whether there is a credential, or how many, and is none."""
_MARK: Final = re.compile(r"\[redacted(?::hmac:[0-9a-f]{16})?\]?")
_SET_COOKIE: Final = re.compile(r";\s*+(?i:httponly|secure|samesite\s*+=)")

# --- 4. and 5. -------------------------------------------------------------------------------------------------------

_USER_INFORMATION: Final = re.compile(r"//(?P<secret>[^/?#\s\"'<>@]++)@")
_PIECE: Final = re.compile(r"[^\s,;&=\"'<>?#{}()]++=*+")
_CODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_CODED_JSON: Final = re.compile(r"(?:ey[JA]|ew[ok0]|W3s|WyJ)[A-Za-z0-9_+/-]{12,}+=*+")

# --- what tells that it is worth looking -----------------------------------------------------------------------------

_HEXADECIMAL: Final = re.compile(r"(?!fc-[0-9a-f])[0-9a-fA-F ./:-]*+")
"""IDs, traces, lengths, addresses: what is new in each request. None of the rules finds anything in these."""

# A text is first made bytes of small letters, with a space for all that is in no key's beginning: then one pattern that
# needs not look for capitals finds the words that matter, three times as fast as the patterns above would.
_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-:")
_HINT_CHARACTERS: Final = bytes(code if code in _KEPT else code + 32 if 65 <= code <= 90 else 32 for code in range(256))
_SCHEMES: Final = sorted(set(f"{_PLAIN_SCHEMES}|{_WORD_SCHEMES}|{_PARAMETER_SCHEMES}".split("|")))
_HINT: Final = re.compile(
    r"[ ._:-](?:"
    rf"(?P<scheme>(?:{'|'.join(_SCHEMES)}):?+(?= )|bearer:)"
    r"|(?P<key>sk-|[sr]k_[lt]|gh[pousr]_|github_pat_|gl[a-z]{2,5}-|xox|xapp-|a(?:kia|sia|bia|cca)|aiza|ya29\.|gocspx|hf_"
    r"|api_org_|npm_|pypi-|whsec_|sg\.|do[opr]_v1|gsk_|xai-|pplx-|r8_|nvapi-|dapi|lsv2_|pcsk_|sbp_|shp[a-z]+_|hv[sbr]\."
    r"|glsa_|nrak-|pmak-|lin_api|dckr_pat|rubygems_|sntr[ysu]|pscale_|atatt3|age-secret|key-[0-9a-f]|[0-9]{8,10}:aa"
    r"|v[1-4]\.[lp]|----begin |absk|bedrock-|ltai|akid|fw_|tgp_v1|csk-|jina_|tvly-|fc-[0-9a-f]|llx-|rpa_|e2b_|ls__"
    r"|wandb_v|sgp_|sha256 |figd_|secret_|ntn_|pat[a-z0-9]{14}\.|atlasv1|ccipat|bkua_|tskey-|shippo_|sq0|fo1_"
    r"|fm[12][ar]?_|rnd_|re_[a-z0-9]{8}_|phx_|dp\.|hooks\.slack|discord)"
    r"|(?P<coded>ey[ja]|ew[ok0]|w3s|wyj))".encode()
)


def credentials_in(text: str) -> tuple[Found, ...]:
    """Where in a text credentials stand, in order, none within another."""
    if len(text) < SHORTEST or _HEXADECIMAL.fullmatch(text):
        return ()
    return _credentials[text]


def is_credential(name: str, value: str) -> bool:
    """Whether a parameter, both parts of it percent-decoded, carries a credential."""
    if not value or (value[0] == "[" and _MARK.fullmatch(value)) or _HARMLESS.fullmatch(value):
        return False
    if is_credential_parameter(name) or (may_be_credential_parameter(name) and looks_random(value)):
        return True
    return bool(credentials_in(value))


def is_hidden_by_name(name: bytes, value: str) -> bool:
    """Whether all of a header field's value is a credential, for what the field is called."""
    return is_credential_header(name) or (may_be_credential_header(name) and looks_random(value))


def is_credential_field(name: str, value: str) -> bool:
    """Whether a header field is, or holds, a credential."""
    return is_hidden_by_name(name.encode(), value) or bool(credentials_in(value))


def is_credential_piece(text: str) -> bool:
    """Whether a piece of a query or a form, `name=value` or a text without a name, carries a credential."""
    name, equals, value = text.partition("=")
    if "%" in text or "+" in text:
        name, value = unquote_plus(name), unquote_plus(value)
    return is_credential(name, value) if equals else bool(credentials_in(name))


def is_plain_query(text: str) -> bool:
    """Whether no piece of a query or a form carries a credential: most do not, and then nothing has to be cut out."""
    return not any(map(is_credential_piece, PIECES.split(text)))


PIECES: Final = re.compile(r"[&;?#]")
"""What parts a query or a form: servers part at `&`, some at `;` too; `?` and `#` are those of a URL in a value."""

PATH_PARAMETER: Final = re.compile(r"[;#&](?P<name>[^=;/#&]++)=(?P<value>[^;/#&]++)")
"""In a path: `;jsessionid=...` (RFC 3986 section 3.3), and a fragment, which no client should send and some do."""


def looks_random(text: str) -> bool:
    """Whether a text has the length and the characters of a key, and is no UUID and no words, versions and dates."""
    return len(text) >= _SHORTEST_KEY and _KEY_CHARACTERS.fullmatch(text) is not None and not _is_words(text)


_SHORTEST_KEY: Final = 16
_KEY_CHARACTERS: Final = re.compile(r"[A-Za-z0-9_.~+/=-]++")
_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Z]{25}")
"""A UUID or a ULID."""
_SEPARATORS: Final = re.compile(r"[^A-Za-z0-9]+")
# A word, a name such as RoBERTa, a number, and what has a number at one end: v2, gpt4, sha256, 70b, 20260131T120000Z.
_WORD: Final = re.compile(
    r"[A-Za-z]{0,11}|[A-Z]?[a-z]{0,19}|[A-Z]{1,19}|[0-9]{1,19}|[A-Za-z]{1,12}[0-9]{1,19}|[0-9]{1,19}[A-Za-z]{1,3}"
    r"|[0-9]{8}T[0-9]{4,6}Z?|(?:[A-Z][a-z]{1,11}){2,4}[0-9]{0,4}"
)
_BEARER_WORDS: Final = frozenset({
    "token", "tokens", "auth", "authentication", "authorization", "scheme", "format", "header", "realm", "certificate",
    "certificates", "credential", "credentials", "share", "shares", "bond", "bonds", "required", "optional",
})  # fmt: skip
"""What is written behind `Bearer` where the scheme is spoken of."""
_DIGIT: Final = re.compile("[0-9]")
_ONE_WORD: Final = re.compile(r"[A-Z]?[a-z]{0,19}|[A-Z]{1,19}|[0-9.,:/-]++")


def _is_words(text: str) -> bool:
    if _ID.fullmatch(text):
        return True
    return all(_WORD.fullmatch(piece) is not None or len(piece) < 6 for piece in _SEPARATORS.split(text))


def _found(text: str, depth: int = 0) -> tuple[Found, ...]:
    plain = b" " + text.encode("ascii", "replace").translate(_HINT_CHARACTERS)
    hints = {match.lastgroup for match in _HINT.finditer(plain)}
    found: list[Found] = []
    if "scheme" in hints:
        found += _with_schemes(text)
    if "key" in hints or "coded" in hints:
        found += _keys(text)
    if ":" in text and ('"' in text or "'" in text):
        found += _named_in_json(text)
    if "=" in text or ": " in text:
        found += _pairs(text)
    if "//" in text and "@" in text:
        found += [_part(each, "secret") for each in _USER_INFORMATION.finditer(text) if not _MARK.match(each["secret"])]
    if ("coded" in hints or "%" in text) and depth < _NESTED:
        found += _encoded(text, depth)
    return _outermost(text, found) if found else ()


_credentials: Final = remembered(
    "credentials in texts", _found, lambda text, found: 400 + 3 * getsizeof(text) + 200 * len(found)
)


def _outermost(text: str, found: list[Found]) -> tuple[Found, ...]:
    found.sort(key=lambda each: (each.start, -each.end))
    kept: list[Found] = []
    for each in found:
        if not kept or each.start >= kept[-1].end:
            kept.append(each)
        elif each.end > kept[-1].end:  # they overlap: one, from where the first begins to where the second ends
            start = kept.pop().start
            kept.append(Found(start, each.end, text[start : each.end]))
    return tuple(kept)


def _part(match: re.Match[str], group: str) -> Found:
    start, end = match.span(group)
    return Found(start, end, match[group])


def _with_schemes(text: str) -> Iterator[Found]:
    """A value that is nothing but one is taken with its scheme, as `Authorization` is."""
    for match in _SCHEME.finditer(text):
        if _proves(match, text):
            part = _part(match, "credential")
            yield Found(0, len(text), text) if match.start() == 0 and part.end == len(text) else part
    for match in _WITH_PARAMETERS.finditer(text):
        if _PROOF.search(match["credential"]):
            yield _part(match, "credential") if match.start() else Found(0, len(text), text)


def _proves(match: re.Match[str], text: str) -> bool:
    """Whether what follows a scheme is a credential, and not the next word of a sentence."""
    credential = match["credential"]
    words = credential.rstrip(".!?:")
    end = match.end()
    if match["plain"] is not None and not text[end : end + 1].isspace():
        if len(words) < SHORTEST:
            return False
        # `Bearer` with a capital, and one word that is all there is: nobody writes that of news.
        alone = match.start() == 0 and end == len(text) and text.startswith("Bearer ") and not words.isdigit()
        return _ONE_WORD.fullmatch(words) is None or (alone and words.lower() not in _BEARER_WORDS)
    scheme = (match["word"] or "").lower()
    if scheme == "basic" and b":" in (_base64(credential) or b""):
        return True
    if scheme == "digest":
        return False  # a digest is a hash: see _WITH_PARAMETERS
    return len(words) >= 8 and (_ID.fullmatch(words) is not None or not _is_words(words))


def _keys(text: str) -> Iterator[Found]:
    for pattern in (_KEY, _PRIVATE_KEY):
        for match in pattern.finditer(text):
            yield Found(match.start(), match.end(), match[0])
    for match in _WORDY_KEY.finditer(text):
        if not _is_words(match[0].removeprefix("sk-")):
            yield Found(match.start(), match.end(), match[0])


def _pairs(text: str) -> Iterator[Found]:
    cookie = _SET_COOKIE.search(text) is not None
    at = 0
    while (match := _NAME.search(text, at)) is not None:
        at = match.end()
        name = match["name"]
        if match.lastgroup == "name" or len(name) > _LONGEST_NAME:
            continue
        name = unquote(name)
        if not (cookie or is_credential_parameter(name) or may_be_credential_parameter(name)):
            continue
        value = _VALUE.match(text, at)
        if value is None:
            continue
        part = _part(value, value.lastgroup or "value")
        if match.lastgroup == "colon" and not _is_no_prose(part.secret):
            continue
        if cookie or _is_named(name, part.secret):
            yield part
            at = value.end()
        cookie = False  # what follows the first pair are its attributes


def _is_named(name: str, value: str) -> bool:
    if _MARK.match(value) or _HARMLESS.fullmatch(value):
        return False
    if is_credential_parameter(name):
        return True
    return may_be_credential_parameter(name) and looks_random(unquote(value))


def _is_no_prose(value: str) -> bool:
    """Whether what follows a name and a colon is its value, and not the next words: `the password: keep it secret`."""
    return len(value) >= SHORTEST and _ONE_WORD.fullmatch(value) is None and _DIGIT.search(value) is not None


def _named_in_json(text: str) -> Iterator[Found]:
    """The values beside telling names, in JSON, also in JSON within a string of JSON, and in what Python prints."""
    at = 0
    while (match := _JSON_NAME.search(text, at)) is not None:
        at = match.end()
        name = match["name"]
        if not (is_credential_parameter(name) or may_be_credential_parameter(name)):
            continue
        found = _json_value(text, at, match["escapes"], match["quote"])
        if found.secret and _is_named(name, found.secret):
            yield found
        at = max(at, found.end)


def _json_value(text: str, at: int, escapes: str, quote: str) -> Found:
    """The value that begins at `at`, a string without its quotes."""
    for each in (escapes + '"', escapes + "'"):
        if text.startswith(each, at):
            start = at + len(each)
            end = text.find(each, start)
            while end >= 0 and not escapes and _is_escaped(text, start, end):
                end = text.find(each, end + 1)
            end = len(text) if end < 0 else end
            return Found(start, end, text[start:end])
    if at < len(text) and text[at] in "[{":
        end = _closed(text, at)
    else:
        scalar = _SCALAR.match(text, at)
        end = at if scalar is None else scalar.end()
    return Found(at, end, text[at:end], escapes + quote)


def _is_escaped(text: str, start: int, at: int) -> bool:
    before = at
    while before > start and text[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1


def _closed(text: str, at: int) -> int:
    depth = 0
    for match in _BRACKET_OR_STRING.finditer(text, at):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
            if depth == 0:
                return match.end()
    return len(text)


def _encoded(text: str, depth: int) -> Iterator[Found]:
    """Pieces that say something else once they are decoded, and hold a credential then."""
    for match in _PIECE.finditer(text):
        piece = match[0]
        plain: str | None = None
        if _CODED.search(piece):
            plain = unquote_plus(piece)
        elif _CODED_JSON.fullmatch(piece):
            raw = _base64(piece)
            plain = None if raw is None or raw.lstrip()[:1] not in (b"{", b"[") else raw.decode("utf-8", "replace")
        if plain is not None and plain != piece and _found(plain, depth + 1):
            yield Found(match.start(), match.end(), plain)


def _base64(text: str) -> bytes | None:
    """What base64 or base64url, padded or not, says; None where it is neither."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
