"""TLS that ends here: between the socket of one caller's connection and the protocol that reads its requests.

The rules:

1. The protocol inside learns of the connection after the handshake, which has a deadline of its own. To that protocol
   the transport is like that of a plain connection: what it writes is in the socket's buffer at once, whose size and
   marks bound it, and it can close its side alone.
2. Closing sends close_notify and then FIN, and waits for no close_notify of the caller's (RFC 8446 section 6.1). The
   event loops' own TLS does wait, for 30 seconds, and then drops what a slow caller has not read yet; and it cannot
   close one side, without which a reset could overtake a response (rule 7 of connection.py).
3. The context is the one in force when the connection came. A certificate that is renewed is used for new connections.
"""

import asyncio
import contextlib
import logging
import ssl
from typing import Any, Final, Protocol, cast

from shadowproxy.serve.account import Memory
from shadowproxy.serve.callers.error_body import error_response
from shadowproxy.serve.http1 import foreign, framing
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

_READ = 64 << 10

SECURED: Final = 20 << 10
"""About the bytes that TLS takes for a connection at rest: measured 19 KiB, with 1,000 of them."""

UNREAD: Final = 36 << 10
"""About the bytes that it takes beside, while a record's end has not come: measured 34 KiB."""

HANDSHAKE: Final = SECURED + UNREAD
"""What is counted for a connection until its handshake is complete."""

_RECORD = 22
"""The bytes of a record that are not its content, in TLS 1.3; some more in TLS 1.2."""

_PARTIAL = 1024
"""So many bytes that have come and were not read, and no less, count as a record whose end has not come."""

_HANDSHAKE = 22
"""The first byte of every TLS connection (RFC 8446 section 5.1)."""

_log = logging.getLogger(__name__)


def server_context(*, cert: str, key: str | None, client_ca: str | None) -> ssl.SSLContext:
    """From PEM files. With `client_ca`, callers must have a certificate of one of these authorities.

    Raises OSError or ssl.SSLError if a file cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(cert, key, password=lambda: b"")  # an encrypted key is an error, never a prompt
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # in the middle of it, a write would have to wait for a read
    return context


class Inside(Protocol):
    """The protocol of a caller's connection: an asyncio.Protocol, which can be told that the server stops."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def shutdown(self) -> None: ...


class Failures:
    """The callers' TLS connections that failed, counted and logged."""

    def __init__(self, repeats: Repeats) -> None:
        self.count = 0
        self._repeats = repeats

    def note(self, why: str) -> None:
        self.count += 1
        if count := self._repeats.worth_logging("tls_failed", why):
            extra = {"event": "tls_failed", "error": why, "count": count}
            _log.warning("a TLS connection of a caller failed%s: %s", times_text(count), why, extra=extra)


