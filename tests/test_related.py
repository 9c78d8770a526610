"""Whether a shadow's answers belong to live's: fingerprints, and the figure that is 0 for a shuffled shadow."""

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_kinds import judged

from shadowproxy.compare.fold.related import (
    Likenesses,
    Prints,
    likeness,
    print_of_numbers,
    print_of_ranking,
    print_of_text,
    projected,
)
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.relatedness import related
from shadowproxy.compare.report.stats import beyond_chance, chance_agreement, mean_distance

Answer = Callable[[random.Random], Any]
WORDS = [f"word{n}" for n in range(200)]


class FewPrints(Prints):
    KEPT = 3


def words(source: random.Random) -> str:
    return " ".join(source.choice(WORDS) for _ in range(30))


def embedding(source: random.Random) -> list[float]:
    """One of vectors that all point into about one direction, as those of real models do."""
    return [1 + source.gauss(0, 2) for _ in range(64)]


KINDS: dict[str, Answer] = {
    "class": lambda r: {"label": r.choice("aaabc")},
    "number": lambda r: {"price": r.lognormvariate(3, 1)},
    "vector": lambda r: {"probs": [(p := r.random()), 1 - p]},
    "text": lambda r: {"text": words(r)},
    "ranking": lambda r: {"items": [{"id": n} for n in r.sample(range(9), 5)]},
    "embedding": lambda r: {"embedding": embedding(r)},
}


def figure(pairs: list[tuple[Any, Any]]) -> Any:
    (first, *_) = judged(pairs)
    return related(first)


def shuffled(answers: list[Any], source: random.Random) -> list[tuple[Any, Any]]:
    others = list(answers)
    source.shuffle(others)
    return list(zip(answers, others, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_twin_is_related_wholly(kind: str) -> None:
    source = random.Random(1)
    answers = [KINDS[kind](source) for _ in range(400)]
    found = figure(list(zip(answers, answers, strict=True)))
    assert found["judged"]
    assert found["value"] == pytest.approx(1)
    assert found["low"] == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shuffled_shadow_is_not_related_and_neither_is_one_that_answers_the_request_before(kind: str) -> None:
    source = random.Random(2)
    answers = [KINDS[kind](source) for _ in range(1000)]
    for pairs in (shuffled(answers, source), list(zip(answers, [answers[-1], *answers[:-1]], strict=True))):
        found = figure(pairs)
        assert found["judged"]
        assert abs(found["value"]) < 0.07
        assert found["low"] < 0.02
        assert found["high"] < 0.13


def test_answers_turned_round_are_related_below_nothing() -> None:
    source = random.Random(3)
    sides = [source.random() < 0.5 for _ in range(400)]
    found = figure([({"late": side}, {"late": not side}) for side in sides])
    assert found["value"] == pytest.approx(-1, abs=0.02)
    assert found["high"] < -0.9
    numbers = [source.random() for _ in range(400)]
    assert figure([({"p": p}, {"p": 1 - p}) for p in numbers])["high"] < -0.2


def test_independent_draws_of_one_system_are_related_as_far_as_the_request_decides() -> None:
    source = random.Random(4)
    centres = [source.gauss(0, 1) for _ in range(1000)]
    found = figure([({"p": c + source.gauss(0, 1)}, {"p": c + source.gauss(0, 1)}) for c in centres])
    assert 0.2 < found["low"] < found["value"] < found["high"] < 0.4


def test_a_shadow_that_answers_nothing_is_not_related() -> None:
    source = random.Random(5)
    answers = [KINDS["class"](source) for _ in range(500)]
    found = figure([(live, live if source.random() < 0.5 else {}) for live in answers])
    assert 0.25 < found["value"] < 0.5, "an absent answer is a class of its own"
    assert figure([(live, {"label": None}) for live in answers])["value"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_live_that_hardly_varies_tells_nothing(kind: str) -> None:
    source = random.Random(6)
    usual = KINDS[kind](source)
    answers = [usual if n % 100 else KINDS[kind](source) for n in range(400)]
    found = judged(list(zip(answers, answers, strict=True)))
    assert [related(each)["judged"] for each in found] == [False] * len(found)
    assert all("outside its commonest" in (related(each)["why"] or "") for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["class", "number", "ranking"])
def test_the_interval_of_a_shuffled_shadow_covers_nothing_nearly_always(kind: str) -> None:
    source = random.Random(7)
    covered = 0
    for _ in range(60):
        answers = [KINDS[kind](source) for _ in range(600)]
        found = figure(shuffled(answers, source))
        covered += found["low"] <= 0 <= found["high"]
    assert covered >= 0.86 * 60


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_noisy_answers_of_one_system_never_look_unrelated(kind: str) -> None:
    source = random.Random(8)
    for _ in range(12):
        pairs = []
        for _ in range(300):
            live = KINDS[kind](source)
            pairs.append((live, live if source.random() < 0.5 else KINDS[kind](source)))
        found = figure(pairs)
        assert found["low"] > 0.05
        assert found["low"] <= found["value"] <= found["high"]


def test_texts_of_one_word_that_are_too_many_for_classes_are_told_by_their_hash() -> None:
    source = random.Random(12)
    names = ["".join(source.choices("abcdefghij", k=9)) for _ in range(1500)]
    answers = [{"title": name} for name in names]
    twin, mixed = figure(list(zip(answers, answers, strict=True))), figure(shuffled(answers, source))
    assert twin["judged"]
    assert twin["value"] == pytest.approx(1)
    assert mixed["high"] < 0


# --- fingerprints --------------------------------------------------------------------------------------------------


def test_texts_are_alike_by_the_words_they_share() -> None:
    source = random.Random(9)
    for shared in (0, 30, 60, 90, 120):
        guesses = []
        for _ in range(200):
            names = [f"{source.getrandbits(60):x}" for _ in range(120)]
            other = names[:shared] + [f"{source.getrandbits(60):x}" for _ in range(120 - shared)]
            guesses.append(likeness("text", print_of_text(" ".join(names)), print_of_text(" ".join(other))))
        assert math.fsum(guesses) / 200 == pytest.approx(shared / (240 - shared), abs=0.05)


def test_numbers_are_alike_by_their_angle() -> None:
    source = random.Random(10)
    for turn in (0.0, 0.5, 1.0, 2.0):
        guesses, angles = [], []
        for _ in range(100):
            one = [source.gauss(0, 1) for _ in range(256)]
            other = [each * math.cos(turn) + source.gauss(0, 1) * math.sin(turn) for each in one]
            guesses.append(likeness("embedding", print_of_numbers(one), print_of_numbers(other)))
            angles.append(math.cos(turn))
        assert math.fsum(guesses) / 100 == pytest.approx(math.fsum(angles) / 100, abs=0.05)


def test_rankings_are_alike_by_what_is_in_front() -> None:
    one, other = print_of_ranking(list("abcde")), print_of_ranking(list("bacde"))
    late = print_of_ranking(list("abced"))
    assert likeness("ranking", one, one) == 1
    assert likeness("ranking", one, other) < likeness("ranking", one, late) < 1
    assert likeness("ranking", one, print_of_ranking(list("vwxyz"))) == 0
    assert likeness("ranking", one, b"") == 0


def test_a_projection_is_the_same_everywhere() -> None:
    assert projected([1.0, 2.0, 3.0, 4.0], 2, 3) == projected([1.0, 2.0, 3.0, 4.0], 2, 3)
    assert [abs(each) for each in projected([1.0, 0.0, 0.0, 0.0], 2, 3)] == [1.0, 0.0]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.binary(max_size=2)), max_size=40),
    st.randoms(),
    st.integers(1, 4),
)
def test_any_cut_and_order_keeps_the_same_fingerprints(
    found: list[tuple[int, int, bytes]], source: random.Random, cuts: int
) -> None:
    def kept(part: list[tuple[int, int, bytes]]) -> FewPrints:
        prints = FewPrints()
        for block, digest, live in part:
            if prints.wants(block, digest):
                prints.add(block, digest, (live, live, 1))
        return prints

    whole = kept(found)
    wider = kept([(block >> 1, digest, live) for block, digest, live in found])
    assert whole.widened().to_json() == wider.to_json()
    source.shuffle(found)
    total = FewPrints()
    for at in range(cuts):
        total = total.merged(FewPrints.from_json(kept(found[at::cuts]).to_json()))
    assert total.to_json() == whole.to_json()


