"""Two answers of a log compared again: by the rules of today, or as they were when they came."""

from shadowproxy.compare.judge.answers import Content
from shadowproxy.compare.judge.diff import Diff
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import Compared, compare
from shadowproxy.exchange import Verdict
from shadowproxy.pointers import pointer_segments, pointer_token
from shadowproxy.record import Body, RecordedLeg


def recompared(
    live: RecordedLeg, shadow: RecordedLeg, rules: Rules, said: tuple[Content, Content] | None = None
) -> Compared:
    """The two answers compared by `rules`, or, where the log did not keep their bodies, as they were when they came.

    `said` is what they say, where that is known already.
    """
    compared = compare(live, shadow, rules, said)
    judged = shadow.judgement
    if compared.verdict is not Verdict.INCOMPARABLE or judged is None or (_kept(live.body) and _kept(shadow.body)):
        return compared
    if judged.verdict is not Verdict.MISMATCH:
        return Compared(judged.verdict, None, judged.why)
    found = Diff(count=len(judged.differences))
    for path, kind, one, other in judged.differences:
        place = guessed_pattern(path)
        found.found.append((place, kind, one, other, path))
        found.where[place, kind] = found.where.get((place, kind), 0) + 1
    return Compared(Verdict.MISMATCH, found)


def guessed_pattern(path: str) -> str:
    """A pointer with its numbers as `*`: the best to be had where what it points into is not known."""
    return "".join("/*" if part.isdigit() else f"/{pointer_token(part)}" for part in pointer_segments(path))


def _kept(body: Body | None) -> bool:
    return body is not None and not body.truncated
