"""The command that writes a log as a table."""

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from shadowproxy.cli.group import EXIT_NO_DATA, UserError, examples, print_error
from shadowproxy.cli.reading import (
    by_configuration,
    by_which_rules,
    of_which_requests,
    only_of,
    prediction_of,
    rules_of,
    spare,
)

if TYPE_CHECKING:
    from shadowproxy.export.rows import Choice


@click.command(
    short_help="Write a log as a table.",
    epilog=examples(
        "shadowproxy export shadow-log -o answers.parquet",
        "shadowproxy export shadow-log -o answers.csv --rows --request /carrier --request /dep_delay=number",
        "shadowproxy export 's3://logs/shadow/dt=2026-11-*/' -o s3://tables/shadow/",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    "to",
    metavar="FILE",
    required=True,
    help="The file to write, here or in a store: .parquet, .csv, .jsonl; with a slash at its end, a folder by day.",
)
@click.option("--rows", "by_row", is_flag=True, help="One row for each row of a batch, not for each exchange.")
@click.option(
    "--request",
    "fields",
    metavar="POINTER[=KIND]",
    multiple=True,
    help="A request field as a column: /carrier, /dep_delay=number, /instances/*/age=whole; text without a kind.",
)
@by_configuration
@click.option("--shadow", metavar="NAME", help="Only this shadow; control for live's second answers.")
@of_which_requests
@click.option("--field", metavar="POINTER", help="The field that holds the answer.")
@by_which_rules
def export(logs: tuple[str, ...], to: str, **given: Any) -> None:
    """Write a log as a table: one row for each exchange and shadow, with the same columns whatever the log holds.

    LOG is a file, a directory of segments, a quoted pattern, an address such as s3://bucket/folder/, or - for standard
    input; plain, gzip or zstd. Parquet needs pyarrow. Exit status 3 if there are no rows; then nothing is written.
    """
    from shadowproxy.compare.fold.progress import reading
    from shadowproxy.export.files import ExportError
    from shadowproxy.export.run import export as write
    from shadowproxy.record import RecordError
    from shadowproxy.sources import source_of

    choice = _choice(given)
    with contextlib.suppress(OSError):  # to write there says what is wrong with it
        to = source_of(to).path
    if not to.endswith("/"):
        spare(logs, to)
    try:
        with reading(logs) as progress:
            done = write(logs, to, choice, None if progress is None else lambda count: progress(count, 0))
    except (ExportError, RecordError) as error:
        raise UserError(str(error)) from None
    if done.unreadable:
        print_error(f"{done.unreadable} lines are no records, and have no rows")
    if not done.rows:
        print_error(f"no rows: none of {done.seen} records has such a request and shadow; nothing is written")
        sys.exit(EXIT_NO_DATA)
    files = f"{done.files} files in {to}" if to.endswith("/") else to
    click.echo(f"{done.rows} rows from {done.seen} records in {files}", err=True)


def _choice(given: dict[str, Any]) -> "Choice":
    from shadowproxy.export.columns import parse_field
    from shadowproxy.export.rows import Choice
    from shadowproxy.pointers import pattern_segments

    try:
        field = given["field"] if given["field"] is not None else prediction_of(given["file"])
        fields = tuple(parse_field(each) for each in given["fields"])
        for pointer in (*([] if field is None else [field]), *(each.pointer for each in fields)):
            pattern_segments(pointer, deep=False)
        return Choice(
            shadow=given["shadow"],
            by_row=given["by_row"],
            fields=fields,
            places=None if field is None else (field, field),
            only=only_of(given),
            rules=rules_of(given["file"], given["ignore"], given["tolerance"], given["unordered"]),
        )
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
