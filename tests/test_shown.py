"""The configuration as it is shown: the same one again where there is no secret in it, and never a secret."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy import config
from shadowproxy.config.readers import duration, size
from shadowproxy.serve.policy.rewrite import Rewrite

BASE: dict[str, Any] = {"live": {"url": "http://a"}, "shadows": {"x": {"url": "http://b/base"}}}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"admin": None, "listen": "unix:/run/sp.sock", "drain": 0},
        {"live": {"respond": {"json": {"late": False}, "headers": {"X-Model": "rule"}}}},
        {"compare": {"tolerance": {"/p": {"abs": 0.1}}, "ignore": ["/**/at"]}, "control": {"percent": 0.5}},
        {"log": {"keep": {"size": None, "age": "36h"}, "rotate": {"size": 1000, "every": 0.0015}}},
    ],
    ids=["least", "sockets", "fixed answer", "comparing", "odd quantities"],
)
def test_what_is_shown_makes_the_same_configuration_again(more: dict[str, Any]) -> None:
    made = config.from_values(BASE | more)
    told = config.shown(made)
    assert config.from_values(told) == made
    assert json.loads(json.dumps(told)) == told


@given(st.floats(0, 1e9) | st.integers(0, 10**7).map(float))
def test_a_duration_is_written_so_that_it_is_read_as_the_same(seconds: float) -> None:
    assert config.from_values(BASE | {"drain": duration(seconds)}).drain == seconds


@given(st.integers(1, 1 << 50))
def test_a_size_is_written_so_that_it_is_read_as_the_same(count: int) -> None:
    assert config.from_values(BASE | {"log": {"rotate": {"size": size(count)}}}).log.rotate.size == count


def test_quantities_are_written_as_people_write_them() -> None:
    told = config.shown(config.from_values(BASE))
    assert (told["drain"], told["overload"]["loop_lag"], told["log"]["rotate"]["every"]) == ("30s", "50ms", "1h")
    assert (told["limits"]["capture"], told["log"]["keep"]["age"]) == ("8MiB", "30d")


def test_no_secret_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("""
admin_token: ${TOKEN}
live:
  url: http://a
  headers: {set: {Authorization: secret-literal, X-Tenant: "${TENANT}", X-Stage: shown}}
  query: {set: {sig: secret-literal}}
shadows:
  x:
    url: http://b
    headers: {set: {X-Api-Key: secret-literal, X-Up: Basic c2VjcmV0OnNlY3JldA==, X-Kind: Token}}
    query: {set: {api_key: secret-literal, key: secret-literal, tenant: "${TENANT}", v: "2"}, remove: [debug]}
    match: {headers: {Cookie: "secret-literal*", X-Stage: shown}}
    rewrite: {json: {/api_key: secret-literal, /model: shown}}
log: {redact: {hash_key: secret-literal}}
""")
    made = config.load(file, {"TOKEN": "secret-token-of-the-admin", "TENANT": "secret-tenant"})
    told = config.shown(made)
    assert "secret" not in json.dumps(told)
    assert told["admin_token"] == told["log"]["redact"]["hash_key"] == "[redacted]"
    assert told["live"]["headers"]["set"] == {
        "Authorization": "[redacted]",
        "X-Tenant": "[redacted]",
        "X-Stage": "shown",
    }
    assert told["live"]["query"]["set"] == {"sig": "[redacted]"}
    assert told["shadows"]["x"]["headers"]["set"] == {
        "X-Api-Key": "[redacted]",
        "X-Up": "[redacted]",
        "X-Kind": "Token",
    }
    assert told["shadows"]["x"]["query"] == {
        "set": {"api_key": "[redacted]", "key": "[redacted]", "tenant": "[redacted]", "v": "2"},
        "remove": ["debug"],
    }
    assert told["shadows"]["x"]["match"]["headers"]["X-Stage"] == "shown"
    assert told["shadows"]["x"]["rewrite"]["json"] == {"/api_key": "[redacted]", "/model": "shown"}
    assert "secret-token" not in repr(made)


def test_the_headers_of_a_fixed_answer_are_blanked_too() -> None:
    told = config.shown(config.from_values({"live": {"respond": {"headers": {"Set-Cookie": "secret"}}}}))
    assert told["live"]["respond"]["headers"] == {"Set-Cookie": "[redacted]"}


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "umläut", 12345678])
def test_a_token_that_cannot_be_sent_is_refused_without_being_quoted(token: object) -> None:
    with pytest.raises(config.ConfigError) as refused:
        config.from_values(BASE | {"admin_token": token})
    assert str(refused.value).startswith("admin_token: must be ")
    assert not token or str(token) not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        ({"admin_token": "x" * 16}, "admin_token is a secret written into the file"),
        ({"admin_token": "x" * 15}, "admin_token is shorter than 16 characters"),
        ({"admin_token": "x" * 16, "admin": None}, "admin_token has no effect"),
    ],
)
def test_a_token_that_is_likely_not_meant_so_is_warned_of(more: dict[str, Any], warning: str) -> None:
    warnings = config.warnings_for(config.from_values(BASE | more))
    assert any(each.startswith(warning) for each in warnings)
    assert "x" * 15 not in "".join(warnings)


def test_a_long_token_from_the_environment_is_warned_of_in_no_way(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{live: {url: http://a}, shadows: {x: {url: http://b}}, admin_token: '${T}'}")
    assert config.warnings_for(config.load(file, {"T": "0123456789abcdef"})) == ()


ENVIRONMENT = {
    "TEXT": "secret-text",
    "PIN": "7236172",
    "RATE": "0.8451927",
    "PATH_": "/secret-path",
    "HOST": "secret.example",
}


def test_nothing_from_the_environment_is_shown_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("""
live:
  respond: {json: {a: [1, {b: "${TEXT}"}], pin: "${PIN}", rate: "${RATE}", kept: 2.5}}
