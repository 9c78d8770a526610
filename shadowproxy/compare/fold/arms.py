"""The two answers of a pair, and the marks of the pair as a whole."""

from typing import Any, Final, NamedTuple

from shadowproxy.answers import Content, value_of
from shadowproxy.compare.fold.layouts import Answer
from shadowproxy.compare.fold.noise import VOLATILE_SHAPES, shape_of
from shadowproxy.compare.fold.slices import BACK, BLIND, FAILED, GONE, LIVE_FAILED, WHOLE
from shadowproxy.compare.judge.differences import Diff, loggable
from shadowproxy.compare.judge.standing import Standing
from shadowproxy.exchange import Verdict
from shadowproxy.record import RecordedLeg

_MISMATCH: Final = Verdict.MISMATCH
_NOT_LACKING: Final = ("value", "extra")  # kinds of difference


class Arms(NamedTuple):
    """A pair's legs, what they say, how they stand, and how they compare (`diff` is None if they could not be).

    `taken_apart` has what they say if it was taken apart to be compared. `forms` has it in the one form in which it was
    compared, where that is not the one in which it was sent.
    """

    live: RecordedLeg
    shadow: RecordedLeg
    live_content: Content
    shadow_content: Content | None
    live_standing: Standing
    shadow_standing: Standing
    verdict: Verdict | None
    diff: Diff | None
    taken_apart: tuple[Answer, Answer] | None
    forms: tuple[Any, Any] | None


def marks_of_pair(arms: Arms) -> list[str]:
    """The marks of the pair as a whole."""
    one, other = arms.live_standing, arms.shadow_standing
    marks: list[str] = []
    if (one == "good") != (other == "good"):
        marks.append(GONE if one == "good" else BACK)
    if (one == "failed") != (other == "failed"):
        marks.append(LIVE_FAILED if one == "failed" else FAILED)
    if arms.diff is None:
        marks.append(BLIND)
    elif arms.verdict is _MISMATCH and _is_news(arms.diff):
        marks.append(WHOLE)
    return marks


def _is_news(diff: Diff) -> bool:
    """Whether two answers differ in more than IDs, times and digests, as far as their form shows."""
    if diff.count > len(diff.found):
        return True
    return any(
        kind != "value" or shape_of(place, loggable(live)) not in VOLATILE_SHAPES
        for place, kind, live, _, _ in diff.found
    )


def has_values(arms: Arms) -> bool:
    """Whether an arm answered well, and the content of each that did is known."""
    live, shadow = arms.live_standing == "good", arms.shadow_standing == "good"
    return (
        (live or shadow)
        and not (live and arms.live_content.kind == "unknown")
        and not (shadow and (arms.shadow_content is None or arms.shadow_content.kind == "unknown"))
    )


def missing(content: Content, other: Standing, other_content: Content | None) -> str | None:
    """Why one arm's answer is missing where the other arm (`content`) has one; None if both have one, or neither."""
    if content.kind == "empty" or (content.kind == "json" and content.value is None):
        return None
    if other != "good" or other_content is None:
        return "failed" if other == "failed" else "not a 2xx"
    if other_content.kind == "empty":
        return "absent"
    return "null" if other_content.kind == "json" and other_content.value is None else None


def lacks_nothing(arms: Arms) -> bool:
    """Whether the differences show that the shadow's answer lacks nothing: then it is not looked at again."""
    if arms.forms is not None:
        return False
    diff, live, shadow = arms.diff, arms.live_content, arms.shadow_content
    if diff is None or shadow is None:
        return False
    if not diff.count and not diff.ignored:
        return True
    plain = live.kind == "json" and shadow.kind == "json" and not shadow.lenient
    return plain and diff.count <= len(diff.found) and all(kind in _NOT_LACKING for _, kind in diff.where)


def values_of(arms: Arms) -> tuple[Answer, Answer | None]:
    """Both answers to look for places in; live's is empty, and the shadow's None, if it is not a good one."""
    if arms.forms is not None:
        return Answer(arms.forms[0]), Answer(arms.forms[1])
    known = arms.taken_apart
    live: Answer | None = None
    shadow: Answer | None = None
    if arms.live_standing == "good":
        live = _answer_of(value_of(arms.live, arms.live_content), known and known[0])
    if arms.shadow_standing == "good" and arms.shadow_content is not None:
        shadow = _answer_of(value_of(arms.shadow, arms.shadow_content), known and known[1])
    return live or Answer({}), shadow


def sent_by(arms: Arms) -> tuple[Any, Any]:
    """The JSON of both answers as it was sent; None for an answer that is not JSON, or not a good one."""
    return _sent(arms.live_standing, arms.live_content), _sent(arms.shadow_standing, arms.shadow_content)


def _sent(standing: Standing, content: Content | None) -> Any:
    return content.value if standing == "good" and content is not None and content.kind == "json" else None


def _answer_of(value: Any, known: Answer | None) -> Answer:
    if value is None:
        return Answer({})  # null has no places, as an object without members; 0 and "" are answers
    return known if known is not None and known.value is value else Answer(value)
