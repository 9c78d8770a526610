"""The page at the admin root: one document with its style and script in it, which loads nothing and can be made to
load nothing.

Its policy lets a browser run this very script and no other, ask nowhere but where the page came from, and take no text
for markup (W3C Trusted Types). So what a log holds cannot act, even where the script were to err.
"""

import base64
import hashlib
from importlib import resources
from typing import Final

from starlette.responses import Response

SCRIPTS: Final = ("text", "drawings", "asking", "live", "verdict", "shadows", "differences", "page")
"""The files of the script, in the order in which they need each other."""


def respond() -> Response:
    return Response(DOCUMENT, media_type="text/html", headers={"content-security-policy": POLICY})


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As CSP level 3 writes it, section 2.3.1."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_STYLE: Final = _read("page.css")
_SCRIPT: Final = "\n".join(_read(f"{name}.js") for name in SCRIPTS)

DOCUMENT: Final = (
    _read("page.html")
    .replace("<style></style>", f"<style>{_STYLE}</style>")
    .replace("<script></script>", f"<script>{_SCRIPT}</script>")
    .encode()
)

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_hash(_STYLE)}",
        f"script-src {_hash(_SCRIPT)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
