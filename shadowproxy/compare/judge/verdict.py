"""The verdict on one shadow's answer beside live's.

Only two whole answers (`ok`) are compared, by status and by content; header fields are not, since dates, servers and
request IDs always differ. A different status is one difference, and nothing else is compared: a 500 in place of a
prediction is not a list of missing fields. `answers` decides what a body is and what a stream's answer is. Bodies of
the same kind are compared as that kind: JSON by diff.py's rules, text and bytes for being the same. A pair that cannot
be compared has the reason, and is never called a mismatch.
"""

from typing import Any, Final, NamedTuple

from shadowproxy.answers.body import Content, content_of
from shadowproxy.budget import Budget, Exhausted
from shadowproxy.compare.judge.diff import KEPT, Diff, diff, shorten_both
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Judgement, RecordedLeg

_SHOWN_BYTES: Final = 32
MATCH: Final = Judgement(Verdict.MATCH)
IGNORED: Final = Judgement(Verdict.IGNORED)
_MISMATCH: Final = Verdict.MISMATCH
_INCOMPARABLE: Final = Verdict.INCOMPARABLE
_OK: Final = Outcome.OK  # on Python 3.11 looking a member up costs as much as reading three fields


class Compared(NamedTuple):
    """A verdict and its reasons. `diff` is None if nothing was compared."""

    verdict: Verdict
    diff: Diff | None = None
    why: str | None = None


def judge(live: RecordedLeg, shadow: RecordedLeg, rules: Rules, budget: Budget | None = None) -> Judgement:
    """The verdict as it is recorded: at most `diff.KEPT` differences, and their number in `why` if there are more."""
    compared = compare(live, shadow, rules, budget=budget)
    if compared.diff is None:
        return Judgement(compared.verdict, (), compared.why)
    return _judgement(compared.verdict, compared.diff, compared.why)


def judge_values(live: Any, shadow: Any, rules: Rules, budget: Budget) -> Judgement:
    """The same for two answers of one status whose whole bodies are these JSON values."""
    held = budget.held
    try:
        found = diff(live, shadow, rules, budget)
    except Exhausted as why:
        budget.held = held
        return Judgement(_INCOMPARABLE, (), f"not compared, as {why}")
    if found.count:
        return _judgement(_MISMATCH, found, None)
    return IGNORED if found.ignored else MATCH


def _judgement(verdict: Verdict, found: Diff, why: str | None) -> Judgement:
    if found.count > KEPT:
        why = f"the first {KEPT} of {found.count} differences"
    return Judgement(verdict, tuple(found.listed()), why)


def compare(
    live: RecordedLeg,
    shadow: RecordedLeg,
    rules: Rules,
    contents: tuple[Content, Content] | None = None,
    budget: Budget | None = None,
) -> Compared:
    """Compare two answers. A pure function, but for a `budget` with a clock.

    `contents` is their `content_of` if the caller has it already.
    """
    budget = budget or Budget()
    held = budget.held
    try:
        return _compare(live, shadow, rules, contents, budget)
    except Exhausted as why:
        return Compared(Verdict.INCOMPARABLE, why=f"not compared, as {why}")
    finally:
        budget.held = held


def _compare(
    live: RecordedLeg, shadow: RecordedLeg, rules: Rules, contents: tuple[Content, Content] | None, budget: Budget
) -> Compared:
    if live.outcome is not _OK or shadow.outcome is not _OK:
        name, answer = ("shadow", shadow) if live.outcome is _OK else ("live", live)
        return Compared(Verdict.INCOMPARABLE, why=f"{name}: {answer.outcome}")
    if live.status != shadow.status:
        return _mismatch("status", live.status, shadow.status)
    one, other = contents or (content_of(live, budget), content_of(shadow, budget))
    return _compare_contents(one, other, live, shadow, rules, budget)


def _compare_contents(
    one: Content, other: Content, live: RecordedLeg, shadow: RecordedLeg, rules: Rules, budget: Budget
) -> Compared:
    if one.kind == other.kind == "json":
        return compared_by(diff(one.value, other.value, rules, budget))
    if "unknown" in (one.kind, other.kind):
        name, content = ("live", one) if one.kind == "unknown" else ("shadow", other)
        return Compared(Verdict.INCOMPARABLE, why=f"{name}: {content.why}")
    if rules.root.ignored:
        return Compared(Verdict.MATCH if one.value == other.value else Verdict.IGNORED, Diff())
    if one.kind == "empty" or other.kind == "empty":
        if one.kind == other.kind:
            return Compared(Verdict.MATCH, Diff())
        kind = "extra" if one.kind == "empty" else "missing"
        return _mismatch(kind, _described(one), _described(other))
    if one.kind != other.kind:
        return _mismatch("type", one.kind, other.kind)
    if one.value == other.value:
        return Compared(Verdict.MATCH, Diff())
    if one.kind == "bytes":
        if any(answer.body is not None and answer.body.coding for answer in (live, shadow)):
            return Compared(Verdict.INCOMPARABLE, why="the content encoding could not be undone")
        return _mismatch("bytes", _described(one), _described(other))
    return _mismatch("text", *shorten_both(one.value, other.value))


def compared_by(found: Diff) -> Compared:
    """The verdict on two JSON values, of one status, by how they differ."""
    if found.count:
        return Compared(Verdict.MISMATCH, found)
    return Compared(Verdict.IGNORED if found.ignored else Verdict.MATCH, found)


def _mismatch(kind: str, live: Any, shadow: Any) -> Compared:
    return Compared(Verdict.MISMATCH, Diff([("", kind, live, shadow, "")], 1, where={("", kind): 1}))


def _described(content: Content) -> Any:
    if content.kind == "bytes":
        shown: bytes = content.value[:_SHOWN_BYTES]
        return f"{len(content.value)} bytes: {shown.hex(' ')}{' …' if len(content.value) > _SHOWN_BYTES else ''}"
    if content.kind == "empty":
        return None
    return shorten_both(content.value, content.value)[0]
