"""Two answers brought into one form for comparing: a stream beside a whole answer, or two envelopes of the same thing.

| Two answers | what is compared |
|---|---|
| both in one envelope, or in none | all of both; of language models, null or empty counts as absent |
| likewise, and one of them a stream | the same, but `usage` counts only if both have it |
| of language models, in two envelopes | what the model wrote and called, and why it stopped |
| predictions, in two envelopes | the predictions; by name, if there are several |
| any, where the configuration names a place in each | what stands at these places |

Arguments of calls are compared as values: `{"a":1}` and `{ "a": 1 }` say the same. A column of single numbers is a row:
MLServer announces a row of n numbers as [n, 1].
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from shadowproxy.answers.body import Content, value_in
from shadowproxy.answers.envelopes import (
    CHAT,
    COLUMNS,
    CONVERSE,
    GEMINI,
    MESSAGES,
    OLLAMA,
    OPEN_INFERENCE,
    PREDICTIONS,
    RESPONSES,
    SELDON,
    SELDON_TENSOR,
    Envelope,
    envelope_of,
    set_aside_in,
)
from shadowproxy.answers.finish import is_same_reason
from shadowproxy.answers.issued import NOTHING_ISSUED, Issued, issued_in
from shadowproxy.answers.leaves import Vector
from shadowproxy.answers.pieces import objects
from shadowproxy.answers.value import in_one_form, reshaped, with_parsed_calls
from shadowproxy.pointers import pointer_segments, pointer_token
from shadowproxy.record import Record

ABSENT: Final = object()
"""In place of a value that an answer does not have."""

Places = tuple[str, str]
"""Where something stands in live's answer, and in the shadow's: two JSON pointers, in which `*` is every element."""

AskedFor = Callable[[], Any]
"""The value of the request's body, read when it is needed; None if it has none."""


class Part(NamedTuple):
    """Two values that stand for the same thing, and the places where they stand; whole answers have none.

    `form` is where live's stands in its answer's one form.
    """

    live: Any
    shadow: Any
    places: Places | None = None
    form: str = ""


class Alike(NamedTuple):
    """What of two answers is compared. `set_aside` are patterns of the places that do not count."""

    parts: tuple[Part, ...]
    set_aside: tuple[str, ...] = ()


def nothing_asked() -> Any:
    """For answers whose request is not known."""
    return None


class About(NamedTuple):
    """What is known of a pair beside its two answers: the shadow's name, the request, what the answers say, if they
    have been read, and the IDs that both issued for the same things."""

    shadow: str = ""
    asked_for: AskedFor = nothing_asked
    contents: tuple[Content, Content] | None = None
    issued: Issued = NOTHING_ISSUED


ALONE: Final = About()


def about(record: Record, shadow: str, contents: tuple[Content, Content] | None = None) -> About:
    """What a record knows of a pair beside its two answers."""
    request = record.request
    leg = record.shadows.get(shadow)
    issued = NOTHING_ISSUED if leg is None else issued_in(leg)
    return About(shadow, lambda: value_in(request.body, request.headers), contents, issued)


def alike(live: Content, shadow: Content, about: About, places: Places | None) -> Alike:
    """What of two JSON answers is compared. `places` are those that the configuration names."""
    streamed = live.stream is not None or shadow.stream is not None
    return alike_values(live.value, shadow.value, about, places, streamed=streamed)


