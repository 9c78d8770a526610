"""Text from a log made safe and short, without losing what matters in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.judge.visible import body_text, cut_together, sides
from shadowproxy.record import Body


@given(st.text("ab", max_size=300), st.text("ab", max_size=50), st.text("cd", min_size=1, max_size=50), st.text("ab"))
def test_texts_cut_together_show_the_character_where_they_part(same: str, one: str, other: str, end: str) -> None:
    left, right = same + "x" + one + end, same + other + end
    shown = cut_together(left, right, 40)
    assert max(map(len, shown)) <= 40
    assert "x" in shown[0]
    assert any(sign in shown[1] for sign in "cd")


@pytest.mark.parametrize(
    ("kind", "live", "shadow", "expected"),
    [
        ("missing", None, None, ("null", "missing")),
        ("extra", None, "a", ("missing", '"a"')),
        ("value", None, 1, ("null", "1")),
        ("length", 3, 2, ("3 elements", "2 elements")),
        ("type", None, "null", ("null", '"null"')),
    ],
)
def test_a_difference_says_what_its_sides_are(
    kind: str, live: object, shadow: object, expected: tuple[str, str]
) -> None:
    assert sides(kind, live, shadow) == expected


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.floats(-1e-3, 1e-3) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_JSON)
def test_a_body_is_shown_as_python_writes_it(value: object) -> None:
    """What a report shows and counts requests by does not depend on what wrote it."""
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert body_text(Body("json", value, 0), 10**6) == written.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    "number", [1e-5, 1.5e-5, 2e-9, 1e-10, 1e16, 1e22, float("nan"), float("inf"), 2**70, -0.0, 1.0]
)
def test_a_number_is_shown_as_python_writes_it(number: float) -> None:
    assert body_text(Body("json", {"x": [number, None]}, 0)) == f'{{"x":[{json.dumps(number)},null]}}'
    assert body_text(Body("json", [number], 0)) == f"[{json.dumps(number)}]"
