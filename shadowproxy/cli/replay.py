"""The command that sends a log's requests again."""

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from shadowproxy.cli.group import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NO_DATA,
    UserError,
    examples,
    load_config,
    print_error,
)
from shadowproxy.cli.reading import Number, by_which_rules, of_which_requests, only_of, rules_of, together

if TYPE_CHECKING:
    from shadowproxy.config import Config, Shadow
    from shadowproxy.replay.plan import Plan
    from shadowproxy.serve.state.settings import StateSettings

_sending = together(
    click.option("--to", "url", metavar="URL", help="The endpoint to send to.  [default: the shadow's url in -c]"),
    click.option(
        "-c",
        "--config",
        "file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Use this configuration's shadow, rules and redaction.",
    ),
    click.option("--name", metavar="NAME", help="Its name in the new log.  [default: challenger, or the shadow in -c]"),
    click.option(
        "-o",
        "--log",
        "output",
        metavar="DIR",
        type=click.Path(path_type=Path),
        default=Path("replay-log"),
        show_default=True,
        help="Directory for the new log.",
    ),
    click.option(
        "--rate",
        metavar="N",
        type=Number(min=0, min_open=True),
        help="Send N requests a second, not at the recorded pace.",
    ),
    click.option("--full-speed", is_flag=True, help="Send as fast as the endpoint answers, not at the recorded pace."),
    click.option(
        "--in-flight", metavar="N", type=click.IntRange(1, 10_000), help="Most requests at once.  [default: 64]"
    ),
    click.option("--timeout", metavar="TIME", help="Longest wait for a whole response.  [default: 30s]"),
    click.option(
        "--header",
        "headers",
        metavar="'NAME: VALUE'",
        multiple=True,
        help="Set a header field; take a credential from the environment, as '${NAME}'.",
    ),
    click.option(
        "--query",
        "parameters",
        metavar="NAME=VALUE",
        multiple=True,
        help="Fill in a redacted query parameter from the environment, as '${NAME}'.",
    ),
    click.option(
        "--method",
        "methods",
        metavar="METHOD",
        multiple=True,
        help="Also send requests with this method, such as PUT. Always sent: GET, HEAD, POST, OPTIONS.",
    ),
    click.option(
        "--state/--no-state",
        default=None,
        help="Send the endpoint its own IDs in place of live's.  [default: as the shadow's `state` in -c says]",
    ),
    click.option("--limit", metavar="N", type=click.IntRange(1), help="Send at most N requests."),
)


@click.command(
    short_help="Send a log's requests to another endpoint.",
    epilog=examples(
        "shadowproxy replay shadow-log --to http://127.0.0.1:9003",
        "shadowproxy replay shadow-log --to http://127.0.0.1:9003 --full-speed --since 2h -o candidate-log",
        "shadowproxy replay shadow-log -c config.yaml --header 'Authorization: Bearer ${TOKEN}' --rate 50",
    ),
)
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path())
@_sending
@of_which_requests
@by_which_rules
def replay(logs: tuple[str, ...], **given: Any) -> None:
    """Send the requests of a log to another endpoint, and record its answers beside live's recorded ones.

    Requests are sent at the recorded pace, unless --rate or --full-speed is given. Read the new log like any other,
    with shadowproxy report. Exit status 0 if every request was answered, 1 if one was not, 3 if there was none to send.
    """
    if given["rate"] is not None and given["full_speed"]:
        raise click.UsageError("--rate or --full-speed, not both")
    config = None if given["file"] is None else load_config(given["file"])
    name = given["name"] or (next(iter(config.shadows)) if config and len(config.shadows) == 1 else "challenger")
    shadow, held_back = _shadow(name, config, given)
    output: Path = given["output"]
    _refuse_old(output)
    from shadowproxy.compare.fold.progress import reading
    from shadowproxy.replay.plan import Plan, ReplayError
    from shadowproxy.replay.run import replay as replayed
    from shadowproxy.replay.screen import lines

    try:
        plan = Plan(
            logs=logs,
            name=name,
            shadow=shadow,
            output=output,
            only=only_of(given),
            limit=given["limit"],
            rate=math.inf if given["full_speed"] else given["rate"],
            query=_parameters(given["parameters"]),
            methods=_methods(given["methods"], None if config is None else config.shadows.get(name)),
            state=_state(shadow, given["state"]),
            rules=rules_of(given["file"], given["ignore"], given["tolerance"], given["unordered"]),
        )
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    if config is not None:
        from shadowproxy.serve.sidecar import recording, specify

        plan = replace(
            plan,
            policy=recording.policy(specify.recorder(config)),
            capture=specify.capture(config),
            memory=specify.memory(config),
        )
    plan = _with_secrets(plan)
    if held_back:
        print_error(f"--to is not the url of {name} in {given['file']}, so it is not sent {', '.join(held_back)}")
    try:
        with reading(logs) as progress:
            counts = replayed(plan, progress)
    except ReplayError as error:
        raise UserError(str(error)) from None
    click.echo("\n".join(lines(plan, counts)))
    if counts.interrupted:
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_NO_DATA if not counts.begun else 0 if counts.sound else EXIT_FAILED)


