"""Two answers of a log compared again: by the given rules, or by the verdict in the record."""

from shadowproxy.compare.judge.answers import Content
from shadowproxy.compare.judge.diff import Diff
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import Compared, compare
from shadowproxy.exchange import Verdict
from shadowproxy.pointers import pointer_segments, pointer_token
from shadowproxy.record import Body, RecordedLeg


def recompared(
    live: RecordedLeg, shadow: RecordedLeg, rules: Rules, contents: tuple[Content, Content] | None = None
) -> Compared:
    """The two answers compared by `rules`; without their bodies in the log, by the verdict in the record.

    `contents` is their `content_of` if the caller has it already.
    """
    compared = compare(live, shadow, rules, contents)
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
    """A pointer with its numbers as `*`. It is a guess: the payload that it points into is not in the log."""
    return "".join("/*" if part.isdigit() else f"/{pointer_token(part)}" for part in pointer_segments(path))


def _kept(body: Body | None) -> bool:
    return body is not None and not body.truncated
