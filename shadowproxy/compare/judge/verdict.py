"""One answer beside live's, to a verdict.

Only two answers that both came whole (`ok`) are compared, by status and by content; header fields are not, since
dates, servers and request IDs differ by nature. Another status is one difference and the end of it: what a 500 says
in place of a prediction is not a list of missing fields. What a body is, and what answer a stream makes
up, is said in one place (`answers`). Bodies of the same kind are compared as that kind: JSON by diff.py's rules, text
and bytes by being the same. What cannot be compared says why, and is never called a mismatch.
"""

from typing import Any, Final, NamedTuple

from shadowproxy.compare.judge.answers.body import Content, content
from shadowproxy.compare.judge.diff import KEPT, Diff, diff, shorten_both
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Judgement, RecordedLeg

_SHOWN_BYTES: Final = 32
_OK: Final = Outcome.OK  # on Python 3.11 looking a member up costs as much as reading three fields


class Compared(NamedTuple):
    """A verdict with all that led to it. `diff` is None where nothing was compared."""

    verdict: Verdict
    diff: Diff | None = None
    why: str | None = None


def judge(live: RecordedLeg, shadow: RecordedLeg, rules: Rules) -> Judgement:
    """The verdict as the record tells it: at most `diff.KEPT` differences, and how many there were in `why`."""
    compared = compare(live, shadow, rules)
    if compared.diff is None:
        return Judgement(compared.verdict, (), compared.why)
    found = compared.diff
    why = f"the first {KEPT} of {found.count} differences" if found.count > KEPT else compared.why
    return Judgement(compared.verdict, tuple(found.listed()), why)


def compare(
    live: RecordedLeg, shadow: RecordedLeg, rules: Rules, said: tuple[Content, Content] | None = None
) -> Compared:
    """Compare two answers. A pure function: the same two answers and rules always give the same.

    `said` is the `content` of both, where that is known already.
    """
    if live.outcome is not _OK or shadow.outcome is not _OK:
        name, answer = ("shadow", shadow) if live.outcome is _OK else ("live", live)
        return Compared(Verdict.INCOMPARABLE, why=f"{name}: {answer.outcome}")
    if live.status != shadow.status:
        return _mismatch("status", live.status, shadow.status)
    one, other = said or (content(live), content(shadow))
    return _contents(one, other, live, shadow, rules)


def _contents(one: Content, other: Content, live: RecordedLeg, shadow: RecordedLeg, rules: Rules) -> Compared:
    if one.kind == other.kind == "json":
        found = diff(one.value, other.value, rules)
        if found.count:
            return Compared(Verdict.MISMATCH, found)
        return Compared(Verdict.IGNORED if found.ignored else Verdict.MATCH, found)
    if "unknown" in (one.kind, other.kind):
        name, said = ("live", one) if one.kind == "unknown" else ("shadow", other)
        return Compared(Verdict.INCOMPARABLE, why=f"{name}: {said.why}")
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


def _mismatch(kind: str, live: Any, shadow: Any) -> Compared:
    return Compared(Verdict.MISMATCH, Diff([("", kind, live, shadow, "")], 1, where={("", kind): 1}))


def _described(said: Content) -> Any:
    if said.kind == "bytes":
        shown: bytes = said.value[:_SHOWN_BYTES]
        return f"{len(said.value)} bytes: {shown.hex(' ')}{' …' if len(said.value) > _SHOWN_BYTES else ''}"
    if said.kind == "empty":
        return None
    return shorten_both(said.value, said.value)[0]
