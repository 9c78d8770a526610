"""Writes docs/project/modules.md: every module with the first paragraph of its docstring. `make modules` runs it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "shadowproxy"
PAGE = ROOT / "docs" / "project" / "modules.md"

HEAD = """# Modules

Every module below `shadowproxy/`, by room, with the first paragraph of its docstring. `make modules` writes this page.
[ARCHITECTURE.md](../../ARCHITECTURE.md) says what the rooms are and which may import which.
"""


def page() -> str:
    parts = [HEAD]
    for package in sorted(path.parent for path in PACKAGE.rglob("__init__.py")):
        modules = sorted(path for path in package.glob("*.py") if path.name != "__init__.py")
        if not modules:
            continue
        name = "/".join(package.relative_to(ROOT).parts)
        parts.append(
            f"\n## {name}\n\n{_first_paragraph(package / '__init__.py')}\n\n| module | what it holds |\n|---|---|\n"
        )
        parts += [f"| `{path.name}` | {_first_paragraph(path)} |\n" for path in modules]
    return "".join(parts)


def _first_paragraph(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, f"{path} has no docstring"
    return " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
