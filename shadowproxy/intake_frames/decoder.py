"""Cuts frames out of the bytes that arrive, within bounds."""

from typing import Final

from shadowproxy.intake_frames.messages import CANDIDATE, HELLO, RESULT, Frame

HEAD_MOST: Final = 4 << 20
"""Bytes of a head: more than the header fields of any request that a server takes."""

MOST: Final = 1 << 30
"""Bytes of a frame. Each end reads at most as much as it has announced that it copies."""

PREFIX: Final = 5
"""Bytes of the length and the kind."""

FIXED: Final = 16
"""Bytes of the key and the two lengths."""


class Decoder:
    """Cuts frames out of what arrives. `held` is how many bytes of an incomplete frame it keeps.

    `error` says what was wrong with the first frame that cannot be one: those before it are returned, and nothing of
    what comes later.
    """

    __slots__ = ("_most", "_needed", "_parts", "error", "held")

    def __init__(self, most: int = MOST) -> None:
        """`most` is how many bytes a frame may have, except a CANDIDATE: a callable may hold a whole model."""
        self.held = 0
        self.error: str | None = None
        self._most = most
        self._parts: list[bytes] = []
        self._needed = PREFIX

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete."""
        if self.error is not None:
            return []
        self._parts.append(data)
        self.held += len(data)
        if self.held < self._needed:
            return []
        if len(self._parts) > 1:
            data = b"".join(self._parts)
        frames: list[Frame] = []
        offset, size = 0, len(data)
        self._needed = PREFIX
        while size - offset >= PREFIX:
            length = int.from_bytes(data[offset : offset + 4], "big")
            kind = data[offset + 4]
            if not HELLO <= kind <= RESULT or not FIXED <= length <= (MOST if kind == CANDIDATE else self._most):
                self.error = f"no frame begins with kind {kind} and {length} bytes"
                break
            start = offset + PREFIX
            end = start + length
            if end > size:
                self._needed = end - offset
                break
            middle = start + FIXED
            head_end = middle + int.from_bytes(data[start + 8 : start + 12], "big")
            body_end = head_end + int.from_bytes(data[start + 12 : middle], "big")
            if body_end > end or head_end - middle > HEAD_MOST:
                self.error = f"the parts of a frame of {length} bytes are longer than it"
                break
            key = int.from_bytes(data[start : start + 8], "big")
            frames.append(Frame(kind, key, data[middle:head_end], data[head_end:body_end], data[body_end:end]))
            offset = end
        if self.error is not None:
            self._parts, self.held = [], 0
        else:
            self.held = size - offset
            self._parts = [data[offset:size]] if self.held else []
        return frames
