"""Numbers in cells: as narrow as their bound allows, and the same whoever counted what first."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.fold.cells import (
    COARSEST,
    BlockCells,
    Cells,
    cell_deviation,
    cell_mean,
    cell_of,
    cell_quantile,
    cells_of,
    ends,
    joined,
    middle,
)


class Narrow(Cells):
    LIMIT = 8


class NarrowBlocks(BlockCells):
    LIMIT = 8


finite = st.floats(allow_nan=False, allow_infinity=False)


def cells(values: list[float]) -> list[tuple[int, int]]:
    return [(cell, 1) for cell in cells_of(values)]


@given(finite)
def test_a_cell_holds_its_number_to_a_millionth(value: float) -> None:
    low, high = ends(cell_of(value), 0)
    assert low == high
    if 1e-300 < abs(value) < 1e307:
        assert low == pytest.approx(value, rel=1e-6)
    assert cell_of(-value) == -cell_of(value)


@given(finite, finite)
def test_cells_sort_as_their_numbers_do(one: float, other: float) -> None:
    if one <= other:
        assert cell_of(one) <= cell_of(other)


def test_what_is_next_to_a_round_number_lies_in_its_cell_however_wide() -> None:
    for value in (0.5, 1.0, 2.0, 64.0):
        for width in range(20):
            assert joined(cell_of(value * (1 - 6e-8)), width) == joined(cell_of(value), width)
            assert ends(joined(cell_of(value), width), width)[0] <= value


@given(st.lists(finite, max_size=60), st.integers(0, COARSEST))
def test_joined_cells_hold_what_was_in_their_parts(values: list[float], width: int) -> None:
    for value in values:
        low, high = ends(joined(cell_of(value), width), width)
        assert low <= ends(cell_of(value), 0)[0] <= high
        assert joined(joined(cell_of(value), 3), max(0, width - 3)) == joined(cell_of(value), max(3, width))


def test_few_different_values_are_counted_one_by_one() -> None:
    counted = Cells()
    counted.add(cells([0.5, 0.5, 0.1, 300.0, -7.0]))
    assert counted.width == 0
    assert {round(middle(cell, 0), 6): n for cell, n in counted.items()} == {0.5: 2, 0.1: 1, 300.0: 1, -7.0: 1}


def test_temperatures_fall_in_hundreds_of_cells_where_bins_of_2_percent_would_be_two() -> None:
    source = random.Random(2)
    counted = Cells()
    counted.add(cells([source.uniform(290, 300) for _ in range(50_000)]))
    assert 256 <= len(counted) <= Cells.LIMIT
    assert cell_deviation(counted, counted.width) == pytest.approx(10 / math.sqrt(12), rel=0.01)
    assert cell_mean(counted, counted.width) == pytest.approx(295, abs=0.05)
    assert cell_quantile(counted, counted.width, 0.9) == pytest.approx(299, abs=0.05)


def test_quantiles_of_a_long_tail_are_as_near_as_anywhere() -> None:
    source = random.Random(11)
    values = sorted(source.lognormvariate(3, 2) for _ in range(20_000))
    counted = Cells()
    counted.add(cells(values))
    for q in (0.01, 0.5, 0.9, 0.99, 0.999):
        expected = values[round(q * (len(values) - 1))]
        assert cell_quantile(counted, counted.width, q) == pytest.approx(expected, rel=0.03)


def test_of_nothing_there_is_no_figure() -> None:
    assert cell_quantile({}, 0, 0.5) is None
    assert cell_mean({}, 0) is None
    assert cell_deviation({cell_of(1.0): 1}, 0) is None
    assert cell_deviation({cell_of(1.0): 5}, 0) == 0


def test_a_mean_is_known_where_the_sum_is_beyond_a_float() -> None:
    largest = cell_of(1.7e308)
    assert cell_mean({largest: 3, -largest: 1}, 0) == pytest.approx(0.85e308, rel=0.01)
    assert cell_deviation({largest: 3, -largest: 1}, 0) == math.inf


@given(st.lists(st.lists(finite, max_size=12), max_size=5), st.randoms())
def test_parts_add_up_to_the_whole_in_any_order(parts: list[list[float]], source: random.Random) -> None:
    whole = Narrow()
    for part in parts:
        whole.add(cells(part))
    counts = []
    for part in parts:
        counted = Narrow()
        counted.add(cells(part))
        counts.append(counted)
    source.shuffle(counts)
    total = Narrow()
    for counted in counts:
        before = counted.to_json()
        total = total.merged(counted)
        assert counted.to_json() == before
    assert total.to_json() == whole.to_json() == Narrow.from_json(whole.to_json()).to_json()
    assert len(total) <= Narrow.LIMIT
    assert sum(total.values()) == sum(map(len, parts))


@given(st.lists(st.tuples(st.integers(0, 5), finite), max_size=40), st.randoms(), st.integers(1, 4))
def test_blocks_add_up_to_the_whole_in_any_order(
    values: list[tuple[int, float]], source: random.Random, cuts: int
) -> None:
    def counted(part: list[tuple[int, float]]) -> NarrowBlocks:
        found = NarrowBlocks()
        for block, value in part:
            found.add(block, cells([value]))
        return found

    whole = counted(values)
    source.shuffle(values)
    total = NarrowBlocks()
    for at in range(cuts):
        total.absorb(counted(values[at::cuts]))
    assert total.to_json() == whole.to_json() == NarrowBlocks.from_json(whole.to_json()).to_json()
    assert len({cell for each in total.values() for cell in each}) <= NarrowBlocks.LIMIT
    assert total.widened().whole() == whole.whole()
    assert whole.widened().to_json() == counted([(block >> 1, value) for block, value in values]).to_json()


@pytest.mark.parametrize("raw", [[0, 1], [99], [-1, 2, 3]])
def test_cells_that_nobody_wrote_are_refused(raw: list[int]) -> None:
    with pytest.raises(ValueError, match="cells"):
        Cells.from_json(raw)


def test_numbers_of_every_size_and_sign_fit_in_the_bound() -> None:
    source = random.Random(1)
    values = [source.choice((-1, 1)) * 10.0 ** source.uniform(-300, 300) for _ in range(5000)] + [0.0, 1.7e308]
    counted = Cells()
    counted.add(cells(values))
    assert len(counted) <= Cells.LIMIT
    assert sum(counted.values()) == len(values)
    assert cell_quantile(Counter(counted), counted.width, 1.0) is not None
