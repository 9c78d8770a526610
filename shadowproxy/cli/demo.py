"""The command that shows all of it at work."""

import sys
from pathlib import Path

import click

from shadowproxy.cli.group import examples


@click.command(
    short_help="See it at work on real flights.",
    epilog=examples("shadowproxy demo", "shadowproxy demo --requests 500 --dir /tmp/flights"),
)
@click.option(
    "--requests", metavar="N", type=click.IntRange(1, 5000), default=5000, show_default=True, help="How many flights."
)
@click.option(
    "--dir", "directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Where the log goes."
)
def demo(requests: int, directory: Path | None) -> None:
    """Send real flights to an if statement and a trained model, and report where they differ.

    Starts both as servers with shadowproxy in front, needs no network, and stops all of it at the end.
    """
    from shadowproxy.demo.run import run

    sys.exit(run(requests=requests, directory=directory))
