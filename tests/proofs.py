"""Which tests prove what a page says: guarantees.toml and transparency.toml, so that the pages speak to readers only.

A `[[row]]` is a row of a table, or an item of a list, under the heading `section`; `says` is its first cell, or its
first two where the first is a status. A `[[text]]` is all else in a section. `tests` are `FILE::NAME` below tests/, or
the name of a function in any of them.
"""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from page_blocks import TESTS, exists

_ROW = re.compile(r"^\| (.*) \|$")
_ITEM = re.compile(r"^- (.*)$")
_STATUS = re.compile(r"\d{3}")


class Proof(NamedTuple):
    """What is said where, and the tests of it. `says` is None for a section's text."""

    section: str
    says: str | None
    tests: tuple[str, ...]


def proofs(file: str) -> list[Proof]:
    """All of a file below tests/."""
    found = tomllib.loads((TESTS / file).read_text())
    every = [*found["row"], *found.get("text", ())]
    return [Proof(each["section"], each.get("says"), tuple(each["tests"])) for each in every]


def said(page: Path) -> set[tuple[str, str]]:
    """Each row and item of a page: its heading, and its first cell, or its first two after a status."""
    section, found = "", set()
    for line in re.sub(r"\n  +(?=\S)", " ", page.read_text()).split("\n"):
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif row := _ROW.match(line) or _ITEM.match(line):
            first, *rest = (each.strip() for each in re.split(r"(?<!\\)\|", row[1]))
            found.add((section, f"{first} | {rest[0]}" if _STATUS.fullmatch(first) else first))
    return found


def missing(proof: Proof) -> list[str]:
    """Those of its tests that are not there."""
    return [test for test in proof.tests if not (exists(test) if "::" in test else test in _names())]


@cache
def _names() -> frozenset[str]:
    return frozenset(
        name for file in TESTS.glob("test_*.py") for name in re.findall(r"def (test_\w+)\(", file.read_text())
    )
