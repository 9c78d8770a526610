"""The commands that show single records: one by its ID, or each as it is written."""

import sys
from pathlib import Path

import click

from shadowproxy.cli.group import EXIT_FAILED, UserError, examples, print_error
from shadowproxy.cli.reading import by_configuration, rules_of


@click.command(
    short_help="Show all answers to one request side by side.",
    epilog=examples(
        "shadowproxy show shadow-log 0198c0de-5c1f-7d1e-b2a4-6f0f3c1f2a77",
        "shadowproxy show shadow-log 0198c0de-5c1f-7d1e-b2a4-6f0f3c1f2a77 --curl http://127.0.0.1:9002",
    ),
)
@click.argument("log", type=click.Path())
@click.argument("id")
@by_configuration
@click.option("--shadow", metavar="NAME", help="Only this shadow.")
@click.option("--raw", is_flag=True, help="Show bodies as they were sent, not as what they say.")
@click.option("--curl", metavar="URL", help="Print the request as a curl command to this endpoint instead.")
def show(log: str, id: str, file: Path | None, shadow: str | None, raw: bool, curl: str | None) -> None:
    """Show live's and each shadow's answer to one request, side by side.

    An answer is shown as what it says: a stream as its text, an array as its type, shape and first numbers, a table row
    by row. Lines that differ are marked with !.

    ID is a request ID, or a record's own ID. If callers repeated a request ID, every record with it is shown. Exit
    status 1 if there is none.
    """
    rules = rules_of(file)
    from shadowproxy.compare.report.screen import Screen
    from shadowproxy.compare.report.show import curl_command, print_exchange
    from shadowproxy.record import Record, RecordError, read

    console = Screen()
    found, shadows = 0, set[str]()
    try:
        for entry in read([log]):
            if isinstance(entry, Record) and id in (entry.id, entry.record):
                found += 1
                shadows.update(entry.shadows)
                if curl is not None:
                    click.echo(curl_command(entry, curl))
                    continue
                if found > 1:
                    console.rule()
                print_exchange(entry, console, rules=rules, shadow=shadow, raw=raw)
    except RecordError as error:
        raise UserError(str(error)) from None
    if not found:
        print_error(f"no record in {log} has the ID {id}")
        sys.exit(EXIT_FAILED)
    if shadow is not None and shadow not in shadows:
        known = f"; it went to {', '.join(sorted(shadows))}" if shadows else ""
        print_error(f"no record with the ID {id} has a shadow called {shadow}{known}")
        sys.exit(EXIT_FAILED)


@click.command(
    short_help="Follow a log as it grows.",
    epilog=examples("shadowproxy tail shadow-log", "shadowproxy tail shadow-log --mismatches --where '/delay>15'"),
)
@click.argument("log", type=click.Path())
@by_configuration
@click.option("--shadow", metavar="NAME", help="Only this shadow.")
@click.option("--path", metavar="GLOB", help="Only requests whose path matches this.")
@click.option("--where", metavar="CONDITION", multiple=True, help="Only requests whose JSON fulfils it: /carrier=UA.")
@click.option("--mismatches", is_flag=True, help="Only exchanges where an answer differs or is missing.")
@click.option(
    "-n", "last", metavar="N", type=click.IntRange(0, 100_000), default=10, help="Begin with the last N records."
)
def tail(
    log: str,
    file: Path | None,
    shadow: str | None,
    path: str | None,
    where: tuple[str, ...],
    mismatches: bool,
    last: int,
) -> None:
    """Follow a growing log, one line for each exchange, until Ctrl-C."""
    rules = rules_of(file)
    from shadowproxy.compare.fold.filters import Condition, Only
    from shadowproxy.compare.report.screen import Screen
    from shadowproxy.compare.report.tail import follow, print_line

    try:
        only = Only(path=path, where=tuple(Condition.parse(text) for text in where))
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    console = Screen()
    records = follow(log, last=last)
    while True:
        try:
            record = next(records)
        except OSError as error:
            raise UserError(f"cannot read {error.filename or log}: {error.strerror or error}") from None
        if only.accepts(record):
            print_line(record, console, rules=rules, shadow=shadow, mismatches=mismatches)
