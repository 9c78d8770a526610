"""Writes docs/reference/command-line.md from the commands' own parsers. `make modules` runs it."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from shadowproxy.cli import commands

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "command-line.md"

HEAD = """# Command line

Every command with its options, as `shadowproxy COMMAND --help` prints them. [Exit statuses](exit-statuses.md) are on a
page of their own. Times are UTC.

`shadowproxy --version` prints the version. `shadowproxy completion bash` (or zsh, fish) completes all this.
"""
EXAMPLES = "tested by test_cli.py::test_help_ends_with_examples_that_the_program_takes"


def page() -> str:
    """The page's text."""
    context = click.Context(commands, info_name="shadowproxy")
    return HEAD + "".join(_of_group(commands, context, "##"))


def _of_group(group: click.Group, above: click.Context, mark: str) -> Iterator[str]:
    for name in group.list_commands(above):
        command = group.get_command(above, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=above)
        yield f"\n{mark} {context.command_path.removeprefix('shadowproxy ')}\n\n"
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        yield f"`{usage}`\n\n{_prose(command.help or '')}\n"
        options = [each.get_help_record(context) for each in command.params if isinstance(each, click.Option)]
        if options:
            yield "\n| Option | |\n|---|---|\n"
            yield from (f"| `{_cell(record[0])}` | {_with_default(record[1])} |\n" for record in options if record)
        if shown := re.findall(r"^ *(shadowproxy .+)$", command.epilog or "", re.MULTILINE):
            yield f"\n<!-- {EXAMPLES} -->\n```sh\n" + "\n".join(shown) + "\n```\n"
        if isinstance(command, click.Group):
            yield from _of_group(command, context, f"{mark}#")


def _prose(text: str) -> str:
    """Paragraphs of a help text; click leaves those after a mark as they are."""
    paragraphs = []
    for paragraph in re.sub(r"\n *\n", "\n\n", text).split("\n\n"):
        if "\b" in paragraph:
            paragraphs.append("```\n" + textwrap.dedent(paragraph.replace("\b", "")).strip() + "\n```")
        else:
            paragraphs.append(_escaped(" ".join(paragraph.split())).replace("# ", "\\# "))
    return "\n\n".join(paragraphs)


def _with_default(text: str) -> str:
    """An option's help; what click adds in brackets as sentences."""
    says, _, added = text.partition("  [")
    facts = []
    for fact in filter(None, added.rstrip("]").replace("]  [", "; ").split("; ")):
        _, colon, value = fact.partition(": ")
        if colon:
            facts.append(f" Default: {_cell(value) if ' ' in value else f'`{value}`'}.")
        elif (bounds := re.fullmatch(r"(\d+)<(=?)x<=(\d+)", fact)) is not None:
            facts.append(f" {'From' if bounds[2] else 'Above'} {bounds[1]} to {bounds[3]}.")
        elif fact.startswith("x>="):
            facts.append(f" At least {fact.removeprefix('x>=')}.")
        else:
            facts.append(" Required." if fact == "required" else f" `{fact}`.")
    return _escaped(_cell(says)) + "".join(facts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Plain words as Markdown: nothing of them is a mark, and options and variables are code."""
    text = re.sub(r"(?<![\w`-])(--?[a-z][\w-]*|SHADOWPROXY_\w+|\$\{?\w+\}?)", r"`\1`", text)
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(each if each.startswith("`") else re.sub(r"([*<>\[\]_])", r"\\\1", each) for each in parts)


if __name__ == "__main__":
    PAGE.write_text(page())
