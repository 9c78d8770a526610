"""What can go wrong on the way to an endpoint and back: a closed set. Only this room raises them.

endpoint.py maps each of them to an outcome, so a new one needs a line in its table. Their messages go into records.
"""

from typing import Final


class TransportError(Exception):
    """The base of all: raise one of the others."""


class ConnectError(TransportError):
    """There is no connection: refused, unreachable, or the endpoint was closed."""


class NameFailed(TransportError):
    """The endpoint's name has no address, or its name server fails."""


class ConnectTimeout(TransportError):
    """No connection within `connect_timeout`, which includes the TLS handshake."""


class NoRoom(TransportError):
    """This machine has no descriptor or memory left for a connection: the endpoint was not dialled."""


class TLSError(TransportError):
    """The TLS handshake failed."""


class ReadError(TransportError):
    """The connection ended before the response was complete."""


CLOSED_EARLY: Final = "the connection was closed before the request"


class ClosedWhileIdle(ReadError):
    """A reused connection ended before the first byte of the response: it had been closed while it was idle."""


class ReadTimeout(TransportError):
    """The endpoint was silent for longer than it may be."""


class ProtocolError(TransportError):
    """What came is not an HTTP/1.1 response that may be passed on."""
