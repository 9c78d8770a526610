"""The command that measures which faults a report on a log would catch."""

from pathlib import Path
from typing import Any

import click

from shadowproxy.cli.group import EXIT_NO_DATA, UserError, examples, load_config, print_error
from shadowproxy.cli.reading import by_configuration, by_which_rules, gates_of, rules_of, write


@click.command(
    short_help="Measure which faults a report on this log would catch.",
    epilog=examples(
        "shadowproxy selftest shadow-log",
        "shadowproxy selftest shadow-log --gates gates.yaml --html selftest.html",
        "shadowproxy selftest shadow-log --json --jobs 4 | jq .faults",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path())
@by_configuration
@click.option(
    "--field",
    "fields",
    metavar="POINTER",
    multiple=True,
    help="The field that holds the answer; repeat for up to three.",
)
@by_which_rules
@click.option("--gates", metavar="FILE", type=click.Path(), help="Limits of the checks, as YAML.")
@click.option("--jobs", metavar="N", type=click.IntRange(1, 64), default=1, help="Number of processes to use.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON, for programs.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Also write the result as one HTML file.")
def selftest(logs: tuple[str, ...], **given: Any) -> None:
    """Plant faults into live's own answers, and measure how many requests the report needs to detect each.

    LOG is as for report, except a saved summary. From a log with more than 5,000 records, 5,000 are drawn by their IDs.
    Shadows in the log are ignored. Takes a few minutes. Exit status 0; 2 if something cannot be read, 3 if live
    answered too few requests.
    """
    from shadowproxy.compare.fold.engines import MOST_FIELDS
    from shadowproxy.compare.fold.progress import reading
    from shadowproxy.compare.fold.reading import Reading
    from shadowproxy.pointers import pointer_segments
    from shadowproxy.selftest.progress import measuring
    from shadowproxy.selftest.run import selftest as tested
    from shadowproxy.selftest.sample import NoSampleError, SampleError, draw_sample

    try:
        rules = rules_of(given["file"], given["ignore"], given["tolerance"], given["unordered"])
        places = given["fields"] or _configured(given["file"])
        for pointer in places:
            pointer_segments(pointer)
        if len(places) > MOST_FIELDS:
            raise ValueError(f"--field is given {len(places)} times; {MOST_FIELDS} at most")
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    gates = gates_of(given["gates"])
    try:
        with reading(logs) as progress:
            sample = draw_sample(logs, progress=progress)
        with measuring() as measured:
            wanted = Reading(rules, tuple((each, each) for each in places))
            figures = tested(sample, wanted, gates, jobs=given["jobs"], progress=measured)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or 'the log'}: {error.strerror or error}") from None
    except NoSampleError as error:
        reasons = ", ".join(f"{why} {count:,}" for why, count in sorted(sample.unreadable.items()))
        print_error(f"{error}{f'; lines that could not be read: {reasons}' if reasons else ''}")
        raise click.exceptions.Exit(EXIT_NO_DATA) from None
    except SampleError as error:
        raise UserError(str(error)) from None
    if given["html"] is not None:
        from shadowproxy.selftest.forms import to_html

        write(given["html"], to_html(figures))
    if given["as_json"]:
        import orjson

        click.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
        return
    from shadowproxy.compare.report.screen import Screen
    from shadowproxy.selftest.forms import print_selftest

    print_selftest(figures, Screen())


def _configured(file: Path | None) -> tuple[str, ...]:
    """The field that a configuration names for the report."""
    if file is None:
        return ()
    named = load_config(file).compare.prediction
    if named is None:
        return ()
    return (named,) if isinstance(named, str) else (named["live"],)
