"""An object as a stream: in pieces, never whole in memory, and from the byte that it had where a connection broke."""

import io
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from shadowproxy.stores import opening
from shadowproxy.stores.addresses import Address
from shadowproxy.stores.faults import fault
from shadowproxy.stores.opening import Patience, store_of

if TYPE_CHECKING:
    from obstore import GetOptions

_PIECE: Final = 64 << 10
"""Bytes of a piece at least: what has come of one is lost where the connection breaks."""

_NO_RANGES: Final = ("NotPartial", "NoContentRange")
"""In what the client says of a server that sends a whole object, asked for a part of it."""

_BUFFER: Final = 256 << 10
_ATTEMPTS: Final = 6
"""Connections in a row that break before one more byte has come; each byte makes it the full number again."""


def open_object(address: Address, patience: Patience | None = None) -> BinaryIO:
    """The content of an object, from its beginning. Raises OSError, as reading it does; nothing of it is a secret."""
    return cast(BinaryIO, io.BufferedReader(_Object(address, patience), _BUFFER))


class _Object(io.RawIOBase):
    """Reads one object in one request, and in as many more as there are connections that break."""

    def __init__(self, address: Address, patience: Patience | None) -> None:
        self._store = store_of(address, patience)
        self._key, self.name = address.key, address.shown
        self._pause = (patience or opening.READING).pause
        self._at = 0
        self._size: int | None = None
        self._tag: str | None = None
        self._ranges = True
        self._piece = memoryview(b"")
        self._pieces = self._request()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        if not self._piece:
            self._piece = memoryview(self._next())
        view = memoryview(cast(bytearray, buffer))
        size = min(len(view), len(self._piece))
        view[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size

    def _next(self) -> bytes:
        """The next bytes, none at the end."""
        last: Exception | None = None
        for attempt in range(_ATTEMPTS):
            try:
                if attempt:
                    time.sleep(min(5.0, self._pause * 2 ** (attempt - 1)))
                    self._pieces = self._request()
                piece = next(self._pieces, b"")
            except Exception as error:  # noqa: BLE001  # the client's errors have no common base
                last = error
                if type(error).__name__ == "PreconditionError":
                    break
                self._ranges = self._ranges and not any(word in str(error) for word in _NO_RANGES)
                continue
            if piece or self._size is None or self._at >= self._size:
                self._at += len(piece)
                return piece
        raise fault(last if last is not None else ConnectionError("IncompleteBody"), self.name) from None

    def _request(self) -> Iterator[bytes]:
        """Ask for all from the byte where reading stands."""
        options: GetOptions = {}
        if self._tag is not None:
            options["if_match"] = self._tag
        if self._at and self._ranges:
            options["range"] = {"offset": self._at}
        try:
            got = self._store.get(self._key, options=options or None)
        except Exception as error:
            if self._size is None:  # the first request: whoever opens it hears of it
                raise fault(error, self.name) from None
            raise
        if self._size is None:
            self._size, self._tag = got.meta["size"], got.meta["e_tag"]
            if self._tag is not None and self._tag.startswith("W/"):
                self._tag = None  # it does not say that the bytes are the same
        pieces = iter(got.stream(min_chunk_size=_PIECE))
        return pieces if self._ranges or not self._at else _from(pieces, self._at)


def _from(pieces: Iterator[bytes], start: int) -> Iterator[bytes]:
    """What comes after the first bytes, for a server that cannot begin in the middle."""
    for piece in pieces:
        if start < len(piece):
            yield piece[start:]
        start = max(0, start - len(piece))
