"""Two answers beside each other, line by line, with their differences marked: what every form shows of them.

Lines are lined up by the places that they show; lines of texts by their longest common parts, as of two files.
"""

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby, zip_longest
from typing import Final, NamedTuple, TypeAlias

from shadowproxy.answers.leaves import Vector, angle
from shadowproxy.compare.judge.visible import Parts, cut_together, one_line, parts, sides
from shadowproxy.compare.report.lines import LINES, NOTHING, Line
from shadowproxy.compare.report.shown_lines import END
from shadowproxy.record import Difference

_AROUND: Final = 3  # lines shown before and after one that differs, in a body that is longer
_MOST_MATCHED: Final = 400  # lines of two texts that are lined up by what they have in common
_GAP: Final = Line("")


class Row(NamedTuple):
    """Live's line and the other's as they are shown, and whether they differ."""

    live: str
    differs: bool
    other: str


def rows_of(live: Sequence[Line], other: Sequence[Line], differences: Iterable[Difference]) -> list[Row]:
    """All rows of two short answers; of long ones those that differ, with some around them and how many lie between."""
    differing = {place for each in differences for place in (each.path, each.shadow_path) if place is not None}
    return near_differences(_rows(live, other, differing))


def raw_rows(live: Sequence[Line], other: Sequence[Line], differences: Iterable[Difference]) -> list[Row]:
    """The same for two bodies as they were sent: lines that show no place are marked if they are not the same."""
    differing = {place for each in differences for place in (each.path, each.shadow_path) if place is not None}
    return near_differences(_rows(live, other, differing | {""} if differing else differing))


def parts_of(row: Row) -> tuple[Parts, Parts]:
    """Both lines of a row that differ, each with the part that differs."""
    return parts(row.live, row.other)


def whole_line(line: Line) -> str:
    """A line that stands alone."""
    if line.item is not NOTHING:
        return line.text + one_line(line.item, line.longest)
    return line.text if len(line.text) <= line.longest else line.text[: line.longest - 1] + "…"


def _rows(live: Sequence[Line], other: Sequence[Line], differing: set[str]) -> list[Row]:
    above = {
        "/".join(steps[:count]) for steps in (each.split("/") for each in differing) for count in range(len(steps))
    }
    return [_row(mine, theirs, differing, above) for mine, theirs in _aligned(live, other)]


def _row(mine: Line, theirs: Line, differing: set[str], above: set[str]) -> Row:
    marked = any(_marks(each, differing, above) for each in (mine, theirs))
    if marked and (mine.block or theirs.block):
        marked = mine.text != theirs.text
    if "" in differing:  # the whole answer, as where one has failed
        marked = marked or (mine.text, mine.item) != (theirs.text, theirs.item)
    longest = max(mine.longest, theirs.longest)
    if marked and mine.item is not NOTHING and theirs.item is not NOTHING:
        one, two = sides("value", mine.item, theirs.item, longest)
        return Row(mine.text + one, marked, theirs.text + two)
    distance = _distance(mine.leaf, theirs.leaf)
    if distance is not None:
        return Row(mine.text, marked, f"{theirs.text} ({distance})")
    if marked and mine.item is theirs.item is NOTHING:
        one, two = cut_together(mine.text, theirs.text, longest)
        return Row(one, marked, two)
    return Row(whole_line(mine), marked, whole_line(theirs))


def _marks(line: Line, differing: set[str], above: set[str]) -> bool:
    """Whether a line shows a place that differs, or one below it where it shows all of these."""
    if line.pointer is None:
        return False
    place = line.pointer.removesuffix(END)
    return (
        place in differing or (line.whole and place in above) or (line.answer is not None and line.answer in differing)
    )


def _distance(one: object, other: object) -> str | None:
    """How far two vectors of one length lie apart, in words; None if they are not two such vectors."""
    if not isinstance(one, Vector) or not isinstance(other, Vector) or len(one) != len(other) or not len(one):
        return None
    if one.embedding or other.embedding:
        apart = angle(one.numbers, other.numbers)
        return "no angle between the two" if apart is None else f"1 - cosine = {apart:.3g}"
    gaps = [abs(left - right) for left, right in zip(one.numbers, other.numbers, strict=True) if left != right]
    if not gaps:
        return "the same numbers"
    return f"{len(gaps):,} of {len(one):,} numbers are not the same, by up to {max(gaps):.3g}"


def near_differences(rows: list[Row]) -> list[Row]:
    """All rows, or of many those that differ, with some around them and how many lie between."""
    if len(rows) <= LINES:
        return rows
    shown: list[Row] = []
    last = -1
    near = {
        at for number, row in enumerate(rows) if row.differs for at in range(number - _AROUND, number + _AROUND + 1)
    } or set(range(LINES))
    for at in sorted(near.intersection(range(len(rows))))[: 2 * LINES]:
        if at > last + 1:
            shown.append(_between(at - last - 1))
        shown.append(rows[at])
        last = at
    if last < len(rows) - 1:
        shown.append(_between(len(rows) - 1 - last))
    return shown


def _between(count: int) -> Row:
    text = f"… {count:,} more line{'' if count == 1 else 's'}"
    return Row(text, False, text)


_Block: TypeAlias = tuple[str | None, list[Line]]
"""Lines with one key: all lines of a text, or one other line. Lines that show no place are lined up as one text."""


def _blocks(lines: Sequence[Line]) -> list[_Block]:
    return [(key, list(group)) for key, group in groupby(lines, lambda line: line.key or line.pointer)]


def _aligned(left: Sequence[Line], right: Sequence[Line]) -> Iterator[tuple[Line, Line]]:
    """The lines of both beside each other, by their keys: a missing member leaves a gap."""
    mine, theirs = _blocks(left), _blocks(right)
    order = {key: at for at, (key, _) in enumerate(theirs) if key is not None}
    if not any(key in order for key, _ in mine):
        yield from _lined_up(list(left), list(right))
        return
    taken = 0
    for key, lines in mine:
        at = order.get(key) if key is not None else None
        if at is None or at < taken:
            yield from ((line, _GAP) for line in lines)
            continue
        yield from ((_GAP, line) for _, extra in theirs[taken:at] for line in extra)
        yield from _lined_up(lines, theirs[at][1])
        taken = at + 1
    yield from ((_GAP, line) for _, extra in theirs[taken:] for line in extra)


def _lined_up(left: list[Line], right: list[Line]) -> Iterator[tuple[Line, Line]]:
    """The lines of two texts by their longest common parts; of long ones, and of other lines, one by one."""
    if not (left and right and left[0].block and right[0].block) or len(left) + len(right) > _MOST_MATCHED:
        yield from zip_longest(left, right, fillvalue=_GAP)
        return
    matcher = SequenceMatcher(None, [each.text for each in left], [each.text for each in right], autojunk=False)
    for _, from_one, to_one, from_other, to_other in matcher.get_opcodes():
        yield from zip_longest(left[from_one:to_one], right[from_other:to_other], fillvalue=_GAP)
