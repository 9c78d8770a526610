"""Which places hold the answer, of what kind it is, and which values count as answers: decided from the counts.

A place counts for more when it is called as answers are called, varies and stands near the top, and for nothing when
it holds IDs, times or versions. At most three places are taken, the surest first; the first is judged. All of it is a
pure function of sums, so that any cut and order of a log decides the same.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from shadowproxy.compare.fold.cells import cell_mean
from shadowproxy.compare.fold.counts import Series
from shadowproxy.compare.fold.few import Few
from shadowproxy.compare.fold.outputs import Outputs
from shadowproxy.compare.fold.places import (
    ENVELOPES,
    is_envelope,
    names_embedding,
    places_of,
    static_rank,
    static_score,
)
from shadowproxy.compare.fold.tables import Forms
from shadowproxy.compare.fold.values import EXTRA, LONG_TEXT, OTHER_SIZE
from shadowproxy.pointers import pointer_segments

Kind = Literal["class", "number", "vector", "ranking", "text", "embedding"]
Unit = Literal["rows", "answers"]

MOST_FIELDS: Final = 3
_FEW: Final = 20  # values that whole numbers and short texts may have and still be classes
_SHORT: Final = 60  # characters that the texts of classes have on average, at most
_SELDOM: Final = 0.01
_RULE: Final = 0.05  # of the shadow's numbers: where more lie between, live's 0 and 1 are an if statement's
_NEARLY_ALL: Final = 0.995
_LABELLED: Final = re.compile(r"(?i)class|label|categor")

_SCALARS: Final = ("boolean", "whole", "real", "text", "token", "volatile")
_TEXTS: Final = frozenset({"text", "token", "volatile"})
_WEIGHTS: Final[Mapping[Kind, float]] = {
    "vector": 4.0,
    "ranking": 4.0,
    "embedding": 4.0,
    "class": 2.0,
    "number": 2.0,
    "text": 1.5,
}
_CONSTANT: Final = 3.0
_FORMS: Final[Mapping[Kind, frozenset[str]]] = {
    "number": frozenset({"whole", "real"}),
    "vector": frozenset({"vector"}),
    "ranking": frozenset({"ranking"}),
    "embedding": frozenset({"numbers", "vector"}),
    "text": _TEXTS,
}


@dataclass(frozen=True)
class AnswerPlace:
    """A place of the answers with its kind, and what counts there: rows of batches, or whole answers.

    `forms` are the forms of values that are answers here; others (null, NaN, another type) are not. What was counted is
    given as `pairs`, the answers of live that the shadow could be held to, and `same`, those where it says the same.
    """

    key: str
    kind: Kind
    unit: Unit
    forms: frozenset[str]
    counted: Outputs

    @property
    def live(self) -> str:
        return places_of(self.key)[0]

    @property
    def shadow(self) -> str:
        return places_of(self.key)[1]

    @cached_property
    def pairs(self) -> Series:
        return self.total(self.all_counted)

    @cached_property
    def same(self) -> Series:
        found = self.total(self._tables("same"))
        if self.kind == "class":
            return found.without(self.total(self._tables("spelled")))
        return found

    @cached_property
    def lost(self) -> Series:
        """Where live has an answer and the shadow has none."""
        total = Series()
        for table in self.all_counted:
            for key, series in table.items():
                if any(live in self.forms and shadow not in self.forms for live, shadow in pairs_in(key)):
                    total.absorb(series)
        return total

    @cached_property
    def gained(self) -> Series:
        """Where the shadow has an answer and live has none."""
        total = Series()
        for table in self.all_counted:
            for key, series in table.items():
                pairs = pairs_in(key)
                if not any(live in self.forms for live, _ in pairs) and any(
                    shadow in self.forms and live != EXTRA for live, shadow in pairs
                ):
                    total.absorb(series)
        return total

    @cached_property
    def missing(self) -> Counter[str]:
        """What stands in the place of answers that the shadow has not."""
        found: Counter[str] = Counter()
        for table in self.all_counted:
            for key, series in table.items():
                words = [self.word(shadow) for live, shadow in pairs_in(key) if live in self.forms]
                words = [word for word in words if word]
                if words:
                    found[min(words)] += series.total()
        return found

    def odd(self, arm: Literal["live", "shadow"]) -> Counter[str]:
        """What an arm's values are that are no answers."""
        found: Counter[str] = Counter()
        for form, count in form_totals(self.counted, arm).items():
            if form not in self.forms and form not in _NO_VALUES:
                found[self.word(form)] += count
        return found

    def word(self, form: str) -> str:
        """What a form is called that is no answer here; "" for one that is."""
        if form in self.forms:
            return ""
        return form if form in _WORDS else "another type"

    @property
    def all_counted(self) -> list[Forms]:
        return self._tables("")

    def _tables(self, which: Literal["", "same", "spelled"]) -> list[Forms]:
        several = "rows" if self.unit == "rows" else "batches"
        suffix = f"_{which}" if which else ""
        return [getattr(self.counted, f"single{suffix}"), getattr(self.counted, f"{several}{suffix}")]

    def total(self, tables: Iterable[Forms]) -> Series:
        """The sum over all keys in which live has an answer."""
        total = Series()
        for table in tables:
            for key, series in table.items():
                if any(live in self.forms for live, _ in pairs_in(key)):
                    total.absorb(series)
        return total

    def both(self, tables: Iterable[Forms]) -> Series:
        """The sum over all keys in which both arms have an answer."""
        total = Series()
        for table in tables:
            for key, series in table.items():
                if all(live in self.forms and shadow in self.forms for live, shadow in pairs_in(key)):
                    total.absorb(series)
        return total


