"""Gathers the pages of the site: `gather.py TO` writes them into a directory, as Sphinx reads them.

The pages are the same Markdown files that are read in the repository. Here they get the places that they have on the
site, and their links follow. docs/index.md is the first page; what it links to, in its order and under its headings, is
the navigation, so a page that it does not name fails. A file that is no page, as a schema or a manifest, is offered as
a download; a link to a directory becomes its name.
"""

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
INDEX = "docs/index.md"
ELSEWHERE = {
    "README.md": "project/readme.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "bench/README.md": "project/benchmark.md",
    "deploy/README.md": "how-to/deploy.md",
}
"""Pages that are not below docs/, and where the site has them."""

_FENCE = re.compile(r" *(`{3,}|~{3,})")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_COMMENT = re.compile(r" *<!--.*-->")


class GatherError(Exception):
    """Something that would be a fault of the site: a dead link, or a page without a place in the navigation."""


def pages() -> dict[str, str]:
    """Where each page of the repository is on the site."""
    below = {
        str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")
    }
    return below | ELSEWHERE


def navigation(index: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each heading of the first page with what it links to: the words of the link, and the page as the site has it.

    Raises GatherError if a page is not named below a heading.
    """
    places = pages()
    sections: list[tuple[str, list[tuple[str, str]]]] = []
    seen = {INDEX}
    _, *parts = re.split(r"^## (.*)$", index, flags=re.MULTILINE)
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        sections.append((heading, []))
        for _, words, target in _LINK.findall(text):
            page = os.path.normpath(f"docs/{target.partition('#')[0]}")
            if page in places and page not in seen:
                seen.add(page)
                title = words if words[1:2].isupper() else words[0].upper() + words[1:]
                sections[-1][1].append((" ".join(title.split()), places[page]))
    if missing := sorted(places.keys() - seen):
        raise GatherError(f"{INDEX} has no link to {', '.join(missing)}")
    return [(heading, found) for heading, found in sections if found]


def moved(text: str, page: str, files: set[str]) -> str:
    """A page's text as the site has it: links changed, comments left out. Adds to `files` what else it links to."""
    places = pages()
    here = os.path.dirname(places[page])

    def link(found: re.Match[str]) -> str:
        image, label, target = found.groups()
        if "![" in label:
            label = _LINK.sub(link, label)
        path, mark, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:") or not path:
            return f"{image}[{label}]({target})"
        there = os.path.normpath(os.path.join(os.path.dirname(page), path))
        if there in places:
            return f"[{label}]({os.path.relpath(places[there], here or '.')}{mark}{anchor})"
        if (ROOT / there).is_dir():
            return label
        if not (ROOT / there).is_file():
            raise GatherError(f"{page} has a link to {target}, which is not there")
        files.add(there)
        return f"{image}[{label}]({os.path.relpath(place_of_file(there), here or '.')})"

    made: list[str] = []
    for is_code, lines in _parts(text):
        whole = "\n".join(lines if is_code else (line for line in lines if not _COMMENT.fullmatch(line)))
        made.append(whole if is_code else _LINK.sub(link, whole))  # a link may go on in the next line
    return "\n".join(made)


def _parts(text: str) -> list[tuple[bool, list[str]]]:
    """The lines of a page, code blocks with their fences apart from the rest."""
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    fence = ""
    for line in text.split("\n"):
        opened = None if fence else _FENCE.match(line)
        if opened:
            fence = opened[1]
            parts.append((True, []))
        parts[-1][1].append(line)
        if fence and not opened and line.strip() == fence:
            fence = ""
            parts.append((False, []))
    return [(is_code, lines) for is_code, lines in parts if lines]


def place_of_file(path: str) -> str:
    """Where the site's sources have a file that is no page. A name without an ending is taken for a page otherwise."""
    if path.startswith("docs/images/"):
        return path.removeprefix("docs/")
    return f"files/{path}"


def gather(to: Path) -> None:
    """Write all pages below `to`, which is emptied first. Raises GatherError."""
    shutil.rmtree(to, ignore_errors=True)
    files: set[str] = set()
    for page, place in pages().items():
        text = moved((ROOT / page).read_text(), page, files)
        if page == INDEX:
            for heading, found in navigation((ROOT / page).read_text()):
                entries = "\n".join(f"{words} <{there.removesuffix('.md')}>" for words, there in found)
                text += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{entries}\n```\n"
        (to / place).parent.mkdir(parents=True, exist_ok=True)
        (to / place).write_text(text)
    for file in files:
        (to / place_of_file(file)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, to / place_of_file(file))


if __name__ == "__main__":
    try:
        gather(Path(sys.argv[1]))
    except GatherError as error:
        sys.exit(f"website/gather.py: {error}")
