"""Where in a payload the answer is, and what kind of answer: found out from a sample, or told.

The envelopes of the common model servers are known by name (`ENVELOPES`, `chat`). Any other payload is looked through
leaf by leaf: a place counts for more when it is called as answers are called, varies, and stands near the top, and for
nothing when it holds IDs, times or versions. At most three places are taken, and the report says which.

A place is a pointer with `*` for array positions, so that a batch of predictions is as many observations.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from shadowproxy.compare.noise import VOLATILE_SHAPES, shape_of
from shadowproxy.compare.rules import member_place
from shadowproxy.compare.sketch import counted
from shadowproxy.compare.streams import events_of, is_stream
from shadowproxy.compare.verdict import Content, content
from shadowproxy.pointers import pointer_segments, pointer_token
from shadowproxy.record import Answer

Kind = Literal["class", "number", "vector", "ranking", "text"]

Vector = dict[str, int | float]
"""Shares by class."""

SAMPLE: Final = 1000
"""Pairs that are looked at to find the answer."""

MOST_FIELDS: Final = 3
_MOST_LEAVES: Final = 200  # leaves of one payload that are looked at
_DEEPEST: Final = 12
_LONGEST_KEY: Final = 200  # characters of a key whose pointer is remembered
_FEW: Final = 20  # values that whole numbers and short texts may have and still be classes

ENVELOPES: Final = (
    "/predictions",  # MLflow, TensorFlow Serving, KServe v1, SageMaker
    "/outputs",  # Open Inference Protocol (as `unwrapped` spreads it) and TensorFlow Serving's columns
    "/results",
    "/data/ndarray",  # Seldon
    "/data/tensor",
)

_CALLED: Final = re.compile(
    r"(?i)predict|label|class|score|prob|output|result|answer|content|text|categor|decision|rank|recommend|value|price"
)
_NOT_CALLED: Final = re.compile(
    r"(?i)(?:\A|_)(?:id|ids|uuid|model|version|trace|span|request|created|object|usage|tokens|time|timestamp|ms|latency"
    r"|duration|took|elapsed|fingerprint|role|index|shape|datatype|meta|metadata)(?:\Z|_)|(?:name|tokens)\Z"
)
_ID_NAMES: Final = ("id", "item_id", "doc_id", "document_id", "product_id", "item", "asin", "sku", "key")


@dataclass(frozen=True, slots=True)
class Field:
    """An answer's place in live's payload and in the shadow's, and its kind."""

    live: str
    shadow: str
    kind: Kind

    @property
    def name(self) -> str:
        return self.live if self.live == self.shadow else f"{self.live} | {self.shadow}"


def answer_value(answer: Answer) -> Any:
    """The JSON that an answer says, its envelope spread out; None where it says none. An SSE stream is put together."""
    return value_said(answer, content(answer))


def value_said(answer: Answer, said: Content) -> Any:
    """The same, of an answer whose content is known already."""
    if said.kind == "json":
        return unwrapped(said.value)
    if said.kind == "text" and is_stream(answer):
        return assembled(said)
    return None


def unwrapped(value: Any) -> Any:
    """A payload with the tensors of the Open Inference Protocol and of Seldon as nested arrays, by name."""
    if not isinstance(value, dict):
        return value
    outputs = value.get("outputs")
    if isinstance(outputs, list) and outputs and all(isinstance(each, dict) and "data" in each for each in outputs):
        named = {
            str(each.get("name", at)): reshaped(each["data"], each.get("shape")) for at, each in enumerate(outputs)
        }
        return {**value, "outputs": named}
    data = value.get("data")
    if isinstance(data, dict) and isinstance(tensor := data.get("tensor"), dict) and "values" in tensor:
        return {**value, "data": {**data, "tensor": reshaped(tensor["values"], tensor.get("shape"))}}
    return value


def reshaped(data: Any, shape: Any) -> Any:
    """Flat row-major data as nested arrays; as it is where the shape does not fit."""
    fits = isinstance(shape, list) and all(isinstance(size, int) and size > 0 for size in shape)
    if not fits or not isinstance(data, list) or len(shape) < 2 or len(shape) > 8 or math.prod(shape) != len(data):
        return data
    for size in reversed(shape[1:]):
        data = [data[start : start + size] for start in range(0, len(data), size)]
    return data