_WORDS: Final = frozenset({"null", "NaN", "infinite", "absent", "fewer rows", "failed", "empty", OTHER_SIZE})
_NO_VALUES: Final = frozenset({"absent", "fewer rows", "failed", "more rows"})


def pairs_in(key: str) -> list[tuple[str, str]]:
    """The forms that a key of `Forms` names: live's and the shadow's."""
    found = []
    for pair in key.split("|"):
        live = next((each for each in _TWO_WORDS if pair.startswith(f"{each} ")), pair.partition(" ")[0])
        found.append((live, pair[len(live) + 1 :]))
    return found


_TWO_WORDS: Final = (EXTRA,)


def answer_places(outputs: Mapping[str, Outputs], n: int, given: Sequence[str] = ()) -> list[AnswerPlace]:
    """The fields that hold the answer, the surest first. `n` exchanges have a good answer of live.

    With `given`, keys in the given order, these are taken, whatever they hold.
    """
    if given:
        found = [(key, outputs[key]) for key in given if key in outputs]
        return [_answer_place(key, counted) or _without_answers(key, counted) for key, counted in found][:MOST_FIELDS]
    ranked: list[tuple[float, tuple[int, int, str], AnswerPlace]] = []
    mostly_empty: list[tuple[float, tuple[int, int, str], AnswerPlace]] = []
    across: dict[str, list[AnswerPlace]] = {}
    for key in sorted(outputs):
        live, shadow = places_of(key)
        each = _answer_place(key, outputs[key])
        if each is None:
            continue
        seldom = not _is_answer(each, n)
        if seldom and not (live == shadow and _is_seldom_one(each, n)):
            continue
        if live != shadow:
            across.setdefault(live, []).append(each)
            continue
        score = _score(each)
        if score > 0:
            (ranked if not seldom else mostly_empty).append((-score, static_rank(live), each))
    fields: list[AnswerPlace] = []
    for _, _, each in sorted(ranked or mostly_empty, key=lambda row: row[:2]):
        if len(fields) == MOST_FIELDS:
            break
        if any(_within(each.live, taken.live) or _within(taken.live, each.live) for taken in fields):
            continue  # a part of an answer that is taken as a whole, or what it is a part of
        other = max(across.get(each.live, ()), key=lambda one: (one.pairs.total(), one.key), default=None)
        if other is not None and other.pairs.total() >= each.pairs.total() / 2:
            each = other
        fields.append(each)
    return fields


