"""Draws the pairs that a judge is asked about, with known probabilities.

Equal pairs are ties and need no call. Each differing pair has an interest, and is drawn if the hash of its record's ID
lies below a probability in proportion to it (Poisson sampling, with the hash as a permanent random number). So the same
log and budget draw the same pairs, and a larger budget draws all of these and more. The drawn pairs are asked in the
order of a second hash: wherever the asking ends, the asked ones are a fair part of those that were drawn.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shadowproxy.answers import Content, about, content_of, failed_reason
from shadowproxy.answers.body import value_in
from shadowproxy.compare.fold.filters import EVERYTHING, Only
from shadowproxy.compare.fold.routes import route_of
from shadowproxy.compare.fold.samples import Distinct, hashed
from shadowproxy.compare.fold.summary import micros
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.judge.texts import answer_text, request_text
from shadowproxy.lines import Unreadable, lines
from shadowproxy.record import Record, RecordedLeg, RecordError, decode
from shadowproxy.sources import sources_of

_LEAST_INTEREST: Final = 0.25
_LONG: Final = 2000  # characters of an answer, above which it is of full interest for its length
_RARE: Final = 0.05  # the share of the differing pairs below which a slice is rare
_SAVED: Final = b'{"shadowproxy_summary"'
_REPORT_EVERY: Final = 200

Slice = tuple[str, str, int]
"""A route, the model that the request names, and the length of the request by powers of two."""


class DrawError(Exception):
    """A log from which no pair can be drawn. The text is one line."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A differing pair. `interest` is without the part for a rare slice."""

    id: str
    record: str
    interest: float
    slice: Slice


