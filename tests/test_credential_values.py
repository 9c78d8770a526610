"""What a credential looks like: what is found in a value whatever its name, and what passes as it is."""

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_record import exchange, line_of

from shadowproxy import credential_values, redaction
from shadowproxy.credential_values import (
    Found,
    credentials_in,
    is_credential,
    is_credential_field,
    is_credential_piece,
)
from shadowproxy.redaction import BLANK, MARK, Redaction
from shadowproxy.serve.policy.headers import fields_for_shadow

# No key here was ever one. They are put together, so that scanners of repositories do not stop at them.
RUN = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0"
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"


def coded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


JWT = ".".join((coded('{"alg":"HS256","typ":"JWT"}'), coded('{"sub":"1"}'), RUN))
PEM = f"-----BEGIN PRIVATE {'KEY'}-----{RUN}-----END PRIVATE {'KEY'}-----"

KEYS = [
    f"sk-{RUN}",
    f"sk-{HEX[:32]}",
    f"sk-{'proj'}-{RUN}",
    f"sk-{'ant'}-api03-{RUN}",
    f"sk-{'or-v1'}-{HEX}",
    f"sk-{'svcacct'}-{RUN}",
    f"sk-team-{RUN[:12]}-{RUN[12:]}",
    *(f"gh{kind}_{RUN[:36]}" for kind in "pousr"),
    f"github_{'pat'}_{RUN[:22]}_{RUN}",
    f"gl{'pat'}-{RUN[:20]}",
    f"gl{'rt'}-{RUN[:20]}",
    f"xox{'b'}-123456789012-{RUN[:24]}",
    f"xox{'p'}-123456789012-{RUN[:24]}",
    f"xapp-1-{RUN}",
    f"AK{'IA'}IOSFODNN7EXAMPLE",
    f"AS{'IA'}IOSFODNN7EXAMPLE",
    f"AI{'za'}Sy{RUN[:33]}",
    f"ya29.{RUN}",
    f"GOC{'SPX'}-{RUN[:28]}",
    f"hf_{RUN[:34]}",
    f"npm_{RUN[:36]}",
    f"pypi-AgEIcHlwaS5vcmc{RUN}",
    f"sk_{'live'}_{RUN[:24]}",
    f"rk_{'live'}_{RUN[:24]}",
    f"sk_{'test'}_{RUN[:24]}",
    f"whsec_{RUN[:32]}",
    f"SG.{RUN[:22]}.{RUN}",
    f"dop_v1_{HEX}",
    f"gsk_{RUN}",
    f"r8_{RUN[:37]}",
    f"nvapi-{RUN}{RUN}",
    f"dapi{HEX[:32]}",
    f"hvs.{RUN[:24]}",
    f"glsa_{RUN[:32]}_{HEX[:8]}",
    f"1234567890:AA{RUN[:33]}",
    f"v4.local.{RUN}",
    f"AB{'SK'}{RUN}",
    f"bedrock-api-{'key'}-{RUN}",
    f"LT{'AI'}5t{RUN[:18]}",
    f"AK{'ID'}{RUN[:32]}",
    f"fw_{RUN[:24]}",
    f"tgp_{'v1'}_{RUN}",
    f"csk-{RUN}",
    f"jina_{HEX[:32]}{RUN[:28]}",
    f"tvly-{'dev'}-{RUN[:32]}",
    f"tvly-{RUN[:32]}",
    f"fc-{HEX[:32]}",
    f"llx-{RUN}",
    f"rpa_{RUN.upper()}",
    f"e2b_{HEX[:40]}",
    f"ls__{HEX[:32]}",
    f"wandb_{'v1'}_{RUN}",
    f"sgp_{HEX[:40]}",
    f"sha256~{RUN}abc",
    f"figd_{RUN}",
    f"secret_{RUN}abc",
    f"ntn_{RUN}",
    f"pat{RUN[:14]}.{HEX}",
    f"{RUN[:14]}.atlasv1.{RUN}",
    f"CCI{'PAT'}_{RUN[:22]}_{HEX[:40]}",
    f"bkua_{HEX[:40]}",
    f"tskey-{'auth'}-{RUN[:12]}-{RUN[:32]}",
    f"shippo_{'live'}_{HEX[:40]}",
    f"sq0{'csp'}-{RUN}",
    f"fo1_{RUN}",
    f"fm2_{RUN}",
    f"rnd_{RUN[:28]}",
    f"re_{RUN[:8]}_{RUN[:24]}",
    f"phx_{RUN}",
    f"dp.{'pt'}.{RUN}",
    f"hooks.slack.com/{'services'}/T00000000/B00000000/{RUN[:24]}",
    f"discord.com/api/{'webhooks'}/123456789012345678/{RUN}",
    JWT,
    JWT.replace(RUN, ""),  # unsecured: alg none
    coded('{"alg":"dir","enc":"A256GCM"}') + f"..{RUN}.{RUN}.{RUN}",  # encrypted
    PEM,
]