def alike_values(live: Any, shadow: Any, about: About, places: Places | None, *, streamed: bool = False) -> Alike:
    """The same for the answers' values. `streamed`: one of them is a stream that was put together."""
    if places is not None and places[0] != places[1]:
        one, other = value_at(live, places[0]), value_at(shadow, places[1])
        if one is not ABSENT or other is not ABSENT:
            return Alike((Part(one, other, places, places[0]),))
    mine = envelope_of(live)
    theirs = mine if live is shadow else envelope_of(shadow)
    if mine is theirs:
        if mine is None:
            return Alike((Part(live, shadow),))
        set_aside = mine.set_aside if mine.echoed is None else set_aside_in(mine, about.asked_for())
        if not mine.text:
            return Alike((Part(live, shadow),), set_aside)
        one, other = with_parsed_calls(live), with_parsed_calls(shadow)
        if streamed or not _same_members(one, other):
            one, other = _said(one), _said(other)
        if streamed:
            set_aside = (*set_aside, "/object", *_counts_of_one(one, other))
        return Alike((Part(one, other),), set_aside)
    parts: tuple[Part, ...] = ()
    if mine is not None and theirs is not None:
        if mine.text and theirs.text:
            parts = _texts(live, mine, shadow, theirs)
        elif mine in _OF_PREDICTIONS and theirs in _OF_PREDICTIONS:
            parts = _predictions(live, mine, shadow, theirs)
    return Alike(parts or (Part(live, shadow),))


def is_as_sent(pair: Alike, live: Content, shadow: Content) -> bool:
    """Whether the whole of both answers is compared, in the form in which they were sent."""
    part = pair.parts[0]
    return part.live is live.value and part.shadow is shadow.value and part.places is None


def common_forms(pair: Alike, live: Content, shadow: Content) -> tuple[Any, Any] | None:
    """Both answers in the form in which they are compared; None where that is the one in which they were sent.

    What stands at two places is put where live's is, so that each value of the shadow's is found there.
    """
    if is_as_sent(pair, live, shadow):
        return None
    if pair.parts[0].places is None:
        return in_one_form(pair.parts[0].live), in_one_form(pair.parts[0].shadow)
    return _paired_forms(pair, in_one_form(live.value))


