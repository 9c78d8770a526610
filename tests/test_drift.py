"""How differently two arms are spread: few cells, atoms apart, and one on either side of all that live says."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from shadowproxy.compare.fold.few import Few
from shadowproxy.compare.fold.outputs_builder import OutputsBuilder
from shadowproxy.compare.fold.spread import Spread, SpreadBuilder
from shadowproxy.compare.report.figures import drift, numbers, ranges

N = 4000


def spread_of(live: Iterable[float], shadow: Iterable[float]) -> Spread:
    builder = SpreadBuilder(Spread())
    for arm, values in enumerate((live, shadow)):
        for number, value in enumerate(values):
            builder.add(number * 40 // N, value, 1, bool(arm))
    return builder.finish()


def distance(live: list[float], shadow: list[float]) -> float:
    found = drift.distance(drift.number_groups(spread_of(live, shadow)))
    assert found is not None
    return found.value


def normal(source: random.Random) -> float:
    return source.gauss(0.7, 0.3)


MAKERS: dict[str, Callable[[random.Random], float]] = {
    "a normal": normal,
    "a long tail": lambda r: r.lognormvariate(3, 2),
    "temperatures": lambda r: r.uniform(290, 300),
    "shares": lambda r: r.betavariate(0.2, 0.2),
    "tiny shares": lambda r: 10 ** -r.uniform(3, 30),
    "clipped": lambda r: min(1.0, max(0.0, normal(r))),
    "round numbers": lambda r: r.choice([0.1, 0.2, 0.3, 0.7, 0.9]),
    "whole numbers": lambda r: r.randrange(60),
    "both signs": lambda r: r.gauss(0, 1),
}


@pytest.mark.parametrize("make", MAKERS)
def test_a_twin_has_no_distance_and_has_one_in_another_runtime_neither(make: str) -> None:
    source = random.Random(1)
    live = [MAKERS[make](source) for _ in range(N)]
    assert distance(live, live) == 0
    assert distance(live, [value * (1 + source.uniform(-2e-7, 2e-7)) for value in live]) < 0.02
    assert distance(live, [value + source.uniform(-1e-7, 1e-7) if 0 <= value <= 1 else value for value in live]) < 0.02


@pytest.mark.parametrize("make", MAKERS)
def test_other_draws_of_the_same_have_a_small_distance_in_few_cells(make: str) -> None:
    source = random.Random(2)
    live, shadow = ([MAKERS[make](source) for _ in range(N)] for _ in range(2))
    groups = drift.number_groups(spread_of(live, shadow))
    assert drift.cells_in(groups) <= drift.MOST_CELLS
    found = drift.distance(groups)
    assert found is not None
    assert found.value < 0.07
    assert found.low < 0.07


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
@pytest.mark.parametrize(
    ("clip", "beyond"),
    [
        (lambda x: min(1.0, x), lambda x: 1.0 + x),
        (lambda x: max(0.0, x), lambda x: -0.1 - abs(x)),
        (lambda x: min(1.0, x), lambda x: 4.0),
    ],
)
def test_what_lies_beyond_lives_range_has_a_cell_of_its_own(
    share: float, clip: Callable[[float], float], beyond: Callable[[float], float]
) -> None:
    source = random.Random(3)
    live = [clip(normal(source)) for _ in range(N)]
    shadow = [beyond(value) if source.random() < share else value for value in live]
    assert distance(live, shadow) > 0.1


def test_values_that_come_again_and_again_are_cells_of_their_own() -> None:
    source = random.Random(4)
    live = [0.0 if source.random() < 0.3 else source.random() for _ in range(N)]
    shadow = [1e-3 if value == 0 else value for value in live]
    assert distance(live, shadow) > 0.4
    few = [source.choice([1.0, 2.0, 3.0]) for _ in range(N)]
    groups = drift.number_groups(spread_of(few, few))
    assert drift.cells_in(groups) == 3


@pytest.mark.parametrize(
    ("live", "shadow", "why"),
    [
        (lambda r: 0.5, lambda r: r.random(), "live has one value only, the shadow a continuous scale"),
        (lambda r: r.choice([0, 1]), lambda r: r.random(), "live has 2 values only, the shadow a continuous scale"),
        (lambda r: r.choice([0, 1]), lambda r: r.choice([0, 1]), None),
        (lambda r: r.choice([0, 1]), lambda r: 1, None),
        (lambda r: 0.5, lambda r: 0.7, None),
        (lambda r: r.random(), lambda r: r.random(), None),
        (lambda r: r.random(), lambda r: r.choice([0, 1]), None),
    ],
)
def test_few_values_cannot_be_spread_as_a_scale_is(
    live: Callable[[random.Random], float], shadow: Callable[[random.Random], float], why: str | None
) -> None:
    source = random.Random(5)
    spread = spread_of([live(source) for _ in range(N)], [shadow(source) for _ in range(N)])
    assert drift.incomparable(spread) == why


# --- range ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        ([0.0, 1.0], (-1, 2)),
        ([290.0, 295.0, 300.0], (280, 310)),
        ([-5.0, 5.0], (-15, 15)),
        ([0.5], (0, 1)),
        ([-20.0], (-40, 0)),
        ([1e300, -1e308], None),
        ([0.0], None),
        ([], None),
    ],
)
def test_lives_range_is_widened_by_its_own_width(live: list[float], expected: tuple[float, float] | None) -> None:
    found = ranges.live_range(spread_of(live * 10, []))
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [lambda x: x * 1000, lambda x: -x * 4, lambda x: x - 273.15, lambda x: x * 1.8 + 32, lambda x: 1e30, lambda x: 0.0],
)
def test_five_in_a_thousand_beyond_lives_range_are_counted_one_by_one(wrong: Callable[[float], float]) -> None:
    source = random.Random(6)
    live = [source.uniform(290, 300) for _ in range(N)]
    shadow = [wrong(value) if at % 200 == 0 else value for at, value in enumerate(live)]
    spread = spread_of(live, shadow)
    bounds = ranges.live_range(spread)
    assert bounds is not None
    outside, share = ranges.outside_of(spread, *bounds)
    assert outside == N // 200
    assert share is not None
    assert (share.value, share.n) == (N // 200 / N, N)
    assert share.low < share.value < share.high


def test_a_bound_itself_lies_inside_also_in_single_precision() -> None:
    spread = spread_of([], [0.0, 1.0, 1.0000001, -1e-9, 1.5])
    outside, share = ranges.outside_of(spread, 0.0, 1.0)
    assert share is not None
    assert (outside, share.value, share.n) == (1, 0.2, 5)


# --- what is drawn -------------------------------------------------------------------------------------------------


def test_a_histogram_has_every_number_between_the_outermost_quantiles() -> None:
    source = random.Random(7)
    spread = spread_of([source.gauss(10, 2) for _ in range(N)], [])
    rows = numbers.histogram(spread.live, spread.live.width)
    assert len(rows) == 40
    assert sum(row["count"] for row in rows) == N
    highest = max(rows, key=lambda row: row["count"])
    assert 8 < highest["low"] < 12
    assert numbers.histogram({}, 0) == []
    (row,) = numbers.histogram(spread_of([3.0] * 9, []).live, 0)
    assert (row["low"], row["high"], row["count"]) == (3.0, 3.0, 9)


# --- classes -------------------------------------------------------------------------------------------------------


def table(counts: dict[str, int]) -> Few:
    found = Few()
    for key, count in counts.items():
        found.add(0, key, count)
    return found


def test_rare_classes_are_one_cell_together_and_so_are_new_ones() -> None:
    live = table({"a": 500, "b": 400, **{f"rare{n}": 2 for n in range(50)}})
    shadow = table({"a": 500, "c": 400, **{f"rare{n}": 2 for n in range(50)}})
    (block,) = drift.class_groups([live], [shadow])
    assert block == {
        (0, "a"): 500,
        (0, "b"): 400,
        (0, drift.OTHERS): 100,
        (1, "a"): 500,
        (1, drift.OTHERS): 500,
    }
    wide = table({f"x{n}": 20 for n in range(50)})
    assert drift.cells_in(drift.class_groups([wide], [wide])) == drift.MOST_CELLS


def test_too_many_classes_are_still_compared() -> None:
    def counted(names: Callable[[random.Random], str]) -> Any:
        source = random.Random(8)
        builder = OutputsBuilder()
        for number in range(N):
            builder.add(number * 40 // N, [names(source)], [], digest=number)
        return builder.finish().live_classes

    same = drift.class_groups(
        [counted(lambda r: f"n{r.getrandbits(40)}")], [counted(lambda r: f"m{r.getrandbits(40)}")]
    )
    other = drift.class_groups(
        [counted(lambda r: f"n{r.getrandbits(40)}")],
        [counted(lambda r: f"n{r.getrandbits(40)}" if r.random() < 0.5 else "usual")],
    )
    found = drift.distance(same), drift.distance(other)
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].value < 0.1 < 0.3 < found[1].value
