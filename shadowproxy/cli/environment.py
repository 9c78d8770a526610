"""The options of commands from the environment: `SHADOWPROXY_REPORT__MIN_AGREEMENT` for `report --min-agreement`.

A variable's name is `SHADOWPROXY_`, the command and the option, with `__` between them. What a command line says comes
first. An empty variable is not set. An option that can be repeated takes one value, or several as a YAML list.

The options that set a key of the configuration have none of their own: the key has one (config/environment.py).
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

PREFIX = "SHADOWPROXY_"
KEYS: Mapping[str, str] = {
    "--live": "SHADOWPROXY_LIVE__URL",
    "--shadow": "SHADOWPROXY_SHADOWS__NAME__URL",
    "--listen": "SHADOWPROXY_LISTEN",
    "--admin": "SHADOWPROXY_ADMIN",
    "--log": "SHADOWPROXY_LOG__PATH",
}
"""The options of `serve` and `check` that set keys, and the variables of these."""

OF_KEYS = ("serve", "check")


INSTEAD: Mapping[str, str] = {"SHADOWPROXY_VERDICT__GATES": "SHADOWPROXY_VERDICT_GATES"}
"""The variables that are a key's, and those of the options that would have the same."""


def variable(words: Sequence[str], option: click.Option) -> str:
    """The variable of an option; `words` are the command with those that it is in, as ("demo", "live")."""
    name = max((each for each in option.opts if each.startswith("-")), key=len).lstrip("-")
    made = PREFIX + "__".join(word.upper().replace("-", "_") for word in (*words, name))
    return INSTEAD.get(made, made)


def options_of(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, click.Option]]:
    """The variables of a command's options, and of those of the commands in it."""
    yield from _own(command, words)
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from options_of(inner, (*words, name))


def _own(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, click.Option]]:
    for each in command.params:
        if isinstance(each, click.Option) and not (words[-1] in OF_KEYS and each.opts[-1] in KEYS):
            yield variable(words, each), each


def defaults(command: click.Command, words: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the environment gives for a command, as click's `default_map`. Raises click.UsageError."""
    lead = f"{PREFIX}{words[0].upper()}__"
    others = {*INSTEAD.values()}
    found = {
        name: text.strip()
        for name, text in environment.items()
        if (name.startswith(lead) or name in others) and text.strip()
    }
    if found:
        known = dict(options_of(command, words))
        for name in sorted(found.keys() - known.keys() - others):
            if not _is_key(name):
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
                raise click.UsageError(f"{name}: unknown option{f' (did you mean {near[0]}?)' if near else ''}")
    return _defaults(command, words, found)


def _defaults(command: click.Command, words: tuple[str, ...], found: Mapping[str, str]) -> dict[str, Any]:
    given = {
        str(option.name): _several(found[name], name) if option.multiple else found[name]
        for name, option in _own(command, words)
        if name in found
    }
    inner = command.commands.items() if isinstance(command, click.Group) else ()
    return given | {name: _defaults(each, (*words, name), found) for name, each in inner}


def _several(text: str, name: str) -> list[str]:
    """The values of an option that can be repeated."""
    if (text[0], text[-1]) != ("[", "]"):
        return [text]
    from shadowproxy.config.source import YamlError, marked

    try:
        values = marked(text)
    except YamlError as error:
        raise click.UsageError(f"{name}: {error.problem}") from None
    if not all(isinstance(each, str) for each in values):
        raise click.UsageError(f"{name}: must be one value, or a list of them")
    return [str(each) for each in values]


def _is_key(name: str) -> bool:
    from shadowproxy.config.environment import variables

    return name in variables()


def blamed(error: click.BadParameter) -> str | None:
    """The variable whose value an error is about; None where the command line gave it."""
    context, option = error.ctx, error.param
    if context is None or not isinstance(option, click.Option) or option.name is None:
        return None
    if context.get_parameter_source(option.name) is not ParameterSource.DEFAULT_MAP:
        return None
    words: list[str] = []
    while context.parent is not None:
        words.insert(0, str(context.info_name))
        context = context.parent
    return variable(words, option)
