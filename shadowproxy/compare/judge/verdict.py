"""The verdict on one shadow's answer beside live's.

Only two whole answers (`ok`) are compared, by status and by content; header fields are not, since dates, servers and
request IDs always differ. A different status is one difference, and nothing else is compared: a 500 in place of a
prediction is not a list of missing fields. So it is where one of the two says that it failed (`failed`). `answers`
decides what a body is, what a stream's answer is, and what of two envelopes stands for the same thing (`alike`).
Bodies of the same kind are compared as that kind: JSON by diff.py's rules, text and bytes for being the same. A pair
that cannot be compared has the reason, and is never called a mismatch.
"""

from typing import Any, Final, NamedTuple

from shadowproxy.answers.alike import ALONE, About, Alike, alike, alike_values
from shadowproxy.answers.body import Content, content_of
from shadowproxy.answers.failed import failed_reason
from shadowproxy.answers.issued import with_lives_ids
from shadowproxy.answers.leaves import blob_of
from shadowproxy.budget import Budget, Exhausted
from shadowproxy.compare.judge.diff import diff, diff_paired
from shadowproxy.compare.judge.differences import KEPT, Diff, shorten_both
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Judgement, RecordedLeg

_SHOWN_BYTES: Final = 32
MATCH: Final = Judgement(Verdict.MATCH)
_MISMATCH: Final = Verdict.MISMATCH
_INCOMPARABLE: Final = Verdict.INCOMPARABLE
_OK: Final = Outcome.OK  # on Python 3.11 looking a member up costs as much as reading three fields


class Compared(NamedTuple):
    """A verdict and its reasons. `diff` is None if nothing was compared."""

    verdict: Verdict
    diff: Diff | None = None
    why: str | None = None


def judge(
    live: RecordedLeg,
    shadow: RecordedLeg,
    rules: Rules,
    budget: Budget | None = None,
    about: About = ALONE,
) -> Judgement:
    """The verdict as it is recorded: at most `diff.KEPT` differences, and their number in `why` if there are more."""
    compared = compare(live, shadow, rules, about, budget)
    if compared.diff is None:
        return Judgement(compared.verdict, (), compared.why)
    return _judgement(compared.verdict, compared.diff, compared.why)


def judge_values(live: Any, shadow: Any, rules: Rules, budget: Budget, about: About = ALONE) -> Judgement:
    """The same for two answers of one status whose whole bodies are these JSON values. Neither says that it failed."""
    held = budget.held
    own: tuple[str, ...] = ()
    try:
        if about.issued:
            shadow, own = with_lives_ids(live, shadow, about.issued, budget)
        found = diff_alike(alike_values(live, shadow, about, rules.predictions.get(about.shadow)), rules, budget)
    except Exhausted as why:
        budget.held = held
        return Judgement(_INCOMPARABLE, (), f"not compared, as {why}")
    if own:
        found.note_set_aside(own)
    if found.count:
        return _judgement(_MISMATCH, found, None)
    if found.ignored or found.set_aside:
        return _judgement(Verdict.IGNORED if found.ignored else Verdict.MATCH, found, None)
    return MATCH


def _judgement(verdict: Verdict, found: Diff, why: str | None) -> Judgement:
    if found.count > KEPT:
        why = f"the first {KEPT} of {found.count} differences"
    return Judgement(verdict, tuple(found.listed()), why, tuple(found.set_aside))


def diff_alike(pair: Alike, rules: Rules, budget: Budget) -> Diff:
    """Every difference between two answers, in what of them stands for the same thing. Raises Exhausted."""
    by = rules.beside(pair.set_aside)
    first = pair.parts[0]
    if first.places is None:
        return diff(first.live, first.shadow, by, budget)
    found = Diff()
    for part in pair.parts:
        if part.places is not None:
            diff_paired(part.live, part.shadow, part.places, by, found, budget)
    return found


def compare(
    live: RecordedLeg,
    shadow: RecordedLeg,
    rules: Rules,
    about: About = ALONE,
    budget: Budget | None = None,
) -> Compared:
    """Compare two answers. A pure function, but for a `budget` with a clock."""
    budget = budget or Budget()
    held = budget.held
    try:
        return _compare(live, shadow, rules, about, budget)
    except Exhausted as why:
        return Compared(Verdict.INCOMPARABLE, why=f"not compared, as {why}")
    finally:
        budget.held = held


def _compare(live: RecordedLeg, shadow: RecordedLeg, rules: Rules, about: About, budget: Budget) -> Compared:
    if live.outcome is not _OK or shadow.outcome is not _OK:
        side, answer = ("shadow", shadow) if live.outcome is _OK else ("live", live)
        return Compared(Verdict.INCOMPARABLE, why=f"{side}: {answer.outcome}")
    if live.status != shadow.status:
        return _mismatch("status", live.status, shadow.status)
    one, other = about.contents or (content_of(live, budget), content_of(shadow, budget))
    if "unknown" in (one.kind, other.kind):
        name, content = ("live", one) if one.kind == "unknown" else ("shadow", other)
        return Compared(Verdict.INCOMPARABLE, why=f"{name}: {content.why}")
    failed = failed_reason(live, one), failed_reason(shadow, other)
    if (failed[0] is None) != (failed[1] is None):
        return compared_by_failure(*failed)
    own: tuple[str, ...] = ()
    if about.issued and other.value is not None:
        value, own = with_lives_ids(one.value, other.value, about.issued, budget)
        other = other._replace(value=value)
    if one.kind == other.kind == "json":
        pair = alike(one, other, about, rules.predictions.get(about.shadow))
        found = diff_alike(pair, rules, budget)
        found.note_set_aside(own)
        return compared_by(found)
    return _compare_contents(one, other, live, shadow, rules)


def compared_by_failure(live: str | None, shadow: str | None) -> Compared:
    """The verdict where one of the two answers says that it failed: that is the one difference."""
    return _mismatch("failed", live, shadow)


def _compare_contents(one: Content, other: Content, live: RecordedLeg, shadow: RecordedLeg, rules: Rules) -> Compared:
    if rules.root.ignored:
        return Compared(Verdict.MATCH if one.value == other.value else Verdict.IGNORED, Diff())
    if one.kind == "empty" or other.kind == "empty":
        if one.kind == other.kind:
            return Compared(Verdict.MATCH, Diff())
        kind = "extra" if one.kind == "empty" else "missing"
        return _mismatch(kind, _described(one), _described(other))
    if one.kind != other.kind:
        return _mismatch("type", _named(one), _named(other))
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


def _named(content: Content) -> str:
    """What a content is, and what is wrong with it, if anything."""
    return content.kind if content.broken is None else f"{content.kind}, {content.broken}"


def _described(content: Content) -> Any:
    if content.kind == "bytes" and "/" in content.format:
        return blob_of(content.value, content.format).line()
    if content.kind == "bytes":
        shown: bytes = content.value[:_SHOWN_BYTES]
        return f"{len(content.value)} bytes: {shown.hex(' ')}{' …' if len(content.value) > _SHOWN_BYTES else ''}"
    if content.kind == "empty":
        return None
    return shorten_both(content.value, content.value)[0]