class Secured(asyncio.Protocol):
    """One caller's connection. `among` has those whose handshake is under way, `handshake` is its time in seconds."""

    def __init__(
        self,
        context: ssl.SSLContext,
        inside: Inside,
        among: "set[Secured]",
        *,
        handshake: float,
        failures: Failures,
        memory: Memory,
    ) -> None:
        self._memory = memory
        self._held = 0  # of it
        self._unread = 0  # bytes that have come since the end of a record, as near as that is known
        self._inside = inside
        self._among = among
        self._time = handshake
        self._failures = failures
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._begun = False  # something has come
        self._established = False
        self._notified = False  # that nothing more is sent
        self._ended = False  # the caller sends nothing more
        self._stays: bool | None = None  # open, beyond the caller's end
        self._stopping = False
        self._deadline: asyncio.TimerHandle | None = None
        self.since = 0.0  # by the loop's time
        self._transport: asyncio.Transport

    def __repr__(self) -> str:
        return f"<Secured {'established' if self._established else 'in its handshake'} {self._inside!r}>"

    def shutdown(self, within: float) -> None:
        """The server stops: `within` seconds are left for the handshake, and the request after it is the last one."""
        self._stopping = True
        self._limit(within)

    def give_up(self, short: str) -> None:
        """End a handshake that lasts, in favour of others; `short` is what they lack."""
        self._failures.note(f"the handshake lasted, as {short} ran out")
        self.abort()

    def abort(self) -> None:
        self._transport.abort()

    # The socket's transport calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.since = asyncio.get_running_loop().time()
        self._among.add(self)
        self._hold(HANDSHAKE)
        self._limit(self._time)

    def data_received(self, data: bytes) -> None:
        if not self._begun and data[0] != _HANDSHAKE:
            self._refuse_plain(data)
            return
        self._begun = True
        self._incoming.write(data)
        if self._established or self._shake():
            self._read(len(data))

    def eof_received(self) -> bool | None:
        if not self._established:
            if self._begun:
                self._failures.note("the caller left in the handshake")
            return None
        return self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_handshake()
        self._hold(0)
        if self._established:
            self._inside.connection_lost(exc)

    def _hold(self, count: int) -> None:
        if count != self._held:
            self._memory.hold_objects(count - self._held)
            self._held = count

    def pause_writing(self) -> None:
        if self._established:
            self._inside.pause_writing()

    def resume_writing(self) -> None:
        if self._established:
            self._inside.resume_writing()

    # The handshake.

    def _limit(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._expired)

    def _expired(self) -> None:
        if self._begun and not self._stopping:
            self._failures.note(f"the handshake took longer than {self._time:g} s")
        self.abort()

    def _end_handshake(self) -> None:
        self._among.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _shake(self) -> bool:
        """Whether the handshake is complete."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._failures.note(_words(error))
            self._transport.close()
            return False
        self._flush()
        self._end_handshake()
        self._established = True
        self._unread = 0
        self._hold(SECURED)
        self._inside.connection_made(SecuredTransport(self, self._transport))
        if self._stopping:
            self._inside.shutdown()
        return True

    def _refuse_plain(self, data: bytes) -> None:
        """Answer a caller that speaks no TLS in the words that it can read, if they are HTTP's."""
        if foreign.is_proxy_protocol(data):
            self._failures.note(foreign.NO_PROXY_PROTOCOL)  # to a balancer, which reads no response
        elif data[:1].isalpha():
            self._failures.note("the caller sent plain HTTP")
            fields, body = error_response("http_request_error", "this port expects TLS: use https")
            fields.append((b"Connection", b"close"))
            self._transport.write(framing.write_head(framing.status_line(400), fields) + body)
        else:
            self._failures.note("what the caller sent is not TLS")
        self._transport.close()

    # After it.

    def _read(self, size: int) -> None:
        """Pass on what has come, `size` bytes as they were sent, all of it at once."""
        pieces: list[bytes] = []
        ended = False
        try:
            while not ended:
                piece = self.tls.read(_READ)
                pieces.append(piece)
                ended = not piece  # by close_notify
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if self._notified:  # OpenSSL may read no further then; to the connection it matters that something came
                self._inside.data_received(b"")
                return
            self._flush()
            self._failures.note(_words(error))
            self.abort()
            return
        self._flush()  # TLS itself may have replied
        data = b"".join(pieces)
        self._unread = max(0, self._unread + size - len(data) - _RECORD * len(pieces))
        if self._unread < _PARTIAL:
            self._unread = 0
        self._hold(SECURED + UNREAD if self._unread else SECURED)
        if data:
            self._inside.data_received(data)
        if ended and not self._transport.is_closing() and not self._end():
            self.close()

    def _end(self) -> bool | None:
        """The caller's end has come, by close_notify, FIN or both: the connection inside learns of it once."""
        if not self._ended:
            self._ended = True
            self._stays = self._inside.eof_received()
        return self._stays

    def write(self, data: bytes | bytearray | memoryview) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self.tls.write(left) :]
        except ssl.SSLError as error:
            self._failures.note(_words(error))
            self.abort()
            return
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    def close(self) -> None:
        self._notify_close()
        self._transport.close()

    def write_eof(self) -> None:
        self._notify_close()
        self._transport.write_eof()

    def _notify_close(self) -> None:
        self._notified = True
        with contextlib.suppress(ssl.SSLError):  # the caller's close_notify is not here yet, nor needed
            self.tls.unwrap()
        self._flush()


class SecuredTransport(asyncio.Transport):
    """What the protocol inside writes to. All but the bytes is left to the socket's own transport."""

    def __init__(self, secured: Secured, transport: asyncio.Transport) -> None:
        super().__init__()
        self._secured = secured
        self._transport = transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._secured.tls if name == "ssl_object" else self._transport.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and not self._transport.is_closing():
            self._secured.write(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._transport.is_closing():
            self._secured.write_eof()

    def close(self) -> None:
        if not self._transport.is_closing():
            self._secured.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()


def _words(error: ssl.SSLError) -> str:
    """OpenSSL's reason in lower case: its own are names in capitals."""
    return error.reason.replace("_", " ").lower() if error.reason else str(error)
