"""A message's header fields as they came together, with what was worked out of them."""

from shadowproxy.exchange import Fields
from shadowproxy.serve.http1.fields import fields_weight


class Section:
    """The end-to-end fields of a head. Nobody changes one: it stands for those of all messages that came alike.

    `came` is how many requests did. Of what came before, what is worked out is kept here, and so is found again where
    callers repeat themselves, and forgotten with it: `told` by headers.for_shadow, by whether credentials may be told,
    and `written` by each edits.Edits.
    """

    __slots__ = ("_weight", "came", "fields", "told", "written")

    def __init__(self, fields: Fields, came: int = 0) -> None:
        self.fields = fields
        self.came = came
        self.told: dict[bool, tuple[Section, bool]] | None = None
        self.written: dict[object, tuple[bytes, frozenset[bytes]]] | None = None
        self._weight = -1

    @property
    def weight(self) -> int:
        """About the bytes that the fields hold in memory."""
        if self._weight < 0:
            self._weight = fields_weight(self.fields)
        return self._weight
