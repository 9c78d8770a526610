"""The command that looks at a log at intervals, and reports each change of the verdict."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shadowproxy.cli.group import UserError, examples, print_error
from shadowproxy.cli.reading import (
    Number,
    admin_token,
    by_configuration,
    by_which_rules,
    gates_of,
    prediction_of,
    rules_of,
    spare,
)

if TYPE_CHECKING:
    from shadowproxy.watch.labels import Files, Query
    from shadowproxy.watch.look import Plan
    from shadowproxy.watch.webhook import Webhook


@click.command(
    short_help="Look at intervals, and report each change of the verdict.",
    epilog=examples(
        "shadowproxy watch shadow-log --every 1h --history verdicts.jsonl",
        "shadowproxy watch http://10.0.0.7:9901 http://10.0.0.8:9901 --history verdicts.jsonl",
        "shadowproxy watch shadow-log --history verdicts.jsonl --labels labels.csv --label-window 1d,7d",
        "shadowproxy watch shadow-log --history verdicts.jsonl --labels-query sqlite3:labels.db \\",
        "    'SELECT id, label, at FROM labels WHERE at > :since'",
        "shadowproxy watch 's3://logs/shadow/' --history verdicts.jsonl --once --html report.html",
    ),
)
@click.argument("logs", metavar="LOG|URL...", nargs=-1, required=True, type=click.Path())
@click.option("--history", metavar="FILE", required=True, type=click.Path(path_type=Path), help="Keep each look here.")
@click.option("--every", metavar="TIME", default="1h", show_default=True, help="How long from look to look.")
@click.option("--once", is_flag=True, help="Look once and end, with the exit status of report; for cron.")
@click.option(
    "--labels",
    metavar="FILE",
    multiple=True,
    type=click.Path(),
    help="The right answers as they come, as for report; read again at each look.",
)
@click.option(
    "--labels-query",
    "query",
    metavar="DRIVER:CONNECTION SQL",
    nargs=2,
    help="Ask a database for them, with any driver of PEP 249; :since is the newest `at` (or `since`) before.",
)
@click.option("--labels-since", "since", metavar="VALUE", help="What :since is at the first look.  [1970-01-01]")
@click.option("--label-key", metavar="POINTER", help="Match labels by this field of the request, not by its ID.")
@click.option(
    "--label-window",
    "windows",
    metavar="TIME,...",
    multiple=True,
    default=("1d,7d",),
    show_default=True,
    help="Also report by labels known so soon after their answers; the longest is how long labels are awaited.",
)
@click.option(
    "--webhook",
    metavar="URL",
    envvar="SHADOWPROXY_WEBHOOK",
    help="Post each change of the verdict here.  [$SHADOWPROXY_WEBHOOK]",
)
@click.option(
    "--webhook-format",
    "form",
    type=click.Choice(["auto", "json", "slack"]),
    default="auto",
    show_default=True,
    help="What is posted; auto knows Slack by its host.",
)
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write the report with the history here.")
@by_configuration
@click.option("--shadow", metavar="NAME", help="Only this shadow.")
@click.option(
    "--field",
    "both",
    metavar="POINTER",
    multiple=True,
    help="The field that holds the answer; repeat for up to three.",
)
@by_which_rules
@click.option("--min-agreement", metavar="SHARE", type=Number(0, 1), help="Lowest agreement that passes, such as 0.95.")
@click.option(
    "--gates", metavar="FILE", type=click.Path(), help="Limits of the checks, as YAML; null turns a check off."
)
def watch(logs: tuple[str, ...], **given: Any) -> None:
    """Look at logs, or at the admin ports of running sidecars, every so often, and keep a history of the verdict.

    Each look reads only what is new since the last one. LOG is a file, a directory of segments, a quoted pattern or an
    address such as s3://bucket/folder/; URL is that of an admin port, whose token is taken from
    SHADOWPROXY_ADMIN_TOKEN. What is decided holds however often it is looked at. Beside FILE stands FILE.state, with
    which the next run goes on.

    Ends on SIGTERM or Ctrl-C, after the look under way. With --once the exit status is that of report: 0 if every check
    passes, 1 if one fails, 3 if one is inconclusive or there is too little data. It is 2 if something cannot be used.
    """
    from shadowproxy.compare.fold.labels import LabelError
    from shadowproxy.compare.fold.summary import SummaryError
    from shadowproxy.watch.follow import is_in
    from shadowproxy.watch.history import HistoryError, HistoryFile
    from shadowproxy.watch.look import Looking
    from shadowproxy.watch.run import STATE, Outputs, Stopping, look_once, run
    from shadowproxy.watch.state import State, StateError

    plan, every = _plan(logs, given), _seconds("--every", given["every"])
    history_path: Path = given["history"]
    spare((*plan.logs, *given["labels"]), history_path, given["html"])
    if any(is_in(log, history_path) for log in plan.logs):
        raise click.UsageError(f"{history_path} would be read as a part of the log: keep the history elsewhere")
    stopping = Stopping()
    outputs = Outputs(print_error, given["html"], _webhook(given, stopping))
    try:
        with (
            stopping.on_sigterm(),
            HistoryFile(history_path) as history,
            State(history_path.with_name(history_path.name + STATE)) as state,
        ):
            looking = Looking(plan, state)
            if not given["once"]:
                run(looking, history, outputs, every, stopping)
                return
            look = look_once(looking, history, outputs, strict=True)
    except OSError as error:
        raise UserError(f"{error.filename or history_path}: {error.strerror or error}") from None
    except (HistoryError, StateError, SummaryError, LabelError) as error:
        raise UserError(str(error)) from None
    from shadowproxy.compare.report.history import EXIT_STATUSES

    sys.exit(EXIT_STATUSES[look["verdict"]])


def _plan(logs: tuple[str, ...], given: Mapping[str, Any]) -> "Plan":
    from shadowproxy.pointers import pattern_segments, pointer_segments
    from shadowproxy.watch.labelled import Windows
    from shadowproxy.watch.look import Plan
    from shadowproxy.watch.sidecars import is_sidecar

    if "-" in logs:
        raise click.UsageError("standard input cannot be looked at again: give files")
    fields = [(pointer, pointer) for pointer in given["both"]]
    if not fields and (prediction := prediction_of(given["file"])) is not None:
        fields = [(prediction, prediction)]
    try:
        rules = rules_of(given["file"], given["ignore"], given["tolerance"], given["unordered"])
        for pointer, _ in fields:
            pattern_segments(pointer, deep=False)
        pointer_segments(given["label_key"] or "")
        labels = _labels(given)
        sidecars = tuple(each for each in logs if is_sidecar(each))
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    files = tuple(each for each in logs if each not in sidecars)
    if labels is not None and not files:
        raise click.UsageError("labels are matched with requests: give a LOG, sidecars have only counts")
    spans = sorted({_seconds("--label-window", each) for text in given["windows"] for each in text.split(",")})
    return Plan(
        logs=files,
        sidecars=sidecars,
        rules=rules,
        windows=Windows(tuple(spans)),
        fields=tuple(fields),
        shadow=given["shadow"],
        gates=gates_of(given["gates"], min_agreement=given["min_agreement"]),
        own_gates=given["gates"] is not None or given["min_agreement"] is not None,
        labels=labels,
        token=admin_token(),
        posts=given["webhook"] is not None,
    )


def _labels(given: Mapping[str, Any]) -> "Files | Query | None":
    from shadowproxy.watch.labels import Files, query_of

    if given["query"] and given["labels"]:
        raise ValueError("--labels or --labels-query, not both")
    if given["since"] is not None and not given["query"]:
        raise ValueError("--labels-since needs --labels-query")
    if given["query"]:
        target, sql = given["query"]
        return query_of(target, sql, given["since"], given["label_key"])
    if given["labels"]:
        return Files(given["labels"], given["label_key"])
    if given["label_key"] is not None:
        raise ValueError("--label-key needs --labels or --labels-query")
    return None


def _webhook(given: Mapping[str, Any], stopping: Any) -> "Webhook | None":
    from urllib.parse import urlsplit

    from shadowproxy.watch.webhook import Webhook, form_of

    url = given["webhook"]
    if not url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError("--webhook is no http or https URL")
    form = form_of(url) if given["form"] == "auto" else given["form"]
    return Webhook(url, form, stopping.wait)


def _seconds(option: str, text: str) -> float:
    from shadowproxy.config.readers import read_seconds

    try:
        seconds = read_seconds(text.strip())
    except ValueError as error:
        raise click.UsageError(f'{option}: "{text}" {error}') from None
    if seconds <= 0:
        raise click.UsageError(f"{option} must be longer than nothing")
    return seconds
