"""Keys and options from the environment: an option comes before a variable, and a variable before the file."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from conftest import StartProxy
from fakes import Caller, answer
from program import PATIENCE
from test_cli import fault, run

from shadowproxy import cli, config, healthcheck
from shadowproxy.cli.environment import INSTEAD, KEYS, blamed, defaults, options_of
from shadowproxy.config import ConfigError, Loaded, UnusableShadow
from shadowproxy.config.environment import COMMANDS, OTHERS, stand_in, variables
from shadowproxy.config.source import FROM_ENVIRONMENT
from shadowproxy.serve.sidecar.reading import read_specs
from shadowproxy.serve.sidecar.reading_apart import read_specs_apart

LEAST = "live: {url: http://live}\n"
BASE = {"SHADOWPROXY_LIVE__URL": "http://live"}

# What the kubelet sets in each container of a namespace with Services of these names, and what Docker's links set.
OF_SERVICES = {
    "SHADOWPROXY_SERVICE_HOST": "10.0.0.9",
    "SHADOWPROXY_SERVICE_PORT": "80",
    "SHADOWPROXY_SERVICE_PORT_HTTP": "80",
    "SHADOWPROXY_SERVICE_PORT_ADMIN_METRICS": "9901",
    "SHADOWPROXY_PORT": "tcp://10.0.0.9:80",
    "SHADOWPROXY_PORT_80_TCP": "tcp://10.0.0.9:80",
    "SHADOWPROXY_PORT_80_TCP_PROTO": "tcp",
    "SHADOWPROXY_PORT_80_TCP_PORT": "80",
    "SHADOWPROXY_PORT_80_TCP_ADDR": "10.0.0.9",
    "SHADOWPROXY_ADMIN_SERVICE_HOST": "10.0.0.9",
    "SHADOWPROXY_ADMIN_PORT": "tcp://10.0.0.9:9901",
    "SHADOWPROXY_ADMIN_PORT_9901_TCP": "tcp://10.0.0.9:9901",
    "SHADOWPROXY_LOG_PORT_514_UDP_ADDR": "10.0.0.9",
    "SHADOWPROXY__LIVE_SERVICE_HOST": "10.0.0.9",  # of a Service with two hyphens in its name
    "SHADOWPROXY_DEMO__LIVE_PORT": "tcp://10.0.0.9:9001",
}


def read(directory: Path, text: str | None, environment: dict[str, str], *options: tuple[str, str]) -> Loaded:
    file = None
    if text is not None:
        file = directory / "config.yaml"
        file.write_text(text)
    return config.read(file, options=options, environment=environment)


def error(directory: Path, text: str | None, environment: dict[str, str], *options: tuple[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        read(directory, text, environment, *options)
    return str(caught.value).replace(f"{directory}/", "")


# --- which comes first -----------------------------------------------------------------------------------------------


def test_an_option_comes_before_a_variable_before_the_file_before_the_default(tmp_path: Path) -> None:
    text = f"{LEAST}log: {{path: of-the-file}}\n"
    variable = {"SHADOWPROXY_LOG__PATH": "of-the-environment"}
    assert read(tmp_path, LEAST, {}).config.log.path == "shadow-log"
    assert read(tmp_path, text, {}).config.log.path == "of-the-file"
    assert read(tmp_path, text, variable).config.log.path == "of-the-environment"
    assert read(tmp_path, text, variable, ("--log", "of-the-option")).config.log.path == "of-the-option"


def test_where_each_value_is_from_is_known_with_the_line_that_it_replaces(tmp_path: Path) -> None:
    loaded = read(tmp_path, f"{LEAST}drain: 5s\nworkers: 2\n", {"SHADOWPROXY_DRAIN": "9s"}, ("--listen", "127.0.0.1:1"))
    assert loaded.by == {"drain": "SHADOWPROXY_DRAIN", "listen": "--listen"}
    assert loaded.replaced == {"drain": 2}
    places = [loaded.origin(*key) for key in (("drain",), ("listen",), ("workers",), ("live", "url"), ("admin",))]
    assert places == [
        "SHADOWPROXY_DRAIN",
        "--listen",
        f"{tmp_path}/config.yaml:3",
        f"{tmp_path}/config.yaml:1",
        "default",
    ]
    assert {"drain", "listen", "workers", "live.url"} <= loaded.given.keys()


def test_a_variable_replaces_a_list_and_a_mapping_as_a_whole(tmp_path: Path) -> None:
    text = f"{LEAST}shadows: {{b: {{url: http://b, headers: {{set: {{A: '1'}}}}, match: {{paths: [/a, /b, /c]}}}}}}\n"
    environment = {
        "SHADOWPROXY_SHADOWS__B__HEADERS__SET": "{B: '2'}",
        "SHADOWPROXY_SHADOWS__B__MATCH__PATHS": "[/z]",
    }
    shadow = read(tmp_path, text, environment).config.shadows["b"]
    assert shadow.headers.set == {"B": "2"}
    assert shadow.match.paths == ("/z",)


def test_a_variable_of_a_section_replaces_it_and_those_in_it_come_after(tmp_path: Path) -> None:
    text = f"{LEAST}log: {{path: x, bodies: none}}\nshadows: {{old: {{url: http://old}}}}\n"
    environment = {
        "SHADOWPROXY_LOG": "{path: y, compress: gzip}",
        "SHADOWPROXY_LOG__COMPRESS": "none",
        "SHADOWPROXY_SHADOWS": '{"GPT-4.1": {url: "http://b"}}',
        "SHADOWPROXY_SHADOWS__GPT_4_1__PERCENT": "5",
    }
    made = read(tmp_path, text, environment).config
    assert (made.log.path, made.log.bodies, made.log.compress) == ("y", "full", "none")
    assert {name: shadow.percent for name, shadow in made.shadows.items()} == {"GPT-4.1": 5.0}


def test_a_short_form_in_the_file_becomes_a_section(tmp_path: Path) -> None:
    text = f"{LEAST}shadows: {{b: {{url: http://b, state: auto}}}}\n"
    state = read(tmp_path, text, {"SHADOWPROXY_SHADOWS__B__STATE__PAIRS": "7"}).config.shadows["b"].state
    assert state is not None
    assert state.pairs == 7


# --- every key -------------------------------------------------------------------------------------------------------


def as_text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def leaves(values: Any, parents: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The values of an example by their keys, a mapping that has names of its own as one value."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        place = (*parents, key)
        generic = ".".join("*" if at == 1 and place[0] == "shadows" else step for at, step in enumerate(place))
        if isinstance(value, dict) and value and any(each.startswith(f"{generic}.") for each in FREE):
            found |= leaves(value, place)
        else:
            found[place] = value
    return found


FREE = [each for each in list(config.keys()) if "*" not in each.removeprefix("shadows.*")]


def test_the_whole_example_may_come_from_the_environment_alone() -> None:
    values = config.shown(config.load(Path(__file__).parent.parent / "config.example.yaml", {}))
    values["admin_token"] = "0123456789abcdef"
    values["log"]["redact"]["hash_key"] = "some"
    places = leaves(values)
    environment = {
        config.variable_of(".".join(place)): as_text(value)
        for place, value in places.items()
        if not (value is None and place[-1] in ("listen_tls", "respond", "state"))
    }
    assert len(environment) > 70
    made = config.read(None, environment=environment).config
    assert made == config.from_values(values)
    for name in environment:
        assert name == name.upper()


def test_each_key_without_a_name_of_the_files_own_has_a_variable() -> None:
    assert {config.variable_of(key).replace("SHADOWS____", "SHADOWS__*__") for key in FREE} <= set(variables())


def test_no_key_has_what_the_names_of_variables_need() -> None:
    for key in list(config.keys()):
        for step in key.split("."):
            assert step == "*" or (step == step.lower().strip("_") and "__" not in step and "-" not in step)


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("WORKERS", "4", "workers", 4),
        ("WORKERS", ' "4" ', "workers", 4),  # as in a file for `docker run --env-file`, which keeps the quotes
        ("DRAIN", "2m\n", "drain", 120.0),
        ("FORWARDED", "true", "forwarded", True),
        ("ADMIN", "null", "admin", None),
        ("ADMIN", "[::1]:9901", "admin", config.TcpAddress("::1", 9901)),
        ("LISTEN", "[::1]:8080", "listen", (config.TcpAddress("::1", 8080),)),
        ("LISTEN", '["[::1]:80", "unix:/s"]', "listen", (config.TcpAddress("::1", 80), config.UnixAddress("/s"))),
        ("SAMPLING__SALT", "0012", "sampling.salt", "0012"),
        ("SAMPLING__SALT", "x # y: {z", "sampling.salt", "x # y: {z"),
        ("SAMPLING__SALT", "${HOME}", "sampling.salt", "${HOME}"),
        ("SAMPLING__SALT", '""', "sampling.salt", ""),
        ("LOG__REDACT__JSON", '["/a", "/b/*"]', "log.redact.json", ("/a", "/b/*")),
        ("LOG__REDACT__HASH_KEY", "@*&!%", "log.redact.hash_key", "@*&!%"),
        ("LOG__KEEP__SIZE", "null", "log.keep.size", None),
        ("COMPARE__PREDICTION", "/score", "compare.prediction", "/score"),
        ("COMPARE__PREDICTION", "{live: /a}", "compare.prediction", {"live": "/a"}),
        ("COMPARE__TOLERANCE", "{/a: 0.5}", "compare.tolerance", {"/a": 0.5}),
        ("LIVE__HEADERS__SET", '{"X-Id": "007"}', "live.headers.set", {"X-Id": "007"}),
        ("LIVE__QUERY__REMOVE", "[]", "live.query.remove", ()),
    ],
)  # fmt: skip
def test_a_value_is_text_unless_the_key_wants_something_else(name: str, text: str, key: str, value: Any) -> None:
    found: Any = config.read(None, environment=BASE | {f"SHADOWPROXY_{name}": text}).config
    for step in key.split("."):
        found = getattr(found, step)
    if key == "compare.tolerance":
        found = {pointer: each.abs for pointer, each in found.items()}
    assert found == value


def test_json_keeps_its_types() -> None:
    environment = {"SHADOWPROXY_LIVE__RESPOND__JSON": '{"a": "5", "b": 5, "c": null, "d": [true, 0.5, "x"]}'}
    respond = config.read(None, environment=environment).config.live.respond
    assert respond is not None
    assert json.loads(respond.reply()[2]) == {"a": "5", "b": 5, "c": None, "d": [True, 0.5, "x"]}


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    loaded = read(
        tmp_path, LEAST, {"SHADOWPROXY_DRAIN": "", "SHADOWPROXY_NONSENSE__X": "", "SHADOWPROXY_LIVE__URL": " "}
    )
    assert loaded.by == {}


# --- shadows ---------------------------------------------------------------------------------------------------------


NAMED = f"{LEAST}shadows: {{GPT-4o: {{url: http://b}}, llama_3.1: {{url: http://c}}}}\n"


@pytest.mark.parametrize(
    ("name", "stands"),
    [("challenger", "CHALLENGER"), ("GPT-4o", "GPT_4O"), ("llama_3.1", "LLAMA_3_1"), ("a__b--", "A_B"), ("7b", "7B")],
)
def test_what_stands_for_a_shadows_name(name: str, stands: str, tmp_path: Path) -> None:
    assert stand_in(name) == stands
    text = f"{LEAST}shadows: {{{name}: {{url: http://b}}}}\n"
    made = read(tmp_path, text, {f"SHADOWPROXY_SHADOWS__{stands}__PERCENT": "5"}).config
    assert {each: shadow.percent for each, shadow in made.shadows.items()} == {name: 5.0}
    assert config.variable_of(f"shadows.{name.replace('.', '_')}.url") == f"SHADOWPROXY_SHADOWS__{stands}__URL"


def test_a_variable_finds_the_shadow_of_an_option_too(tmp_path: Path) -> None:
    environment = BASE | {"SHADOWPROXY_SHADOWS__GPT_4O__PERCENT": "5"}
    made = read(tmp_path, None, environment, ("--shadow", "GPT-4o=http://b")).config
    assert {name: shadow.percent for name, shadow in made.shadows.items()} == {"GPT-4o": 5.0}


def test_a_shadow_that_nothing_else_names_is_new(tmp_path: Path) -> None:
    environment = {"SHADOWPROXY_SHADOWS__NEW_ONE__URL": "http://n", "SHADOWPROXY_SHADOWS__NEW_ONE__LANE": "3"}
    made = read(tmp_path, NAMED, environment).config
    assert list(made.shadows) == ["GPT-4o", "llama_3.1", "new_one"]
    assert made.shadows["new_one"].lane == 3


def test_a_variable_that_may_mean_two_shadows_is_an_error(tmp_path: Path) -> None:
    text = f"{LEAST}shadows: {{a-b: {{url: http://b}}, A_b: {{url: http://c}}}}\n"
    assert list(read(tmp_path, text, {}).config.shadows) == ["a-b", "A_b"]
    assert error(tmp_path, text, {"SHADOWPROXY_SHADOWS__A_B__LANE": "3"}) == (
        "SHADOWPROXY_SHADOWS__A_B__LANE: may mean the shadow a-b or A_b: set this key in the file"
    )
    section = {
        "SHADOWPROXY_SHADOWS": "{a-b: {url: http://b}, A_b: {url: http://c}}",
        "SHADOWPROXY_SHADOWS__A_B__LANE": "3",
    }
    assert "may mean the shadow a-b or A_b" in error(tmp_path, LEAST, section)


def test_one_underscore_too_few_after_a_shadows_name_is_found(tmp_path: Path) -> None:
    for meant in ("CHALLENGER__URL", "GPT_4O__CONNECT_TIMEOUT", "A__MATCH__METHODS"):
        name = f"SHADOWPROXY_SHADOWS__{meant.replace('__', '_', 1)}"
        said = error(tmp_path, LEAST, {name: "http://x"})
        assert said.startswith(f"{name}: ")
        assert said.endswith(f" (did you mean SHADOWPROXY_SHADOWS__{meant}?)")


def test_an_error_within_a_section_names_the_key(tmp_path: Path) -> None:
    twice = {"SHADOWPROXY_SHADOWS": "{a: {url: http://x}, a: {url: http://y}}"}
    assert error(tmp_path, LEAST, twice) == "SHADOWPROXY_SHADOWS: a: appears twice"


def test_a_shadow_of_an_option_is_known_beside_a_section_of_a_variable(tmp_path: Path) -> None:
    environment = {"SHADOWPROXY_SHADOWS": "{b: {url: http://b}}", "SHADOWPROXY_SHADOWS__GPT_4O__LANE": "3"}
    made = read(tmp_path, LEAST, environment, ("--shadow", "GPT-4o=http://g")).config
    assert {name: shadow.lane for name, shadow in made.shadows.items() if name != "b"} == {"GPT-4o": 3}


def test_a_shadows_value_that_does_not_fit_makes_only_this_one_unusable(tmp_path: Path) -> None:
    """As one that the file takes from the environment does."""
    made = read(tmp_path, NAMED, {"SHADOWPROXY_SHADOWS__GPT_4O__URL": "secret-text"}).config
    shadow = made.shadows["GPT-4o"]
    assert isinstance(shadow, UnusableShadow)
    assert shadow.reason == "SHADOWPROXY_SHADOWS__GPT_4O__URL: must begin with http:// or https://"
    assert not isinstance(made.shadows["llama_3.1"], UnusableShadow)


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "environment", "line"),
    [
        (LEAST, {"LIVE__ULR": "x"}, "LIVE__ULR: unknown key (did you mean SHADOWPROXY_LIVE__URL?)"),
        (LEAST, {"LVIE__URL": "x"}, "LVIE__URL: unknown key (did you mean SHADOWPROXY_LIVE__URL?)"),
        (LEAST, {"ZZZ__Q": "x"}, "ZZZ__Q: unknown key"),
        (LEAST, {"live__url": "x"}, "live__url: unknown key"),
        (LEAST, {"LIVE__URL": "x"}, "LIVE__URL: must begin with http:// or https://"),
        (LEAST, {"DRAIN": "soon"}, "DRAIN: is not a duration: write 250ms, 30s, 5m, 12h or 7d, or a plain number"),
        (LEAST, {"LOG__REDACT__JSON": "/a"}, "LOG__REDACT__JSON: must be a list"),
        (LEAST, {"LOG__REDACT__JSON": "[/a, b]"}, "LOG__REDACT__JSON: log.redact.json.1: is not a JSON pointer"),
        (LEAST, {"LOG__REDACT__JSON": "[/a, ]]"}, "LOG__REDACT__JSON: not YAML: "),
        (LEAST, {"LOG": "{paht: x}"}, 'LOG: log.paht: unknown key (did you mean "path"?)'),
        (None, {"LIVE__TIMEOUT": "5s"}, "LIVE__TIMEOUT: needs either url, or respond for a fixed answer"),
        (
            NAMED,
            {"SHADOWS__GTP_4O__PERCENT": "5"},
            "SHADOWS__GTP_4O__PERCENT: there is no shadow of this name "
            "(did you mean SHADOWPROXY_SHADOWS__GPT_4O__PERCENT?), and a new one needs a URL",
        ),
        (
            NAMED,
            {"SHADOWS__GPT_4O__PERCETN": "5"},
            "SHADOWS__GPT_4O__PERCETN: unknown key (did you mean SHADOWPROXY_SHADOWS__GPT_4O__PERCENT?)",
        ),
        (LEAST, {"SHADOWS__LIVE__URL": "http://a"}, "SHADOWS__LIVE__URL: cannot be a shadow's name"),
    ],
)
def test_an_error_names_the_variable(tmp_path: Path, text: str | None, environment: dict[str, str], line: str) -> None:
    said = error(tmp_path, text, {f"SHADOWPROXY_{name}": value for name, value in environment.items()})
    assert said.startswith(f"SHADOWPROXY_{line}")
    assert len(said.splitlines()) == 1


def test_an_error_of_the_file_names_its_line_and_one_of_an_option_the_option(tmp_path: Path) -> None:
    text = f"{LEAST}drain: soon\nworkers: many\n"
    said = error(tmp_path, text, {"SHADOWPROXY_WORKERS": "x"}, ("--admin", "y"))
    assert [line.partition(": ")[0] for line in said.splitlines()] == [
        "--admin",
        "SHADOWPROXY_WORKERS",
        "config.yaml:2",
    ]


@pytest.mark.parametrize("name", sorted(OF_SERVICES))
def test_what_kubernetes_sets_for_a_service_changes_nothing(tmp_path: Path, name: str) -> None:
    environment = {name: OF_SERVICES[name]}
    assert read(tmp_path, LEAST, environment).by == {}
    assert list(config.strays(environment)) == []


def test_a_variable_without_a_known_name_is_a_warning() -> None:
    environment = {"SHADOWPROXY_LIVE_URL": "http://a", "SHADOWPROXY_MINE": "x", "SHADOWPROXY_DRAIN": "1s", "PATH": "/"}
    environment |= dict.fromkeys(OTHERS, "x") | {"SHADOWPROXY_REPORT__JSON": "1"}
    assert list(config.strays(environment)) == [
        "SHADOWPROXY_LIVE_URL sets nothing (did you mean SHADOWPROXY_LIVE__URL?)",
        "SHADOWPROXY_MINE sets nothing",
    ]


def test_a_name_that_is_nearly_a_key_of_a_section_with_a_commands_name_is_a_warning() -> None:
    assert "verdict" in COMMANDS
    environment = {"SHADOWPROXY_VERDICT__WINDWO": "1h", "SHADOWPROXY_VERDICT__JSON": "1"}
    assert list(config.strays(environment)) == [
        "SHADOWPROXY_VERDICT__WINDWO sets no key (did you mean SHADOWPROXY_VERDICT__WINDOW?)"
    ]


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_what_the_environment_sets_is_shown_nowhere(tmp_path: Path) -> None:
    secret = "hunter2-hunter2-hunter2"
    environment = BASE | {
        "SHADOWPROXY_ADMIN_TOKEN": secret,
        "SHADOWPROXY_LIVE__HEADERS__SET": f'{{X-Tenant: {secret}, Y: "{secret}"}}',
        "SHADOWPROXY_SAMPLING__SALT": secret,
        "SHADOWPROXY_SHADOWS__B": f'{{url: http://b, rewrite: {{json: {{/a: "{secret}"}}}}}}',
        "SHADOWPROXY_SHADOWS__B__QUERY__SET": f"{{t: {secret}}}",
        "SHADOWPROXY_LIVE__RESPOND": "null",
    }
    loaded = read(tmp_path, None, environment)
    assert loaded.config.admin_token == secret
    assert secret not in json.dumps(config.shown(loaded.config))
    assert secret not in repr(loaded.by)
    assert isinstance(loaded.config.sampling.salt, FROM_ENVIRONMENT)
    assert config.warnings_for(loaded.config) == ()


# --- an application's companion --------------------------------------------------------------------------------------


def test_a_companion_takes_its_keys_from_code_before_the_environment_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "team.yaml").write_text("log: {path: of-the-file, bodies: none, body_limit: 1KiB}\n")
    keys = {"shadows": {"GPT-4o": {"candidate": True}}, "log": {"path": "of-the-code"}}
    described = json.dumps({"socket": "/s", "config": str(tmp_path / "team.yaml"), "keys": keys})
    environment = {
        "SHADOWPROXY_LOG__PATH": "of-the-environment",
        "SHADOWPROXY_LOG__BODIES": "hash",
        "SHADOWPROXY_SHADOWS__GPT_4O__PERCENT": "5",
        "SHADOWPROXY_LIVE__URL": "http://for-the-sidecar",
        "SHADOWPROXY_LISTEN": "0.0.0.0:1",
    }
    made = config.companion_of(described.encode(), tmp_path / "described", environment).config
    assert (made.log.path, made.log.bodies, made.log.body_limit) == ("of-the-code", "hash", 1024)
    assert made.shadows["GPT-4o"].percent == 5.0
    assert made.live.url is None


# --- options ---------------------------------------------------------------------------------------------------------


def all_options() -> dict[str, click.Option]:
    return {
        variable: option
        for name, command in cli.commands.commands.items()
        for variable, option in options_of(command, (name,))
    }


def test_the_configuration_knows_all_commands() -> None:
    assert set(cli.commands.commands) == COMMANDS


def test_every_variable_with_a_name_of_its_own_is_known() -> None:
    named = {str(each.envvar) for each in all_options().values() if each.envvar}
    assert {"SHADOWPROXY_CONFIG", "SHADOWPROXY_LOG_LEVEL"} <= named <= OTHERS


def test_no_variable_means_two_things() -> None:
    counted = [v for name, c in cli.commands.commands.items() for v, _ in options_of(c, (name,))]
    assert len(counted) == len(set(counted)) > 100
    assert not set(counted) & ({*variables()} | OTHERS - {*INSTEAD.values()})
    assert set(INSTEAD) <= {*variables()}
    assert not OTHERS & {*variables()}
    assert {KEYS[each] for each in KEYS} <= {each.replace("*", "NAME") for each in variables()}


@pytest.mark.parametrize(
    ("command", "name", "text", "given"),
    [
        ("report", "REPORT__MIN_AGREEMENT", "0.9", {"min_agreement": 0.9}),
        ("report", "REPORT__JSON", "true", {"as_json": True}),
        ("report", "REPORT__JSON", "0", {"as_json": False}),
        ("report", "REPORT__WHERE", "/a=b c", {"where": ("/a=b c",)}),
        ("report", "REPORT__WHERE", '[/a=1, "/b=x y"]', {"where": ("/a=1", "/b=x y")}),
        ("report", "REPORT__SHADOW", "", {"shadow": None}),
        ("replay", "REPLAY__STATE", "no", {"state": False}),
        ("tail", "TAIL__N", "7", {"last": 7}),
        ("erase", "ERASE__DRY_RUN", "1", {"dry": True}),
    ],
)
def test_an_option_may_come_from_the_environment(command: str, name: str, text: str, given: dict[str, Any]) -> None:
    found = cli.commands.commands[command]
    defaulted = defaults(found, (command,), {f"SHADOWPROXY_{name}": text, "SHADOWPROXY_OTHER__X": "y"})
    with click.Context(cli.commands, info_name="shadowproxy", default_map={command: defaulted}) as parent:
        words = {"show": ["x", "y"], "export": ["x"]}.get(command, ["x"])
        required = {"replay": ["--to", "http://a"]}.get(command, [])
        context = found.make_context(command, [*required, *words], parent=parent)
    for key, value in given.items():
        assert context.params[key] == value


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"SHADOWPROXY_REPORT__MIN_AGREEMENT": "most"}, "SHADOWPROXY_REPORT__MIN_AGREEMENT: 'most' is not a valid"),
        (
            {"SHADOWPROXY_REPORT__MIN_AGREMENT": "1"},
            "SHADOWPROXY_REPORT__MIN_AGREMENT: unknown option (did you mean SHADOWPROXY_REPORT__MIN_AGREEMENT?)",
        ),
        ({"SHADOWPROXY_REPORT__WHERE": "[[a]]"}, "SHADOWPROXY_REPORT__WHERE: must be one value, or a list of them"),
        ({"SHADOWPROXY_REPORT__WHERE": "[a, ]]"}, "SHADOWPROXY_REPORT__WHERE: not YAML"),
    ],
)
def test_what_is_wrong_with_an_option_of_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: dict[str, str], line: str
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(sys, "argv", ["shadowproxy", "report", "nowhere"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"shadowproxy: {line}")
    assert len(said.splitlines()) == 1


def test_an_option_of_a_command_within_another_has_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADOWPROXY_DEMO__LIVE__PORT", "70000")
    assert "SHADOWPROXY_DEMO__LIVE__PORT" in all_options()
    error: click.BadParameter | None = None
    try:
        cli.commands.main(["demo", "live"], prog_name="shadowproxy", standalone_mode=False)
    except click.BadParameter as caught:
        error = caught
    assert error is not None
    assert blamed(error) == "SHADOWPROXY_DEMO__LIVE__PORT"


def test_a_wrong_option_of_another_command_is_no_concern_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADOWPROXY_REPORT__NONSENSE", "1")
    assert defaults(cli.commands.commands["tail"], ("tail",), os.environ) == {}


# --- the programs ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_check_says_what_sets_each_key_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"live: {{respond: {{}}}}\nlog: {{path: {tmp_path}}}\n")
    environment = {
        "SHADOWPROXY_CONFIG": str(tmp_path / "config.yaml"),
        "SHADOWPROXY_LISTEN": "127.0.0.1:0",
        "SHADOWPROXY_LOG__PATH": str(tmp_path / "log"),
        "SHADOWPROXY_ADMIN_TOKEN": "0123456789abcdef-secret",
        "SHADOWPROXY_DRIAN": "5s",
    }
    done = run("check", "--admin", "off", stdin=b"", **environment, **OF_SERVICES)
    told = " ".join(done.stdout.split())
    assert "listen 127.0.0.1:0 (SHADOWPROXY_LISTEN)" in told
    assert "admin off (--admin)" in told
    assert f"log {tmp_path}/log (SHADOWPROXY_LOG__PATH)" in told
    assert "SHADOWPROXY_LISTEN: listen" in told
    assert f"SHADOWPROXY_LOG__PATH: log.path, over {tmp_path}/config.yaml:2" in told
    assert "--admin: admin" in told
    assert "warning SHADOWPROXY_DRIAN sets nothing (did you mean SHADOWPROXY_DRAIN?)" in told
    assert "secret" not in done.stdout
    assert "SERVICE" not in done.stdout
    assert done.returncode == 0


@pytest.mark.slow
def test_serve_runs_by_the_environment_alone_and_a_reload_says_that_only_a_restart_changes_it(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        **OF_SERVICES,
        "SHADOWPROXY_LIVE__RESPOND__JSON": '{"live": true}',
        "SHADOWPROXY_SHADOWS__NEXT__URL": "http://127.0.0.1:9",
        "SHADOWPROXY_LISTEN": "127.0.0.1:0",
        "SHADOWPROXY_ADMIN": "null",
        "SHADOWPROXY_LOG__PATH": str(tmp_path / "log"),
        "SHADOWPROXY_SERVE__LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "shadowproxy", "serve"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        said = [json.loads(next(lines))]
        while said[-1]["event"] != "repeated":
            said.append(json.loads(next(lines)))
        process.send_signal(signal.SIGHUP)
        while said[-1]["event"] != "reload_failed":
            said.append(json.loads(next(lines)))
        process.terminate()
        process.communicate(timeout=PATIENCE)
    started = next(each for each in said if each["event"] == "started")
    assert started["shadows"] == {"next": "http://127.0.0.1:9"}
    assert said[-1]["message"].startswith("cannot reload: there is no configuration file")
    assert process.returncode == 0


def test_the_page_shows_a_start_without_a_file() -> None:
    page = (Path(__file__).parent.parent / "docs/reference/environment.md").read_text()
    (line,) = re.findall(r"```sh\n(.*) shadowproxy serve\n", page)
    made = config.read(None, environment=dict(each.split("=", 1) for each in line.split())).config
    assert made.live.url == "http://model-v1:8000"
    assert made.shadows["challenger"].url == "http://model-v2:8000"


def test_every_variable_that_the_page_names_is_one() -> None:
    page = (Path(__file__).parent.parent / "docs/reference/environment.md").read_text()
    known = {each.replace("*", "NAME") for each in variables()} | all_options().keys() | OTHERS
    named = {
        re.sub(r"SHADOWS__(CHALLENGER|GPT_4O)__", "SHADOWS__NAME__", each)
        for each in re.findall(r"SHADOWPROXY_\w+", page)
    }
    ours = {each for each in named - known if list(config.strays({each: "x"})) or "__" in each}
    assert ours == {"SHADOWPROXY_LIVE__ULR", "SHADOWPROXY_LIVE_URL"}
    assert len(named) > 100


def test_serve_without_anything_says_what_it_needs() -> None:
    assert "give -c FILE, or --live URL" in fault("serve")


def test_serve_without_anything_names_a_variable_that_was_nearly_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADOWPROXY_LIVE_URL", "http://live")
    assert "; SHADOWPROXY_LIVE_URL sets nothing (did you mean SHADOWPROXY_LIVE__URL?)" in fault("serve")


async def test_what_is_read_again_has_the_options_and_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"{LEAST}drain: 1s\nworkers: 2\n")
    monkeypatch.setenv("SHADOWPROXY_DRAIN", "2s")
    monkeypatch.setenv("SHADOWPROXY_ADMIN", "null")
    options = (("--shadow", "GPT-4o=http://b"),)
    for specs in (read_specs(file, options), await read_specs_apart(file, options)):  # at the start, and by a reload
        program = specs.program
        assert (program.drain, program.workers, program.admin) == (2.0, 2, None)
        assert program.shadows == {"GPT-4o": "http://b"}
        assert program.options == options


# --- names that models have ------------------------------------------------------------------------------------------


async def test_a_shadow_may_be_called_as_its_model_is(proxy: StartProxy) -> None:
    async with proxy(answer(b"{}"), shadows={"GPT-4.1_mini": answer(b"{}")}, admin="127.0.0.1:0") as running:
        await running.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert running.sidecar.admin_address is not None
        async with await Caller.to(running.sidecar.admin_address) as operator:
            path = "/shadows/GPT-4.1_mini/percent"
            body = b'{"percent": 5}'
            head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Shadowproxy-Admin: 1\r\n"
            told = json.loads((await operator.ask(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)).body)
            assert told["percent"] == 5
            metrics = (await operator.ask(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).body.decode()
            assert 'shadow="GPT-4.1_mini"' in metrics
        (record,) = await running.records()
        assert list(record.shadows) == ["GPT-4.1_mini"]
        (request,) = running.shadows["GPT-4.1_mini"].requests
        assert request.all(b"x-shadow-request") == [b"GPT-4.1_mini"]


# --- healthcheck -----------------------------------------------------------------------------------------------------


async def test_a_healthcheck_asks_where_the_environment_says_that_admin_is(proxy: StartProxy) -> None:
    async with proxy(admin="127.0.0.1:0") as running:
        assert running.sidecar.admin_address is not None
        host, port = running.sidecar.admin_address
        environment = {"SHADOWPROXY_ADMIN": f"{host}:{port}"}
        assert await asyncio.to_thread(healthcheck.run, [], environment) == 0
        # A file that cannot be read, as while somebody edits it, says nothing of a sidecar that runs.
        environment = {"SHADOWPROXY_ADMIN": f'"{host}:{port}"', "SHADOWPROXY_CONFIG": "nowhere.yaml"}
        assert await asyncio.to_thread(healthcheck.run, [], environment) == 0


@pytest.mark.parametrize("name", ["SHADOWPROXY_CONFIG", "SHADOWPROXY_HEALTHCHECK__ADMIN"])
def test_a_healthcheck_by_a_file_or_an_option_of_the_environment_is_left_to_the_command(name: str) -> None:
    assert healthcheck.run([], {name: "x"}) is None
    assert healthcheck.run([], {name: "x", "SHADOWPROXY_ADMIN": "null"}) is None