ALONE = [
    *KEYS,
    f"Bearer {KEYS[0]}",
    f"bearer {RUN}",
    f"BEARER {JWT}",
    f"Bearer  {HEX[:32]}",
    "Bearer s3cr3t",
    "Bearer sk-1234",
    "Bearer my-secret-token",
    "Bearer supersecret",
    "Bearer 3b241101-e2bb-4255-8caf-4136c566a962",
    f"Bearer: {RUN}",
    f"Bearer:{RUN}",
    f"Api-Token {RUN}",
    f"APIToken {RUN}",
    f"AccessKey {RUN}",
    f"Token {HEX[:40]}",
    f"Token {RUN}",
    "Basic dXNlcjpwYXNz",
    "basic dXNlcjpwYXNzd29yZA==",
    f"Basic {base64.b64encode('u:pässword'.encode()).decode()}",
    f"ApiKey {RUN}",
    f"Api-Key {RUN[:8]}.{RUN}",
    f"Key {HEX[:8]}-{RUN[:20]}:{HEX[:32]}",
    f"Negotiate YIIJ{RUN}",
    f"NTLM TlRMTVNTUAAB{RUN}",
    f"DPoP {JWT}",
    f"AWS {'AKIA'}IOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=",
    f"AWS4-HMAC-SHA256 Credential={'AKIA'}IOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
    f"SignedHeaders=host;range;x-amz-date, Signature={HEX}",
    f'Digest username="Mufasa", realm="r@h", nonce="{HEX[:32]}", uri="/", response="{HEX[:32]}"',
    f'OAuth oauth_consumer_key="a", oauth_nonce="b", oauth_signature="{RUN}"',
    f'Hawk id="dh37fgj492je", ts="1353832234", nonce="j4h3g2", mac="{RUN}="',
    f"SharedAccessSignature sr=hub&sig={RUN}&se=1700000000",
    f"SharedKey account:{RUN}=",
]
"""Values that are nothing but a credential."""


@pytest.mark.parametrize("value", ALONE)
def test_a_value_that_is_a_credential_is_found_whole(value: str) -> None:
    found = credentials_in(value)
    assert [(each.start, each.end) for each in found] == [(0, len(value))]
    assert Redaction().value(value) == BLANK


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("around", ["id {} x", '{{"x": "{}"}}', "a={}; b=2", "1, {}, 2", "({})", "<{}>"])
def test_a_key_is_found_within_a_value(key: str, around: str) -> None:
    assert Redaction().value(around.format(key)) == around.format(BLANK)


