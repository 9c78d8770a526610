"""What is counted of one place: every value by what it is, absent ones too, and the same in any order and cut."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.fold.few import MOST_CLASSES, Few, FewWhole, Pairs
from shadowproxy.compare.fold.likeness import flip_of
from shadowproxy.compare.fold.outputs import MILLION, Outputs, OutputsByField
from shadowproxy.compare.fold.outputs_builder import OutputsBuilder, PlacesBuilder
from shadowproxy.compare.fold.places import MOST_PLACES, field_key
from shadowproxy.compare.judge.rules import Tolerance

UUID = "123e4567-e89b-12d3-a456-426614174000"


def counted(*pairs: tuple[Any, Any], tolerance: Tolerance | None = None) -> Outputs:
    builder = OutputsBuilder()
    for number, (live, shadow) in enumerate(pairs):
        builder.add(0, [live], [shadow], tolerance=tolerance, digest=number)
    return builder.finish()


def mark(live: Any, shadow: Any, tolerance: Tolerance | None = None) -> str:
    (found,) = OutputsBuilder().add(0, [live], [shadow], tolerance=tolerance)
    return found


def score(outputs: Outputs, name: str) -> float:
    return outputs.scores[name][0] / outputs.scores[f"{name}, pairs"][0] / MILLION


def totals(table: Any) -> dict[str, int]:
    return {key: series.total() for key, series in table.items()}


@pytest.mark.parametrize(
    ("live", "shadow", "expected"),
    [
        (1, 1.0, ""),
        (1, 2, "differs"),
        (1.5, 1.5 * (1 + 9e-6), ""),
        (1.5, 1.5 * (1 + 2e-5), "differs"),
        (1e-9, 5e-7, ""),
        (1e-9, 5e-6, "differs"),
        (3.0000001e6, 3e6, ""),
        (1_000_000, 1_000_001, "spelled"),
        (2**70, 2**70 + 1, "spelled"),
        (math.nan, math.nan, ""),
        (math.nan, 1.5, "gained"),
        (1.5, math.nan, "lost"),
        (1.5, math.inf, "lost"),
        (1.5, None, "lost"),
        (1.5, "1.5", "lost"),
        (1, True, "lost"),
        (True, 1, "lost"),
        (True, False, "differs"),
        (None, None, ""),
        (None, 0, "gained"),
        ("late", "late", ""),
        ("Late.", "late", "spelled"),
        ("late", "on time", "differs"),
        ("late", "", "lost"),
        ("", " ", ""),
        (UUID, UUID[::-1], "differs"),
        ("x" * 200, "x" * 200, ""),
        ("x " * 200, "x" * 200, "differs"),
        ([0.1, 0.9], [0.2, 0.8], ""),
        ([0.1, 0.9], [0.8, 0.2], "differs"),
        ([0.1, 0.9], [0.1], "lost"),
        ([0.1, 0.9], [-1e-7, 1.0000001], ""),
        ([{"id": 1}, {"id": 2}], [{"id": 2}, {"id": 1}], "differs"),
        ([{"id": 1}, {"id": 2}], [], "lost"),
        ([3.0, 4.0, 5.0], [6.0, 8.0, 10.0], "differs"),
        ([3.0, 4.0, 5.0], [6.0, 8.0], "lost"),
        ([3.0, 4.0, 5.0], [3.5, 4.0, 5.0], "differs"),
        ({"x": 1}, {"x": 2}, ""),
    ],
)
def test_what_befell_an_answer(live: Any, shadow: Any, expected: str) -> None:
    assert mark(live, shadow) == expected


def test_a_tolerance_of_the_rules_holds_instead_of_the_one_that_is_known() -> None:
    assert mark(1.0, 1.1, Tolerance(0.2, 0)) == ""
    assert mark(1.0, 1.3, Tolerance(0.2, 0)) == "differs"
    assert mark(1.0, 1.0 + 1e-7, Tolerance(1e-9, 0)) == "differs"


def test_what_is_missing_is_counted_by_how_it_is_missing() -> None:
    builder = OutputsBuilder()
    assert list(builder.add(0, [1.5], [])) == ["lost"]
    assert list(builder.add(0, [1.5], None)) == ["lost"]
    assert builder.add(0, [], [1.5]) == ("gained",)
    assert builder.add(0, [1.5], [None]) == ("lost",)
    outputs = builder.finish()
    assert totals(outputs.single) == {"real absent": 1, "real failed": 1, "absent real": 1, "real null": 1}
    assert outputs.single_same == {}


def test_rows_are_paired_in_order_and_what_the_shorter_arm_has_not_is_missing() -> None:
    builder = OutputsBuilder()
    assert list(builder.add(0, ["a", "b", "c"], ["a", "x", "c"])) == ["", "differs", ""]
    assert list(builder.add(0, ["a", "b", "c"], ["a"])) == ["", "lost", "lost"]
    assert list(builder.add(0, ["a"], ["a", "b"])) == [""]
    assert list(builder.add(0, ["a", "b"], None)) == ["lost", "lost"]
    assert list(builder.add(0, ["a", "b"], ["a", "b"])) == ["", ""]
    outputs = builder.finish()
    assert totals(outputs.rows) == {
        "text text": 7,
        "text fewer rows": 2,
        "more rows text": 1,
        "text failed": 2,
    }
    assert totals(outputs.rows_same) == {"text text": 6}
    assert totals(outputs.batches) == {
        "text text": 2,
        "text fewer rows|text text": 1,
        "more rows text|text text": 1,
        "text failed": 1,
    }
    assert totals(outputs.batches_same) == {"text text": 1}


def test_rows_without_an_answer_in_both_make_no_difference_to_a_batch() -> None:
    builder = OutputsBuilder()
    builder.add(0, [1.5, None, math.nan], [1.5, None, math.nan])
    builder.add(0, [1.5, None], [1.5, 2.5])
    outputs = builder.finish()
    assert totals(outputs.batches_same) == {"NaN NaN|null null|real real": 1}


def test_a_batch_of_which_a_row_is_spelled_otherwise_is_spelled() -> None:
    builder = OutputsBuilder()
    builder.add(0, ["a b", "c"], ["A b", "c"])
    builder.add(0, ["a b", "c"], ["A b", "d"])
    outputs = builder.finish()
    assert totals(outputs.batches_same) == totals(outputs.batches_spelled) == {"text text": 1}


def test_answers_as_long_as_an_array_of_the_request_are_counted() -> None:
    builder = OutputsBuilder()
    builder.add(0, [1, 2], [1, 2], rows=2)
    builder.add(0, [1, 2], [1, 2])
    builder.add(0, [[{"id": 1}, {"id": 2}]], [[]], rows=2)
    builder.add(0, [[{"id": 1}, {"id": 2}]], [[]])
    builder.add(0, [1], [1], rows=1)
    outputs = builder.finish()
    assert outputs.batched == {"many": 4, "asked": 2}


def test_probabilities_on_different_sides_of_one_half_are_flips() -> None:
    outputs = counted((0.4, 0.6), (0.6, 0.7), (0.5, 0.49), (3.0, 0.1))
    assert (outputs.probabilities[0], outputs.flips[0]) == (3, 2)


def test_texts_are_measured_by_their_words() -> None:
    outputs = counted(("The cat sat.", "the cat sat"), ("a b c d", "a b x y"), ('{"a": 1}', '{"a": '))
    assert score(outputs, "exact") == 0
    assert score(outputs, "token F1") == pytest.approx((1 + 0.5 + 2 / 3) / 3, abs=1e-6)
    assert score(outputs, "valid JSON in live") == 1
    assert score(outputs, "valid JSON in shadow") == 0


def test_vectors_are_measured_share_by_share() -> None:
    outputs = counted(([0.5, 0.5], [0.5 + 1e-7, 0.5 - 1e-7]), ([0.25, 0.75], [0.5, 0.5]))
    assert score(outputs, "total variation") == pytest.approx(0.125, abs=1e-6)
    assert score(outputs, "equal") == 0.5


def test_whole_numbers_are_classes_while_they_are_few_and_texts_for_longer() -> None:
    outputs = counted(*((n, n % 40) for n in range(65)))
    assert (outputs.live_whole.many, len(outputs.live_whole)) == (True, 0)
    assert (outputs.shadow_whole.many, len(outputs.shadow_whole)) == (False, 40)
    assert (outputs.live_classes, outputs.shadow_classes) == ({}, {})


def test_many_classes_are_still_counted_by_their_hash() -> None:
    source = random.Random(1)
    names = [f"x{n}" for n in range(MOST_CLASSES + 200)]
    tables = []
    for _ in range(2):
        source.shuffle(names)
        table = Few()
        for at, name in enumerate(names):
            table.add(at % 7 % 2, name)
        tables.append(table)
    assert tables[0].many
    assert len(tables[0]) <= Few.BUCKETS
    assert sum(series.total() for series in tables[0].values()) == len(names)
    assert {key: series.total() for key, series in tables[0].items()} == {
        key: series.total() for key, series in tables[1].items()
    }


@given(st.lists(st.lists(st.integers(0, 12), max_size=12), max_size=5), st.randoms())
def test_few_classes_add_up_in_any_order_also_when_they_are_many(parts: list[list[int]], source: random.Random) -> None:
    class Three(Few):
        LIMIT = 3
        BUCKETS = 2

    class ThreeWhole(FewWhole):
        LIMIT = 3

    class ThreePairs(Pairs):
        LIMIT = 3

    kinds: tuple[type[Few], ...] = (Three, ThreeWhole)
    for kind in kinds:
        whole = kind()
        for part in parts:
            for value in part:
                whole.add(value % 2, str(value))
        counts = []
        for part in parts:
            made = kind()
            for value in part:
                made.add(value % 2, str(value))
            counts.append(made)
        source.shuffle(counts)
        total = kind()
        for made in counts:
            total = total.merged(made)
        assert total.to_json() == whole.to_json() == kind.from_json(whole.to_json()).to_json()
    pairs = [ThreePairs() for _ in parts]
    all_pairs = ThreePairs()
    for part, made_pairs in zip(parts, pairs, strict=True):
        for value in part:
            made_pairs.add(str(value), 1)
            all_pairs.add(str(value), 1)
    source.shuffle(pairs)
    total_pairs = ThreePairs()
    for made_pairs in pairs:
        total_pairs.absorb(made_pairs)
    assert total_pairs.to_json() == all_pairs.to_json() == ThreePairs.from_json(all_pairs.to_json()).to_json()


def test_a_flip_is_told_of_classes_alone() -> None:
    assert flip_of("a", "b") == ('"a"', '"b"')
    assert flip_of([0.1, 0.9], [0.9, 0.1]) == ('"1"', '"0"')
    assert flip_of(1, 2) == ("1", "2")
    assert flip_of(1.5, 2.5) is None
    assert flip_of("a", None) is None
    assert flip_of("a", "a") is None


def test_of_many_places_those_are_counted_whose_names_rank_best_whoever_came_first() -> None:
    keys = [field_key(f"/x{n}", f"/x{n}") for n in range(40)] + [field_key("/prediction", "/prediction")]
    tables = []
    for seed in (1, 2):
        random.Random(seed).shuffle(keys)
        builders = PlacesBuilder()
        for key in keys:
            builders.part(key).add(0, [1], [1])
        tables.append(builders.finish().to_json())
    assert tables[0] == tables[1]
    assert len(tables[0]["kept"]) == MOST_PLACES
    assert field_key("/prediction", "/prediction") in tables[0]["kept"]
    again = OutputsByField.from_json(tables[0])
    assert again.cut
    assert again.to_json() == tables[0]
    builders = PlacesBuilder(again)
    assert builders.part('["/request_id", "/request_id"]').add(0, [1, 2], [1]) == ("", "")
    assert len(builders.finish()) == MOST_PLACES
    assert not PlacesBuilder().finish().cut


@pytest.mark.parametrize("last", ["/prediction", "/request_id"])
def test_one_place_too_many_is_known_to_be_cut_whichever_came_last(last: str) -> None:
    names = [f"/x{n}" for n in range(MOST_PLACES - 1)] + ["/prediction", "/request_id"]
    builders = PlacesBuilder()
    for name in sorted(names, key=lambda each: each == last):
        builders.part(field_key(name, name)).add(0, [1], [1])
    found = builders.finish()
    assert field_key("/request_id", "/request_id") not in found
    assert found.cut


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from([0.25, 0.5, 2.0**60, 1.0, 10**400]),
    st.sampled_from(["a", "b", "1", "", "It is so.", "it is so", UUID, "x" * 99 + "y", "x" * 150, "long words " * 20]),
    st.sampled_from([[0.5, 0.5], [0.1, 0.9], {"a": 0.5, "b": 0.25}, [], {}, [{"id": 1}, {"id": 2}], [{"id": 2}]]),
    st.lists(st.floats(-5, 5), min_size=2, max_size=4),
)
exchanges = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.lists(values, max_size=3),
        st.none() | st.lists(values, max_size=3),
    ),
    max_size=12,
)


def of_exchanges(found: list[tuple[int, Any]]) -> Outputs:
    builder = OutputsBuilder()
    for digest, (block, live, shadow) in found:
        builder.add(block, live, shadow, digest=digest, rows=len(live))
    return builder.finish()


@given(exchanges, st.randoms(), st.integers(1, 4))
def test_any_cut_and_order_of_a_log_counts_the_same(found: list[Any], source: random.Random, cuts: int) -> None:
    numbered = list(enumerate(found))
    whole = of_exchanges(numbered).to_json()
    source.shuffle(numbered)
    parts = [of_exchanges(numbered[at::cuts]) for at in range(cuts)]
    merged = Outputs()
    for part in parts:
        merged = merged.merged(Outputs.from_json(part.to_json()))
    absorbed = Outputs()
    for part in parts:
        absorbed.absorb(part)
    assert merged.to_json() == absorbed.to_json() == whole
    halves = of_exchanges([(digest, (each[0] >> 1, *each[1:])) for digest, each in numbered])
    assert merged.widened().to_json() == halves.to_json()


alike = st.one_of(
    *(
        st.lists(st.tuples(one, other), min_size=2, max_size=5)
        for one, other in (
            (st.floats(), st.floats()),
            (st.integers(), st.integers()),
            (st.sampled_from([0.25, 0.5, 1.5]), st.sampled_from([0.25, 0.5])),
            (st.sampled_from([1, 2]), st.sampled_from([0.25, 0.5])),
            (st.booleans(), st.booleans()),
            (st.sampled_from(["a b", "A b", "c", UUID]), st.sampled_from(["a b", "A b", "c", "", "x" * 150])),
            (st.none(), st.booleans()),
        )
    )
)


@given(st.lists(st.tuples(st.integers(0, 2), alike), max_size=6), st.sampled_from([None, Tolerance(0.3, 0)]))
def test_batches_of_rows_that_are_alike_are_counted_as_row_by_row(
    batches: list[tuple[int, list[tuple[Any, Any]]]], tolerance: Tolerance | None
) -> None:
    at_once, one_by_one = OutputsBuilder(), OutputsBuilder()
    one_by_one._values.tolerance = tolerance
    for digest, (block, pairs) in enumerate(batches * 2):
        live, shadow = [one for one, _ in pairs], [other for _, other in pairs]
        marks = at_once.add(block, live, shadow, tolerance=tolerance, digest=digest, rows=2)
        again = one_by_one._add_values(block, live, shadow, 2, digest)
        assert list(marks) == list(again)
    assert at_once.finish().to_json() == one_by_one.finish().to_json()


@given(exchanges)
def test_marks_are_those_of_what_is_counted(found: list[Any]) -> None:
    lost = gained = differs = 0
    builder = OutputsBuilder()
    for digest, (block, live, shadow) in enumerate(found):
        words = builder.add(block, live, shadow, digest=digest)
        if len(live) == 1 and (shadow is None or len(shadow) <= 1):
            lost += words[0] == "lost"
            gained += words[0] == "gained"
            differs += words[0] == "differs"
    outputs = builder.finish()
    nothing = {"null", "empty", "NaN", "infinite", "other", "absent", "failed"}
    singles = {key: series.total() for key, series in outputs.single.items() if not key.startswith("absent ")}
    assert gained == sum(
        n for key, n in singles.items() if key.split(" ")[0] in nothing and key.split(" ")[1] not in nothing
    )
    answered = sum(n for key, n in singles.items() if key.split(" ")[0] not in nothing)
    same = sum(series.total() for key, series in outputs.single_same.items() if key.split(" ")[0] not in nothing)
    assert answered == lost + differs + same


def test_long_texts_wait_only_while_they_are_few_as_many_would_be_much_memory() -> None:
    builder = OutputsBuilder()
    builder.add(0, ["a" * 100], ["b"])
    builder.add(0, ["a" * 101], ["b"])
    single = builder._outputs.single
    assert single == {}
    builder.add(0, ["a" * 4000], ["b"])
    assert totals(single) == {"text text": 1}
    for number in range(100):
        builder.add(0, [f"{number} {'a' * 1200}"], ["b"])
    assert totals(single)["text text"] > 80
    outputs = builder.finish()
    assert totals(outputs.single) == {"text text": 103}


# --- arrays of numbers


_WAVE = [100.0 * math.sin(at) for at in range(1, 25)]


@pytest.mark.parametrize(
    ("change", "plain", "embedding"),
    [
        (lambda each, at: each * (1 + 1e-6 * (-1) ** at), "", ""),  # another runtime
        (lambda each, at: each * (1 + 4e-4 * (-1) ** at), "", ""),  # half precision
        (lambda each, at: each * 1.03, "differs", ""),
        (lambda each, at: each + 0.3 * (at == 3), "differs", ""),
        (lambda each, at: each + 5 * (at == 3), "differs", "differs"),
        (lambda each, at: each + 5, "differs", "differs"),
    ],
)
def test_arrays_that_are_no_embeddings_are_equal_number_by_number(change: Any, plain: str, embedding: str) -> None:
    other = [change(each, at) for at, each in enumerate(_WAVE)]
    assert list(OutputsBuilder().add(0, [_WAVE], [other])) == [plain]
    assert list(OutputsBuilder().add(0, [_WAVE], [other], embedding=True)) == [embedding]


@pytest.mark.parametrize("embedding", [False, True])
def test_a_tolerance_for_the_numbers_of_an_array_counts_alone(embedding: bool) -> None:
    other = [each + 0.3 for each in _WAVE]
    for allowed, expected in ((0.31, ""), (0.29, "differs")):
        rule = Tolerance(allowed, 0)
        assert list(OutputsBuilder().add(0, [_WAVE], [other], elements=rule, embedding=embedding)) == [expected]
