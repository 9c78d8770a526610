"""The TLS context of an endpoint, from PEM files. The supervisor imports it, and connects to none."""

import ssl


def tls_context(*, ca: str | None, cert: str | None, key: str | None, verify: bool) -> ssl.SSLContext:
    """Raises OSError or ssl.SSLError if a file cannot be used."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["http/1.1"])
    if cert is not None:
        context.load_cert_chain(cert, key, password=lambda: b"")  # an encrypted key is an error, never a prompt
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