PASS = [
    "",
    "Basic",
    "bearer of news",
    "Token",
    "sk-learn",
    "1.2.3",
    "Bearer",
    "Bearer token",
    "Bearer tokens",
    "Bearer Authentication",
    "Bearer 20260131",
    "bearer certificates",
    "Token XLM-RoBERTa-base-v2",
    "Key ISBN9780306406157",
    "Basic plan",
    "Basic authentication",
    "Basic Plan-2026",
    "basic, premium",
    "token classification",
    "Token Classification-v2",
    "token ring-802",
    "text, token, digest",
    "the bearer delivers what was promised",
    "the bearer self-certifies that it holds",
    "Key West",
    "key performance-indicator-2026",
    "Tell me: is my password: strong?",
    "error: token: unexpected-end",
    "an access-token: what is it",
    "fc-layers-1024",
    "fc-02-ab",
    "fw_model_v12_large_multilingual",
    "re_ranker_v2_large_multilingual",
    "secret_sauce_model_v2",
    "rnd_seed_42",
    "patchtst.v2",
    "hooks.slack.com",
    '{"stop_token": "</s>", "eos_token_id": 2, "next_page_token": "CAUQAA", "nextPageToken": "CAUQAA"}',
    "Digest",
    "Digest sha-256",
    f"Digest {HEX}",
    "oauth scope-read",
    "Negotiate",
    "sk-learn-random-forest-classifier",
    "sk-learn-1.5.2",
    "sk-learn-v2-20260131",
    "sk-SK,sk;q=0.9",
    "sk-1",
    "ghp_",
    "hf_transfer",
    "hf_model",
    "npm_config_registry",
    "AKIA",
    "whsec_",
    "xox-ray",
    "SG.1.2",
    "key-value",
    "v1.public.api",
    "eyJ",
    "eyes.of.the.beholder",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
    "3b241101-e2bb-4255-8caf-4136c566a962",
    "019c0000-0000-7000-8000-000000000001",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    f'"{HEX[:32]}"',
    f'W/"{HEX[:16]}"',
    HEX,
    HEX[:40],
    f"sha256:{HEX}",
    f"sha-256={'X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE='}",
    "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
    "Q2hlY2sgSW50ZWdyaXR5IQ==",
    "Sat, 28 Nov 2026 08:27:33 GMT",
    "2026-01-31T12:00:00.123456Z",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "python-httpx/0.28.1",
    "OpenAI/Python 1.99.9",
    "application/json; charset=utf-8",
    "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "gzip, deflate, br, zstd",
    "max-age=31536000; includeSubDomains",
    'no-cache="Set-Cookie", private',
    "Authorization, Cookie, X-Api-Key, X-Token",
    "timeout=5, max=100",
    'Bearer realm="api", error="invalid_token", error_description="The access token expired"',
    'Basic realm="Access to the staging site", charset="UTF-8"',
    f'Digest realm="r@h", qop="auth", nonce="{HEX[:32]}", opaque="{HEX[:32]}"',
    'sig1=("@method" "@authority");created=1618884473;keyid="test-key-rsa-pss"',
    "publickey-credentials-get=(self)",
    "cache;desc=hit;dur=0.1, auth;dur=2.5",
    "total_tokens=512, prompt_tokens=500",
    '{"group":"default","max_age":10886400,"endpoints":[{"url":"https://h/reports"}]}',
    '{"max_tokens": 512, "stream": true, "token_type": "bearer", "stop": null}',
    '{"token": null, "secret": false, "password": true}',
    '{"key": "user:42", "code": "LHR"}',
    "key=user:42; code=LHR",
    "https://app.example/p?page=2&key=user:42#top",
    "https://app.example/a@b/c",
    "someone@example.com",
    "<https://h/p?page=2>; rel=next",
    "bytes=0-1023",
    "pass=3 fail=0",
    "a%20b%2Fc",
    coded('{"model": "a", "n": 1}'),
    "ResNet50-v1.5-ImageNet1k",
    "meta-llama/Llama-3.1-70B-Instruct",
    "gpt-4o-mini-2024-07-18",
    "chatcmpl-9nYzq5aBcDeFgHiJkLmNoPqRsTuVw",
    "req_011CQxYz1a2b3c4d5e6f7g8h",
    "org-abcdefghij",
    "cluster-eu-west-1a-node-0042",
    "[redacted]",
    "Bearer [redacted]",
    "token=[redacted:hmac:0123456789abcdef]",
]


@pytest.mark.parametrize("value", PASS)
def test_what_is_no_credential_passes_as_it_is(value: str) -> None:
    assert credentials_in(value) == ()
    assert Redaction().value(value) == value