def _state(shadow: "Shadow", wanted: bool | None) -> "StateSettings | None":
    """How the endpoint's own IDs are learnt: as its configuration says, or else by themselves, if that is `wanted`."""
    from shadowproxy.serve.sidecar import specify
    from shadowproxy.serve.state.settings import StateSettings

    if wanted is False:
        return None
    return specify.state(shadow) or (StateSettings() if wanted else None)


def _with_secrets(plan: "Plan") -> "Plan":
    """The plan, with the values that fill redacted fields and parameters hidden from the new log."""
    policy = plan.policy
    own = policy.redaction.hidden(plan.shadow.headers.set, plan.shadow.query.set)
    return replace(plan, policy=replace(policy, own_secrets=(*policy.own_secrets, *own, *plan.query.values())))


def _shadow(name: str, config: "Config | None", given: Mapping[str, Any]) -> tuple["Shadow", tuple[str, ...]]:
    """The configuration's shadow of that name, if there is one, with the command line's options put over it.

    Beside it the keys of the configuration's credentials that it is not sent, since they are another endpoint's.
    """
    from shadowproxy.config import ConfigError, UnusableShadow, from_values

    base = None if config is None else config.shadows.get(name)
    if isinstance(base, UnusableShadow):
        raise UserError(f"{given['file']}: {base.reason}")
    url = given["url"] or (base.url if base is not None else None)
    if url is None:
        known = f", or --name one of {', '.join(config.shadows)}" if config is not None and config.shadows else ""
        raise click.UsageError(f"give --to URL{known}")
    values: dict[str, Any] = {"url": url, "headers": {"set": _headers(given["headers"])}}
    values |= {key: given[key] for key in ("timeout", "in_flight") if given[key] is not None}
    try:
        flags = from_values({"live": {"respond": {}}, "shadows": {name: values}}).shadows[name]
    except ConfigError as error:
        options = {"url": "--to", "timeout": "--timeout", "in_flight": "--in-flight", "headers.set.": "--header "}
        message = str(error).replace(f"shadows.{name}.", "", 1).replace(f"shadows.{name}", f"--name {name}", 1)
        for key, option in options.items():
            if message.startswith(key):
                message = option + message.removeprefix(key)
        raise UserError(message) from None
    if config is None or base is None:
        return flags, ()
    ours = {header.lower() for header in flags.headers.set}
    held_back: tuple[str, ...] = ()
    if _origin(url) != _origin(base.url):
        base, held_back = _without_credentials(name, config, ours)
    headers = replace(
        base.headers,
        set={**{key: value for key, value in base.headers.set.items() if key.lower() not in ours}, **flags.headers.set},
        remove=tuple(header for header in base.headers.remove if header.lower() not in ours),
    )
    changes = {key: getattr(flags, key) for key in ("timeout", "in_flight") if given[key] is not None}
    return replace(base, url=url, headers=headers, **changes), held_back


