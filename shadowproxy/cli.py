"""The commands: words and exit codes, no logic.

Exit status: 0 all is well; 1 what was asked does not hold (an endpoint is not reached, a check failed, no such record);
2 a wrong command line, configuration or input; 3 too little data to tell; 130 Ctrl-C. What a person can mend is one
line on standard error, never a traceback.

Rooms are imported inside the commands: `shadowproxy --version` must not wait for an HTTP stack to load.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from shadowproxy import __version__

if TYPE_CHECKING:
    from shadowproxy.compare.rules import Rules
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
            # What is still buffered would raise once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from None
        return result


class Fault(click.ClickException):
    """Something that the caller of the program can mend: each line of `message` is said, and the status is 2."""


def main() -> NoReturn:
    """The console script."""
    try:
        status = commands.main(prog_name="shadowproxy", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = EXIT_USAGE
    except click.UsageError as error:
        hint = f' (see "{error.ctx.command_path} --help")' if error.ctx is not None else ""
        _say(error.format_message() + hint)
        status = EXIT_USAGE
    except click.ClickException as error:
        _say(error.format_message())
        status = EXIT_USAGE
    except click.Abort:
        status = EXIT_INTERRUPTED
    sys.exit(status)


def _say(message: str) -> None:
    for line in message.splitlines():
        click.echo(f"shadowproxy: {line}", err=True)


def _examples(*lines: str) -> str:
    """An epilog that click leaves as it is: it reflows any paragraph without this mark."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


@click.group(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_examples(
        "shadowproxy demo",
        "shadowproxy serve --live http://model-v1:8000 --shadow challenger=http://model-v2:8000",
        "shadowproxy report shadow-log",
    ),
)
@click.version_option(__version__, "-V", "--version", message="shadowproxy %(version)s")
def commands() -> None:
    """Ask a new model the same requests as the live one, without the caller noticing."""