shadows:
  x:
    url: http://b
    host: ${HOST}
    match:
      headers: {X-Stage: "${TEXT}*"}
      paths: ["${PATH_}/*", /kept]
      json: {/tenant: "${TEXT}"}
      not: {paths: ["${PATH_}"], headers: {X-Stage: "${TEXT}"}, json: {/tenant: "${TEXT}"}}
    rewrite: {path: {/old: "${PATH_}"}, json: {/p: "${TEXT}", /n: {deep: ["${PIN}", "kept"], rate: "${RATE}"}}}
sampling: {salt: "${TEXT}"}
log: {redact: {query: ["${TEXT}"]}}
""")
    made = config.load(file, ENVIRONMENT)
    told = config.shown(made)
    text = json.dumps(told)
    assert not [value for value in ENVIRONMENT.values() if value in text]
    blank = "[redacted]"
    assert told["live"]["respond"]["json"] == {"a": [1, {"b": blank}], "pin": blank, "rate": blank, "kept": 2.5}
    shadow = told["shadows"]["x"]
    assert (shadow["host"], told["sampling"]["salt"], told["log"]["redact"]["query"]) == (blank, blank, [blank])
    assert shadow["match"] == {
        "methods": ["GET", "HEAD", "POST", "OPTIONS"],
        "paths": [blank, "/kept"],
        "headers": {"X-Stage": blank},
        "json": {"/tenant": blank},
        "not": {"methods": [], "paths": [blank], "headers": {"X-Stage": blank}, "json": {"/tenant": blank}},
    }
    assert shadow["rewrite"] == {
        "path": {"/old": blank},
        "json": {"/p": blank, "/n": {"deep": [blank, "kept"], "rate": blank}},
    }
    # They are in force nevertheless, as what they are.
    assert made.live.respond is not None
    assert json.loads(made.live.respond.reply()[2]) == {
        "a": [1, {"b": "secret-text"}],
        "pin": 7236172,
        "rate": 0.8451927,
        "kept": 2.5,
    }
    rewrite = Rewrite.of(made.shadows["x"].rewrite.path, made.shadows["x"].rewrite.json)
    assert rewrite.paths == {b"/old": b"/secret-path"}
    assert dict(rewrite.values)["n",] == b'{"deep":[7236172,"kept"],"rate":0.8451927}'


def test_a_fixed_text_from_the_environment_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("live: {respond: {text: 'it is ${TEXT}'}}")
    assert config.shown(config.load(file, ENVIRONMENT))["live"]["respond"]["text"] == "[redacted]"


def test_where_things_are_is_shown_though_it_came_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{live: {url: 'http://${HOST}:${PORT}'}, drain: '${DRAIN}', log: {path: '${LOG}'}}")
    told = config.shown(config.load(file, {"HOST": "model", "PORT": "8000", "DRAIN": "5s", "LOG": "/logs"}))
    assert (told["live"]["url"], told["drain"], told["log"]["path"]) == ("http://model:8000", "5s", "/logs")