WITHIN = [
    (f"Bearer {RUN}, Basic dXNlcjpwYXNz", "Bearer [redacted], Basic [redacted]"),
    (f"Zoho-oauthtoken {RUN}", "Zoho-oauthtoken [redacted]"),
    (f"Klaviyo-API-Key {RUN}", "Klaviyo-API-Key [redacted]"),
    (f"api_key: {RUN}, n: 1", "api_key: [redacted], n: 1"),
    ("Password: hunter22; user: a", "Password: [redacted]; user: a"),
    (f"consumer_key={RUN}, n=1", "consumer_key=[redacted], n=1"),
    ("Bearer first-secret,Bearer second-secret", "Bearer [redacted],Bearer [redacted]"),
    (f"upstream=a; auth=Bearer {RUN}", "upstream=a; auth=[redacted] [redacted]"),
    ('{"api_key": "s3", "n": 1.10}', '{"api_key": "[redacted]", "n": 1.10}'),
    ('{"n":1,"API-KEY":"a\\"b","x":2}', '{"n":1,"API-KEY":"[redacted]","x":2}'),
    ('{"apiKey":"x","a":{"accessToken":"y"}}', '{"apiKey":"[redacted]","a":{"accessToken":"[redacted]"}}'),
    ('{"password": 12345, "n": 1}', '{"password": "[redacted]", "n": 1}'),
    ('{"credentials": {"a": ["}"]}, "n": 1}', '{"credentials": "[redacted]", "n": 1}'),
    ('{"Authorization": "whatever it is"}', '{"Authorization": "[redacted]"}'),
    ('{"key": "user:42", "x": "' + KEYS[0] + '"}', '{"key": "user:42", "x": "[redacted]"}'),
    ('{"key": "' + HEX[:32] + '"}', '{"key": "[redacted]"}'),
    ('{"in": "{\\"api_key\\": \\"s3\\", \\"n\\": 1}"}', '{"in": "{\\"api_key\\": \\"[redacted]\\", \\"n\\": 1}"}'),
    ("{'api_key': 's3', 'n': 1}", "{'api_key': '[redacted]', 'n': 1}"),
    ('{"secret": "cut off', '{"secret": "[redacted]'),
    (coded('{"api_key":"s3cret"}') + ", b", "[redacted], b"),
    ("v1 " + coded('{ "password": "s3cret" }'), "v1 [redacted]"),
    ("cfg=" + quote('{"api_key":"s3"}') + ",a=1", "cfg=[redacted],a=1"),
    ("next=%2Fp%3Faccess_token%3Ds3&n=1", "next=[redacted]&n=1"),
    ("to=%2Fa%3Fb%3D%252Fp%253Ftoken%253Ds3", "to=[redacted]"),
    ("https%3A%2F%2Fu%3Ap%40h%2F", "[redacted]"),
    ("sid=abc123; theme=dark", "sid=[redacted]; theme=dark"),
    ("x=abc123; Path=/; HttpOnly", "x=[redacted]; Path=/; HttpOnly"),
    ("x=abc123; Max-Age=5; SameSite=Lax", "x=[redacted]; Max-Age=5; SameSite=Lax"),
    ("PHPSESSID=abc; n=1; connect.sid=s%3Aabc.def", "PHPSESSID=[redacted]; n=1; connect.sid=[redacted]"),
    ('a=1, api_key="two words", b=2', 'a=1, api_key="[redacted]", b=2'),
    ("AccountName=a;AccountKey=abc==;Suffix=x", "AccountName=a;AccountKey=[redacted];Suffix=x"),
    ("postgres://u:p@h/db", "postgres://[redacted]@h/db"),
    ("a, redis://:s3@h:1/0, b", "a, redis://[redacted]@h:1/0, b"),
    ("see https://h/p?X-Amz-Signature=ab&n=1 for", "see https://h/p?X-Amz-Signature=[redacted]&n=1 for"),
    (f"<https://h/p?key={KEYS[0]}>; rel=next", "<https://h/p?key=[redacted]>; rel=next"),
    (f"curl -H 'X-Upstream: Bearer {RUN}'", "curl -H 'X-Upstream: Bearer [redacted]'"),
]


@pytest.mark.parametrize(("value", "told"), WITHIN)
def test_of_a_value_with_credentials_in_it_the_rest_stays(value: str, told: str) -> None:
    assert Redaction().value(value) == told
    assert Redaction().value(told) == told


