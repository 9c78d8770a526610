"""The commands that run the demo: all of it, or one of its parts."""

import sys
from pathlib import Path

import click

from shadowproxy.cli.group import Commands, UserError, examples
from shadowproxy.cli.reading import together

_FLIGHTS = 5000


@click.group(
    cls=Commands,
    invoke_without_command=True,
    short_help="Try shadowproxy on real flights.",
    epilog=examples(
        "shadowproxy demo",
        "shadowproxy demo --keep",
        "shadowproxy demo --requests 500 --dir /tmp/flights",
        "shadowproxy demo live --port 9001",
    ),
)
@click.option(
    "--requests", metavar="N", type=click.IntRange(1, _FLIGHTS), help=f"Number of flights.  [default: {_FLIGHTS}]"
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for the log and the report.",
)
@click.option("--keep", is_flag=True, help="Leave the servers up until Ctrl-C.")
@click.pass_context
def demo(ctx: click.Context, requests: int | None, directory: Path | None, keep: bool) -> None:
    """Send real flights to an if statement and to a trained model, and report where they differ.

    Starts both as servers behind shadowproxy, needs no network, and stops everything at the end. Each command is one
    part of this, to try shadowproxy by hand.
    """
    if ctx.invoked_subcommand is None:
        from shadowproxy.demo.run import run

        sys.exit(run(requests=requests or _FLIGHTS, directory=directory, keep=keep))
    if requests is not None or directory is not None or keep:
        raise click.UsageError("--requests, --dir and --keep are of the whole demo", ctx)


_where = together(
    click.option(
        "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen; :: for all."
    ),
    click.option(
        "--port", metavar="N", type=click.IntRange(0, 65535), help="The port; 0 for any.  [default: 9001, 9002]"
    ),
)


@demo.command(short_help="Serve the demo's live system.", epilog=examples("shadowproxy demo live --port 9001"))
@_where
def live(host: str, port: int | None) -> None:
    """Serve the demo's live system, an if statement, until Ctrl-C. It answers POST /invocations."""
    _serve("live", host, port)


@demo.command(short_help="Serve the demo's shadow.", epilog=examples("shadowproxy demo shadow --port 9002"))
@_where
def shadow(host: str, port: int | None) -> None:
    """Serve the demo's shadow, a trained model, until Ctrl-C. It answers POST /invocations."""
    _serve("shadow", host, port)


def _serve(system: str, host: str, port: int | None) -> None:
    from shadowproxy.demo.server import PORTS, CannotListen, serve

    try:
        serve(system, host, PORTS[system] if port is None else port)
    except CannotListen as error:
        raise UserError(str(error)) from None


@demo.command(
    short_help="Send the flights to a URL.",
    epilog=examples("shadowproxy demo caller", "shadowproxy demo caller http://127.0.0.1:8080 --requests 500"),
)
@click.argument("url", default="http://127.0.0.1:8080")
@click.option(
    "--requests",
    metavar="N",
    type=click.IntRange(1, _FLIGHTS),
    default=_FLIGHTS,
    show_default=True,
    help="Number of flights.",
)
@click.option("--again", is_flag=True, help="Start over at the end, until Ctrl-C.")
def caller(url: str, requests: int, again: bool) -> None:
    """Send flights to URL, a proxy's or a model server's, 500 a second. Exit status 1 if one is not answered by 200.

    [default: http://127.0.0.1:8080]
    """
    import asyncio

    from shadowproxy.demo.caller import call

    try:
        sys.exit(asyncio.run(call(url, requests, again=again)))
    except ValueError as error:
        raise UserError(str(error)) from None
