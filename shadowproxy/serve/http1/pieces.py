"""Bytes that come in pieces, held in as few objects as possible, however small the pieces are."""

SMALL = 1024
"""Bytes. A smaller piece is appended to the small one before it: two bytes in an object of their own take 60."""


class Pieces:
    """The pieces, in order. Large ones are referred to, not copied, and joined once, when they are taken."""

    __slots__ = ("_only", "_pieces", "size")

    def __init__(self) -> None:
        self._only = b""  # while there is no second piece: most bodies have one
        self._pieces: list[bytes | bytearray] | None = None
        self.size = 0

    def __repr__(self) -> str:
        return f"<Pieces {self.size} bytes in {len(self._pieces or [self._only])}>"

    def __bool__(self) -> bool:
        return self.size > 0

    def add(self, piece: bytes) -> None:
        if not self.size:
            self._only = piece
        else:
            if self._pieces is None:
                self._pieces = [self._only]
                self._only = b""
            _append(self._pieces, piece)
        self.size += len(piece)

    def joined(self) -> bytes:
        """All bytes. If there is one piece, it is that object."""
        if self._pieces is not None:
            self._only = b"".join(self._pieces)
            self._pieces = None
        return self._only

    def beginning(self, count: int) -> bytes:
        """The first `count` bytes, or all if they are fewer."""
        if self._pieces is None:
            return self._only[:count]
        kept: list[bytes | bytearray] = []
        for piece in self._pieces:
            if count < len(piece):
                kept.append(piece[:count])
                break
            kept.append(piece)
            count -= len(piece)
        return b"".join(kept)

    def cut(self, count: int) -> None:
        """Drop all but the first `count` bytes."""
        if count < self.size:
            self._only = self.beginning(count)
            self._pieces = None
            self.size = count

    def parts(self) -> "list[bytes | bytearray]":
        """The pieces, as they are kept. Not to be changed."""
        return [self._only] if self._pieces is None else self._pieces

    def take(self) -> bytes:
        """Return all bytes, and hold none."""
        whole = self.joined()
        self._only = b""
        self.size = 0
        return whole

    def clear(self) -> None:
        self._only = b""
        self._pieces = None
        self.size = 0


def _append(pieces: list[bytes | bytearray], piece: bytes) -> None:
    if len(piece) < SMALL:
        last = pieces[-1]
        if isinstance(last, bytearray):
            last += piece
            return
        if len(last) < SMALL:
            pieces[-1] = bytearray(last) + piece
            return
    pieces.append(piece)