_EMPTY: Final = frozenset({"null", "empty", "NaN"})
_SOME: Final = 30  # answers


def _within(place: str, whole: str) -> bool:
    return place == whole or place.startswith(f"{whole}/")


def _is_answer(each: AnswerPlace, n: int) -> bool:
    """Whether live answers there, in half of the exchanges at least."""
    answers = _answers(each, each.forms)
    return answers > 0 and (answers >= n / 2 or places_of(each.key)[0] != places_of(each.key)[1])


def _is_seldom_one(each: AnswerPlace, n: int) -> bool:
    """Whether live has an answer there in some exchanges, and an empty value in most."""
    return _answers(each, each.forms) * _written(each.counted) >= _SOME and _answers(each, each.forms | _EMPTY) >= n / 2


def _answers(each: AnswerPlace, forms: frozenset[str]) -> int:
    """In how many exchanges live has something of these forms there."""
    return sum(
        series.total()
        for table in (each.counted.single, each.counted.batches)
        for key, series in table.items()
        if any(live in forms for live, _ in pairs_in(key))
    )


def _answer_place(key: str, counted: Outputs) -> AnswerPlace | None:
    found = _kind(places_of(key)[0], counted)
    if found is None:
        return None
    kind, forms = found
    return AnswerPlace(key, kind, _unit(kind, places_of(key)[0], counted), forms, counted)


def _without_answers(key: str, counted: Outputs) -> AnswerPlace:
    """A place that was named and at which live has no answer: the report must show that, not skip it."""
    return AnswerPlace(key, "class", "answers", frozenset(), counted)


def _written(counted: Outputs) -> float:
    """Which part of the values was written, where records stand for several requests."""
    series = [each for table in (counted.single, counted.rows) for each in table.values()]
    total = sum(each.total() for each in series)
    return sum(each.written() for each in series) / total if total else 1.0


def form_totals(counted: Outputs, arm: Literal["live", "shadow"]) -> Counter[str]:
    """How many values of each form an arm has."""
    at = 0 if arm == "live" else 1
    found: Counter[str] = Counter()
    for table in (counted.single, counted.rows):
        for key, series in table.items():
            found[pairs_in(key)[0][at]] += series.total()
    return found


def _kind(place: str, counted: Outputs) -> tuple[Kind, frozenset[str]] | None:
    live, shadow = form_totals(counted, "live"), form_totals(counted, "shadow")
    wholes = {form: live[form] for form in ("vector", "numbers", "ranking")}
    scalars = {form: live[form] for form in _SCALARS}
    total = sum(wholes.values()) + sum(scalars.values())
    if not total:
        return None
    if wholes["ranking"] > total / 2:
        # Rows of a batch carry IDs as well: those of the request, and so the same in both arms.
        echoed = (
            _is_batch(counted)
            and counted.single_same.get("ranking ranking", Series()).total() >= _NEARLY_ALL * live["ranking"]
        )
        return None if echoed else ("ranking", _FORMS["ranking"])
    if wholes["numbers"] + wholes["vector"] > total / 2:
        if "*" not in pointer_segments(place) and _is_batch(counted):
            return None
        if wholes["vector"] > total / 2:
            return "vector", _FORMS["vector"]
        return ("embedding", _FORMS["embedding"]) if names_embedding(place) or _one_size(counted) else None
    return _scalar_kind(place, counted, live, shadow)


