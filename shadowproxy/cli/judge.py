"""The command that asks a chat model which of two answers is better."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shadowproxy.cli.group import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NO_DATA, UserError, examples, print_error
from shadowproxy.cli.keys import key_for
from shadowproxy.cli.reading import (
    Number,
    by_configuration,
    by_which_rules,
    gates_of,
    of_which_requests,
    only_of,
    rules_of,
    spare,
)

if TYPE_CHECKING:
    from shadowproxy.compare.fold.truths import Truths
    from shadowproxy.judge.draw import Draw, Survey
    from shadowproxy.judge.endpoint import Target
    from shadowproxy.judge.run import Plan, Result


@click.command(
    short_help="Ask a chat model which answer is better.",
    epilog=examples(
        "shadowproxy judge shadow-log --to https://api.openai.com/v1 --model gpt-4.1-mini --dry-run",
        "shadowproxy judge shadow-log --to http://127.0.0.1:11434/v1 --model qwen3 --budget 500",
        "shadowproxy report shadow-log --judged shadow-log.judged.jsonl",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path())
@click.option("--to", "url", metavar="URL", required=True, help="The base URL of an OpenAI-compatible API.")
@click.option("--model", metavar="NAME", required=True, help="The model to ask.")
@click.option(
    "--budget",
    metavar="N",
    type=click.IntRange(2, 10_000),
    default=500,
    show_default=True,
    help="Most calls, those of earlier runs included; two for each pair.",
)
@click.option("--shadow", metavar="NAME", help="The shadow to judge, if the log has several.")
@click.option(
    "--out", "output", metavar="FILE", type=click.Path(path_type=Path), help="The file to write.  [LOG.judged.jsonl]"
)
@click.option("--dry-run", is_flag=True, help="Print what would be sent, and send nothing.")
@click.option(
    "--concurrency", metavar="N", type=click.IntRange(1, 64), default=4, show_default=True, help="Pairs at once."
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Number(min=0, min_open=True, max=3600),
    default=60.0,
    show_default=True,
    help="Longest wait for a whole reply.",
)
@click.option(
    "--max-tokens",
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    default=1024,
    show_default=True,
    help="Longest reply; a model that reasons needs more.",
)
@click.option(
    "--labels",
    metavar="FILE",
    type=click.Path(),
    help="What people prefer, to compare: id and label: live, shadow or tie.",
)
@click.option("--gates", metavar="FILE", type=click.Path(), help="Limits of the checks, as YAML; judge is used.")
@by_configuration
@of_which_requests
@by_which_rules
def judge(logs: tuple[str, ...], **given: Any) -> None:
    """Ask a chat model, in both orders, which of live's and the shadow's answers is better, and keep what it says.

    The requests and answers of the asked pairs are sent to URL, as they are in the log. Its key comes from the
    environment: SHADOWPROXY_JUDGE_KEY, or OPENAI_API_KEY for https://api.openai.com. Pairs are asked until the win rate
    is settled or the budget is spent; a later run with the same file asks only the rest.

    Exit status 0 if it ended so, 1 if the judge could not be asked, 2 if something cannot be read, 3 if the log has no
    pair to judge, 130 after Ctrl-C.
    """
    from shadowproxy.compare.fold.progress import reading
    from shadowproxy.compare.report.preferences import JudgedError
    from shadowproxy.judge.draw import DrawError, draw, survey

    target = _target(given)
    output = _output(logs, given["output"])
    spare(logs, output)
    truths = _labels(given["labels"])
    gate = gates_of(given["gates"]).judge
    try:
        rules = rules_of(given["file"], given["ignore"], given["tolerance"], given["unordered"])
        only = only_of(given)
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    if "-" in logs:
        raise click.UsageError("the log is read twice, which standard input cannot be: give files", None)
    try:
        with reading(logs) as progress:
            shadow, found = survey(logs, given["shadow"], rules, only, progress)
        if not found.equal and not found.candidates:
            reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(found.left_out.items()))
            print_error(f"no pair of answers can be judged{f': {reasons}' if reasons else ''}")
            raise click.exceptions.Exit(EXIT_NO_DATA)
        drawn = draw(found.candidates, given["budget"] // 2)
        plan = _plan(logs, shadow, found, drawn, target, output, given, None if gate is None else 0.5 - gate)
        _announce(plan, found)
        if given["dry_run"]:
            return
        result = _run(plan)
    except OSError as error:
        raise UserError(f"cannot read or write {error.filename or output}: {error.strerror or error}") from None
    except (DrawError, JudgedError) as error:
        raise UserError(str(error)) from None
    _conclude(plan, result, truths, logs)


def _target(given: Mapping[str, Any]) -> "Target":
    from shadowproxy.judge.endpoint import Target, chat_address

    try:
        url = chat_address(given["url"])
    except ValueError as error:
        raise click.UsageError(f"--to: {error}", click.get_current_context()) from None
    if not given["model"].strip() or not given["model"].isprintable():
        raise click.UsageError("--model: it is empty, or cannot be printed", click.get_current_context())
    key = key_for("SHADOWPROXY_JUDGE_KEY", url)
    return Target(url, given["model"], key, given["timeout"], given["max_tokens"])


def _output(logs: tuple[str, ...], given: Path | None) -> Path:
    """The file to write; beside the log, if there is one and its name says where."""
    from shadowproxy.sources import JUDGED

    if given is not None:
        return given
    log = Path(logs[0])
    if len(logs) > 1 or not log.exists() or log.name in ("", ".."):
        raise click.UsageError("give --out FILE: LOG is not one file or directory", click.get_current_context())
    return log.with_name(f"{log.name}{JUDGED}")


def _labels(file: str | None) -> "Truths | None":
    from shadowproxy.compare.fold.labels import LabelError, read_labels
    from shadowproxy.judge.humans import wrong_label

    if file is None:
        return None
    try:
        truths = read_labels(file)
    except LabelError as error:
        raise UserError(str(error)) from None
    if (wrong := wrong_label(truths)) is not None:
        raise UserError(f"{file}: the label {str(wrong)[:60]!r} is none of live, shadow and tie")
    return truths


def _plan(
    logs: tuple[str, ...],
    shadow: str,
    found: "Survey",
    drawn: "Draw",
    target: "Target",
    output: Path,
    given: Mapping[str, Any],
    line: float | None,
) -> "Plan":
    from shadowproxy.compare.fold.progress import reading
    from shadowproxy.compare.report.preferences import Head
    from shadowproxy.judge.draw import texts_of
    from shadowproxy.judge.prompt import VERSION
    from shadowproxy.judge.run import Plan

    head = Head(
        shadow=shadow,
        model=target.model,
        to=target.origin,
        prompt=VERSION,
        records=found.records,
        sketch=tuple(sorted(found.sketch)),
        equal=found.equal,
        differing=len(found.candidates),
        left_out=dict(found.left_out),
        drawn=len(drawn.pairs),
        mean_probability=drawn.mean_probability,
        least_probability=drawn.least_probability,
    )
    texts = {}
    if not given["dry_run"]:
        with reading(logs) as progress:
            texts = texts_of(logs, shadow, drawn.pairs, progress)
    return Plan(target, head, drawn.pairs, texts, output, given["budget"], given["concurrency"], line)


def _announce(plan: "Plan", found: "Survey") -> None:
    from shadowproxy.judge.run import earlier
    from shadowproxy.judge.screen import lines_before

    old = earlier(plan.output, plan.head)
    before = 0 if old is None else old[0].other_calls + sum(each.calls for each in old[1])
    click.echo("\n".join(lines_before(plan, found, before)))
    sys.stdout.flush()


def _run(plan: "Plan") -> "Result":
    """Ask. After Ctrl-C the result is what was asked so far."""
    import asyncio

    from shadowproxy.judge.run import Result, count_lost_calls, judge

    result = Result.of(plan.head)
    try:
        asyncio.run(judge(plan, result=result))
    except KeyboardInterrupt:
        result.ended, result.stopped = "interrupted", "interrupted; the same command asks the rest"
    count_lost_calls(plan, result)
    return result


def _conclude(plan: "Plan", result: "Result", truths: "Truths | None", logs: tuple[str, ...]) -> None:
    from shadowproxy.judge.humans import agreement_with
    from shadowproxy.judge.screen import lines_after

    people = None if truths is None else agreement_with(truths, result.known.values())
    click.echo("\n".join(lines_after(plan, result, people, logs)))
    if truths is not None and people is None:
        print_error("no pair that was asked has a label of people")
    if result.ended == "interrupted":
        sys.exit(EXIT_INTERRUPTED)
    if result.ended == "stopped":
        print_error(result.stopped or "stopped")
        sys.exit(EXIT_FAILED)
