"""What every command shares: the group they stand in, how they end, and what is said when they cannot go on."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shadowproxy import version_text

if TYPE_CHECKING:
    from shadowproxy.config import Config

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DATA = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 and the number of the signal, as a shell reports for any program that it ended."""


class Commands(click.Group):
    """The group, its commands in the order of use; a reader who leaves early (`show ... | head`) is no error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            forget_output()
            raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from None
        return result


class Fault(click.ClickException):
    """Something that the caller of the program can mend: each line of `message` is said, and the status is 2."""


def forget_output() -> None:
    """After standard output has failed: what is still buffered would raise once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str) -> None:
    for line in message.splitlines():
        click.echo(f"shadowproxy: {line}", err=True)


def examples(*lines: str) -> str:
    """An epilog that click leaves as it is: it reflows any paragraph without this mark."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


@click.group(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "shadowproxy demo",
        "shadowproxy serve --live http://model-v1:8000 --shadow challenger=http://model-v2:8000",
        "shadowproxy report shadow-log",
    ),
)
@click.version_option(version_text(), "-V", "--version", message="shadowproxy %(version)s")
def commands() -> None:
    """Ask a new model the same requests as the live one, without the caller noticing."""


def load_config(file: Path) -> "Config":
    from shadowproxy.config import ConfigError, load

    try:
        return load(file)
    except ConfigError as error:
        raise Fault(str(error)) from None