def _scalar_kind(
    place: str, counted: Outputs, live: Counter[str], shadow: Counter[str]
) -> tuple[Kind, frozenset[str]] | None:
    """Classes are few and come again; numbers measure; texts are long or all different."""
    numbers = live["whole"] + live["real"]
    texts = sum(live[form] for form in _TEXTS)
    total = numbers + texts + live["boolean"]
    if numbers > total / 2:
        few = len(counted.live_whole)
        names = [segment for segment in pointer_segments(place) if segment != "*"]
        named = bool(names and _LABELLED.search(names[-1]))
        classes = (
            not counted.live_whole.many
            and (few <= _FEW or named)
            and live["real"] <= _SELDOM * numbers
            and shadow["real"] <= (shadow["whole"] if named else _RULE * (shadow["whole"] + shadow["real"]))
        )
        return ("class", _class_forms(live)) if classes else ("number", _FORMS["number"])
    if live["boolean"] > total / 2:
        return "class", _class_forms(live)
    if texts <= total / 2:
        return "class", _class_forms(live)
    if live["volatile"] > texts / 2:
        return None
    distinct, written = len(counted.live_classes), _written(counted)
    few_texts = not counted.live_classes.many and distinct <= max(_FEW, round(total * written) // 20)
    if few_texts and (cell_mean(counted.lengths.live, counted.lengths.live.width) or 0.0) <= _SHORT:
        return "class", _class_forms(live)
    if live["token"] + live["volatile"] > texts / 2 and (counted.live_classes.many or distinct > texts * written / 2):
        return None  # IDs; a class may look like one, and comes again
    return "text", _FORMS["text"]


def _class_forms(live: Counter[str]) -> frozenset[str]:
    """The forms in which live has classes: a type that it hardly ever answers in does not count."""
    total = sum(live[form] for form in (*_SCALARS, "empty"))
    found = {form for form in (*_SCALARS, "empty") if live[form] > _SELDOM * total}
    return frozenset(found | _TEXTS if found & _TEXTS else found)


def _one_size(counted: Outputs) -> bool:
    """Whether live's arrays of numbers have one length nearly always, as embeddings do."""
    sizes = live_dimensions(counted)
    return max(sizes.values(), default=0) >= 0.9 * sizes.total()


def live_dimensions(counted: Outputs) -> Counter[str]:
    """How many numbers live's arrays have. In a summary of an earlier version the shadow's are among them."""
    return +(Counter(counted.dimensions) - Counter(counted.shadow_dimensions))


def _is_batch(counted: Outputs) -> bool:
    """Whether an array is as long as one of the request: then its elements are the answers."""
    return counted.batched["asked"] > counted.batched["many"] / 2


def _unit(kind: Kind, place: str, counted: Outputs) -> Unit:
    whole = f"{place}/"  # an asterisk may also be the beginning of a name
    if any(whole.startswith(f"{root}/*/") for root in ENVELOPES if root != "/outputs") or whole.startswith("/*/"):
        return "rows"
    head, star, _ = whole.partition("/*/")
    if star and is_envelope(head):
        return "rows"
    return "rows" if kind in ("class", "number", "text") and _is_batch(counted) else "answers"


def _score(each: AnswerPlace) -> float:
    score = _WEIGHTS[each.kind] + static_score(each.live) / 10
    if (
        each.kind in ("class", "number", "text")
        and _constant(each.counted, "live")
        and _constant(each.counted, "shadow")
    ):
        score -= _CONSTANT
    return score


def _constant(counted: Outputs, arm: Literal["live", "shadow"]) -> bool:
    """Whether an arm has one value at most. Long texts are one class: their fingerprints tell one from many."""
    classes: Few = getattr(counted, f"{arm}_classes")
    cells = getattr(counted.numbers, arm)
    if classes.many or len(classes) + len(cells) > 1:
        return False
    if LONG_TEXT not in classes:
        return True
    side = 0 if arm == "live" else 1
    prints = {pair[side] for kept in counted.prints.values() for pair in kept.values() if pair[side]}
    return len(prints) == 1
