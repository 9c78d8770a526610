"""What is counted for the standing verdict: since its beginning in one summary, or of a window in several.

Only counts are kept: the examples that a report of a log shows are left out, so that nothing of a person is in them
that `erase` would have to find. A window is counted in twelve parts, and the oldest is dropped once it began before the
window: so between eleven and twelve twelfths of it count.
"""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.pair_tables import Examples
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.reasons import Reasons
from shadowproxy.compare.fold.slices import MOST_VALUES
from shadowproxy.compare.fold.summary import Summary, SummaryBuilder, SummaryError, load, merge, save
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.figures.types import Report
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.looks import Looks, read_looks, report_again
from shadowproxy.record import Record, RecordError, decode
from shadowproxy.serve.standing.settings import StandingSettings
from shadowproxy.serve.standing.times import seconds_of, text_of

PARTS: Final = 12
"""Parts of a window."""


@dataclass(slots=True)
class _Closed:
    """A part of a window to which nothing is added any more, as `save` writes it."""

    begun: float
    saved: bytes


class Counting:
    """The counts of one or several shadows. For one thread.

    `since` is when it began, in seconds of Unix time, `since_of` the same for shadows that began later; `last` has the
    time of each shadow's latest record.
    """

    def __init__(self, settings: StandingSettings, since: float) -> None:
        self.settings = settings
        self.since = since
        self.since_of: dict[str, float] = {}
        self.last: dict[str, str] = {}
        self.unreadable = 0
        self.looks: Looks | None = None
        self._from: dict[str, str] = {}  # the same as the records' times are written, by shadow; "" for all
        self._note_since()
        self._reading = Reading(settings.rules, settings.fields)
        self._closed: list[_Closed] = []
        self._earlier = Summary()  # of all closed parts
        self._begun = since
        self._summary = Summary()
        self._builder = SummaryBuilder()
        self._waiting = 0  # records in the builder

    # --- folding -----------------------------------------------------------------------------------------------------

    def fold(self, line: bytes, draw: int, of: StandingSettings) -> bool:
        """Count a record as one of `draw`, recorded under the settings `of`; False where it is not one of these.

        A record that cannot be read is counted as `unreadable`: its line was written by this program.
        """
        try:
            record = decode(line)
            found = self._wanted(record, of)
            if found is None:
                return False
            self._builder.add(found, self._reading, draw=draw)
        except (RecordError, ValueError):
            self.unreadable += 1
            return False
        for name in found.shadows:
            self.last[name] = max(found.at, self.last.get(name, ""))
        self._waiting += 1
        return True

    def _wanted(self, record: Record, of: StandingSettings) -> Record | None:
        """A record with its answers of the shadows that are the same as now, and were asked after the beginning."""
        same = of is self.settings or of.key == self.settings.key
        if not same or record.at < self._from[""]:
            return None
        legs = {
            name: leg
            for name, leg in record.shadows.items()
            if name in self.settings.shadows
            and of.shadows.get(name) == self.settings.shadows[name]
            and record.at >= self._from.get(name, "")
        }
        if not legs:
            return None
        return record if len(legs) == len(record.shadows) else record._replace(shadows=legs)

    def _note_since(self) -> None:
        self._from = {"": text_of(self.since)} | {name: text_of(since) for name, since in self.since_of.items()}

    def gather(self) -> None:
        """Add what was folded since the last call to the summary."""
        if not self._waiting:
            return
        found = self._builder.finish()
        _take_examples_out(found)
        self._summary.absorb(found)
        _forget_many_values(self._summary)
        self._builder = SummaryBuilder(width=self._summary.width)
        self._waiting = 0

    def turn(self, now: float) -> None:
        """Close and drop the parts of a window for which it is time. No request was later than `now`."""
        latest, window = text_of(now), self.settings.window
        self.last = {name: min(last, latest) for name, last in self.last.items()}  # the clock may have been set back
        self._begun = min(self._begun, now)
        for each in self._closed:
            each.begun = min(each.begun, now)
        if window is None or now - self._begun < window / PARTS:
            return
        self.gather()
        self._closed.append(_Closed(self._begun, save(self._summary)))
        self._begun, self._summary, self._builder = now, Summary(), SummaryBuilder()
        self._closed = [each for each in self._closed if each.begun >= now - window]
        self._add_up()

    def _add_up(self) -> None:
        self._earlier = Summary()
        for each in self._closed:
            self._earlier.absorb(load(each.saved))

    @property
    def seconds(self) -> int:
        """From the beginning to the last request."""
        return max(0, round(seconds_of(max(self.last.values())) - self.since)) if self.last else 0

    def forget(self, shadow: str, since: float) -> None:
        """Start over with one shadow."""
        self.gather()
        self.since_of[shadow] = since
        self._note_since()
        self.last.pop(shadow, None)
        if self.looks is not None:
            self.looks["shadows"].pop(shadow, None)
        self._summary.shadows.pop(shadow, None)
        for each in self._closed:
            rest = load(each.saved)
            rest.shadows.pop(shadow, None)
            each.saved = save(rest)
        self._add_up()

    # --- what was counted --------------------------------------------------------------------------------------------

    def total(self) -> Summary:
        """All that counts. It is not to be changed, but for the order of its counts."""
        self.gather()
        return merge(self._earlier, self._summary) if self._closed else self._summary

    def report(self, gates: Gates) -> Report:
        """The report on all that counts. Without a window it is one of many looks (compare/report/looks.py)."""
        total = self.total()
        if self.settings.window is not None:
            return to_json(total, gates)
        figures, self.looks = report_again(total, gates, self.looks)
        return figures

    @property
    def counts_from(self) -> float:
        """When the earliest part that still counts began."""
        return self._closed[0].begun if self._closed else self._begun

    # --- to be kept --------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON; the summaries are `orjson.Fragment`s."""
        self.gather()
        parts = [*((each.begun, each.saved) for each in self._closed), (self._begun, save(self._summary))]
        return {
            "key": self.settings.key,
            "candidates": dict(self.settings.shadows),
            "since": self.since,
            "since_of": self.since_of,
            "last": self.last,
            "unreadable": self.unreadable,
            "looks": self.looks,
            "parts": [{"begun": begun, "summary": orjson.Fragment(saved.rstrip(b"\n"))} for begun, saved in parts],
        }

    @classmethod
    def from_json(cls, settings: StandingSettings, raw: Any) -> "Counting":
        """What `to_json` gave, under settings of the same key. Raises ValueError where it is not whole."""
        try:
            found = cls(settings, float(raw["since"]))
            found.since_of = {str(name): float(at) for name, at in raw["since_of"].items()}
            found._note_since()
            found.last = {str(name): str(at) for name, at in raw["last"].items()}
            found.unreadable = int(raw["unreadable"])
            found.looks = None if raw["looks"] is None else read_looks(raw["looks"])
            *closed, current = raw["parts"]
            found._closed = [_Closed(float(each["begun"]), orjson.dumps(each["summary"])) for each in closed]
            found._begun, found._summary = float(current["begun"]), load(orjson.dumps(current["summary"]))
            found._builder = SummaryBuilder(width=found._summary.width)
            found._add_up()
        except (KeyError, TypeError, AttributeError, SummaryError) as error:
            raise ValueError(f"not a whole state of the standing verdict: {error!s:.120}") from error
        return found


def _take_examples_out(summary: Summary) -> None:
    for routes in summary.shadows.values():
        for pair in (*routes.values(), routes.other):
            _take_out(pair)


def _forget_many_values(summary: Summary) -> None:
    """Forget the values of fields that have more than a report lists: IDs and the like."""
    for routes in summary.shadows.values():
        for pair in (*routes.values(), routes.other):
            for slices in (pair.slices, pair.named_slices):
                for part in (*slices.values(), slices.other):
                    values = part.values
                    if values and (values.cut or len(values) > MOST_VALUES):
                        for value in list(values):
                            values.other.absorb(values.pop(value))


def _take_out(pair: Pair) -> None:
    pair.examples = Examples()
    for reasons in (pair.live_reasons, pair.shadow_reasons):
        _take_out_of(reasons)
    for outputs in pair.outputs.values():
        outputs.largest.clear()


def _take_out_of(reasons: Reasons) -> None:
    for reason in (*reasons.values(), reasons.other):
        reason.example.clear()
        reason.asked = type(reason.asked)()
