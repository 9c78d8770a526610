"""The command that writes a first configuration file, after three questions or from options."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import click

from shadowproxy.cli.group import EXIT_INTERRUPTED, UserError, examples, print_error

Answer = TypeVar("Answer")

_LIVE = "http://127.0.0.1:9001"
_SHADOW = "challenger=http://127.0.0.1:9002"
_LOG = "shadow-log"


@click.command(
    short_help="Write a first configuration file.",
    epilog=examples(
        "shadowproxy init",
        "shadowproxy init --live http://model-v1:8000 --shadow GPT-4o=http://model-v2:8000 -o shadow.yaml",
    ),
)
@click.option("--live", metavar="URL", help="The live system, whose responses callers get.")
@click.option("--shadow", "shadows", metavar="NAME=URL", multiple=True, help="A shadow; repeat for more.")
@click.option("--log", metavar="PATH", help=f'Directory of the log, or "-" for standard output.  [default: {_LOG}]')
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=Path("config.yaml"),
    show_default=True,
    help="The file to write, - for standard output.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(live: str | None, shadows: tuple[str, ...], log: str | None, output: Path, force: bool) -> None:
    """Write a configuration file with comments, and its schema for editors beside it.

    On a terminal it asks for what no option gives: where live is, where the shadow is, where the log goes. Elsewhere it
    needs --live and --shadow. A file that is there is left alone without --force.
    """
    from shadowproxy.config.starter import log_of, shadow_of, starter, url_of

    printed = str(output) == "-"
    file = Path("config.yaml") if printed else output
    schema = file.with_suffix(".schema.json")
    if not printed and not force:
        _refuse(output, schema)
    asks = sys.stdin is not None and sys.stdin.isatty()
    if not asks and (live is None or not shadows):
        raise UserError("give --live URL and --shadow NAME=URL: there is no terminal to ask on")
    made_live = (
        _ask("Live, the system whose responses callers get", _LIVE, url_of)
        if live is None
        else _given("--live", live, url_of)
    )
    made_shadows: dict[str, str] = {}
    for text in shadows:
        name, url = _given("--shadow", text, shadow_of)
        if name in made_shadows:
            raise UserError(f"--shadow: the name {name} is given twice")
        made_shadows[name] = url
    if not shadows:
        name, url = _ask("A shadow, which gets copies of the requests: NAME=URL", _SHADOW, shadow_of)
        made_shadows[name] = url
    if log is not None:
        made_log = _given("--log", log, log_of)
    else:
        made_log = _ask('The log: a directory, or "-" for standard output', _LOG, log_of) if asks else _LOG
    text = starter(made_live, made_shadows, made_log, file=shlex.quote(file.name), schema=quote(schema.name))
    if printed:
        click.echo(text, nl=False)
        return
    _write(output, text, replace=force)
    _write(schema, _schema(), replace=True)
    click.echo(f"Written: {output}, and {schema} for editors. Next:")
    for words in (["check"], ["serve"], ["report", made_log]):
        if words != ["report", "-"]:
            click.echo(f"  {shlex.join(['shadowproxy', *words, '-c', str(output)])}")


def _refuse(output: Path, schema: Path) -> None:
    if os.path.lexists(output):
        raise UserError(f"{output} is there already: --force replaces it, -o FILE writes another")
    if schema.is_file() and not _is_schema(schema):
        raise UserError(f"{schema} is there already, and is no schema of shadowproxy: --force replaces it")


def _is_schema(path: Path) -> bool:
    """Whether the file is a schema that some version of this program wrote."""
    try:
        return '"title": "The configuration of shadowproxy"' in path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def _given(option: str, text: str, read: Callable[[str], Answer]) -> Answer:
    try:
        return read(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None


def _ask(question: str, default: str, read: Callable[[str], Answer]) -> Answer:
    """The answer to a question on the terminal, which is asked again after one that cannot be used."""
    while True:
        try:
            click.echo(f"{question} [{default}]: ", nl=False, err=True)
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            line = ""
        except UnicodeDecodeError:
            click.echo("is not UTF-8", err=True)
            continue
        if not line:  # Ctrl-C or Ctrl-D
            click.echo(err=True)
            print_error("nothing is written")
            sys.exit(EXIT_INTERRUPTED)
        try:
            return read(line.strip() or default)
        except ValueError as error:
            click.echo(f"  That {error}.", err=True)


def _write(file: Path, text: str, *, replace: bool) -> None:
    try:
        with file.open("w" if replace else "x", encoding="utf-8") as written:
            written.write(text)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None


def _schema() -> str:
    from shadowproxy.config.schema import FILE

    return FILE.read_text(encoding="utf-8")
