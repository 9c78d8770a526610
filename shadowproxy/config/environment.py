"""Keys from the environment: `SHADOWPROXY_LIVE__URL` sets `live.url`, over what a file says.

The rules, which docs/reference/environment.md explains:

1. A variable's name is `SHADOWPROXY_` and the key in capitals, with `__` between its parts. An empty one is not set.
2. In place of a shadow's name stands the name in capitals, with `_` for each run of other characters than letters and
   digits: GPT_4O is the shadow `GPT-4o` of the file. One that nothing else names is new: its name has small letters.
3. Where a list or a mapping may stand, `[...]` and `{...}` are read as YAML. Any other value is the text itself, and
   what YAML would make of it where a number, true, false or null is wanted; quotes around it are taken off. `${NAME}`
   in it is not replaced.
4. A variable for a section replaces it as a whole; those for keys in it come after.
5. `SHADOWPROXY_COMMAND__OPTION` is an option of a command, which the command line reads. A name with `__` that is
   neither is an error, as an unknown key of a file is. One without may be somebody's own: a warning names it, unless
   Kubernetes made it, of a Service that is called `shadowproxy` or begins so.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from shadowproxy.config.endpoints import Shadow
from shadowproxy.config.keys import hinted_keys, takes_structure
from shadowproxy.config.settings import ConfigError, Options, Setting
from shadowproxy.config.source import FromEnvironment, YamlError, marked, retype

PREFIX = "SHADOWPROXY_"
CONFIG_FILE = f"{PREFIX}CONFIG"
"""The file that `serve`, `check` and `healthcheck` read, for their option `-c`."""

COMMANDS = frozenset(
    {
        *("serve", "check", "healthcheck", "schema", "report", "summarise", "selftest", "judge", "show", "tail"),
        *("watch", "verdict", "export", "erase", "replay", "demo", "completion", "init", "version"),
    }
)
"""Whose options have variables too. The command line has the same (tests/test_environment.py)."""

OTHERS = frozenset(
    {
        CONFIG_FILE,
        f"{PREFIX}LOG_LEVEL",
        f"{PREFIX}LOG_FORMAT",
        f"{PREFIX}ACCESS_LOG",
        f"{PREFIX}WEBHOOK",
        f"{PREFIX}VERDICT_GATES",
        f"{PREFIX}JUDGE_KEY",
        f"{PREFIX}EMBEDDINGS_KEY",
        f"{PREFIX}CANDIDATE",
    }
)
"""Variables by other rules: of the file, the operator's log, a webhook, other APIs' keys, and a mark of our own."""

_SHADOW = f"{PREFIX}SHADOWS__"
# What the kubelet sets in every container for a Service NAME: {NAME}_SERVICE_HOST, {NAME}_SERVICE_PORT and one for each
# named port, and of Docker's links {NAME}_PORT, {NAME}_PORT_80_TCP and more.
_OF_A_SERVICE = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)?$")


def variable_of(key: str) -> str:
    """The variable of a key: of `shadows.NAME.percent`, for the shadow of that name."""
    steps = key.split(".")
    if steps[0] == "shadows" and len(steps) > 1:
        steps[1] = stand_in(steps[1])
    return PREFIX + "__".join(step.upper() for step in steps)


def stand_in(name: str) -> str:
    """What stands for a shadow's name in the name of a variable."""
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")


def settings_in(environment: Mapping[str, str], shadows: Iterable[str], lasting: Collection[str] = ()) -> list[Setting]:
    """What the environment sets, sections before what is in them.

    `shadows` are the names that the file has, and `lasting` those that come over the environment. Raises ConfigError.
    """
    found: list[Setting] = []
    problems: list[str] = []
    known = _by_stand_in((*shadows, *lasting))
    names = sorted(name for name, text in environment.items() if name.startswith(PREFIX) and text.strip())
    for name in sorted(names, key=lambda each: each.count("__")):
        try:
            setting = _setting(name, environment[name], known, names)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        if setting is None:
            continue
        found.append(setting)
        if setting.location == ("shadows",) and isinstance(setting.value, dict):  # it replaces those of the file
            known = _by_stand_in((*map(str, setting.value), *lasting))
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _by_stand_in(names: Iterable[str]) -> dict[str, list[str]]:
    """The names of shadows, by what stands for each; more than one where they differ in capitals or marks alone."""
    known: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        known.setdefault(stand_in(name), []).append(name)
    return known


def sets_live(options: Options, environment: Mapping[str, str]) -> bool:
    """Whether the options or the environment name a live system."""
    live = variable_of("live")
    named = (name for name, text in environment.items() if text.strip())
    return any(option == "--live" for option, _ in options) or any(
        name == live or name.startswith(f"{live}__") for name in named
    )


