"""Bytes that come in pieces: as few objects as need be, however small the pieces are."""

SMALL = 1024
"""Bytes. A smaller piece is copied behind the small one before it: two bytes as an object of their own take 60."""


class Pieces:
    """What came, in order. Large pieces are referred to, and joined once, when somebody takes them."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self.size = 0

    def __repr__(self) -> str:
        return f"<Pieces {self.size} bytes in {len(self._pieces)}>"

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        pieces = self._pieces
        if len(piece) < SMALL and pieces:
            last = pieces[-1]
            if isinstance(last, bytearray):
                last += piece
                return
            if len(last) < SMALL:
                pieces[-1] = bytearray(last) + piece
                return
        pieces.append(piece)

    def joined(self) -> bytes:
        """All of it. What was one piece is that piece."""
        if not self._pieces:
            return b""
        whole = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        if isinstance(whole, bytearray):
            whole = bytes(whole)
        self._pieces = [whole]
        return whole

    def take(self) -> bytes:
        """All of it, and begin anew."""
        whole = self.joined()
        self.clear()
        return whole

    def clear(self) -> None:
        self._pieces = []
        self.size = 0
