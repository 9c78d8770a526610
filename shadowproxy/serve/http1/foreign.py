"""Names a protocol that is not HTTP/1.1 by its first bytes, so that the error says what is wrong with the address."""

_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake
_FRAME = 9  # bytes of an HTTP/2 frame's head: three of length, then type, flags and four of the stream
_SETTINGS, _GOAWAY = 4, 7

NO_PROXY_PROTOCOL = "the PROXY protocol is not spoken here"


def name_of_request(head: bytes) -> str | None:
    """What a caller has sent; None if that is not known. `head` follows any line breaks."""
    if head.startswith(b"\x16"):  # no byte of HTTP: one is enough
        return "TLS was sent to this port, which speaks plain HTTP: use http:// here"
    if head.startswith(b"PRI * HTTP/2.0"):
        return "HTTP/2 is not spoken here, nor is gRPC, which needs it: only HTTP/1.1 and HTTP/1.0 are"
    if is_proxy_protocol(head):
        return NO_PROXY_PROTOCOL
    return None


def is_proxy_protocol(head: bytes) -> bool:
    """Whether it begins as a balancer's PROXY protocol does, of which line breaks may be skipped already."""
    return head.startswith(b"PROXY ") or head.lstrip(b"\r\n").startswith(b"\x00\r\nQUIT\n")


def name_of_response(data: bytes) -> str | None:
    """What an endpoint has answered; None if that is not known."""
    if data.startswith(_TLS_RECORDS):
        return "it answers in TLS: its url has to begin with https://"
    if len(data) >= _FRAME and data[:2] == b"\0\0" and data[3] in (_SETTINGS, _GOAWAY) and data[5:9] == b"\0\0\0\0":
        return "it answers in HTTP/2 and was asked in HTTP/1.1: HTTP/2 and gRPC are not supported"
    return None