def strays(environment: Mapping[str, str]) -> Iterator[str]:
    """A warning for each variable that looks as if it were for this program, and sets nothing."""
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in OTHERS or name in _variables() or _OF_A_SERVICE.search(name):
            continue
        if "__" not in name:
            yield f"{name} sets nothing{_meant(name, _variables())}"
        elif _is_option(name) and (meant := _nearly_key(name)):
            # `verdict` is a command and a section: this may be an option of the one.
            yield f"{name} sets no key (did you mean {meant}?)"


def _setting(name: str, text: str, known: dict[str, list[str]], names: Collection[str]) -> Setting | None:
    """What one variable sets; None if it is not for the configuration. Raises ValueError."""
    hints = _variables()
    if name in hints:
        return Setting(tuple(name.removeprefix(PREFIX).lower().split("__")), _value(text, hints[name]), name)
    shadow, _, rest = name.removeprefix(_SHADOW).partition("__")
    general = f"{_SHADOW}*__{rest}" if rest else f"{_SHADOW}*"
    if name.startswith(_SHADOW) and shadow and general in hints:
        whose = known.get(shadow)
        if whose is None and not {f"{_SHADOW}{shadow}", f"{_SHADOW}{shadow}__URL"}.intersection(names):
            others = [name.replace(shadow, each, 1) for each in known]
            raise ValueError(f"there is no shadow of this name{_meant(name, others)}, and a new one needs a URL")
        if whose is not None and len(whose) > 1:
            raise ValueError(f"may mean the shadow {' or '.join(whose)}: set this key in the file")
        if whose is None:
            known[shadow] = whose = [shadow.lower()]
        value = _value(text, hints[general])
        if not rest and isinstance(value, str) and (nearer := _two_underscores(shadow)):
            raise ValueError(f"must be a mapping of keys (did you mean {_SHADOW}{nearer}?)")
        steps = rest.lower().split("__") if rest else ()
        return Setting(("shadows", whose[0], *steps), value, name)
    if "__" not in name or _is_option(name) or _OF_A_SERVICE.search(name):
        return None
    if name.startswith(_SHADOW) and (nearer := _two_underscores(name.removeprefix(_SHADOW))):
        raise ValueError(f"unknown key (did you mean {_SHADOW}{nearer}?)")
    near = [each.replace("*", shadow or "NAME") for each in hints]
    raise ValueError(f"unknown key{_meant(name, near)}")


def _value(text: str, hint: Any) -> Any:
    """A variable's text as the value of a key of this type. Raises ValueError."""
    text = text.strip()
    structured = takes_structure(hint)
    if text[0] in "\"'" and text[-1] == text[0] and len(text) > 1:
        with_marks = _parsed(text)
        return with_marks if structured else FromEnvironment(with_marks)
    if not structured:
        return FromEnvironment(text)
    if (text[0], text[-1]) in (("[", "]"), ("{", "}")):
        return _parsed(text)
    plain = FromEnvironment(text)
    return None if retype(plain) is None else plain


def _parsed(text: str) -> Any:
    try:
        return marked(text)
    except YamlError as error:
        within = ".".join(map(str, error.location))
        raise ValueError(f"{within}: {error.problem}" if within else error.problem) from None


@cache
def _variables() -> Mapping[str, Any]:
    """The variable of each key, with the type of its value; * stands for a shadow. Other names cannot be in one."""
    named = {"shadows.*": Shadow, **dict(hinted_keys())}
    return {
        PREFIX + "__".join(step.upper() for step in key.split(".")): hint
        for key, hint in named.items()
        if "*" not in key.removeprefix("shadows.*")
    }


def variables() -> Iterable[str]:
    """The variables of all keys; * stands for a shadow."""
    return _variables().keys()


def _two_underscores(text: str) -> str | None:
    """`A__URL` for `A_URL`, where a key follows what may be a shadow's name after one underscore."""
    keys = [each.removeprefix(f"{_SHADOW}*__") for each in _variables() if each.startswith(f"{_SHADOW}*__")]
    for key in sorted(keys, key=len, reverse=True):
        shadow = text.removesuffix(f"_{key}")
        if shadow != text and shadow == stand_in(shadow):
            return f"{shadow}__{key}"
    return None


def _nearly_key(name: str) -> str | None:
    """The variable of a key that is in the section of a command's name, and called nearly so."""
    section, _, rest = name.partition("__")
    within = [each.removeprefix(f"{section}__") for each in _variables() if each.startswith(f"{section}__")]
    near = difflib.get_close_matches(rest, within, n=1, cutoff=0.7)
    return f"{section}__{near[0]}" if near else None


def _is_option(name: str) -> bool:
    command, _, option = name.removeprefix(PREFIX).partition("__")
    return bool(option) and command.lower() in COMMANDS


def _meant(name: str, names: Iterable[str]) -> str:
    short = [each.removeprefix(PREFIX) for each in names]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), short, n=1, cutoff=0.7)
    return f" (did you mean {PREFIX}{near[0]}?)" if near else ""
