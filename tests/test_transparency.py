"""What docs/reference/transparency.md says has tests that exist, and every proof a sentence or a row on the page."""

import re

from page_blocks import ROOT
from proofs import missing, proofs, said

PAGE = ROOT / "docs/reference/transparency.md"
PROOFS = proofs("transparency.toml")


def test_the_tests_of_the_page_are_there() -> None:
    assert sum(len(proof.tests) for proof in PROOFS) > 40
    assert {proof.says or proof.section: gone for proof in PROOFS if (gone := missing(proof))} == {}


def test_what_is_tested_is_said_on_the_page() -> None:
    headings = set(re.findall(r"^#+ (.*)$", PAGE.read_text(), re.MULTILINE))
    assert {(proof.section, proof.says) for proof in PROOFS if proof.says is not None} - said(PAGE) == set()
    assert {proof.section for proof in PROOFS} <= headings


def test_each_line_about_what_passes_and_what_changes_is_tested() -> None:
    proven = {(proof.section, proof.says) for proof in PROOFS}
    for heading in ("A request on its way to live", "A response on its way back"):
        lines = {(section, says) for section, says in said(PAGE) if section == heading}
        assert len(lines) > 10
        assert lines - proven == set()
    unanswered = {each for each in said(PAGE) if each[0] == "When live gives no response" and each[1][:3].isdigit()}
    assert len(unanswered) == 5
    assert unanswered - proven == set()


def test_the_tests_of_the_page_on_other_programs_are_there() -> None:
    page = (ROOT / "docs/reference/parties.md").read_text()
    found = proofs("parties.toml")
    assert len(found) >= 7
    assert {proof.section: gone for proof in found if (gone := missing(proof))} == {}
    assert {proof.section for proof in found} <= set(re.findall(r"^## (.*)$", page, re.MULTILINE))
