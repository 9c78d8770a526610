"""What a report remembers is bounded in bytes, however long the names and texts of a log are."""

import tracemalloc
from collections.abc import Callable

import pytest

from shadowproxy.compare.fold import examples, gist, places, routes, structure, survey, values
from shadowproxy.compare.fold.known import Known
from shadowproxy.compare.fold.survey import Survey

LONG = 40_000
"""Characters: 200 texts of them, remembered, are 8 MB."""


def test_what_is_known_is_found_and_all_of_it_is_bounded() -> None:
    known: Known[str, int] = Known(16_000)
    for number in range(1000):
        known.keep(f"{number:050}", number, 50)
        assert known.get(f"{number:050}") == number
    assert len(known) <= 160
    assert known.get(f"{998:050}") == 998
    known.keep("too large", 1, 1000)
    assert known.get("too large") is None


def test_the_same_entry_kept_again_and_again_pushes_nothing_out() -> None:
    known: Known[str, int] = Known(16_000)
    known.keep("a", 1, 50)
    for _ in range(1000):
        if known.get("b") is None:
            known.keep("b", 2, 50)
    assert known.get("a") == 1


def name(number: int) -> str:
    return f"{number:08}" * (LONG // 8)


REMEMBERING: dict[str, Callable[[int], object]] = {
    "members of an object": lambda n: Survey({name(n): 1, "answer": 2}).found.clear(),
    "members of an empty object below a long name": lambda n: Survey({name(n): {}}).found.clear(),
    "a place's rank": lambda n: len(places.static_rank(f"/{name(n)}")),
    "a place's score": lambda n: places.static_score(f"/{name(n)}"),
    "whether it is an envelope": lambda n: places.is_envelope(name(n)),
    "the key of two places": lambda n: len(places.field_key(name(n), "/a")),
    "the places of a key": lambda n: len(places.places_of(places.field_key("/a", name(n)))),
    "the places that are lacking": lambda n: len(structure.lacking_key((name(n),))),
    "the places of a shape": lambda n: len(structure.places_in((name(n), "b"))),
    "the best places": lambda n: len(survey._best((f"/{name(n)}", "/a"))),
    "an example's key": lambda n: len(examples.example_key(((name(n), "value"),), None)),
    "a class": lambda n: len(values.class_key(name(n))),
    "a vector's class": lambda n: len(values.vector_of({name(n): 0.5, "b": 0.7}) or ()),
    "a gist": lambda n: len(gist.short(name(n))),
    "a route": lambda n: len(routes.template(f"/{name(n)}")),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REMEMBERING)
def test_names_and_texts_of_any_length_take_bounded_memory(what: str) -> None:
    remember = REMEMBERING[what]
    tracemalloc.start()
    try:
        for number in range(200):
            remember(number)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4 << 20
