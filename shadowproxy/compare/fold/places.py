"""The places in a payload where an answer may be.

The envelopes of the common model servers are known by name (`ENVELOPES`, and those of language models). Any other
payload is searched leaf by leaf. A place is a pointer with `*` for array positions, so a batch of predictions has
several values at one place. An array or object that is one answer (a probability vector, a ranking, an embedding) is a
place of its own, beside the leaves in it.

The places found in a payload depend on that payload alone, and a place's rank on its name alone: so any part of a log
counts the same places as the whole. The report decides which of them holds the answer (`kinds`).
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from shadowproxy.answers import ENVELOPE_PLACES
from shadowproxy.compare.fold.known import LONGEST
from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.values import MISSING
from shadowproxy.compare.judge.near import ANSWER_NAME, OTHER_NAME
from shadowproxy.pointers import pointer_segments

ENVELOPES: Final = (
    "/predictions",  # MLflow, TensorFlow Serving, KServe v1, SageMaker
    "/outputs",  # Open Inference Protocol (as `answers` spreads it) and TensorFlow Serving's columns
    "/results",
    "/data/ndarray",  # Seldon
    "/data/tensor",
)

MOST_PLACES: Final = 24
"""Places that are counted."""

_DECISION: Final = re.compile(r"(?i)predict|label|class|categor|decision|answer")  # rather than how sure one is of it

_EMBEDDING: Final = re.compile(r"(?i)embedding")


def names_embedding(place: str) -> bool:
    """Whether what stands at a place is named an embedding: only the direction of its numbers means something."""
    return _EMBEDDING.search(place) is not None


Rank = tuple[int, int, str]


class PlaceValues(NamedTuple):
    """The values of both arms at one place, or at two places that belong together.

    `shadow` is None if the shadow gave no answer. A value that an answer lacks is left out.
    """

    key: str
    live_place: str
    shadow_place: str
    live: Sequence[Any]
    shadow: Sequence[Any] | None


def field_key(live: str, shadow: str) -> str:
    """The key that a pair of places is counted under."""
    return _key(live, shadow) if len(live) + len(shadow) > LONGEST else _short_key(live, shadow)


def _key(live: str, shadow: str) -> str:
    return json.dumps([live, shadow], ensure_ascii=False)


_short_key: Final = lru_cache(maxsize=4096)(_key)


def places_of(key: str) -> tuple[str, str]:
    return _places(key) if len(key) > LONGEST else _places_short(key)


def _places(key: str) -> tuple[str, str]:
    live, shadow = json.loads(key)
    return live, shadow


_places_short: Final = lru_cache(maxsize=4096)(_places)


def static_rank(place: str) -> Rank:
    """A place's rank by its name: the lowest is first. Names of the same score are ordered by a hash: alphabetical
    order has nothing to do with answers."""
    return _rank(place) if len(place) > LONGEST else _short_rank(place)


def _rank(place: str) -> Rank:
    return (-static_score(place), hashed(place), place)


_short_rank: Final = lru_cache(maxsize=4096)(_rank)


def static_score(place: str) -> int:
    """How likely a place's name is that of an answer, in tenths."""
    return _score(place) if len(place) > LONGEST else _short_score(place)


def _score(place: str) -> int:
    if place in ENVELOPE_PLACES:
        return 120 - 10 * ENVELOPE_PLACES.index(place)
    names = [segment for segment in pointer_segments(place) if segment != "*"]
    score = -4 * max(0, len(names) - 1)
    if names and ANSWER_NAME.search(names[-1]):
        score += 20 + bool(_DECISION.search(names[-1]))
    if any(place == root or place.startswith(f"{root}/") for root in ENVELOPES):
        score += 30
    if any(OTHER_NAME.search(name) for name in names):
        score -= 40
    return score


_short_score: Final = lru_cache(maxsize=4096)(_score)


def is_envelope(place: str) -> bool:
    """Whether an array at this place is a batch: each element answers one row of the request."""
    return _is_envelope(place) if len(place) > LONGEST else _short_is_envelope(place)


def _is_envelope(place: str) -> bool:
    return place == "" or place in ENVELOPES or (place.startswith("/outputs/") and place.count("/") == 2)


_short_is_envelope: Final = lru_cache(maxsize=1024)(_is_envelope)


def extract(value: Any, pointer: str) -> list[Any]:
    """The values at a place: one, or one for each element if the place has a `*`. Absent ones are left out."""
    found = [value]
    for segment in pointer_segments(pointer):
        if segment != "*":
            try:
                found = [each[segment] for each in found]  # objects that all have it, as nearly always
                continue
            except (KeyError, TypeError):
                pass  # looked at one by one
        found = [below for each in found for below in _below(each, segment)]
    return found


def values_at(value: Any, place: str) -> list[Any]:
    """The values at a place, with `MISSING` for array elements that lack it. Empty if all lack it.

    So the rows of two batches stay in step if one of them lacks a member.
    """
    found = [value]
    for segment in pointer_segments(place):
        if segment == "*":
            found = [below for each in found for below in _below(each, segment)]
            continue
        try:
            found = [each[segment] for each in found]
        except (KeyError, TypeError):
            found = [next(iter(_below(each, segment)), MISSING) for each in found]
    return found if any(each is not MISSING for each in found) else []


def _below(value: Any, segment: str) -> Iterable[Any]:
    if isinstance(value, dict):
        if segment in value:
            return (value[segment],)
        return value.values() if segment == "*" else ()
    if isinstance(value, list):
        if segment == "*":
            return value
        if segment.isascii() and segment.isdigit() and int(segment) < len(value):  # ² is a digit, and no number
            return (value[int(segment)],)
    return ()
