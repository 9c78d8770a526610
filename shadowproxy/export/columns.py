"""The columns of an exported table, in their order: docs/how-to/export.md explains each.

A number in JSON may be whole in one answer and not in the next, so every number is a float. What cannot be a number or
a class is still text.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What a column holds. Any cell may be null.

    `time` is microseconds since the Unix epoch, in UTC; `whole` a 64-bit integer, `number` a 64-bit float.
    """

    TEXT = "text"
    NUMBER = "number"
    WHOLE = "whole"
    TIME = "time"


class Column(NamedTuple):
    name: str
    kind: Kind


COLUMNS: Final = (
    Column("id", Kind.TEXT),
    Column("record", Kind.TEXT),
    Column("row", Kind.WHOLE),
    Column("at", Kind.TIME),
    Column("proxy", Kind.TEXT),
    Column("method", Kind.TEXT),
    Column("path", Kind.TEXT),
    Column("query", Kind.TEXT),
    Column("shadow", Kind.TEXT),
    Column("outcome", Kind.TEXT),
    Column("verdict", Kind.TEXT),
    Column("why", Kind.TEXT),
    Column("differences", Kind.WHOLE),
    Column("live_place", Kind.TEXT),
    Column("shadow_place", Kind.TEXT),
    *(
        Column(f"{arm}_{name}", kind)
        for name, kind in (
            ("number", Kind.NUMBER),
            ("class", Kind.TEXT),
            ("text", Kind.TEXT),
            ("status", Kind.WHOLE),
            ("failed", Kind.TEXT),
            ("first_byte_ms", Kind.NUMBER),
            ("total_ms", Kind.NUMBER),
            ("tokens_in", Kind.WHOLE),
            ("tokens_out", Kind.WHOLE),
            ("cost", Kind.NUMBER),
        )
        for arm in ("live", "shadow")
    ),
    Column("live_outcome", Kind.TEXT),
    Column("error", Kind.TEXT),
    Column("weight", Kind.WHOLE),
)
"""The columns of every table; those of request fields follow them."""

REQUEST: Final = "request:"
"""How the name of a request field's column begins; its JSON pointer follows."""

Cell = str | float | int | None
Row = tuple[Cell, ...]

FIELD_KINDS: Final = ("text", "number", "whole")


class RequestField(NamedTuple):
    """A place in the request's JSON that becomes a column. A `*` stands for the rows of a batch."""

    pointer: str
    kind: Kind

    @property
    def column(self) -> Column:
        return Column(REQUEST + self.pointer, self.kind)


def parse_field(text: str) -> RequestField:
    """`/pointer`, which becomes text, or `/pointer=number`, `/pointer=whole`. Raises ValueError with one line."""
    pointer, equals, word = text.rpartition("=")
    if not equals:
        pointer, word = text, "text"
    elif word not in FIELD_KINDS:
        known = ", ".join(FIELD_KINDS)
        raise ValueError(f'"{text}": unknown kind "{word}", not one of {known}; for a pointer with = write {text}=text')
    if not pointer.startswith("/"):
        raise ValueError(f'"{text}" is no JSON pointer: it begins with /, as in /features/age')
    return RequestField(pointer, Kind(word))


def columns_with(fields: tuple[RequestField, ...]) -> tuple[Column, ...]:
    """All columns of a table with these request fields."""
    return COLUMNS + tuple(field.column for field in fields)
