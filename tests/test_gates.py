"""What a shadow is allowed, from a YAML file."""

from pathlib import Path

import pytest

from shadowproxy.compare.report.gates import GateError, Gates, load_gates


def loaded(path: Path, text: str) -> Gates:
    file = path / "gates.yaml"
    file.write_text(text)
    return load_gates(file)


def test_every_gate_can_be_set_and_switched_off(tmp_path: Path) -> None:
    assert loaded(tmp_path, "{answered: 0.01, p99_ratio: 2, collapse: false, unexplained: null}") == Gates(
        answered=0.01, p99_ratio=2, collapse=False, unexplained=None
    )


def test_the_keys_of_version_1_still_name_their_checks(tmp_path: Path) -> None:
    old = "{success_loss: 0.01, json: 0.99, p99_ratio: 1.5, drift: 0.2, collapse: true, min_agreement: 0.9}"
    gates = loaded(tmp_path, old)
    assert (gates.errors, gates.structure, gates.min_agreement) == (0.01, 0.01, 0.9)
    assert loaded(tmp_path, "{json: null, success_loss: null}") == Gates(structure=None, errors=None)


def test_a_range_is_a_share_or_two_bounds(tmp_path: Path) -> None:
    assert loaded(tmp_path, "range: 0.02").outside == 0.02
    given = loaded(tmp_path, "range: [0, 100]")
    assert (given.bounds, given.outside) == ((0.0, 100.0), 0.005)
    assert loaded(tmp_path, "range: null").outside is None
    assert Gates().bounds is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy: 1", "unknown key 'accuracy'; there are accuracy_loss, answered, collapse, drift, errors, flips"),
        ("errors: -1", "errors is a number of at least 0, or null"),
        ("errors: .nan", "errors is a number of at least 0, or null"),
        ("errors: true", "errors is a number of at least 0, or null"),
        ("errors: 5", "errors is a share of 1, such as 0.005 for 0.5 points, or null"),
        ("json: 99.9", "json is a share of 1, such as 0.999, or null"),
        ("collapse: 1", "collapse is true or false"),
        ("range: [1]", "range is a list of two numbers, the lower first"),
        ("range: [2, 1]", "range is a list of two numbers, the lower first"),
        ("range: [a, b]", "range is a list of two numbers, the lower first"),
        ("{errors: 0.01, success_loss: 0.02}", "success_loss is the old name of errors: give one of them"),
        ("[1]", "a mapping is needed, of accuracy_loss"),
        ("{", "not YAML: "),
        ("{1: 2}", "unknown key 1"),
    ],
)
def test_what_cannot_be_a_gate_is_one_line_that_says_why(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(GateError, match=r"gates\.yaml") as caught:
        loaded(tmp_path, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"cannot read .*no\.yaml: No such file"):
        load_gates(tmp_path / "no.yaml")
