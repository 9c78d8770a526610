"""Two answers of a log compared again: by the given rules, or by the verdict in the record."""

from typing import Final

from shadowproxy.answers import Content
from shadowproxy.answers.alike import ALONE, About
from shadowproxy.compare.judge.differences import Diff
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import Compared, compare
from shadowproxy.exchange import Verdict
from shadowproxy.pointers import pointer_segments, pointer_token
from shadowproxy.record import Body, Judgement, RecordedLeg

_NONE_GIVEN: Final = Rules().digest


def recompared(
    live: RecordedLeg,
    shadow: RecordedLeg,
    rules: Rules,
    about: About = ALONE,
    recorded_by: str | None = None,
) -> Compared:
    """The two answers compared by `rules`; without their whole bodies in the log, by the verdict in the record.

    That verdict stands where the record's rules, whose digest is `recorded_by`, are the given ones, and where no rules
    are given; in older logs, which have no digest, by any.
    """
    judged = shadow.judgement
    if judged is None:
        return compare(live, shadow, rules, about)
    contents = about.contents
    if judged.verdict is Verdict.MATCH and recorded_by == rules.digest and contents is not None and _equal(*contents):
        return Compared(Verdict.MATCH, Diff())
    compared = compare(live, shadow, rules, about)
    if compared.verdict is not Verdict.INCOMPARABLE or (_kept(live.body) and _kept(shadow.body)):
        return compared
    if judged.verdict is not Verdict.INCOMPARABLE and not _stands(recorded_by, rules):
        return compared._replace(why=f"{compared.why}, and the record is by other rules")
    return _as_recorded(judged)


def _stands(recorded_by: str | None, rules: Rules) -> bool:
    """Whether a verdict that was recorded by these rules is one by the given rules."""
    return recorded_by is None or recorded_by == rules.digest or rules.digest == _NONE_GIVEN


def _equal(one: Content, other: Content) -> bool:
    """Whether two contents are equal, so that to compare them would find nothing. Numbers that are equal only within a
    tolerance are counted, so the record's verdict alone is not enough."""
    if one.kind != other.kind or one.kind == "unknown":
        return False
    try:
        return bool(one.value == other.value)
    except RecursionError:
        return False


def _as_recorded(judged: Judgement) -> Compared:
    set_aside = dict.fromkeys(judged.set_aside, 1)
    if judged.verdict is not Verdict.MISMATCH:
        return Compared(judged.verdict, Diff(set_aside=set_aside) if set_aside else None, judged.why)
    found = Diff(count=len(judged.differences), set_aside=set_aside)
    for path, kind, one, other, _ in judged.differences:
        place = guessed_pattern(path)
        found.found.append((place, kind, one, other, path))
        found.where[place, kind] = found.where.get((place, kind), 0) + 1
    return Compared(Verdict.MISMATCH, found)


def guessed_pattern(path: str) -> str:
    """A pointer with its numbers as `*`. It is a guess: the payload that it points into is not in the log."""
    return "".join("/*" if part.isdigit() else f"/{pointer_token(part)}" for part in pointer_segments(path))


def _kept(body: Body | None) -> bool:
    return body is not None and not body.truncated
