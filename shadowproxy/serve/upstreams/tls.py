"""The TLS context of an endpoint, from PEM files. The supervisor imports it, and connects to none."""

import ssl

_HINTS = {
    # What OpenSSL says of a plain answer; the second one from version 3.5 on.
    "wrong version number": "it does not speak TLS at this port, or its url has to begin with http://",
    "record layer failure": "it does not speak TLS at this port, or its url has to begin with http://",
    "alert no application protocol": "it does not speak HTTP/1.1, only HTTP/2 perhaps, which is not supported",
}


def tls_hint(error: OSError) -> str:
    """What a failed handshake is likely to mean, after ": "; empty if that is not known."""
    words = str(error).lower()  # its `reason` is None where Python is older than OpenSSL's list of them
    return next((f": {hint}" for said, hint in _HINTS.items() if said in words), "")


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
