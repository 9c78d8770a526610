"""Writes docs/reference/python.md from the docstrings of what a program may import. `make modules` runs it."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "python.md"

HEAD = """# Python

What a program may import. All else is the program's own and may change without notice. Headings are the modules to
import from: `from shadowproxy import Shadow`. `make modules` writes this page from the docstrings.

| To do this | Use |
|---|---|
| mirror in an application's own process ([how](../how-to/in-code.md)) | `shadowproxy.Shadow` |
| read a log, as records or as a table ([how](../how-to/export.md)) | `shadowproxy.read_log` |
| read single lines, or find those that are no records | `shadowproxy.record` |
| report on many logs by your own engine ([how](../how-to/fleet.md)) | `shadowproxy.fleet`, `shadowproxy.spark` |
| see a test's records in pytest ([how](../how-to/in-code.md#in-tests)) | the fixture `shadow_log` |
"""

RECORD = (
    *(
        "read",
        "decode",
        "Record",
        "RecordedRequest",
        "RecordedLeg",
        "Body",
        "Judgement",
        "Difference",
        "Events",
        "Gaps",
    ),
    *("Events", "Gaps", "RecordError"),
)
PUBLIC: dict[str, tuple[tuple[str, str], ...]] = {
    "shadowproxy": (
        ("incode/shadow.py", "Shadow"),
        ("incode/errors.py", "ShadowError"),
        ("incode/errors.py", "Mismatch"),
        ("export/log.py", "read_log"),
    ),
    "What `read_log` returns": (("export/log.py", "Log"),),
    "shadowproxy.record": (
        *(("record.py", name) for name in RECORD),
        ("lines.py", "Unreadable"),
    ),
    "shadowproxy.fleet": (("fleet.py", "Fold"), ("fleet.py", "FleetReport"), ("fleet.py", "FleetError")),
    "shadowproxy.spark": (("spark.py", "report"), ("spark.py", "summary")),
    "pytest": (("incode/pytest_plugin.py", "shadow_log"), ("incode/shadow_log.py", "ShadowLog")),
}
"""By heading, the files below shadowproxy/ and the names in them."""
UNLISTED = {"note_records", "log_files"}
"""Methods that only the program itself calls."""

EXAMPLES = "tested by test_pages.py::test_the_examples_of_the_python_page_are_python"
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises):")
_ENTRY = re.compile(r"(\*{0,2}\w[\w., ]*): (.*)")
_PAGE = re.compile(r"docs/([\w-]+/([\w-]+)\.md)")


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    for heading, names in PUBLIC.items():
        title = f"`{heading}`" if "." in heading or heading == "shadowproxy" else heading
        parts.append(f"\n## {title}\n")
        for file, name in names:
            parts += _of(_defined(ROOT / "shadowproxy" / file, name), "###")
    return "".join(parts)


def _defined(file: Path, name: str) -> ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef:
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
    raise AssertionError(f"{file} has no {name}")


def _of(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, mark: str, owner: str = "") -> Iterator[str]:
    docstring = ast.get_docstring(node)
    yield f"\n{mark} `{owner}{_signature(node)}`\n"
    if docstring:
        yield f"\n{_prose(docstring)}\n"
    if not isinstance(node, ast.ClassDef):
        return
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)]
    if fields and not _named(node, "__init__"):
        yield "\n| Attribute | Type |\n|---|---|\n"
        for field in fields:
            kind = ast.unparse(field.annotation).replace("|", "\\|")
            yield f"| `{ast.unparse(field.target)}` | `{kind}` |\n"
    if (init := _named(node, "__init__")) and (said := ast.get_docstring(init)):
        yield f"\n{_prose(said)}\n"
    for each in node.body:
        if (
            isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            and not each.name.startswith("_")
            and each.name not in UNLISTED
            and "overload" not in {ast.unparse(decorator) for decorator in each.decorator_list}
        ):
            yield from _of(each, f"{mark}#", f"{node.name}.")


def _named(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == name), None)


def _signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The name with its parameters: without types, which the text explains where they matter."""
    function = _named(node, "__init__") if isinstance(node, ast.ClassDef) else node
    if function is None:
        return node.name
    decorators = {ast.unparse(each) for each in function.decorator_list}
    if decorators & {"property", "pytest.fixture"}:
        return node.name
    arguments = ast.parse(f"def f({ast.unparse(function.args)}): pass").body[0]
    assert isinstance(arguments, ast.FunctionDef)
    every = arguments.args
    for each in [*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg]:
        if each is not None:
            each.annotation = None
    text = ast.unparse(every)
    if "staticmethod" not in decorators:
        text = re.sub(r"^(self|cls)(, )?", "", text)
    return f"{node.name}({text})"


def _prose(docstring: str) -> str:
    """A docstring as Markdown: its sections become lists, and what is indented code."""
    made: list[str] = []
    for paragraph in re.split(r"\n\s*\n", docstring):
        head, _, rest = paragraph.partition("\n")
        if section := _SECTION.fullmatch(head):
            text = textwrap.dedent(rest)
            if section[1] == "Returns":
                made.append(f"*Returns*: {_escaped(' '.join(text.split()))}")
            else:
                made.append(f"*{section[1]}*:\n\n" + "\n".join(_entries(text)))
        elif paragraph.startswith(("    ", "def ")):
            made.append(f"<!-- {EXAMPLES} -->\n```python\n{textwrap.dedent(paragraph)}\n```")
        else:
            made.append(_escaped(" ".join(paragraph.split())))
    return "\n\n".join(made)


def _entries(text: str) -> Iterator[str]:
    entries: list[str] = []
    for line in text.split("\n"):
        if line.startswith(" ") and entries:
            entries[-1] += " " + line.strip()
        else:
            entries.append(line.strip())
    for entry in entries:
        if named := _ENTRY.fullmatch(entry):
            names = ", ".join(f"`{each.strip()}`" for each in named[1].split(","))
            yield f"- {names}: {_escaped(named[2])}"
        else:
            yield f"- {_escaped(entry)}"


def _escaped(text: str) -> str:
    parts = re.split(r"(`[^`]*`)", text)
    plain = (each if each.startswith("`") else re.sub(r"([<>_])", r"\\\1", each) for each in parts)
    return _PAGE.sub(r"[\2.md](../\1)", "".join(plain))


if __name__ == "__main__":
    PAGE.write_text(page())