@pytest.mark.parametrize("value", [value for value, _ in WITHIN] + ALONE)
def test_marks_of_one_key_are_those_of_the_secret_and_are_found_again(value: str) -> None:
    told = Redaction(hash_key=b"k").value(value)
    assert MARK.sub("", told) == Redaction().value(value).replace(BLANK, "")
    assert "hmac" in told


def test_a_secret_has_one_mark_wherever_it_stands() -> None:
    redaction = Redaction(hash_key=b"k")
    mark = redaction.mark(KEYS[0].encode())
    assert redaction.value(KEYS[0]) == mark
    assert redaction.value(f"a, {KEYS[0]}") == f"a, {mark}"
    assert redaction.parameters(f"x={KEYS[0]}") == f"x={mark}"
    assert redaction.value(f"Bearer {RUN}") == redaction.mark(f"Bearer {RUN}".encode()), "as that of Authorization"


@pytest.mark.parametrize(
    ("piece", "is_one"),
    [
        ("access_token=x", True),
        ("api%5Fkey=x", True),
        ("Token=x", True),
        ("token=", False),
        ("token", False),
        ("key=user:42", False),
        ("key=user%3A42", False),
        ("key=LHR-JFK-2026-01-31", False),
        ("key=3b241101-e2bb-4255-8caf-4136c566a962", False),
        ("key=random-forest-classifier-v2", False),
        ("key=01ARZ3NDEKTSV4RRFFQ69G5FAV", False),
        ("key=SKU20260131123456789", False),
        ("key=FacebookAI/xlm-roberta-large", False),
        (f"key={KEYS[16]}", True),
        (f"KEY={HEX[:32]}", True),
        (f"code={RUN}==", True),  # an Azure function's
        ("code=LHR", False),
        (f"appid={HEX[:32]}", True),  # OpenWeatherMap's
        ("q=bearer+of+news", False),
        (f"q=Bearer+{RUN}", True),
        (f"x={quote(JWT)}", True),
        (JWT, True),
        (quote(KEYS[0]), True),
        ("url=https%3A%2F%2Fu%3Ap%40h%2F", True),
        ("url=https%3A%2F%2Fh%2F%3Fpage%3D2", False),
        ("max_tokens=5", False),
        ("page_token=CAUQAA", False),
        ("nextPageToken=CAUQAA", False),
        ("next_token=abcdef123", False),
        ("continuation-token=abcdef123", False),
        ("signature=true", False),
        ("pass=2", False),
        ("auth=none", False),
        ("otp=123456", True),
        (f"consumer_key={RUN}", True),
        (f"mapsKey={RUN}", True),
        ("product_key=SKU-AB12-CD34-EF56", False),
        (f"cache_key={RUN}", False),
        (f"sign={HEX[:32]}", True),
        ("sign=plus", False),
        ("page=2", False),
        ("", False),
    ],
)
def test_a_parameter_is_known_by_its_name_or_by_its_value(piece: str, is_one: bool) -> None:
    assert is_credential_piece(piece) is is_one
    assert (BLANK in Redaction().parameters(piece)) is is_one


@pytest.mark.parametrize("name", ["key", "code", "appid"])
def test_a_doubtful_name_counts_where_the_value_looks_like_a_key(name: str) -> None:
    assert is_credential(name, RUN)
    assert not is_credential(name, "user")
    assert not is_credential("page", RUN)


