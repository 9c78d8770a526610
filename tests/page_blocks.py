"""The code blocks of the pages, and the marker before each that says how it is tested; CONTRIBUTING.md lists them.

A marker is an HTML comment on the line before a block's first fence, so that no reader sees it.
"""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md", "bench/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
"""All pages but those that only list what others say (ARCHITECTURE.md, CHANGELOG.md)."""
OUTPUT = ("", "text")
"""The languages of a block that shows what is printed or drawn; it needs no marker."""
BY_ITS_PAGE = re.compile(r"run|run: .+|run in the background|program: \S+")
"""What the tests of tests/pages.toml run, page by page."""
TESTED_BY = re.compile(r"tested by (?P<tests>\S+(?:, \S+)*)")
CONFIGURATION, ON_A_LOG, NOT_RUN = "configuration", "run on a log", "not run"
NOT_RUN_SAYS = "Not run by the tests: "
"""How the sentence begins that tells a reader so, in the same section as the block."""

_FENCE = re.compile(r" *(`{3,}|~{3,})(\w*)\s*")
_MARKER = re.compile(r" *<!-- (.*?) -->")


class Block(NamedTuple):
    """One code block of a page.

    `line` is that of its first fence, from 1; `marker` the words of the comment before it, or None. `section` is all
    text from the heading above the block to the next heading.
    """

    page: Path
    line: int
    language: str
    marker: str | None
    text: str
    section: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """All blocks of a page, in its order."""
    lines = page.read_text().split("\n")
    found: list[tuple[int, int, str]] = []
    headings = [0]
    at = 0
    while at < len(lines):
        if fence := _FENCE.fullmatch(lines[at]):
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == fence[1])
            found.append((at, end, fence[2]))
            at = end
        elif lines[at].startswith("#"):
            headings.append(at)
        at += 1
    headings.append(len(lines))
    made = []
    for at, end, language in found:
        marked = _MARKER.fullmatch(lines[at - 1]) if at else None
        first, last = max(n for n in headings if n <= at), min(n for n in headings if n > at)
        text = "".join(f"{line}\n" for line in lines[at + 1 : end])
        section = "\n".join(lines[first:last])
        made.append(Block(page, at + 1, language, marked[1] if marked else None, text, section))
    return tuple(made)


@cache
def runners() -> dict[str, list[str]]:
    """Which tests run the blocks of a page that are marked to be run: by the page's path, from tests/pages.toml."""
    return {page: list(tests) for page, tests in tomllib.loads((TESTS / "pages.toml").read_text())["pages"].items()}


@cache
def _defined(file: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return frozenset(names)


def exists(test: str) -> bool:
    """Whether a test is there: `FILE::NAME` below tests/, or a file that runs the block, as `.ci/run`."""
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() if not name else (TESTS / file).is_file() and name in _defined(TESTS / file)


def fault(block: Block) -> str | None:
    """What is wrong with a block's marker, in one sentence; None if nothing is."""
    marker = block.marker
    if block.language in OUTPUT:
        if re.search(r"^ *(\$ )?(shadowproxy|curl|pip|python3?|docker|kubectl|make|export) [\w.'-]", block.text, re.M):
            return "has commands but no language: begin it with ```sh and a marker"
        return None
    if marker is None:
        return "has no marker that says how it is tested"
    if tested := TESTED_BY.fullmatch(marker):
        missing = [test for test in tested["tests"].split(", ") if not exists(test)]
        return f"names tests that do not exist: {', '.join(missing)}" if missing else None
    if BY_ITS_PAGE.fullmatch(marker) and marker != ON_A_LOG:
        named = runners().get(str(block.page.relative_to(ROOT)))
        return None if named else "is marked to be run, but tests/pages.toml names no test for its page"
    if marker == NOT_RUN:
        return (
            None if NOT_RUN_SAYS in block.section else f"is not run, but its section has no sentence {NOT_RUN_SAYS!r}"
        )
    if marker in (CONFIGURATION, ON_A_LOG):
        return None
    return f"has the marker {marker!r}, which is not one of CONTRIBUTING.md's"
