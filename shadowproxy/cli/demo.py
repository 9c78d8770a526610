"""The command that runs the demo."""

import sys
from pathlib import Path

import click

from shadowproxy.cli.group import examples


@click.command(
    short_help="Try shadowproxy on real flights.",
    epilog=examples("shadowproxy demo", "shadowproxy demo --requests 500 --dir /tmp/flights"),
)
@click.option(
    "--requests", metavar="N", type=click.IntRange(1, 5000), default=5000, show_default=True, help="Number of flights."
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for the log and the report.",
)
def demo(requests: int, directory: Path | None) -> None:
    """Send real flights to an if statement and to a trained model, and report where they differ.

    Starts both as servers behind shadowproxy, needs no network, and stops everything at the end.
    """
    from shadowproxy.demo.run import run

    sys.exit(run(requests=requests, directory=directory))
