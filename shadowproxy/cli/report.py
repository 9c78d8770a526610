"""The commands that fold a whole log: `report` prints the result, `summarise` saves it to be merged with others."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shadowproxy.cli.embeddings import embeddings_of, meanings_of
from shadowproxy.cli.group import EXIT_NO_DATA, UserError, examples, print_error
from shadowproxy.cli.reading import (
    Number,
    by_configuration,
    by_which_rules,
    gates_of,
    of_which_requests,
    only_of,
    prediction_of,
    rules_of,
    spare,
    together,
    write,
)

if TYPE_CHECKING:
    from shadowproxy.compare.fold.engines import Late
    from shadowproxy.compare.fold.kept import Keeper
    from shadowproxy.compare.fold.summary import Summary
    from shadowproxy.compare.report.figures.types import Judged
    from shadowproxy.compare.report.history import Look


_reading = together(
    by_configuration,
    click.option("--shadow", metavar="NAME", help="Only this shadow."),
    of_which_requests,
    click.option(
        "--field",
        "both",
        metavar="POINTER",
        multiple=True,
        help="The field that holds the answer; repeat for up to three.",
    ),
    click.option(
        "--live-field", metavar="POINTER", help="The field of live's answer, if it is not the same as the shadow's."
    ),
    click.option("--shadow-field", metavar="POINTER", help="The field of the shadow's answer, with --live-field."),
    click.option(
        "--labels",
        metavar="FILE",
        type=click.Path(),
        help="The right answers: CSV, TSV, JSON lines or Parquet with id and label (and row, at), also compressed.",
    ),
    click.option("--label-key", metavar="POINTER", help="Match labels by this field of the request, not by its ID."),
    by_which_rules,
    click.option(
        "--slice", "slices", metavar="POINTER", multiple=True, help="Also report by the values of this request field."
    ),
    click.option(
        "--jobs",
        metavar="N",
        type=click.IntRange(1, 64),
        help="Files, or parts of long ones, to read at once.  [default: all cores, up to 8, for large logs]",
    ),
)
"""The options with which `report` and `summarise` read a log."""


@click.command(
    short_help="Report how a shadow compares with live.",
    epilog=examples(
        "shadowproxy report shadow-log",
        "shadowproxy report shadow-log --labels labels.csv --html report.html",
        "shadowproxy report shadow-log --since 2h --where '/carrier=UA' --min-agreement 0.95",
        "shadowproxy report 's3://logs/shadow/dt=2026-11-*/'",
        "shadowproxy report --json monday.jsonl.zst tuesday.jsonl.zst | jq .shadows",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path())
@_reading
@click.option("--min-agreement", metavar="SHARE", type=Number(0, 1), help="Lowest agreement that passes, such as 0.95.")
@click.option(
    "--max-p99",
    metavar="RATIO",
    type=Number(min=0),
    help="Highest ratio of the shadow's p99 to live's that passes, such as 1.2.",
)
@click.option(
    "--gates", metavar="FILE", type=click.Path(), help="Limits of the checks, as YAML; null turns a check off."
)
@click.option(
    "--judged", metavar="FILE", multiple=True, type=click.Path(), help="What shadowproxy judge wrote; repeat by shadow."
)
@click.option(
    "--embeddings", "embeddings_url", metavar="URL", help="Send texts to this OpenAI-compatible API for their cosine."
)
@click.option("--embeddings-model", metavar="NAME", help="The model of embeddings to ask, with --embeddings.")
@click.option(
    "--embeddings-pairs",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=200,
    show_default=True,
    help="Most pairs of texts to send, of each shadow.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON, for programs.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, for a comment.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Also write the report as one HTML file.")
@click.option(
    "--history", metavar="FILE", type=click.Path(path_type=Path), help="Draw the history that watch kept, with --html."
)
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Also write the checks as JUnit XML.")
@click.option(
    "--fail-on",
    type=click.Choice(["fail", "inconclusive"]),
    default="inconclusive",
    show_default=True,
    help="The mildest result with an exit status other than 0.",
)
def report(logs: tuple[str, ...], **given: Any) -> None:
    """Report whether a shadow can be promoted, and if not, what differs.

    LOG is a file, a directory of segments, a quoted pattern, a saved summary, an address such as
    s3://bucket/folder/, or - for standard input; plain, gzip or zstd. Lines that are not records are counted and
    reported. Exit status 0 if every check passes, 1 if one fails, 3 if one is inconclusive or there is too little
    data.
    """
    if given["as_json"] and given["as_markdown"]:
        raise click.UsageError("--json or --markdown, not both")
    if given["history"] is not None and given["html"] is None:
        raise click.UsageError("--history is drawn in the page: give --html")
    spare((*logs, *filter(None, [given["labels"]]), *given["judged"]), given["html"], given["junit"])
    gates = gates_of(given["gates"], min_agreement=given["min_agreement"], max_p99=given["max_p99"])
    endpoint = embeddings_of(logs, given)
    summary = _summary(logs, given)
    from shadowproxy.compare.report.build import exit_code, to_json
    from shadowproxy.compare.report.screen import Screen
    from shadowproxy.compare.report.text import print_figures

    judged = _judged(given["judged"], summary)
    meanings = {} if endpoint is None else meanings_of(logs, given, endpoint)
    figures = to_json(summary, gates, slices=given["slices"], judged=judged, meanings=meanings)
    # Files first: a reader of the text may leave early, as `head` does.
    if given["html"] is not None:
        from shadowproxy.compare.report.html import to_html

        write(given["html"], to_html(figures, looks=_looks(given["history"])))
    if given["junit"] is not None:
        from shadowproxy.compare.report.junit import to_junit

        write(given["junit"], to_junit(figures))
    if given["as_json"]:
        import orjson

        click.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    elif given["as_markdown"]:
        from shadowproxy.compare.report.markdown import to_markdown

        click.echo(to_markdown(figures), nl=False)
    else:
        print_figures(figures, Screen())
    if given["shadow"] is not None and given["shadow"] not in summary.shadows:
        print_error(f"no record has a shadow called {given['shadow']}")
        sys.exit(EXIT_NO_DATA)
    sys.exit(exit_code(figures, fail_on=given["fail_on"]))


@click.command(
    short_help="Save a log's summary, to report it with others.",
    epilog=examples(
        "shadowproxy summarise shadow-log -o pod-1.json",
        "shadowproxy report pod-1.json pod-2.json",
        "shadowproxy summarise shadow-log -o pod-1.json --keep-answers",
        "shadowproxy report pod-1.json pod-2.json --labels labels.csv",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path())
@_reading
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The file to write.  [default: standard output]",
)
@click.option("--keep-answers", is_flag=True, help="Also keep the answers, for labels that come later.")
def summarise(logs: tuple[str, ...], **given: Any) -> None:
    """Fold logs into a summary, a small file: summaries of several pods, days or machines can be added up exactly.

    Summaries, merged in any order and grouping, give the same report as all their logs together. The report finds the
    field that holds the answer; --field here leaves out all other candidates.

    With --keep-answers the answers of live and of the shadows are kept in a second file: pod-1.answers.zst beside
    pod-1.json. `report` can then use labels with the summary when the log is gone. If --label-key is given here,
    `report` can also match them by that field of the request.
    """
    from shadowproxy.compare.fold.summary import save

    output: Path | None = given["output"]
    spare((*logs, *filter(None, [given["labels"]])), output)
    if given["keep_answers"]:
        if output is None:
            raise click.UsageError("--keep-answers needs -o FILE: the answers are kept beside it")
        _summarise_and_keep(logs, given, output)
        return
    raw = save(_summary(logs, given))
    if output is None:
        click.echo(raw, nl=False)
    else:
        write(output, raw)


def _summarise_and_keep(logs: tuple[str, ...], given: Mapping[str, Any], output: Path) -> None:
    """Save a summary, and the answers beside it."""
    from tempfile import TemporaryDirectory

    from shadowproxy.compare.fold.kept import Keeper, beside
    from shadowproxy.compare.fold.summary import save, seal_of

    answers = beside(output)
    try:
        with TemporaryDirectory(dir=output.parent, prefix=f".{answers.name}.") as directory:
            keeper = Keeper(directory, given["label_key"])
            raw = save(_summary(logs, given, keeper))
            keeper.write(answers, seal_of(raw))
    except OSError as error:
        raise UserError(f"cannot write {answers}: {error.strerror or error}") from None
    write(output, raw)


def _summary(logs: tuple[str, ...], given: Mapping[str, Any], keep: "Keeper | None" = None) -> "Summary":
    """The summary of the logs, read as the options say."""
    from shadowproxy.compare.fold.beside import Used
    from shadowproxy.compare.fold.engines import summarise_files
    from shadowproxy.compare.fold.labels import LabelError, read_labels
    from shadowproxy.compare.fold.progress import reading
    from shadowproxy.compare.fold.summary import SummaryError
    from shadowproxy.pointers import pattern_segments, pointer_segments

    try:
        rules = rules_of(given["file"], given["ignore"], given["tolerance"], given["unordered"])
        fields = [(pointer, pointer) for pointer in given["both"]]
        if (given["live_field"] is None) != (given["shadow_field"] is None):
            raise ValueError("--live-field and --shadow-field must be given together")
        if given["live_field"] is not None:
            fields.insert(0, (given["live_field"], given["shadow_field"]))
        if not fields and (prediction := prediction_of(given["file"])) is not None:
            fields = [(prediction, prediction)]
        slices = tuple(
            each for each in given["slices"] if each not in ("@method", "@path", "@prompt_length")
        )  # these always are counted
        for pointer in (*(each for pair in fields for each in pair), *slices):
            pattern_segments(pointer, deep=False)
        only = only_of(given)
        if given["label_key"] is not None and given["labels"] is None and keep is None:
            raise ValueError("--label-key needs --labels" + (" or --keep-answers" if "keep_answers" in given else ""))
        pointer_segments(given["label_key"] or "")
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    used = Used()
    try:
        truths = None if given["labels"] is None else read_labels(given["labels"], given["label_key"])
        with reading(logs) as progress:
            summary = summarise_files(
                logs,
                rules,
                shadow=given["shadow"],
                only=only,
                fields=tuple(fields),
                slices=slices,
                truths=truths,
                late=_late(given, tuple(fields)),
                keep=keep,
                jobs=given["jobs"],
                progress=progress,
                used=used,
            )
    except OSError as error:
        raise UserError(f"cannot read {error.filename or 'the log'}: {error.strerror or error}") from None
    except (SummaryError, LabelError) as error:
        raise UserError(str(error)) from None
    if (said := used.sentence()) is not None:
        print_error(said)
    return summary


def _looks(file: Path | None) -> "Sequence[Look]":
    """The looks of a history."""
    from shadowproxy.compare.report.history import read_history

    if file is None:
        return ()
    try:
        found = read_history(file) if file.exists() else None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    if found is None or (found.unreadable and not found.looks):
        raise UserError(f"{file} is not a history of shadowproxy watch")
    return found.looks


def _judged(files: tuple[str, ...], summary: "Summary") -> "Mapping[str, Judged]":
    """The figures of a judge's files."""
    from shadowproxy.compare.report.preferences import JudgedError, judged_in

    try:
        return judged_in(files, summary)
    except JudgedError as error:
        raise UserError(str(error)) from None


def _late(given: Mapping[str, Any], fields: tuple[tuple[str, str], ...]) -> "Late":
    """The options that cannot apply to a saved summary."""
    from shadowproxy.compare.fold.engines import Late
    from shadowproxy.compare.judge.rules import Rules

    names = ("since", "until", "path", "where", "ignore", "tolerance", "unordered")
    options = [f"--{name}" for name in names if given[name] not in (None, ())]
    if given["file"] is not None and rules_of(given["file"]) != Rules():
        options.append("-c")
    by_hand = [
        option
        for option, name in (("--field", "both"), ("--live-field", "live_field"), ("--shadow-field", "shadow_field"))
        if given[name] not in (None, ())
    ]
    return Late(tuple(options), tuple(by_hand or (["-c"] if fields else [])), fields)
