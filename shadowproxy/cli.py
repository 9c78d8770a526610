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
    from shadowproxy.compare.checks import Gates
    from shadowproxy.compare.rules import Rules
    from shadowproxy.compare.summary import Summary
    from shadowproxy.config import Config

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DATA = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 and the number of the signal, as a shell reports for any program that it ended."""


class Number(click.FloatRange):
    """A range that nan is not in: nothing compares with it, so as a gate it would let everything pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value} is no number", param, ctx)
        return number


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
    """Every command, and what becomes of each way to fail."""
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


def _reading(command: Any) -> Any:
    """The options by which `report` and `summarise` read a log."""
    options = (
        click.option(
            "-c", "--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="Compare by its rules."
        ),
        click.option("--shadow", metavar="NAME", help="Only this shadow."),
        click.option(
            "--since", metavar="TIME", help="Only requests from this time on: 2026-01-31T12:00 or 2h ago as 2h."
        ),
        click.option("--until", metavar="TIME", help="Only requests before this time."),
        click.option("--path", metavar="GLOB", help="Only requests whose path is like this."),
        click.option(
            "--where",
            metavar="CONDITION",
            multiple=True,
            help="Only requests whose JSON has it: /carrier=UA, /delay>=15; repeat for all of several.",
        ),
        click.option(
            "--field", "both", metavar="POINTER", multiple=True, help="Where the answer is; repeat up to three."
        ),
        click.option("--live-field", metavar="POINTER", help="Where live's answer is, if not where the shadow's is."),
        click.option("--shadow-field", metavar="POINTER", help="Where the shadow's answer is."),
        click.option("--labels", metavar="FILE", help="What was right: CSV or JSON lines with id and label."),
        click.option("--ignore", metavar="POINTER", multiple=True, help="Where not to look, * for any one name."),
        click.option(
            "--tolerance", metavar="POINTER=NUMBER", multiple=True, help="How far apart numbers there may be."
        ),
        click.option("--unordered", metavar="POINTER", multiple=True, help="An array whose order means nothing."),
        click.option("--slice", "slices", metavar="POINTER", multiple=True, help="Look at this field of the requests."),
        click.option("--jobs", metavar="N", type=click.IntRange(1, 64), default=1, help="Files read at once."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@commands.command(
    short_help="Ask a running sidecar whether it takes requests on.",
    epilog=_examples("shadowproxy healthcheck", "shadowproxy healthcheck --admin 127.0.0.1:9911"),
)
@click.option("--admin", metavar="ADDRESS", help="Its admin server.  [default: 127.0.0.1:9901]")
@click.option("-c", "--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="Or what it is run with.")
def healthcheck(admin: str | None, file: Path | None) -> None:
    """Ask a running sidecar whether it takes requests on: status 0 if it does, 1 if not.

    For supervisors that can only run a command. What it asks is /readyz, on the admin server.
    """
    from shadowproxy.healthcheck import ADMIN, ask

    if admin is not None and file is not None:
        raise click.UsageError("--admin or -c, not both")
    if file is not None:
        configured = _load(file).admin
        if configured is None:
            raise Fault(f"{file}: admin is off: there is nobody to ask")
        admin = str(configured)
    sys.exit(ask(admin or ADMIN))


@commands.command(
    short_help="What the log says of a shadow against live.",
    epilog=_examples(
        "shadowproxy report shadow-log",
        "shadowproxy report shadow-log --labels labels.csv --html report.html",
        "shadowproxy report shadow-log --since 2h --where '/carrier=UA' --min-agreement 0.95",
        "shadowproxy report --json monday.jsonl.zst tuesday.jsonl.zst | jq .shadows",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@_reading
@click.option("--min-agreement", metavar="SHARE", type=Number(0, 1), help="Least agreement, as 0.95.")
@click.option("--max-p99", metavar="RATIO", type=Number(min=0), help="Most of shadow's p99 by live's, as 1.2.")
@click.option("--gates", metavar="FILE", help="What is allowed, as YAML.")
@click.option("--json", "as_json", is_flag=True, help="Every figure as JSON, for programs.")
@click.option("--markdown", "as_markdown", is_flag=True, help="As Markdown, for a comment.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Also write it as one HTML file.")
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Also write its checks as JUnit XML.")
@click.option(
    "--fail-on",
    type=click.Choice(["fail", "inconclusive"]),
    default="inconclusive",
    show_default=True,
    help="What ends with a status other than 0.",
)
def report(logs: tuple[str, ...], **given: Any) -> None:
    """Say whether a shadow can be promoted, and if not, what differs.

    LOG is a file, a directory of segments, a quoted pattern, a saved summary, or - for standard input; plain, gzip or
    zstd. Lines that are no records are counted and told of. Exit status 0 when every check passes, 1 when one fails, 3
    when one is inconclusive or there is too little to tell.
    """
    if given["as_json"] and given["as_markdown"]:
        raise click.UsageError("--json or --markdown, not both")
    gates = _gates(given)
    summary = _summary(logs, given)
    from rich.console import Console

    from shadowproxy.compare.report import exit_code, print_figures, to_json

    figures = to_json(summary, gates, slices=given["slices"])
    # Files first: a reader of the text may leave early, as `head` does.
    if given["html"] is not None:
        from shadowproxy.compare.html import to_html

        _write(given["html"], to_html(figures))
    if given["junit"] is not None:
        from shadowproxy.compare.forms import to_junit

        _write(given["junit"], to_junit(figures))
    if given["as_json"]:
        import orjson

        click.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    elif given["as_markdown"]:
        from shadowproxy.compare.forms import to_markdown

        click.echo(to_markdown(figures), nl=False)
    else:
        print_figures(figures, Console())
    if given["shadow"] is not None and given["shadow"] not in summary.shadows:
        _say(f"no record has a shadow called {given['shadow']}")
        sys.exit(EXIT_NO_DATA)
    sys.exit(exit_code(figures, fail_on=given["fail_on"]))


@commands.command(
    short_help="Save what a log says, to be reported with others.",
    epilog=_examples(
        "shadowproxy summarise shadow-log -o pod-1.json",
        "shadowproxy report pod-1.json pod-2.json",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@_reading
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Where to.  [default: standard output]"
)
def summarise(logs: tuple[str, ...], **given: Any) -> None:
    """Fold logs into a summary: a small file that adds up exactly with those of other pods, days or machines.

    Summaries of the same fields merge to what one report over all their logs would say. Name the fields (--field)
    where each log may be too small to show where the answer is.
    """
    from shadowproxy.compare.summary import save

    raw = save(_summary(logs, given))
    if given["output"] is None:
        click.echo(raw, nl=False)
    else:
        _write(given["output"], raw)


def _summary(logs: tuple[str, ...], given: Mapping[str, Any]) -> "Summary":
    """The summary of the logs, read as the options say."""
    from shadowproxy.compare.engines import summarise_files
    from shadowproxy.compare.filters import Condition, Only, parse_moment
    from shadowproxy.compare.labels import LabelError, read_labels
    from shadowproxy.compare.progress import reading
    from shadowproxy.compare.rules import pointer_segments
    from shadowproxy.compare.summary import SummaryError

    try:
        rules = _rules(given["file"], given["ignore"], given["tolerance"], given["unordered"])
        fields = [(pointer, pointer) for pointer in given["both"]]
        if (given["live_field"] is None) != (given["shadow_field"] is None):
            raise ValueError("--live-field and --shadow-field go together")
        if given["live_field"] is not None:
            fields.insert(0, (given["live_field"], given["shadow_field"]))
        slices = tuple(each for each in given["slices"] if each not in ("@method", "@path"))  # these always are counted
        for pointer in (*(each for pair in fields for each in pair), *slices):
            pointer_segments(pointer)
        only = Only(
            since=None if given["since"] is None else parse_moment(given["since"]),
            until=None if given["until"] is None else parse_moment(given["until"]),
            path=given["path"],
            where=tuple(Condition.parse(text) for text in given["where"]),
        )
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    try:
        truths = None if given["labels"] is None else read_labels(given["labels"])
        with reading(logs) as progress:
            return summarise_files(
                logs,
                rules,
                shadow=given["shadow"],
                only=only,
                fields=tuple(fields),
                slices=slices,
                truths=truths,
                jobs=given["jobs"],
                progress=progress,
            )
    except OSError as error:
        raise Fault(f"cannot read {error.filename or 'the log'}: {error.strerror or error}") from None
    except (SummaryError, LabelError) as error:
        raise Fault(str(error)) from None


def _gates(given: Mapping[str, Any]) -> "Gates":
    from dataclasses import replace

    from shadowproxy.compare.checks import GateError, Gates, load_gates

    try:
        gates = Gates() if given["gates"] is None else load_gates(given["gates"])
    except GateError as error:
        raise Fault(str(error)) from None
    if given["min_agreement"] is not None:
        gates = replace(gates, min_agreement=given["min_agreement"])
    if given["max_p99"] is not None:
        gates = replace(gates, p99_ratio=given["max_p99"])
    return gates


def _write(file: Path, content: str | bytes) -> None:
    try:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise Fault(f"cannot write {file}: {error.strerror}") from None


@commands.command(
    short_help="One request's answers side by side.",
    epilog=_examples(
        "shadowproxy show shadow-log 0198c0de-5c1f-7d1e-b2a4-6f0f3c1f2a77",
        "shadowproxy show shadow-log 0198c0de-5c1f-7d1e-b2a4-6f0f3c1f2a77 --curl http://127.0.0.1:9002",
    ),
)
@click.argument("log")
@click.argument("id")
@click.option("-c", "--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="Compare by its rules.")
@click.option("--shadow", metavar="NAME", help="Only this shadow.")
@click.option("--curl", metavar="URL", help="Instead, the request as a curl command to this endpoint.")
def show(log: str, id: str, file: Path | None, shadow: str | None, curl: str | None) -> None:
    """Show live's and each shadow's answer to one request, side by side.

    ID is a request ID or a record's own. A request ID that callers repeated shows every record that has it. Exit
    status 1 when there is none.
    """
    rules = _rules(file)
    from rich.console import Console

    from shadowproxy.compare.show import curl_command, print_exchange
    from shadowproxy.record import Record, RecordError, read

    console = Console()
    found = 0
    try:
        for entry in read([log]):
            if isinstance(entry, Record) and id in (entry.id, entry.record):
                found += 1
                if curl is not None:
                    click.echo(curl_command(entry, curl))
                    continue
                if found > 1:
                    console.rule()
                print_exchange(entry, console, rules=rules, shadow=shadow)
    except RecordError as error:
        raise Fault(str(error)) from None
    if not found:
        _say(f"no record in {log} has the ID {id}")
        sys.exit(EXIT_FAILED)


def _rules(
    file: Path | None, ignore: tuple[str, ...] = (), tolerance: tuple[str, ...] = (), unordered: tuple[str, ...] = ()
) -> "Rules":
    """The rules of a configuration with those of the command line added. Raises ValueError for the latter."""
    from shadowproxy.compare.rules import Rules, Tolerance

    allowed: dict[str, float | Tolerance] = {}
    if file is not None:
        compare = _load(file).compare
        ignore, unordered = (*compare.ignore, *ignore), (*compare.unordered, *unordered)
        allowed = {pointer: Tolerance(abs=each.abs, rel=each.rel) for pointer, each in compare.tolerance.items()}
    for text in tolerance:
        pointer, _, number = text.rpartition("=")
        try:
            allowed[pointer] = float(number)
        except ValueError:
            raise ValueError(f'"{text}" is not POINTER=NUMBER') from None
    return Rules(ignore=ignore, tolerance=allowed, unordered=unordered)


@commands.command(
    short_help="Follow a log as it grows.",
    epilog=_examples("shadowproxy tail shadow-log", "shadowproxy tail shadow-log --mismatches --where '/delay>15'"),
)
@click.argument("log")
@click.option("-c", "--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="Compare by its rules.")
@click.option("--shadow", metavar="NAME", help="Only this shadow.")
@click.option("--path", metavar="GLOB", help="Only requests whose path is like this.")
@click.option("--where", metavar="CONDITION", multiple=True, help="Only requests whose JSON has it: /carrier=UA.")
@click.option("--mismatches", is_flag=True, help="Only exchanges where an answer differs or is missing.")
@click.option("-n", "last", metavar="N", type=click.IntRange(0, 100_000), default=10, help="Begin with the last N.")
def tail(
    log: str,
    file: Path | None,
    shadow: str | None,
    path: str | None,
    where: tuple[str, ...],
    mismatches: bool,
    last: int,
) -> None:
    """Follow a growing log, one line an exchange, until Ctrl-C."""
    rules = _rules(file)
    from rich.console import Console

    from shadowproxy.compare.filters import Condition, Only
    from shadowproxy.compare.tail import follow, print_line

    try:
        only = Only(path=path, where=tuple(Condition.parse(text) for text in where))
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    console = Console()
    try:
        for record in follow(log, last=last):
            if only.accepts(record):
                print_line(record, console, rules=rules, shadow=shadow, mismatches=mismatches)
    except OSError as error:
        raise Fault(f"cannot read {error.filename or log}: {error.strerror or error}") from None


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