def _paired_forms(pair: Alike, as_sent: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Live's values where they stand in its own form, whatever the shadow says: what is counted at a place must not
    depend on that. So a column stays one, and the shadow's values become one."""
    live: dict[str, Any] = {}
    shadow: dict[str, Any] = {}
    for part in pair.parts:
        steps = pointer_segments(part.form)
        if steps:
            found = _walk(as_sent, steps, in_rows=False)
            own = part.live if not found else found if "*" in steps else found[0]
            _put(live, steps, own)
            _put(shadow, steps, _in_columns(part.shadow, _column_depth(own)))
    return live, shadow


def _column_depth(value: Any) -> int:
    """In how many arrays of length 1 each of an array's values stands: 0 for a row of them."""
    if isinstance(value, Vector):
        return len(value.shape) - len(value.as_row().shape)
    depth = 0
    while _is_column(value):
        value = [each[0] for each in value]
        depth += 1
    return depth


def _in_columns(value: Any, depth: int) -> Any:
    """A row of single values with each of them in so many arrays of length 1."""
    if not depth or not isinstance(value, list | Vector):
        return value
    row = value.nested() if isinstance(value, Vector) else value
    if not isinstance(row, list) or any(isinstance(each, list) for each in row):
        return value
    for _ in range(depth):
        row = [[each] for each in row]
    return row


def _put(tree: dict[str, Any], steps: tuple[str, ...], value: Any) -> None:
    """Put a value at a place of a tree; at a `*`, each element of it into an element there."""
    if value is ABSENT:
        return
    first, rest = steps[0], steps[1:]
    if not rest:
        tree[first] = value
    elif rest[0] == "*" and isinstance(value, list):
        if len(rest) == 1:
            tree[first] = value
            return
        rows = tree.get(first)
        if not isinstance(rows, list) or len(rows) != len(value):
            rows = tree[first] = [{} for _ in value]
        for row, each in zip(rows, value, strict=True):
            _put(row, rest[1:], each)
    elif rest[0].isdigit() and len(rest) > 1:
        below = tree.get(first)
        if not isinstance(below, list):
            below = tree[first] = [{}]
        _put(below[0], rest[1:], value)
    else:
        below = tree.get(first)
        if not isinstance(below, dict):
            below = tree[first] = {}
        _put(below, rest, value)


# Language models, in one envelope.

_LOOKED_INTO: Final = frozenset({"choices", "message", "content", "output", "usage", "summary", "candidates", "parts"})
"""Members whose own members are looked at: those of the envelope. What a model or a tool wrote counts as it is."""


_DEEPEST: Final = 8
"""Steps from an answer down to the members of a message's parts: these are five."""


def _same_members(one: Any, other: Any, depth: int = 0) -> bool:
    """Whether two envelopes have the same members, null in both or in neither: then none has to be left out."""
    if depth > _DEEPEST:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return False
        for name, value in one.items():
            beside = other[name]
            if (value is None) != (beside is None):
                return False
            if name in _LOOKED_INTO and not _same_members(value, beside, depth + 1):
                return False
    elif isinstance(one, list) and isinstance(other, list):
        for value, beside in zip(one, other, strict=False):
            if not _same_members(value, beside, depth + 1):
                return False
    return True


def _said(value: Any, depth: int = 0) -> Any:
    """An envelope without its empty members: one server leaves out what another gives as null, "" or []."""
    if depth > _DEEPEST:
        return value
    if isinstance(value, dict):
        return {
            name: _said(each, depth + 1) if name in _LOOKED_INTO else each
            for name, each in value.items()
            if not (each is None or (isinstance(each, str | list | dict) and not each))
        }
    return [_said(each, depth + 1) for each in value] if isinstance(value, list) else value


def _counts_of_one(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, ...]:
    """Counts of tokens that one of the two lacks: many servers send them in a stream only if the caller asks."""
    return ("/usage",) if ("usage" in one) != ("usage" in other) else ()


# Language models, in two envelopes.

_REASON_PLACES: Final = {
    MESSAGES.name: "/stop_reason",
    RESPONSES.name: "/status",
    OLLAMA.name: "/done_reason",
    CONVERSE.name: "/stopReason",
}


def _texts(live: Any, mine: Envelope, shadow: Any, theirs: Envelope) -> tuple[Part, ...]:
    """What two language models wrote, and why they stopped; none if an answer has several choices."""
    one, other = _text_of(live, mine), _text_of(shadow, theirs)
    if one is None or other is None or (one[0] is None and other[0] is None):
        return ()  # without a word or a call in both, what else they hold counts: images, sounds
    parts = [Part(one[0], other[0], (one[1], other[1]), one[1])]
    if one[2] and other[2] and not is_same_reason(one[2], other[2]):
        parts.append(Part(one[2], other[2], (one[3], other[3]), one[3]))
    return tuple(parts)


def _text_of(value: Any, envelope: Envelope) -> tuple[Any, str, str, str] | None:
    """What a model wrote and where, why it stopped and where; None if that is not one text."""
    whole = in_one_form(value)
    if envelope is CHAT or envelope is GEMINI:
        name, reason_name = ("choices", "finish_reason") if envelope is CHAT else ("candidates", "finishReason")
        choices = objects(whole[name])
        if len(choices) != 1 or "answer" not in choices[0]:
            return None
        reason = _word(choices[0].get(reason_name))
        return choices[0]["answer"], f"/{name}/0/answer", reason, f"/{name}/0/{reason_name}"
    if "answer" not in whole:
        return None
    place = _REASON_PLACES.get(envelope.name, "")
    reason = _word(whole.get(place[1:]))
    details = whole.get("incomplete_details")
    if envelope is RESPONSES and isinstance(details, dict) and reason == "incomplete":
        reason, place = _word(details.get("reason")), "/incomplete_details/reason"
    return whole["answer"], "/answer", reason, place


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


# Predictions, in two envelopes.

_OF_PREDICTIONS: Final = frozenset({PREDICTIONS, OPEN_INFERENCE, SELDON, SELDON_TENSOR, COLUMNS})


def _predictions(live: Any, mine: Envelope, shadow: Any, theirs: Envelope) -> tuple[Part, ...]:
    """The predictions of both, the only ones or by name; none if there is no telling which belong together."""
    ones, others = _by_name(live, mine), _by_name(shadow, theirs)
    if len(ones) == len(others) == 1:
        (one,), (other,) = ones.values(), others.values()
        if not _is_table(one.value) and not _is_table(other.value):
            return (Part(one.value, other.value, (one.place, other.place), one.form),)
    ones, others = _columns(ones), _columns(others)
    if ones.keys() != others.keys():
        return ()
    parts: list[Part] = []
    for name, one in ones.items():
        other = others[name]
        parts.append(Part(one.value, other.value, (one.place, other.place), one.form))
    return tuple(parts)


class _Stands(NamedTuple):
    """One prediction: its place, its value, and its place in the answer's one form."""

    place: str
    value: Any
    form: str


def _by_name(value: Any, envelope: Envelope) -> dict[str, _Stands]:
    if envelope is PREDICTIONS:
        return {"": _Stands("/predictions", _row(value["predictions"]), "/predictions")}
    if envelope is COLUMNS:
        return {"": _Stands("/outputs", _row(value["outputs"]), "/outputs")}
    if envelope is SELDON:
        return {"": _Stands("/data/ndarray", _row(value["data"]["ndarray"]), "/data/ndarray")}
    if envelope is SELDON_TENSOR:
        tensor = value["data"]["tensor"]
        row = _row(reshaped(tensor.get("values"), tensor.get("shape")))
        return {"": _Stands("/data/tensor/values", row, "/data/tensor")}
    named: dict[str, _Stands] = {}
    for at, each in enumerate(objects(value["outputs"])):
        name = str(each.get("name"))
        row = _row(reshaped(each.get("data"), each.get("shape")))
        named[name] = _Stands(f"/outputs/{at}/data", row, f"/outputs/{pointer_token(name)}")
    return named


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _columns(named: dict[str, _Stands]) -> dict[str, _Stands]:
    """Rows of named values as columns, if all rows have the same names."""
    if len(named) != 1:
        return named
    ((place, rows, _),) = named.values()
    if not _is_table(rows) or any(not isinstance(row, dict) or row.keys() != rows[0].keys() for row in rows):
        return named
    columns: dict[str, _Stands] = {}
    for name in rows[0]:
        column = f"{place}/*/{pointer_token(name)}"
        columns[name] = _Stands(column, _row([row[name] for row in rows]), column)
    return columns


def _row(value: Any) -> Any:
    """A column of single values as a row."""
    if isinstance(value, Vector):
        return value.as_row()
    while _is_column(value):
        value = [each[0] for each in value]
    return value


def _is_column(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, list) and len(each) == 1 for each in value)