def _shadow_urls(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    urls: dict[str, str] = {}
    for text in given:
        name, equals, url = text.partition("=")
        if not equals:
            raise click.BadParameter(f'"{text}" is not NAME=URL')
        if name in urls:
            raise click.BadParameter(f"the name {name} is there twice")
        urls[name] = url
    return urls


@commands.command(
    short_help="Forward to live, mirror to the shadows, log both answers.",
    epilog=_examples(
        "shadowproxy serve -c config.yaml",
        "shadowproxy serve --live http://127.0.0.1:9001 --shadow challenger=http://127.0.0.1:9002",
    ),
)
@click.option("-c", "--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="The configuration.")
@click.option("--live", metavar="URL", help="Without a file: the system whose answers the caller gets.")
@click.option(
    "--shadow", "shadows", metavar="NAME=URL", multiple=True, callback=_shadow_urls, help="A shadow; repeat for more."
)
@click.option("--listen", metavar="ADDRESS", help="host:port or unix:/path.  [default: 127.0.0.1:8080]")
@click.option("--admin", metavar="ADDRESS", help='Health and metrics, or "off".  [default: 127.0.0.1:9901]')
@click.option("--log", metavar="PATH", help='A directory, or "-" for standard output.  [default: shadow-log]')
def serve(
    file: Path | None,
    live: str | None,
    shadows: Mapping[str, str],
    listen: str | None,
    admin: str | None,
    log: str | None,
) -> None:
    """Forward every request to live, mirror it to the shadows, log both answers.

    Stops on SIGTERM or Ctrl-C: what was accepted is answered, and the log is flushed.
    """
    if file is not None and (live or shadows or listen or admin or log):
        raise click.UsageError("-c stands alone: with a file, everything is said there")
    if file is None and live is None:
        raise click.UsageError("give -c FILE, or --live URL and --shadow NAME=URL")
    from shadowproxy.config import ConfigError, from_flags

    try:
        config = (
            _load(file) if file else from_flags(live=live or "", shadows=shadows, listen=listen, admin=admin, log=log)
        )
    except ConfigError as error:
        raise Fault(str(error)) from None
    from shadowproxy.serve.app import StartError, run

    try:
        status = run(config)
    except StartError as error:
        raise Fault(str(error)) from None
    sys.exit(status)


def _load(file: Path) -> "Config":
    from shadowproxy.config import ConfigError, load

    try:
        return load(file)
    except ConfigError as error:
        raise Fault(str(error)) from None


@commands.command(
    short_help="Say what a configuration means and what can be reached.",
    epilog=_examples("shadowproxy check -c config.yaml"),
)
@click.option(
    "-c", "--config", "file", metavar="FILE", required=True, type=click.Path(path_type=Path), help="The configuration."
)
def check(file: Path) -> None:
    """Say what a configuration means, and whether each endpoint can be reached.

    Connects and does the TLS handshake, and sends no request. Exit status 1 when something is out of reach.
    """
    config = _load(file)
    from shadowproxy import check as checking

    found = checking.examine(config)
    click.echo("\n".join(checking.lines(config, found)))
    sys.exit(0 if found.sound else EXIT_FAILED)


@commands.command(
    short_help="What the log says of a shadow against live.",
    epilog=_examples(
        "shadowproxy report shadow-log",
        "shadowproxy report shadow-log -c config.yaml --shadow challenger",
        "shadowproxy report --json monday.jsonl.zst tuesday.jsonl.zst | jq .shadows",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@click.option("-c", "--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="Compare by its rules.")
@click.option("--shadow", metavar="NAME", help="Only this shadow.")
@click.option("--json", "as_json", is_flag=True, help="Every figure as JSON, for programs.")
def report(logs: tuple[str, ...], file: Path | None, shadow: str | None, as_json: bool) -> None:
    """Say how the shadows' answers differ from live's.

    LOG is a file, a directory of segments, or - for standard input; plain, gzip or zstd. Lines that are no records are
    counted and told of. Exit status 3 when there is not one record to tell about.
    """
    rules = _rules(file)
    import orjson
    from rich.console import Console

    from shadowproxy.compare.engines import summarise_files
    from shadowproxy.compare.report import print_text, to_json
    from shadowproxy.compare.summary import SummaryError

    try:
        summary = summarise_files(logs, rules, shadow=shadow)
    except OSError as error:
        raise Fault(f"cannot read {error.filename or 'the log'}: {error.strerror or error}") from None
    except SummaryError as error:
        raise Fault(str(error)) from None
    if as_json:
        click.echo(orjson.dumps(to_json(summary), option=orjson.OPT_INDENT_2))
    else:
        print_text(summary, Console())
    if shadow is not None and shadow not in summary.shadows:
        _say(f"no record has a shadow called {shadow}")
        sys.exit(EXIT_NO_DATA)
    sys.exit(0 if summary.count else EXIT_NO_DATA)


@commands.command(
    short_help="One request's answers side by side.",
    epilog=_examples("shadowproxy show shadow-log 0198c0de-5c1f-7d1e-b2a4-6f0f3c1f2a77"),
)
@click.argument("log")
@click.argument("id")
@click.option("-c", "--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="Compare by its rules.")
@click.option("--shadow", metavar="NAME", help="Only this shadow.")
def show(log: str, id: str, file: Path | None, shadow: str | None) -> None:
    """Show live's and each shadow's answer to one request, side by side.

    ID is a request ID or a record's own. A request ID that callers repeated shows every record that has it. Exit
    status 1 when there is none.
    """
    rules = _rules(file)
    from rich.console import Console

    from shadowproxy.compare.show import print_exchange
    from shadowproxy.record import Record, RecordError, read

    console = Console()
    found = 0
    try:
        for entry in read([log]):
            if isinstance(entry, Record) and id in (entry.id, entry.record):
                if found:
                    console.rule()
                print_exchange(entry, console, rules=rules, shadow=shadow)
                found += 1
    except RecordError as error:
        raise Fault(str(error)) from None
    if not found:
        _say(f"no record in {log} has the ID {id}")
        sys.exit(EXIT_FAILED)


def _rules(file: Path | None) -> "Rules":
    from shadowproxy.compare.rules import Rules, Tolerance

    if file is None:
        return Rules()
    compare = _load(file).compare
    return Rules(
        ignore=compare.ignore,
        tolerance={pointer: Tolerance(abs=each.abs, rel=each.rel) for pointer, each in compare.tolerance.items()},
        unordered=compare.unordered,
    )


@commands.command(
    short_help="See it at work on real flights.",
    epilog=_examples("shadowproxy demo", "shadowproxy demo --requests 500 --dir /tmp/flights"),
)
@click.option(
    "--requests", metavar="N", type=click.IntRange(1, 5000), default=5000, show_default=True, help="How many flights."
)
@click.option(
    "--dir", "directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Where the log goes."
)
def demo(requests: int, directory: Path | None) -> None:
    """Send real flights to an if statement and a trained model, and report where they differ.

    Starts both as servers with shadowproxy in front, needs no network, and stops all of it at the end.
    """
    from shadowproxy.demo.run import run

    sys.exit(run(requests=requests, directory=directory))
