"""The command that takes records out of a log."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shadowproxy.cli.group import EXIT_FAILED, UserError, examples, print_error
from shadowproxy.cli.reading import of_which_requests, only_of

if TYPE_CHECKING:
    from shadowproxy.erase import Erased


@click.command(
    short_help="Take records out of a log, to erase a person.",
    epilog=examples(
        "shadowproxy erase shadow-log --where '/user/id=4711' --dry-run",
        "shadowproxy erase shadow-log --where '/user/id=4711'",
        "shadowproxy erase shadow-log --ids ids.txt",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path())
@click.option("--id", "ids", metavar="ID", multiple=True, help="A request ID, or a record's own; repeat for several.")
@click.option("--ids", "file", metavar="FILE", type=click.Path(path_type=Path), help="A file with one ID a line.")
@of_which_requests
@click.option("--dry-run", "dry", is_flag=True, help="Only say what would be erased.")
def erase(logs: tuple[str, ...], **given: Any) -> None:
    """Take records out of a log's closed segments, wherever --id, --ids or --where finds them; all that are given hold.

    LOG is a file, a directory of segments, a quoted pattern, or an address such as s3://bucket/folder/. A segment that
    a proxy is writing is left as it is, and named. Exit status 1 if no record was found, or a file could not be erased
    from.
    """
    from shadowproxy.erase import Wanted, made_from
    from shadowproxy.erase import erase as erase_from
    from shadowproxy.sources import sources_of

    ids = frozenset(given["ids"]) | _ids_in(given["file"])
    if "" in ids:
        raise click.UsageError("an ID must not be empty", click.get_current_context())
    if not ids and not given["where"]:
        raise click.UsageError("name what to erase: --id, --ids or --where", click.get_current_context())
    try:
        only = only_of(given)
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    try:
        sources = [source for log in logs for source in sources_of(log)]
    except OSError as error:
        raise UserError(f"cannot read {error.filename or 'the log'}: {error.strerror or error}") from None
    for source in sources:
        if not source.in_store and source.path != "-" and not Path(source.path).exists():
            raise UserError(f"cannot read {source.name}: No such file or directory")
    if any(source.path == "-" for source in sources):
        raise click.UsageError("standard input cannot be erased from", click.get_current_context())
    gone = touched = left = 0
    try:
        for done in erase_from(sources, Wanted(ids, only), dry=given["dry"]):
            gone += done.lines
            touched += done.lines > 0
            left += done.why is not None
            with contextlib.suppress(OSError):  # whoever reads may have left: the other files are erased from as well
                _say(done, dry=given["dry"])
    except OSError as error:
        raise UserError(f"cannot erase from {error.filename or 'the log'}: {error.strerror or error}") from None
    here = [source.path for source in sources if not source.in_store]
    would = "would be erased" if given["dry"] else "erased"
    click.echo(f"{gone} records {would} from {touched} of {len(sources)} files")
    for path in made_from(here) if gone else []:
        click.echo(f"{path} was made from the log and may still hold answers: remove it or make it again")
    if left:
        print_error(f"{left} files were not erased from")
    if left or not gone:
        sys.exit(EXIT_FAILED)


def _say(done: "Erased", *, dry: bool) -> None:
    if done.why is not None:
        click.echo(f"{done.file}: not erased from: {done.why}")
    elif done.lines:
        click.echo(f"{done.file}: {done.lines} {'would be erased' if dry else 'erased'}")


def _ids_in(file: Path | None) -> frozenset[str]:
    if file is None:
        return frozenset()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    ids = frozenset(line.strip() for line in text.splitlines() if line.strip())
    if not ids:
        raise UserError(f"{file} has no ID in it")
    return ids
