"""Any cut of a log, in any order and grouping, gives the one report: nothing is decided before the end."""

import random
from collections.abc import Callable
from typing import Any, TypeAlias

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import answer, failed, record, report_json

from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.summary import Summary, load, merge, save, summarise
from shadowproxy.compare.fold.truths import by_request
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, Record, RecordedLeg, RecordedRequest

Figures: TypeAlias = Any

Say = Callable[[random.Random], tuple[Any, Any]]
"""What live and the shadow say; a RecordedLeg is taken as it is."""


def trap(source: random.Random) -> tuple[Any, Any]:
    """An amount that both echo stands before the predictions in the alphabet."""
    amount = source.uniform(1, 100)
    return (
        {"predictions": [source.random()], "amount": amount},
        {"predictions": [source.random()], "amount": amount},
    )


def refused(source: random.Random) -> tuple[Any, Any]:
    return {"predictions": [source.random()]}, answer({"detail": f"no model {source.randrange(3)}"}, status=500)


def unanswered(source: random.Random) -> tuple[Any, Any]:
    return {"predictions": [source.random()]}, failed(source.choice([Outcome.TIMEOUT, Outcome.LANE_FULL]), 900.0)


def columns(source: random.Random) -> tuple[Any, Any]:
    live = [source.choice("abc") for _ in range(3)]
    return {"outputs": {"y": live}}, {"outputs": {"y": live[: source.choice([2, 3, 3, 3])]}}


def renamed(source: random.Random) -> tuple[Any, Any]:
    label = source.choice("ab")
    return {"label": label, "trace": f"{source.getrandbits(64):x}"}, {"class": label if source.random() < 0.9 else "c"}


def missing(source: random.Random) -> tuple[Any, Any]:
    shadow: Any = source.choice([{"label": None}, {}, {"error": "boom"}, None, [], {"label": 3}])
    return {"label": source.choice("ab")}, shadow


def vectors(source: random.Random) -> tuple[Any, Any]:
    low = source.uniform(0.01, 0.4)
    return {"probs": [low, 1 - low]}, {"probs": [1 - low, low] if source.random() < 0.2 else [low, 1 - low]}


def rankings(source: random.Random) -> tuple[Any, Any]:
    items = [{"id": n, "score": source.random()} for n in source.sample(range(50), 6)]
    return {"items": items}, {
        "items": sorted(items, key=lambda each: each["score"]) if source.random() < 0.5 else items
    }


def embeddings(source: random.Random) -> tuple[Any, Any]:
    vector = [source.gauss(0, 1) for _ in range(16)]
    return {"embedding": vector}, {"embedding": [each + source.gauss(0, 0.01) for each in vector]}


def chats(source: random.Random) -> tuple[Any, Any]:
    def said() -> dict[str, Any]:
        text = " ".join(source.choice(["yes", "no", "late", "perhaps"]) for _ in range(5))
        return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}

    return said(), said()


def nothing_of_live(source: random.Random) -> tuple[Any, Any]:
    return answer({"detail": "no such route"}, status=404), answer({"label": "a"})


def left(source: random.Random) -> tuple[Any, Any]:
    return failed(Outcome.CALLER_LEFT), answer({"error": "x"}, status=500)


SAYS: tuple[Say, ...] = (
    trap,
    refused,
    unanswered,
    columns,
    renamed,
    missing,
    vectors,
    rankings,
    embeddings,
    chats,
    nothing_of_live,
    left,
)


def spoken(value: Any, source: random.Random) -> RecordedLeg:
    leg = value if isinstance(value, RecordedLeg) else answer(value)
    return leg._replace(total_ms=source.lognormvariate(1, 0.4)) if leg.outcome is Outcome.OK else leg


