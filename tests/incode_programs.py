"""The programs of docs/how-to/in-code.md, as files that can be run."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "in-code.md"
PROGRAM = re.compile(r"<!-- program: (\S+) -->\n```python\n(.*?)```", re.DOTALL)

FASTAPI, FLASK, OPENAI, FUNCTION, PYTEST = range(5)


def programs() -> list[tuple[str, str]]:
    """The name of each program's file, and its text, in the page's order."""
    return PROGRAM.findall(PAGE.read_text())


def written(directory: Path, number: int, *, live: str = "", shadow: str = "") -> Path:
    """A program in a file, with these URLs in place of the page's."""
    name, text = programs()[number]
    text = text.replace("http://127.0.0.1:9001", live).replace("http://127.0.0.1:9002", shadow)
    file = directory / name
    file.write_text(text)
    return file
