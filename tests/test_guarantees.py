"""Every test that docs/explanation/guarantees.md names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMED = re.findall(r"`(\w+\.py)::(\w+)`", (ROOT / "docs" / "explanation" / "guarantees.md").read_text())


@cache
def defined(file: str) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.parse((ROOT / "tests" / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return frozenset(names)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_a_guarantee_names_is_there(file: str, name: str) -> None:
    assert name in defined(file)


def test_every_promise_names_tests() -> None:
    sections = re.split(r"(?m)^## (?=\d)", (ROOT / "docs" / "explanation" / "guarantees.md").read_text())[1:]
    assert [section[0] for section in sections] == list("1234567")
    assert all("::test_" in section for section in sections)
