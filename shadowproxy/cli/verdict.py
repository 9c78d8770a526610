"""The command that asks running sidecars for their standing verdict."""

import sys
from typing import TYPE_CHECKING, Any

import click

from shadowproxy.cli.group import EXIT_NO_DATA, UserError, examples, print_error
from shadowproxy.cli.reading import ADMIN_TOKEN, admin_token, gates_of

if TYPE_CHECKING:
    from shadowproxy.compare.report.figures.types import Report
    from shadowproxy.watch.together import Together


@click.command(
    short_help="Ask running sidecars whether a shadow is ready.",
    epilog=examples(
        "shadowproxy verdict http://127.0.0.1:9901",
        "shadowproxy verdict http://10.0.0.7:9901 http://10.0.0.8:9901 --shadow challenger",
        "shadowproxy verdict --json http://10.0.0.7:9901 | jq .verdict",
        "shadowproxy verdict --markdown --allow-missing http://10.0.0.7:9901 http://10.0.0.8:9901",
    ),
)
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("--shadow", metavar="NAME", help="Only this shadow.")
@click.option(
    "--token", metavar="TOKEN", help=f"The sidecars' admin token; better in the environment, as ${ADMIN_TOKEN}."
)
@click.option("--allow-missing", is_flag=True, help="Judge by the sidecars that answer, if some do not.")
@click.option(
    # Its variable is that of the long name: SHADOWPROXY_VERDICT__GATES is a section of the configuration.
    "--gates",
    "--gates-file",
    "gates",
    metavar="FILE",
    type=click.Path(),
    help="Limits of the checks, as YAML.  [default: the sidecars' own]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the words, the sidecars and the report as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the report as Markdown, for a comment.")
def verdict(urls: tuple[str, ...], **given: Any) -> None:
    """Ask the admin ports of running sidecars what they have counted, add it up exactly, and report on the sum.

    It is the report on all their records since each of them began to count: the same checks, the same words. A sidecar
    that does not answer is named, and withholds READY unless --allow-missing is given. Exit status 0 if every check
    passes, 1 if one fails, 3 if one is inconclusive, a sidecar is missing or there is too little data.

    This is one look. To look repeatedly, use `shadowproxy watch`, or a sidecar's own GET /verdict.
    """
    if given["as_json"] and given["as_markdown"]:
        raise click.UsageError("--json or --markdown, not both")
    from shadowproxy.compare.report.build import exit_code
    from shadowproxy.compare.report.gates import GateError
    from shadowproxy.watch.sidecars import is_sidecar
    from shadowproxy.watch.together import ask

    for url in urls:
        try:
            known = is_sidecar(url)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if not known:
            raise click.UsageError(f"{url} is not the address of an admin port, such as http://127.0.0.1:9901")
    if len(set(urls)) < len(urls):
        raise click.UsageError("an address is given twice, and would count twice")
    together = ask(urls, given["token"] or admin_token(), allow_missing=given["allow_missing"])
    for each in together.missing:
        print_error(each.error or "")
    if together.wrong is not None:
        raise UserError(together.wrong)
    if not together.answered:
        sys.exit(EXIT_NO_DATA)
    try:
        gates = together.gates() if given["gates"] is None else gates_of(given["gates"])
    except GateError as error:
        raise UserError(str(error)) from None
    report = together.report(gates, given["shadow"])
    for note in together.notes:
        print_error(note)
    _print(report, together, given)
    if given["shadow"] is not None and given["shadow"] not in report["shadows"]:
        print_error(f"no sidecar has a shadow called {given['shadow']}")
        sys.exit(EXIT_NO_DATA)
    sys.exit(exit_code(report))


def _print(report: "Report", together: "Together", given: dict[str, Any]) -> None:
    if given["as_json"]:
        import orjson

        click.echo(orjson.dumps(_as_json(report, together), option=orjson.OPT_INDENT_2))
        return
    if given["as_markdown"]:
        from shadowproxy.compare.report.markdown import to_markdown

        click.echo(to_markdown(report), nl=False)
        return
    from rich.console import Console

    from shadowproxy.compare.report.text import print_figures

    since = together.since
    of = f"{len(together.answered)} of {len(together.sidecars)} sidecars" if len(together.sidecars) > 1 else "1 sidecar"
    between = "" if not since else f", since {since[0]}" + (f" to {since[-1]}" if len(since) > 1 else "")
    click.echo(f"{of}{between}")
    print_figures(report, Console())


def _as_json(report: "Report", together: "Together") -> dict[str, Any]:
    from shadowproxy.serve.standing.answer import HEADLINES, word_of
    from shadowproxy.watch.sidecars import shown

    shadows: dict[str, Any] = {}
    for name, each in report["shadows"].items():
        word = word_of(each["verdict"]["result"])
        shadows[name] = {
            "verdict": word,
            "headline": HEADLINES[word],
            "sentence": each["verdict"]["sentence"],
            "n": each["pairs"]["n"],
            "checks": [
                {"check": check["name"], "result": word_of(check["result"]), "says": check["said"]}
                for check in each["checks"]
            ],
        }
    return {
        "schema": 1,
        "verdict": word_of(report["result"]),
        "shadows": shadows,
        "sidecars": [
            {"url": shown(each.url), "error": each.error, "since": each.about.get("since")}
            | {"counted": each.about.get("counted"), "window": each.about.get("window")}
            for each in together.sidecars
        ],
        "notes": together.notes,
        "report": report,
    }
