"""The command that says which program this is."""

import json
import platform
import sys

import click

from shadowproxy import __version__, compiled
from shadowproxy.cli.group import examples


@click.command(
    short_help="Print the version, and what runs it.",
    epilog=examples("shadowproxy version", "shadowproxy version --json"),
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def version(as_json: bool) -> None:
    """Print the version, whether the hot modules are compiled, and the Python and the system that run it.

    `shadowproxy --version` prints the first line alone, for scripts, and starts faster.
    """
    system = f"{platform.system()} {platform.machine()}"
    if as_json:
        values = {
            "version": __version__,
            "compiled": compiled(),
            "python": platform.python_version(),
            "implementation": sys.implementation.name,
            "system": system,
        }
        click.echo(json.dumps(values))
        return
    click.echo(f"shadowproxy {__version__}{' (compiled)' if compiled() else ''}")
    click.echo(f"Python {platform.python_version()} ({sys.implementation.name}), {system}")
    if not compiled():
        click.echo("not compiled: HATCH_BUILD_HOOKS_ENABLE=1 at installation compiles it, for less CPU")