@pytest.mark.parametrize(
    ("name", "value", "is_one"),
    [
        ("X-Insert-Key", RUN, True),
        ("X-ElevenLabs-Key", HEX[:32], True),
        ("x_consumer_key", RUN, True),
        ("X-Sign", HEX[:32], True),
        ("X-Otp", "123456", True),
        ("X-GitHub-OTP", "123456", True),
        ("X-Pwd", "hunter2", True),
        ("X-Pass", "hunter2", True),
        ("X-Sid", "abcdef", True),
        ("X-Sig", "abcdef", True),
        ("X-Shopify-Hmac-Sha256", "abcdef", True),
        ("X-SAML-Response", "abcdef", True),
        ("Idempotency-Key", RUN, False),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", False),
        ("X-Cache-Key", HEX, False),
        ("Surrogate-Key", f"product-12 {HEX}", False),
        ("X-Product-Key", RUN, False),
        ("X-Kms-Key", "alias/my-app-key-2026", False),
        ("X-Sort-Key", "2026-01-31T12:00:00Z", False),
        ("X-Passthrough", "true", False),
        ("X-Inside", "abcdef", False),
        ("X-Season-Pass", "gold", False),
        ("X-Session-Affinity", "node-3", False),
        ("X-Next-Token", "CAUQAA", False),
        ("X-Tokenize", "yes", False),
    ],
)
def test_a_header_field_is_known_by_its_name_and_where_that_is_doubtful_by_its_value_too(
    name: str, value: str, is_one: bool
) -> None:
    assert is_credential_field(name, value) is is_one
    sent, held_back = fields_for_shadow([(name.encode(), value.encode())], "b", credentials=False, record="r")
    assert held_back is is_one
    assert ((name.encode(), value.encode()) in sent) is not is_one
    told = Redaction()
    line = line_of(exchange(fields=((name.encode(), value.encode()),)), redaction=told)
    assert json.loads(line)["request"]["headers"][name.lower()] == (BLANK if is_one else value)


TEXT = st.text(st.sampled_from("aZ09=&;?#%/:@\"'{}[]\\ ,.-_~")) | st.text(max_size=30)
SOME = st.sampled_from([*(value for value, _ in WITHIN), *ALONE[::3], *PASS[::5]])


@given(st.lists(TEXT | SOME, max_size=4).map("".join))
def test_what_is_found_is_in_order_and_within_the_text(text: str) -> None:
    at = 0
    for found in credentials_in(text):
        assert isinstance(found, Found)
        assert at <= found.start < found.end <= len(text)
        at = found.end


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("before", ["", " ", "10.0.0.1 ", "de-ad: ", "0/f "])
def test_a_key_is_found_among_what_ids_and_addresses_are_written_with(key: str, before: str) -> None:
    assert key not in Redaction().value(f"{before}{key}")
    assert key not in Redaction().value(f"{before}{key} {before}")


@given(TEXT, st.sampled_from(KEYS), st.sampled_from(" ,;"))
def test_a_key_is_found_whatever_stands_before_and_behind(text: str, key: str, parted: str) -> None:
    assert key not in Redaction().value(f"{text}{parted}{key}{parted}{text}")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_stays_json_and_loses_what_stands_beside_a_telling_name(value: object) -> None:
    raw = json.dumps({"a": value, "api_key": ["s3cret", value], "password": "s3cret"})
    told = Redaction().value(raw)
    assert "s3cret" not in told
    assert isinstance(json.loads(told), dict)


HOSTILE = ["a", "=", "bearer ", "bearer a-b-c-d,", '"token":{', "'token':\"[redacted] ", '\\"', "//a", "//a@", "%41",
           "eyJaaaaaaaa.", "sk-", "a=", "token=", "?a=&", "-----BEGIN PRIVATE KEY-----", "{", '"a":"', '"key":"',
           "1234567890:AA", "digest a=", "%2525", "\\", '"token":"\\"', "; secure", "key=a1b2c3-", "W3s"]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_time_it_takes_grows_with_the_length_and_not_with_its_square(piece: str) -> None:
    """Eight times as long may take eight times as long, and on a busy machine some more: not 64 times."""

    def cost(size: int) -> float:
        text = (piece * size)[:size]
        best = 9.0
        for _ in range(3):
            credential_values._credentials.forget()
            redaction._plain_values.forget()
            began = time.thread_time()
            Redaction().value(text)
            best = min(best, time.thread_time() - began)
        return best

    assert cost(1 << 16) < 40 * cost(1 << 13) + 0.002


def test_ids_are_not_cached() -> None:
    """They are new in each request, and would fill the cache."""
    credential_values._credentials.forget()
    for _ in range(2):  # what comes once is not cached, whatever it is
        credentials_in("3b241101-e2bb-4255-8caf-4136c566a962")
        credentials_in("text/html, x")
    assert list(credential_values._credentials) == ["text/html, x"]
