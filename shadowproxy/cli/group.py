"""What all commands share: their group, their exit statuses, and how they print errors."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shadowproxy import version_text
from shadowproxy.cli.environment import defaults

if TYPE_CHECKING:
    from shadowproxy.config import Config

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DATA = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 and the number of the signal, as a shell reports for any program that it ended."""


class Commands(click.Group):
    """Lists its commands in the order of use; their options are also read from the environment.

    A reader that closes early (`show ... | head`) is not an error.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def make_context(self, *words: Any, **more: Any) -> click.Context:
        with reader_may_leave():  # --help
            return super().make_context(*words, **more)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if ctx.parent is None and name is not None and command is not None and not ctx.resilient_parsing:
            ctx.default_map = {name: defaults(command, (name,), os.environ)}
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        with reader_may_leave():
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result


class UserError(click.ClickException):
    """An error that the user can correct: each line of `message` is printed, and the exit status is 2."""


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Where standard output has no reader any more, the command ends as a shell reports it for any program."""
    try:
        yield
    except BrokenPipeError:
        forget_output()
        raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from None


def forget_output() -> None:
    """Call after standard output has failed: buffered text would raise again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(message: str) -> None:
    for line in message.splitlines():
        click.echo(f"shadowproxy: {line}", err=True)


def examples(*lines: str) -> str:
    """An epilog that click prints as it is: it reflows any paragraph without this mark."""
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
    """Send copies of live requests to new models and compare the answers, without the caller noticing."""


def load_config(file: Path) -> "Config":
    from shadowproxy.config import ConfigError, load

    try:
        return load(file)
    except ConfigError as error:
        raise UserError(str(error)) from None
