"""Text from a log made safe and short, without losing what matters in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.judge.visible import cut_together, sides


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
