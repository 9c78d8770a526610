"""Writes the table of docs/reference/environment.md: the variable of every key. `make schema` runs it."""

from pathlib import Path

from shadowproxy import config

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "environment.md"
HEAD = "| variable | key |\n|---|---|\n"


def page(text: str) -> str:
    """The page, with a table of today's keys. Those whose names the file chooses have none, except of shadows."""
    before, head, _ = text.partition(HEAD)
    known = [key for key in list(config.keys()) if "*" not in key.removeprefix("shadows.*")]
    rows = (f"| `{config.variable_of(key.replace('*', 'NAME'))}` | `{key.replace('*', 'NAME')}` |\n" for key in known)
    return before + head + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
