"""Every promise of docs/explanation/guarantees.md has tests that exist, and every proof a promise on the page."""

import re

from page_blocks import ROOT
from proofs import missing, proofs, said

PAGE = ROOT / "docs/explanation/guarantees.md"
PROOFS = proofs("guarantees.toml")


def test_the_tests_that_prove_a_promise_are_there() -> None:
    assert {proof.says: gone for proof in PROOFS if (gone := missing(proof))} == {}


def test_what_is_proven_is_said_on_the_page() -> None:
    assert {(proof.section, proof.says) for proof in PROOFS} - said(PAGE) == set()


def test_each_promise_on_the_page_is_proven() -> None:
    proven = {(proof.section, proof.says) for proof in PROOFS}
    sections = re.split(r"(?m)^## (?=\d)", PAGE.read_text())[1:]
    assert [section[0] for section in sections] == list("1234567")
    for section in sections:
        heading = section.partition("\n")[0]
        joined = re.sub(r"\n  +(?=\S)", " ", section)
        tables = re.findall(r"^\| (?:holds|holds within|what) \|.*\n\|[-|]+\n((?:\|.*\n)+)", joined, re.MULTILINE)
        lists = re.findall(r"^It holds:\n\n((?:- .*\n)+)", joined, re.MULTILINE)
        first = [re.split(r"(?<!\\)\|", row)[1].strip() for table in tables for row in table.splitlines()]
        first += [item.removeprefix("- ") for items in lists for item in items.splitlines()]
        assert first, f"{heading} promises nothing that can be proven"
        assert [each for each in first if (heading, each) not in proven] == []