# Places that the configuration names.


def value_at(value: Any, pointer: str) -> Any:
    """What stands at a place of an answer as it was sent or, if nothing does, in its one form; else ABSENT.

    With `*` it is the list of all values. Flat data beside a `shape` are nested arrays.
    """
    found = values_in(value, pointer)
    if not found:
        return ABSENT
    return _row(found) if "*" in pointer_segments(pointer) else found[0]


def values_in(value: Any, pointer: str) -> list[Any]:
    """The same as a list of values: one, or one for each element if the place has a `*`."""
    segments = pointer_segments(pointer)
    return _walk(value, segments) or _walk(in_one_form(value), segments)


def _walk(value: Any, segments: tuple[str, ...], *, in_rows: bool = True) -> list[Any]:
    found = [value]
    last = len(segments) - 1
    for step, segment in enumerate(segments):
        below: list[Any] = []
        for held in found:
            each = held.nested() if isinstance(held, Vector) else held
            if isinstance(each, dict):
                if segment == "*":
                    below.extend(each.values())
                elif segment in each:
                    inner = each[segment]
                    below.append(_row(reshaped(inner, each.get("shape"))) if step == last and in_rows else inner)
            elif isinstance(each, list):
                if segment == "*":
                    below.extend(each)
                elif segment.isascii() and segment.isdigit() and len(segment) < _LONGEST and int(segment) < len(each):
                    below.append(each[int(segment)])
        found = below
    return found


_LONGEST: Final = 10  # digits of an index