def assembled(said: Content) -> Any:
    """A stream of chat chunks as the one completion that it makes up: content joined, the last finish reason, usage.

    Other streams give the list of their events' data. The end mark `[DONE]` is passed over, and so is a last chunk
    without choices, which carries the usage only.
    """
    events = [event for event in events_of(said.value) if event != "[DONE]"]
    texts: dict[int, list[str]] = {}
    reasons: dict[int, Any] = {}
    usage = None
    for event in events:
        if not isinstance(event, dict):
            continue
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            if isinstance(choice, dict):
                at = choice.get("index", 0) if isinstance(choice.get("index", 0), int) else 0
                delta = choice.get("delta")
                text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
                texts.setdefault(at, []).append(text if isinstance(text, str) else "")
                reasons[at] = choice.get("finish_reason") or reasons.get(at)
    if not texts:
        return {"events": events}
    choices = [{"message": {"content": "".join(texts[at])}, "finish_reason": reasons[at]} for at in sorted(texts)]
    return {"choices": choices, "usage": usage}


def extract(value: Any, pointer: str) -> list[Any]:
    """What stands at a place: one value, or one for each element that a `*` stands for. Absent ones are left out."""
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


class _Seen:
    """What a sample showed of one place in one arm. Values are gathered first and counted once, by `count`."""

    __slots__ = ("count", "last", "length", "met", "payloads", "shapes", "types", "values")

    def __init__(self) -> None:
        self.met: list[Any] = []
        self.payloads = 0
        self.last = -1  # the payload that it was met in last
        self.count = 0
        self.length = 0
        self.values: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.shapes: Counter[str] = Counter()

    def tell(self, place: str) -> None:
        """Count what was met at `place`."""
        for value, times in counted(self.met):
            kind = value.kind if isinstance(value, _Whole) else _type(value)
            self.types[kind] += times
            self.values[repr(value)[:200]] += times
            if kind in ("string", "number"):
                self.shapes[shape_of(place, value)] += times
            if isinstance(value, str):
                self.length += len(value) * times
        self.count = self.types.total()
        self.met = []


class _Whole:
    """Stands for a vector or a ranking among the values met."""

    __slots__ = ("kind",)

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return "None"


_VECTOR: Final = _Whole("vector")
_RANKING: Final = _Whole("ranking")


def detect(pairs: Sequence[tuple[Any, Any]]) -> tuple[Field, ...]:
    """The fields that hold the answer, the surest first, from payloads of live and the shadow (`answer_value`)."""
    if not pairs:
        return ()
    live, shadow = _survey(one for one, _ in pairs), _survey(other for _, other in pairs)
    if found := _chat(live, shadow, len(pairs)):
        return found
    ranked = _ranked(live, shadow, len(pairs))
    theirs = _ranked(shadow, live, len(pairs))
    fields: list[Field] = []
    for _, place, kind in ranked:
        if len(fields) == MOST_FIELDS:
            break
        if any(place == taken.live or place.startswith(f"{taken.live}/") for taken in fields):
            continue  # within a vector or a ranking that is an answer as a whole
        other = place
        if place not in shadow or shadow[place].payloads < len(pairs) / 2:
            same = [each for _, each, their_kind in theirs if their_kind == kind and each not in live]
            if not same:
                continue
            other = same[0]
        fields.append(Field(place, other, kind))
    return tuple(fields)


def field_at(pairs: Sequence[tuple[Any, Any]], live: str, shadow: str) -> Field:
    """A field whose place is told; its kind is found out from the sample, and is `class` where there is nothing."""
    values = [value for one, _ in pairs for value in extract(one, live)]
    seen = _Seen()
    vectors = sum(vector_of(value) is not None for value in values)
    rankings = sum(ranking_of(value) is not None for value in values)
    if values and vectors > len(values) / 2:
        return Field(live, shadow, "vector")
    if values and rankings > len(values) / 2:
        return Field(live, shadow, "ranking")
    seen.met = values
    seen.tell(live)
    return Field(live, shadow, _scalar_kind(seen) or "class")


def _survey(payloads: Iterable[Any]) -> dict[str, _Seen]:
    survey: dict[str, _Seen] = {}
    for number, payload in enumerate(payloads):
        _look(payload, number, survey)
    for place, seen in survey.items():
        seen.tell(place)
    return survey


def _look(payload: Any, number: int, survey: dict[str, _Seen]) -> None:
    """Gather the scalars, probability vectors and rankings of a payload, each by its place."""
    waiting: list[tuple[str, Any, int]] = [("", payload, 0)]
    left = _MOST_LEAVES
    while waiting and left > 0:
        place, value, depth = waiting.pop()
        if isinstance(value, dict | list):
            whole = _VECTOR if vector_of(value) is not None else _RANKING if ranking_of(value) is not None else None
            left -= whole is not None
            if depth <= _DEEPEST:
                if isinstance(value, dict):
                    waiting += [(_below_place(place, key), value[key], depth + 1) for key in list(value)[:left]]
                else:
                    waiting += [(f"{place}/*", element, depth + 1) for element in value[:left]]
            if whole is None:
                continue
            value = whole
        else:
            left -= 1
        seen = survey.get(place)
        if seen is None:
            seen = survey[place] = _Seen()
        if seen.last != number:
            seen.last = number
            seen.payloads += 1
        seen.met.append(value)


