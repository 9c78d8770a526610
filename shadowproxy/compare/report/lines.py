"""A line of an answer, before it is shown: its text, and the place that it shows."""

from typing import Any, Final, NamedTuple

LINES: Final = 200
"""Lines of a body that are shown whole, and differences that are listed."""

LONGEST: Final = 400
"""Characters of a line."""

LONGEST_TEXT: Final = 2_000
"""Characters of a line of what a model wrote, and of a row."""

NOTHING: Final = object()


class Line(NamedTuple):
    """A line of a body.

    Attributes:
        text: what it begins with.
        pointer: the place of its value.
        item: the scalar that it ends with.
        whole: it shows all places below its own.
        key: what lines it up with a line of another answer; the pointer, if it is None.
        answer: the place in the answer's one form of which it shows a part.
        block: it is one of the lines of one text.
        leaf: the vector or blob that it shows.
        longest: how many characters of it are shown.
    """

    text: str
    pointer: str | None = None
    item: Any = NOTHING
    whole: bool = False
    key: str | None = None
    answer: str | None = None
    block: bool = False
    leaf: Any = None
    longest: int = LONGEST