def logged(parts: list[tuple[int, int, int]]) -> list[Record]:
    """A log of parts: which answers, how many of them, and when they begin."""
    made: list[Record] = []
    for number, (which, count, start) in enumerate(parts):
        source = random.Random(f"{which} {count} {start} {number}")
        for at in range(count):
            live, shadow = SAYS[which](source)
            rows = [{"carrier": source.choice(["UA", "AA"]), "delay": source.randrange(40)} for _ in range(3)]
            payload = {"instances": rows, "vip": source.random() < 0.2, "n": at % 5}
            one = record(len(made), spoken(live, source), start + at * 0.7, s=spoken(shadow, source))
            path = f"/v{which % 2}/models/{source.randrange(10**6)}/ask"
            made.append(one._replace(request=RecordedRequest("POST", path, "", {}, Body("json", payload, 90))))
    return made


def report_of(summary: Summary) -> bytes:
    return orjson.dumps(report_json(summary), option=orjson.OPT_NON_STR_KEYS)


PARTS = st.lists(
    st.tuples(st.integers(0, len(SAYS) - 1), st.integers(1, 40), st.integers(0, 5000)), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=40)
@given(PARTS, st.randoms(use_true_random=False), st.integers(0, 6), st.booleans())
def test_any_cut_order_and_grouping_of_a_log_gives_the_one_report(
    parts: list[tuple[int, int, int]], source: random.Random, cuts: int, with_labels: bool
) -> None:
    records = logged(parts)
    truths = by_request({each.id: "ab"[n % 2] for n, each in enumerate(records) if n % 3})
    reading = Reading(Rules(), truths=truths) if with_labels else Reading(Rules())
    whole = summarise(records, reading)
    expected = report_of(whole)
    source.shuffle(records)
    at = sorted(source.randrange(len(records) + 1) for _ in range(cuts))
    pieces = [summarise(records[low:high], reading) for low, high in zip([0, *at], [*at, len(records)], strict=True)]
    while len(pieces) > 1:
        one, other = (pieces.pop(source.randrange(len(pieces))) for _ in range(2))
        if source.random() < 0.5:
            one, other = load(save(one)), load(save(other))
        if source.random() < 0.5:
            pieces.append(merge(one, other))
        else:
            one.absorb(other)
            pieces.append(one)
    assert save(pieces[0]) == save(whole)
    assert report_of(pieces[0]) == expected


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(4)), st.integers(0, 3))
def test_which_place_is_judged_does_not_depend_on_which_part_comes_first(order: list[int], first: int) -> None:
    """A part that was never answered, one that only failed, one with an echo, one of another envelope."""
    whole = [(0, 60, 0), (1, 20, 100), (2, 20, 200), (3, 15, 300)]
    records = logged(whole)
    bounds = [0, 60, 80, 100, 115]
    pieces = [summarise(records[bounds[at] : bounds[at + 1]], Rules()) for at in order]
    total = Summary()
    for piece in pieces:
        total.absorb(load(save(piece)))
    figures = report_json(total)
    assert orjson.dumps(figures) == orjson.dumps(report_json(summarise(records, Rules())))
    assert figures["shadows"]["s"]["outputs"][0]["live_path"] == "/predictions/*"


def test_merging_for_a_report_changes_no_summary() -> None:
    one, other = (summarise(logged([(which, 50, 0), (3, 50, 0)]), Rules()) for which in (0, 4))
    before = save(one), save(other)
    total = merge(one, other)
    report_json(total)
    total.absorb(summarise(logged([(2, 30, 0)]), Rules()))
    report_json(one)
    assert (save(one), save(other)) == before


def test_what_is_counted_is_put_in_the_order_in_which_it_is_saved() -> None:
    """Figures of a log are those of its saved summary: a sum of floats may differ with the order of what is added."""
    records = logged([(which, 40, 1) for which in range(len(SAYS))])
    counted = summarise(reversed(records), Rules())
    saved = load(save(counted))
    assert repr(counted) != repr(saved)
    counted.put_in_order()
    assert repr(counted) == repr(saved)
