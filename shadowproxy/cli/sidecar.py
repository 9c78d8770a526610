"""The commands for the sidecar itself: run it, check its configuration, test whether it is ready."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from shadowproxy.cli.group import EXIT_FAILED, UserError, examples, load_config
from shadowproxy.cli.reading import together

if TYPE_CHECKING:
    from shadowproxy.config import Loaded, Options
    from shadowproxy.serve.sidecar.specs import Specs
    from shadowproxy.serve.telemetry.log_settings import Form, Level, OperatorLogSettings

Start: TypeAlias = "Callable[[Specs, Path | None, OperatorLogSettings], object]"
"""What `serve` does with its configuration, the file that it is from, and how to log."""


def _shadow_urls(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    urls: dict[str, str] = {}
    for text in given:
        name, equals, url = text.partition("=")
        if not equals:
            raise click.BadParameter(f'"{text}" is not NAME=URL')
        if name in urls:
            raise click.BadParameter(f"the name {name} is given twice")
        urls[name] = url
    return urls


_what_to_run = together(
    click.option(
        "-c",
        "--config",
        "file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar="SHADOWPROXY_CONFIG",
        help="The configuration file.",
    ),
    click.option("--live", metavar="URL", help="The live system, whose responses callers get."),
    click.option(
        "--shadow",
        "shadows",
        metavar="NAME=URL",
        multiple=True,
        callback=_shadow_urls,
        help="A shadow; repeat for more.",
    ),
    click.option(
        "--listen",
        metavar="ADDRESS",
        multiple=True,
        help="Where callers connect: host:port or unix:/path; repeat for more.  [default: 127.0.0.1:8080]",
    ),
    click.option(
        "--admin", metavar="ADDRESS", help='The admin server (health, metrics), or "off".  [default: 127.0.0.1:9901]'
    ),
    click.option(
        "--log", metavar="PATH", help='Directory of the log, or "-" for standard output.  [default: shadow-log]'
    ),
)
"""The configuration, from a file, the environment and options: the same for `serve` and for `check`."""


def _options(flags: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The options of `_what_to_run` that set a key, each with its value."""
    return (
        *(("--shadow", f"{name}={url}") for name, url in flags["shadows"].items()),
        *(("--listen", address) for address in flags["listen"]),
        *((f"--{name}", flags[name]) for name in ("live", "admin", "log") if flags[name] is not None),
    )


def _configured(file: Path | None, options: "Options") -> "Loaded":
    """The configuration that the options of `_what_to_run` give, over the environment, over the file."""
    from shadowproxy.config import ConfigError, read, sets_live, strays

    if file is None and not sets_live(options, os.environ):
        needed = "give -c FILE, or --live URL and --shadow NAME=URL"
        raise click.UsageError("; ".join((needed, *strays(os.environ))), click.get_current_context())
    try:
        return read(file, options=options)
    except ConfigError as error:
        raise UserError(str(error)) from None


@click.command(
    short_help="Forward to live, mirror to the shadows, record all answers.",
    epilog=examples(
        "shadowproxy serve -c config.yaml",
        "shadowproxy serve --live http://127.0.0.1:9001 --shadow challenger=http://127.0.0.1:9002",
    ),
)
@_what_to_run
@click.option(
    "--log-level",
    "level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    envvar="SHADOWPROXY_LOG_LEVEL",
    help="The lowest level of lines in the operator's log.",
)
@click.option(
    "--log-format",
    "form",
    type=click.Choice(["auto", "json", "text"]),
    default="auto",
    show_default=True,
    envvar="SHADOWPROXY_LOG_FORMAT",
    help="The form of the operator's log: auto is text on a terminal, JSON elsewhere.",
)
@click.option(
    "--access-log",
    "access",
    is_flag=True,
    envvar="SHADOWPROXY_ACCESS_LOG",
    help="Also log one line for each request there.",
)
@click.pass_obj
def serve(start: Start, /, file: Path | None, level: "Level", form: "Form", access: bool, **flags: Any) -> None:
    """Forward every request to live, mirror it to the shadows, record all answers.

    Every key of the configuration may also come from the environment, as SHADOWPROXY_LIVE__URL: options come before it,
    and the file after.

    Stops on SIGTERM or Ctrl-C, after answering the requests under way and flushing the log. The operator's log goes to
    standard error; the environment can set it too: SHADOWPROXY_LOG_LEVEL, SHADOWPROXY_LOG_FORMAT,
    SHADOWPROXY_ACCESS_LOG.
    """
    options = _options(flags)
    config = _configured(file, options).config
    from shadowproxy.serve.sidecar.specify import specify
    from shadowproxy.serve.telemetry.log_settings import OperatorLogSettings

    start(specify(config, options), file, OperatorLogSettings(level, form, access))