@dataclass(slots=True)
class Survey:
    """What a log has for a judge of one shadow."""

    records: int = 0
    sketch: Distinct = field(default_factory=Distinct)
    shadows: Counter[str] = field(default_factory=Counter)
    equal: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A pair that is to be asked, and with which probability it was drawn."""

    id: str
    record: str
    probability: float


@dataclass(frozen=True, slots=True)
class Draw:
    """The drawn pairs in the order of asking; the probabilities are over all differing pairs."""

    pairs: tuple[Drawn, ...]
    mean_probability: float = 1.0
    least_probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Texts:
    """What the judge is shown of a pair."""

    request: str
    live: str
    shadow: str


Progress = Callable[[int, int], None]


def survey(
    paths: Sequence[str | Path],
    shadow: str | None,
    rules: Rules,
    only: Only = EVERYTHING,
    progress: Progress | None = None,
) -> tuple[str, Survey]:
    """Read a log, and find the pairs of a shadow; of the only one in it, if no name is given. Gives its name as well.

    Raises OSError where a path cannot be read, and DrawError.
    """
    found: dict[str, Survey] = {}
    whole = Survey()
    seen: set[int] = set()
    for record in records_in(paths, only, whole, progress):
        whole.records += 1
        key = hashed(record.record)
        whole.sketch.add(key)
        if key in seen:
            continue
        seen.add(key)
        for name in record.shadows:
            if shadow in (None, name):
                _count(found.setdefault(name, Survey()), record, name, rules)
            whole.shadows[name] += 1
    names = sorted(found)
    if len(names) != 1:
        raise DrawError(_no_shadow(shadow, whole))
    chosen = found[names[0]]
    for part in ("records", "sketch", "shadows", "unreadable"):
        setattr(chosen, part, getattr(whole, part))
    return names[0], chosen


def _no_shadow(shadow: str | None, whole: Survey) -> str:
    if not whole.shadows:
        return "no record has a shadow's answer"
    names = ", ".join(name[:60] for name in sorted(whole.shadows)[:8])
    if shadow is not None:
        return f"no record has a shadow called {shadow}; there are {names}"
    return f"give --shadow, one of {names}"


def records_in(paths: Iterable[str | Path], only: Only, whole: Survey, progress: Progress | None) -> "Iterable[Record]":
    """The records of a log. Raises OSError where a path cannot be read, and DrawError for a saved summary."""
    files = [source for path in paths for source in sources_of(path)]
    unreported = 0
    for line in lines(files, None if progress is None else lambda count: progress(count, 0)):
        if isinstance(line, Unreadable):
            whole.unreadable[line.why.partition(":")[0]] += 1
            continue
        if line.raw.startswith(_SAVED):
            raise DrawError(f"{line.file} is a summary, which has no answers: give the log it was made from")
        try:
            record = decode(line.raw)
            micros(record.at)
        except RecordError as error:
            whole.unreadable["torn line" if line.torn else str(error).partition(":")[0]] += 1
            continue
        except ValueError:
            whole.unreadable["no time"] += 1
            continue
        unreported += 1
        if progress is not None and unreported % _REPORT_EVERY == 0:
            progress(0, _REPORT_EVERY)
        if only is EVERYTHING or only.accepts(record):
            yield record


def _count(found: Survey, record: Record, name: str, rules: Rules) -> None:
    """Count one pair as equal, as one to draw from, or as one that cannot be judged."""
    live, shadow = record.live, record.shadows[name]
    if (content := _content(live)) is None:
        return  # no pair, as in the report
    if (content_beside := _content(shadow)) is None:
        found.left_out["the shadow gave no answer"] += 1  # which the checks `answered` and `errors` count
        return
    compared = recompared(live, shadow, rules, about(record, name, (content, content_beside)), record.rules)
    if compared.verdict in (Verdict.MATCH, Verdict.IGNORED):
        found.equal += record.weight
        return
    one, other = answer_text(live, content), answer_text(shadow, content_beside)
    if one is None or other is None:
        found.left_out["an answer is no text, or not whole in the log"] += 1
    elif one == other:
        found.equal += record.weight  # what differs is no part of what was said
    else:
        interest = _LEAST_INTEREST * (1 + _apart(one, other) + min(1.0, max(len(one), len(other)) / _LONG))
        found.candidates.append(Candidate(record.id, record.record, interest, _slice(record)))


def _content(leg: RecordedLeg) -> Content | None:
    """What a good answer says; None for all others."""
    if leg.outcome is not Outcome.OK or leg.status is None or not 200 <= leg.status < 300 or leg.failed is not None:
        return None
    content = content_of(leg)
    return content if failed_reason(leg, content) is None else None


def _apart(one: str, other: str) -> float:
    """How far two texts are apart: 1 without a common word, 0 if they have the same words (1 - token F1)."""
    words, others = Counter(one.split()), Counter(other.split())
    total = words.total() + others.total()
    return 1 - 2 * (words & others).total() / total if total else 0.0


def _slice(record: Record) -> Slice:
    request = record.request
    value: Any = value_in(request.body, request.headers)
    model = value.get("model") if isinstance(value, dict) else None
    return (
        route_of(request.method, request.path),
        model[:60] if isinstance(model, str) else "",
        request.body.size.bit_length(),
    )


def draw(candidates: Sequence[Candidate], most: int) -> Draw:
    """Draw about `most` of the pairs; all, if there are no more."""
    if not candidates:
        return Draw(())
    probabilities = _in_proportion(_interests(candidates), most)
    chosen = [
        (hashed("asked in order", each.record), Drawn(each.id, each.record, probability))
        for each, probability in zip(candidates, probabilities, strict=True)
        if hashed("drawn", each.record) < probability * 2.0**64
    ]
    chosen.sort(key=lambda each: (each[0], each[1].record))
    return Draw(
        tuple(each for _, each in chosen), min(1.0, sum(probabilities) / len(probabilities)), min(probabilities)
    )


def _interests(candidates: Sequence[Candidate]) -> list[float]:
    """Each pair's interest, from a quarter to 1: up to a quarter each for differing words, length and a rare slice."""
    slices = Counter(each.slice for each in candidates)
    rare = {part for part, count in slices.items() if count < _RARE * len(candidates)}
    return [each.interest + _LEAST_INTEREST * (each.slice in rare) for each in candidates]


def _in_proportion(interests: Sequence[float], most: int) -> list[float]:
    """Probabilities in proportion to the interests, at most 1, whose sum is `most`."""
    if most >= len(interests):
        return [1.0] * len(interests)
    # The largest have the probability 1 as long as their share of what is left to give is more than that.
    rest, left = sum(interests), float(most)
    factor = left / rest
    for each in sorted(interests, reverse=True):
        factor = left / rest
        if each * factor <= 1:
            break
        rest, left = rest - each, left - 1
    return [min(1.0, each * factor) for each in interests]


def texts_of(
    paths: Sequence[str | Path], shadow: str, wanted: Iterable[Drawn], progress: Progress | None = None
) -> dict[str, Texts]:
    """The texts of these pairs, by record. Raises OSError where a path cannot be read."""
    records = {each.record for each in wanted}
    found: dict[str, Texts] = {}
    if not records:
        return found
    for record in records_in(paths, EVERYTHING, Survey(), progress):
        if record.record in records and record.record not in found and shadow in record.shadows:
            live, other = answer_text(record.live), answer_text(record.shadows[shadow])
            if live is not None and other is not None:
                found[record.record] = Texts(request_text(record), live, other)
        if len(found) == len(records):
            break
    return found
