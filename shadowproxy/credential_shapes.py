"""How credentials are written: the schemes of HTTP authentication, and the keys that issuers document.

Tables and patterns for credential_values.py, which numbers the rules. HINT finds the texts in which others may match.
"""

import re
from typing import Final

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
SCHEME: Final = re.compile(
    # Of some, issuers make schemes of their own: `Api-Token`, `Zoho-oauthtoken`.
    rf"(?:{_NOT_INSIDE}(?i:(?P<plain>{_PLAIN_SCHEMES}))|(?<![A-Za-z0-9])(?i:(?P<word>{_WORD_SCHEMES})))"
    r"(?:(?:[ \t]*+:)?+[ \t]++|(?<=(?i:bearer)):)"
    r"(?P<credential>[^\s,;\"'=(){}<>\[\]\\]{6,}+=*+)"
    r"(?=$|[\s,;)}\]>&\\]|[\"'](?:[\s,;:)}\]>\\]|$))"
)
WITH_PARAMETERS: Final = re.compile(
    rf"{_NOT_INSIDE}(?i:{_PARAMETER_SCHEMES})[ \t]++(?=[^\s=,]++[ \t]*+=)(?P<credential>.++)", re.DOTALL
)
PROOF: Final = re.compile(rf"(?<![A-Za-z0-9_-])(?i:{_PROOFS})[ \t]*+=[ \t]*+[^\s,;]{{6}}")

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
KEY: Final = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join((*_KEYS, _JWT))})")
# As above with words in it, as `sk-learn-random-forest` has: one of its parts must be no word.
WORDY_KEY: Final = re.compile(r"(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{13,}+")
PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END).)*+(?:-----END [A-Z0-9 ]*+-----)?",
    re.DOTALL,
)

# --- hints: is it worth looking? --------------------------------------------------------------------------------------

# A text is first made bytes of small letters, with a space for all that is in no key's beginning: then one pattern that
# needs not look for capitals finds the words that matter, three times as fast as the patterns above would.
_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-:")
HINT_CHARACTERS: Final = bytes(code if code in _KEPT else code + 32 if 65 <= code <= 90 else 32 for code in range(256))
_SCHEMES: Final = sorted(set(f"{_PLAIN_SCHEMES}|{_WORD_SCHEMES}|{_PARAMETER_SCHEMES}".split("|")))
HINT: Final = re.compile(
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
