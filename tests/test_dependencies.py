"""A package is a runtime dependency only where the program imports it; callers are served by the program alone."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"pyyaml": "yaml"}
"""Where a distribution's module is named otherwise."""


def declared() -> set[str]:
    names = (re.split(r"[<>=;\[ ]", each)[0].lower() for each in PROJECT["dependencies"])
    return {MODULES.get(name, name) for name in names}


def imported(directory: Path) -> Iterator[str]:
    """The packages that modules below `directory` import."""
    for path in directory.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]


def test_every_runtime_dependency_is_imported_by_the_program() -> None:
    assert declared() - set(imported(ROOT / "shadowproxy")) == set()


def test_callers_are_served_without_a_server_library() -> None:
    assert declared() & set(imported(ROOT / "shadowproxy/serve/callers")) == {"orjson"}
