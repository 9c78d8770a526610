"""Reads summaries of an earlier format: its counts are taken, and what it did not count stays empty.

Format 1 had one count for each shadow, without routes. It chose the answer's place and kind from a sample and counted
for that kind only; today's counts are independent of kinds, so these are left out. Its counts of errors included
requests that live never answered. So the checks that need these counts have no data, and the report says why.
"""

from typing import Any, Final

from shadowproxy.compare.fold.counts import Hist, WordCounts
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.slices import WHOLE, ByMark, ByValue, Cell, Slice, Slices

EARLIER_FORMAT: Final = 1

_TAKEN: Final = (
    "chosen",
    "answered",
    "compared",
    "agreed",
    "timed",
    "slower",
    "timeouts",
    "outcomes",
    "statuses",
    "verdicts",
    "repeated_keys",
    "whys",
    "live_ms",
    "shadow_ms",
    "gap_ms",
    "live_first_ms",
    "shadow_first_ms",
    "live_streams",
    "shadow_streams",
    "signatures",
    "differs",
    "kinds",
    "near",
    "shapes",
    "live_values",
    "shadow_values",
    "repeats",
    "label_delay",
    "control_pairs",
    "control_differs",
    "control_shadow_differs",
    "control_places",
    "control_shadow_places",
    "control_gaps",
    "control_shadow_gaps",
)


def pair_of_format_1(raw: Any) -> Pair:
    """A shadow's counts in format 1. Raises KeyError, TypeError, ValueError or AttributeError if they are damaged."""
    pair = Pair()
    for name in _TAKEN:
        setattr(pair, name, type(getattr(pair, name)).from_json(raw[name]))
    pair.slices = _slices(raw["slices"])
    pair.named_slices = _slices(raw["named_slices"])
    pair.legacy[f"format {EARLIER_FORMAT}"] = pair.chosen.total()
    return pair


def _slices(raw: Any) -> Slices:
    return Slices({str(place): _slice(part) for place, part in raw["kept"].items()}, _slice(raw["other"]))


def _slice(raw: Any) -> Slice:
    values = ByValue(
        {str(key): _cell(cell) for key, cell in raw["values"]["kept"].items()}, _cell(raw["values"]["other"])
    )
    numbers = {"n": Hist.from_json(raw["numbers"]), WHOLE: Hist.from_json(raw["number_differs"])}
    return Slice(
        values, ByMark({name: hist for name, hist in numbers.items() if hist}), WordCounts.from_json(raw["fractions"])
    )


def _cell(raw: Any) -> Cell:
    """Format 1 counted only whether the judged field differed, or the whole answers if none was judged."""
    cell = Cell()
    for mark, count in (("n", int(raw.get("n", 0))), (WHOLE, int(raw.get("differs", 0)))):
        if count:
            cell[mark] = count
    return cell