def test_leaving_out_a_block_leaves_out_all_its_pairs() -> None:
    source = random.Random(11)
    prints, without = Prints(), Prints()
    for digest in range(60):
        one = print_of_text(words(source))
        prints.add(digest % 3, digest, (one, one, 1))
        if digest % 3:
            without.add(digest % 3, digest, (one, one, 1))
    rest, alone = Likenesses(prints, "text").related(0), Likenesses(without, "text").related()
    assert rest is not None
    assert alone is not None
    assert rest == pytest.approx(alone, abs=0.02)


# --- statistics ----------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.floats(-100, 100), st.integers(1, 5), min_size=1, max_size=6),
    st.dictionaries(st.floats(-100, 100), st.integers(1, 5), min_size=1, max_size=6),
)
def test_the_mean_distance_is_that_of_all_pairs(one: dict[float, int], other: dict[float, int]) -> None:
    total = sum(abs(x - y) * n * m for x, n in one.items() for y, m in other.items())
    assert mean_distance(one, other) == pytest.approx(total / (sum(one.values()) * sum(other.values())), abs=1e-9)


def test_chance_and_what_is_beyond_it_are_cohens_kappa() -> None:
    table = Counter({("1", "1"): 88, ("1", "2"): 14, ("1", "3"): 18, ("2", "1"): 10, ("2", "2"): 40, ("2", "3"): 10})
    table += Counter({("3", "1"): 2, ("3", "2"): 6, ("3", "3"): 12})
    rows: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    for (row, column), count in table.items():
        rows[row] += count
        columns[column] += count
    same = sum(count for (row, column), count in table.items() if row == column) / table.total()
    found = beyond_chance(same, chance_agreement(rows, columns))
    assert found == pytest.approx(stats.kappa(table))
    assert beyond_chance(1.0, 1.0) is None
    assert mean_distance({}, {1.0: 1}) is None
    assert chance_agreement({}, {"a": 1}) == 0


def test_a_figure_without_its_blocks_is_anywhere() -> None:
    estimate = stats.leaving_out(range(3), lambda without: 1.0, 5)
    assert estimate == stats.Estimate(1.0, -math.inf, math.inf, 5, "independent")
    assert stats.leaving_out(range(9), lambda without: None, 5) is None
    known = stats.leaving_out(range(9), lambda without: 1.0 if without is None else 1 + without / 100, 5)
    assert known is not None
    assert known.low < known.value < known.high
