"""Options that the commands reading a log share: which requests to read, and the rules to compare by."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shadowproxy.cli.group import UserError, load_config

if TYPE_CHECKING:
    from shadowproxy.compare.fold.filters import Only
    from shadowproxy.compare.judge.rules import Rules
    from shadowproxy.compare.report.gates import Gates
    from shadowproxy.sources import Source

Decorated = TypeVar("Decorated")

ADMIN_TOKEN = "SHADOWPROXY_ADMIN_TOKEN"
"""The variable of the environment with the token of running sidecars."""


class Number(click.FloatRange):
    """A range without nan: every comparison with nan is false, so as a limit it would let everything pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value} is not a number", param, ctx)
        return number


def together(*options: Callable[[Any], Any]) -> Callable[[Decorated], Decorated]:
    """Several options as one decorator, in the order of --help."""

    def decorated(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


by_configuration = click.option(
    "-c",
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Compare by this configuration's rules.",
)

of_which_requests = together(
    click.option(
        "--since", metavar="TIME", help="Only requests since this time: 2026-01-31T12:00, or 2h for 2 hours ago."
    ),
    click.option("--until", metavar="TIME", help="Only requests before this time."),
    click.option("--path", metavar="GLOB", help="Only requests whose path matches this."),
    click.option(
        "--where",
        metavar="CONDITION",
        multiple=True,
        help="Only requests whose JSON fulfils it: /carrier=UA, /delay>=15; if repeated, all must hold.",
    ),
)

by_which_rules = together(
    click.option("--ignore", metavar="POINTER", multiple=True, help="A field to ignore; * stands for any one name."),
    click.option("--tolerance", metavar="POINTER=NUMBER", multiple=True, help="How much numbers there may differ."),
    click.option("--unordered", metavar="POINTER", multiple=True, help="An array whose order does not matter."),
)


def only_of(given: Mapping[str, Any]) -> "Only":
    """The options of `of_which_requests`, parsed. Raises ValueError."""
    from shadowproxy.compare.fold.filters import Condition, Only, parse_moment

    return Only(
        since=None if given["since"] is None else parse_moment(given["since"]),
        until=None if given["until"] is None else parse_moment(given["until"]),
        path=given["path"],
        where=tuple(Condition.parse(text) for text in given["where"]),
    )


def rules_of(
    file: Path | None, ignore: tuple[str, ...] = (), tolerance: tuple[str, ...] = (), unordered: tuple[str, ...] = ()
) -> "Rules":
    """The rules of a configuration with those of the command line added. Raises ValueError for the latter."""
    from shadowproxy.compare.judge.rules import Rules

    base = Rules()
    if file is not None:
        from shadowproxy.compare.judge.configured import rules_in

        config = load_config(file)
        base = rules_in(config.compare, config.shadows)
    allowed = dict(base.tolerance)
    for text in tolerance:
        pointer, _, number = text.rpartition("=")
        try:
            allowed[pointer] = float(number)
        except ValueError:
            raise ValueError(f'"{text}" is not POINTER=NUMBER') from None
    return Rules(
        ignore=(*base.ignore, *ignore),
        tolerance=allowed,
        unordered=(*base.unordered, *unordered),
        set_aside=base.set_aside,
        predictions=base.predictions,
    )


def prediction_of(file: Path | None) -> str | None:
    """Where a configuration says that the answer is, for all endpoints; places by endpoint are among the rules."""
    prediction = None if file is None else load_config(file).compare.prediction
    return prediction if isinstance(prediction, str) and prediction else None


def gates_of(file: str | None, *, min_agreement: float | None = None, max_p99: float | None = None) -> "Gates":
    """The limits of the checks, from a file or the defaults; an option that is given replaces that of the file."""
    from dataclasses import replace

    from shadowproxy.compare.report.gates import GateError, Gates, load_gates

    try:
        gates = Gates() if file is None else load_gates(file)
    except GateError as error:
        raise UserError(str(error)) from None
    if min_agreement is not None:
        gates = replace(gates, min_agreement=min_agreement)
    if max_p99 is not None:
        gates = replace(gates, p99_ratio=max_p99)
    return gates


def admin_token() -> str | None:
    """The token of running sidecars, from the environment."""
    return os.environ.get(ADMIN_TOKEN) or None


def spare(logs: Iterable[str], *outputs: "str | Path | None") -> None:
    """Refuse to write over what is read. Raises UserError."""
    from shadowproxy.sources import source_of, sources_of

    try:
        wanted = [(to, source_of(to)) for to in outputs if to is not None]
        wanted = [(to, place) for to, place in wanted if place.in_store or Path(place.path).is_file()]
        read = [source for log in logs for source in sources_of(log)] if wanted else []
    except OSError as error:
        raise UserError(f"cannot read {error.filename or 'the log'}: {error.strerror or error}") from None
    for to, place in wanted:
        if any(_is_same(source, place) for source in read):
            raise UserError(f"{place.name if place.in_store else to} is one of the files to read")


def _is_same(one: "Source", other: "Source") -> bool:
    if one.in_store or other.in_store:
        return one.path == other.path
    return os.path.isfile(one.path) and os.path.samefile(one.path, other.path)


def write(file: Path, content: str | bytes) -> None:
    """Write a file that an option names."""
    try:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None