def _origin(url: str) -> tuple[str, str | None, int]:
    """The origin of a URL (RFC 6454 section 4): a secret is meant for one origin and for no other."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _without_credentials(name: str, config: "Config", ours: set[str]) -> tuple["Shadow", tuple[str, ...]]:
    """The shadow without the configuration's secrets, and the keys of these, except those of the fields in `ours`."""
    from shadowproxy.config import shown, shown_headers, shown_parameters
    from shadowproxy.redaction import BLANK

    base = config.shadows[name]
    fields = [key for key, value in shown_headers(base.headers.set).items() if value == BLANK]
    parameters = [key for key, value in shown_parameters(base.query.set).items() if value == BLANK]
    values = shown(config)["shadows"][name]["rewrite"]["json"]
    pointers = [pointer for pointer, value in values.items() if BLANK in str(value)]
    ends = [key for key in ("cert", "key") if getattr(base.tls, key) is not None]
    held_back = (
        *(f"headers.set.{key}" for key in fields if key.lower() not in ours),
        *(f"query.set.{name}" for name in parameters),
        *(f"rewrite.json.{pointer}" for pointer in pointers),
        *(f"tls.{key}" for key in ends),
    )
    kept = {key: value for key, value in base.headers.set.items() if key not in fields}
    json = {pointer: value for pointer, value in base.rewrite.json.items() if pointer not in pointers}
    base = replace(
        base,
        headers=replace(base.headers, set=kept),
        query=replace(base.query, set={key: value for key, value in base.query.set.items() if key not in parameters}),
        rewrite=replace(base.rewrite, json=json),
        tls=replace(base.tls, cert=None, key=None),
    )
    return base, held_back


def _headers(given: tuple[str, ...]) -> dict[str, str]:
    from shadowproxy.credential_values import is_credential_field

    found: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon:
            raise click.UsageError(f'--header: "{name}" is not NAME: VALUE', click.get_current_context())
        name = name.strip()
        if name.lower() == "host":
            raise click.UsageError(
                "--header Host: cannot be set, it follows from the endpoint's URL", click.get_current_context()
            )
        found[name] = _filled("--header", name, value.strip(), secret=is_credential_field(name, value))
    return found


def _methods(given: tuple[str, ...], shadow: "Shadow | None") -> frozenset[str]:
    """The methods that may be sent: the harmless ones, and those that the command line or the configuration names."""
    from shadowproxy.config import REPEATABLE, ConfigError, from_values

    try:
        named = from_values({"live": {"respond": {}}, "control": {"methods": list(given)}}).control.methods
    except ConfigError as error:
        raise ValueError(f"--method {str(error).partition(': ')[2]}") from None
    return frozenset((*REPEATABLE, *named, *(() if shadow is None else shadow.match.methods)))


def _parameters(given: tuple[str, ...]) -> dict[str, str]:
    from shadowproxy.credential_values import is_credential

    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f'--query: "{name}" is not NAME=VALUE')
        found[name] = _filled("--query", name, value, secret=is_credential(name, value))
    return found


def _filled(option: str, name: str, value: str, *, secret: bool) -> str:
    """A value with its `${NAME}` filled in. A secret must come from the environment, not from the command line."""
    from shadowproxy.config.source import FromEnvironment, substituted

    try:
        filled = substituted(value, os.environ)
    except ValueError as error:
        raise click.UsageError(f"{option} {name}: {error}", click.get_current_context()) from None
    if secret and not isinstance(filled, FromEnvironment):
        why = "every process of this machine can read a command line"
        hint = "name an environment variable, as '${NAME}' in single quotes"
        raise click.UsageError(f"{option} {name}: {why}: {hint}", click.get_current_context())
    return filled


def _refuse_old(output: Path) -> None:
    """A log that is already there would be counted with the new one, or be read while it is written."""
    try:
        held = output.is_dir() and any(output.iterdir())
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from None
    if held:
        raise UserError(f"{output} exists already and is not empty: choose another directory with -o")