@click.command(
    short_help="Explain a configuration and test whether it works here.",
    epilog=examples(
        "shadowproxy check -c config.yaml",
        "shadowproxy check --live http://127.0.0.1:9001 --shadow challenger=http://127.0.0.1:9002",
        "shadowproxy check -c config.yaml --path /v2/health/ready",
        "shadowproxy check -c config.yaml --no-request",
    ),
)
@_what_to_run
@click.option(
    "--path", metavar="PATH", default="/", show_default=True, help="The path of the request to each endpoint."
)
@click.option(
    "--method",
    type=click.Choice(["GET", "HEAD", "OPTIONS"], case_sensitive=False),
    default="GET",
    show_default=True,
    help="The method of that request.",
)
@click.option("--no-request", is_flag=True, help="Only connect, send no request.")
def check(file: Path | None, path: str, method: str, no_request: bool, **flags: Any) -> None:
    """Explain a configuration, and test whether it works on this machine.

    Connects to live and to every shadow and sends one request to each; any status counts as an answer. Tests the
    certificates, the log's directory, the addresses to listen on and the limit of open files. Changes nothing. Exit
    status 0 if all of it works, 1 if something fails.
    """
    if not re.fullmatch(r"/[\x21-\x7e]*", path):
        raise click.UsageError("--path must begin with a slash and be percent-encoded")
    loaded = _configured(file, _options(flags))
    from shadowproxy.check import examine
    from shadowproxy.check.endpoints import Probe
    from shadowproxy.check.screen import lines
    from shadowproxy.config import strays

    found = examine(loaded.config, None if no_request else Probe(method, path))
    for line in lines(loaded.config, found, loaded, tuple(strays(os.environ))):
        click.echo(_coloured(line), color=False if os.environ.get("NO_COLOR") else None)
    sys.exit(EXIT_FAILED if found.failed else 0)


@click.command(
    short_help="Print the JSON Schema of the configuration, for editors.",
    epilog=examples("shadowproxy schema", "shadowproxy schema --path"),
)
@click.option("--path", "as_path", is_flag=True, help="Print where the installed file is.")
def schema(as_path: bool) -> None:
    """Print the JSON Schema of the configuration: with it, editors complete keys and mark errors.

    Save it as config.schema.json beside a configuration that begins with the line

    # yaml-language-server: $schema=config.schema.json

    as `shadowproxy init` does. An editor on this machine alone may also be given the path of the installed file.
    """
    from importlib.resources import files

    file = files("shadowproxy.config").joinpath("schema.json")
    click.echo(f"{file}\n" if as_path else file.read_text(encoding="utf-8"), nl=False)


def _coloured(line: str) -> str:
    """The line with its first words coloured; click removes colours where there is no terminal."""
    colour = next((colour for words, colour in _COLOURS.items() if line.startswith(words)), None)
    return line if colour is None else click.style(line[:12], fg=colour, bold=True) + line[12:]


_COLOURS = {
    "  ok ": "green",
    "  warn ": "yellow",
    "  FAIL ": "red",
    "warning ": "yellow",
    "NOT READY": "red",
    "READY": "green",
}


@click.command(
    short_help="Test whether a running sidecar accepts requests.",
    epilog=examples("shadowproxy healthcheck", "shadowproxy healthcheck --admin 127.0.0.1:9911"),
)
@click.option("--admin", metavar="ADDRESS", help="The address of its admin server.  [default: 127.0.0.1:9901]")
@click.option(
    "-c",
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration that it runs with, instead of --admin.",
)
def healthcheck(admin: str | None, file: Path | None) -> None:
    """Test whether a running sidecar accepts requests: exit status 0 if it does, 1 if not.

    For supervisors that can only run a command. It requests /readyz from the admin server.
    """
    from shadowproxy.healthcheck import FILE_VARIABLE, admin_variable, probe, probe_default

    if admin is not None and file is not None:
        raise click.UsageError("--admin or -c, not both")
    if admin is None and file is None and (named := os.environ.get(FILE_VARIABLE)):
        file = Path(named)
    if file is not None and admin_variable(os.environ) in ("", "null"):
        configured = load_config(file).admin
        if configured is None:
            raise UserError(f"{file}: admin is off, so there is no admin server to ask")
        admin = str(configured)
    sys.exit(probe_default(os.environ) if admin is None else probe(admin))
