"""The end-to-end header fields of a message, with the results that were derived from them."""

from shadowproxy.exchange import Fields
from shadowproxy.serve.http1.fields import fields_weight


class Section:
    """The end-to-end fields of a head. It is shared by all messages that have exactly these fields: never change it.

    `seen` counts the requests with exactly these fields. Results derived from the fields are cached here, so that they
    are found when the fields come again, and are dropped together with the fields. `for_shadow` belongs to
    headers.section_for_shadow; its keys say whether credentials are forwarded. `written` belongs to edits.Edits: the
    lines of the fields, one entry for each endpoint's edits.
    """

    __slots__ = ("_weight", "fields", "for_shadow", "seen", "written")

    def __init__(self, fields: Fields, seen: int = 0) -> None:
        self.fields = fields
        self.seen = seen
        self.for_shadow: dict[bool, tuple[Section, bool]] | None = None
        self.written: dict[object, tuple[bytes, frozenset[bytes]]] | None = None
        self._weight = -1

    @property
    def weight(self) -> int:
        """About the bytes that the fields hold in memory."""
        if self._weight < 0:
            self._weight = fields_weight(self.fields)
        return self._weight