def _below_place(place: str, key: str) -> str:
    return member_place(place, key) if len(key) <= _LONGEST_KEY else f"{place}/{pointer_token(key)}"


def _type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "other"


def _scalar_kind(seen: _Seen) -> Kind | None:
    """Classes are few and come again; numbers measure; texts are long or all different."""
    typed = Counter({kind: count for kind, count in seen.types.items() if kind != "null"})
    if not typed:
        return None
    kind = typed.most_common(1)[0][0]
    few = len(seen.values) <= max(_FEW, seen.count // 20)
    if kind == "boolean":
        return "class"
    if kind == "number":
        whole = all(re.fullmatch(r"-?\d+|None", value) for value in seen.values)
        return "class" if whole and len(seen.values) <= _FEW else "number"
    if kind == "string":
        return "class" if few and seen.length <= 60 * seen.count else "text"
    return None


def _ranked(own: Mapping[str, _Seen], other: Mapping[str, _Seen], pairs: int) -> list[tuple[float, str, Kind]]:
    found: list[tuple[float, str, Kind]] = []
    for place, seen in own.items():
        if seen.payloads < pairs / 2:
            continue
        kinds = seen.types
        kind: Kind | None
        if kinds["vector"] > seen.count / 2:
            kind = "vector"
        elif kinds["ranking"] > seen.count / 2:
            kind = "ranking"
        else:
            kind = _scalar_kind(seen)
        if kind is None:
            continue
        told = seen.shapes.total()
        if sum(seen.shapes[shape] for shape in VOLATILE_SHAPES) > told / 2:
            continue
        if seen.shapes["token"] > told / 2 and len(seen.values) > told / 2:
            continue  # IDs; a class may look like one, and comes again
        score = _score(place, kind, seen, other.get(place))
        if score > 0:
            found.append((score, place, kind))
    return sorted(found, key=lambda each: (-each[0], each[1]))


def _score(place: str, kind: Kind, seen: _Seen, other: _Seen | None) -> float:
    names = [segment for segment in pointer_segments(place) if segment != "*"]
    last = names[-1] if names else ""
    score = {"vector": 4.0, "ranking": 4.0, "class": 2.0, "number": 2.0, "text": 1.5}[kind]
    score += 2.0 * bool(_CALLED.search(last)) - 0.4 * max(0, len(names) - 1)
    if any(place == root or place.startswith(f"{root}/") for root in ENVELOPES):
        score += 3.0
    if any(_NOT_CALLED.search(name) for name in names):
        score -= 4.0
    if kind in ("class", "number", "text") and len(seen.values) == 1 and (other is None or len(other.values) == 1):
        score -= 3.0
    return score


def _chat(live: Mapping[str, _Seen], shadow: Mapping[str, _Seen], pairs: int) -> tuple[Field, ...]:
    """A chat completion: what was said or called, why it ended, how long it was."""
    wanted: tuple[tuple[str, Kind], ...] = (
        ("/choices/*/message/content", "text"),
        ("/choices/*/message/tool_calls/*/function/name", "class"),
        ("/choices/*/text", "text"),
        ("/choices/*/finish_reason", "class"),
        ("/usage/completion_tokens", "number"),
    )
    first = [place for place, _ in wanted[:3] if place in live and live[place].payloads >= pairs / 2]
    if not first:
        return ()
    present = [(place, kind) for place, kind in wanted if place in live and place in shadow and _said(live[place])]
    return tuple(Field(place, place, kind) for place, kind in present[:MOST_FIELDS])


def _said(seen: _Seen) -> bool:
    return seen.types["null"] < seen.count


def vector_of(value: Any) -> Vector | None:
    """A probability vector by class: an array of two or more numbers in [0, 1] that sum to 1, or an object of such
    numbers whatever their sum (several labels may hold at once)."""
    if isinstance(value, list):
        if not 2 <= len(value) <= 10_000 or not all(map(_share, value)):
            return None
        return {str(at): each for at, each in enumerate(value)} if abs(sum(value, 0.0) - 1) <= 0.02 else None
    if isinstance(value, dict) and 2 <= len(value) <= 10_000 and all(map(_share, value.values())):
        return value if any(isinstance(each, float) for each in value.values()) else None
    return None


def ranking_of(value: Any) -> list[str] | None:
    """A ranking by ID: an array of two or more objects that carry one, each once."""
    if not isinstance(value, list) or len(value) < 2 or not isinstance(value[0], dict):
        return None
    for name in _ID_NAMES:
        if name in value[0]:
            ids = [str(each.get(name)) for each in value if isinstance(each, dict)]
            return ids if len(ids) == len(value) == len(set(ids)) else None
    return None


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
