"""The configuration: what a file says is what the models hold, and each fault is one line that names its place."""

import dataclasses
import gc
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy import config
from shadowproxy.compare.report.gates import Gates
from shadowproxy.config import Config, ConfigError, TcpAddress, UnixAddress, source
from shadowproxy.config.source import FromEnvironment, YamlError
from shadowproxy.config.standing import VerdictGates

LIVE = {"url": "http://live:8000"}


def of(**values: object) -> Config:
    return config.from_values({"live": LIVE, **values})


def fault(**values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        of(**values)
    return str(caught.value)


def shadow_fault(**values: object) -> str:
    return fault(shadows={"b": {"url": "http://b:1", **values}})


def written(directory: Path, text: str) -> Path:
    path = directory / "config.yaml"
    path.write_text(text)
    return path


def file_fault(directory: Path, text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(written(directory, text), environment or {})
    return str(caught.value).replace(f"{directory}/", "")


# --- what a good file gives ------------------------------------------------------------------------------------------


def test_the_smallest_useful_file_is_two_lines(tmp_path: Path) -> None:
    text = "live: {url: http://model-v1:8000}\nshadows: {challenger: {url: http://model-v2:8000}}\n"
    loaded = config.load(written(tmp_path, text))
    assert loaded.live.url == "http://model-v1:8000"
    assert loaded.shadows["challenger"].url == "http://model-v2:8000"
    assert loaded.listen == (TcpAddress("127.0.0.1", 8080),)
    assert config.warnings_for(loaded) == ()


def test_flags_give_the_same_as_the_smallest_file(tmp_path: Path) -> None:
    text = "live: {url: http://a:1}\nshadows: {b: {url: http://b:2}}\nlisten: '[::1]:0'\nlog: {path: '-'}\n"
    options = [("--live", "http://a:1"), ("--shadow", "b=http://b:2"), ("--listen", "[::1]:0"), ("--log", "-")]
    assert config.read(None, options=options).config == config.load(written(tmp_path, text))


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        of().live.url = "http://elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("30s", 30), ("5m", 300), ("12h", 43200), ("7d", 604800), (2.5, 2.5), (0, 0)]
)
def test_durations_are_seconds(text: object, seconds: float) -> None:
    assert of(drain=text).drain == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("256KiB", 262144), ("5MB", 5_000_000), ("1.5GiB", 1610612736), ("10 GiB", 10737418240), ("7B", 7), (99, 99)],
)
def test_sizes_are_bytes(text: object, size: int) -> None:
    assert of(log={"body_limit": text}).log.body_limit == size


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("[::]:80", TcpAddress("::", 80)),
        ("unix:/run/shadow.sock", UnixAddress("/run/shadow.sock")),
    ],
)
def test_listen_is_an_address_that_prints_as_it_was_written(text: str, address: object) -> None:
    assert of(listen=text).listen == (address,)
    assert str(address) == text


def test_no_default_cuts_an_answer_for_which_common_clients_wait_longer() -> None:
    """OpenAI's and Anthropic's wait 600 s for an answer that is not streamed."""
    assert of().live.timeout >= 600


@pytest.mark.parametrize("word", ["off", "idle"])
def test_off_is_a_word_and_not_false(tmp_path: Path, word: str) -> None:
    assert config.load(written(tmp_path, f"live: {{url: http://a, retry: {word}}}")).live.retry == word


def test_anchors_and_merges_share_settings(tmp_path: Path) -> None:
    text = """
live: {url: http://a}
shadows:
  one: &usual {url: http://b, percent: 5, timeout: 2s}
  two: {<<: *usual, url: http://c}
"""
    shadows = config.load(written(tmp_path, text)).shadows
    assert shadows["two"] == dataclasses.replace(shadows["one"], url="http://c")


def test_a_key_that_overrides_a_merged_one_is_the_one_that_is_blamed(tmp_path: Path) -> None:
    text = """live: {url: http://a}
shadows:
  one: &usual {url: http://b, percent: 5}
  two:
    percent: 500
    <<: *usual
"""
    assert file_fault(tmp_path, text).startswith("config.yaml:5: shadows.two.percent: ")


def test_of_two_merged_mappings_the_first_counts(tmp_path: Path) -> None:
    text = "live: {<<: [{url: http://a, timeout: 1s}, {url: http://b, retry: 'off'}]}"
    live = config.load(written(tmp_path, text)).live
    assert (live.url, live.timeout, live.retry) == ("http://a", 1.0, "off")


def test_a_fixed_answer_takes_the_place_of_a_live_system() -> None:
    status, fields, body = reply(json={"late": False, "p": [0.25]}, headers={"X-Model": "rule"})
    assert (status, body) == (200, b'{"late":false,"p":[0.25]}')
    assert fields == ((b"X-Model", b"rule"), (b"Content-Type", b"application/json"))


def test_an_empty_respond_is_204_without_a_body() -> None:
    assert reply() == (204, (), b"")


def test_a_fixed_answer_keeps_the_content_type_it_is_given() -> None:
    assert reply(text="a,b", headers={"content-type": "text/csv"}, status=203) == (
        203,
        ((b"content-type", b"text/csv"),),
        b"a,b",
    )


def reply(**respond: object) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes]:
    made = config.from_values({"live": {"respond": respond}}).live.respond
    assert made is not None
    return made.reply()


def test_a_tolerance_may_be_one_number_or_two() -> None:
    tolerance = of(compare={"tolerance": {"/p/*": 0.1, "/q": {"rel": 0.01}}}).compare.tolerance
    assert (tolerance["/p/*"].abs, tolerance["/p/*"].rel) == (0.1, 0)
    assert (tolerance["/q"].abs, tolerance["/q"].rel) == (0, 0.01)


# --- the environment -------------------------------------------------------------------------------------------------


def test_the_environment_fills_in_text_and_numbers(tmp_path: Path) -> None:
    text = """
live: {url: "http://${HOST}:${PORT:-8000}", retry: "${RETRY}"}
shadows: {b: {url: http://b, percent: "${PERCENT}", timeout: "${TIMEOUT}", forward_credentials: "${YES}"}}
"""
    environment = {"HOST": "model", "RETRY": "off", "PERCENT": "12.5", "TIMEOUT": "3s", "YES": "true"}
    loaded = config.load(written(tmp_path, text), environment)
    assert loaded.live.url == "http://model:8000"
    assert loaded.live.retry == "off"
    shadow = loaded.shadows["b"]
    assert (shadow.percent, shadow.timeout, shadow.forward_credentials) == (12.5, 3.0, True)


def test_a_value_from_the_environment_cannot_become_structure(tmp_path: Path) -> None:
    hostile = "x}\nlog: {path: /etc"
    text = 'live: {url: http://a}\nsampling: {salt: "${SALT}"}\n'
    assert config.load(written(tmp_path, text), {"SALT": hostile}).sampling.salt == hostile


def test_digits_from_the_environment_stay_text_where_text_is_meant(tmp_path: Path) -> None:
    text = 'live: {url: http://a, headers: {set: {X-Api-Key: "${KEY}"}}}'
    assert config.load(written(tmp_path, text), {"KEY": "0012"}).live.headers.set["X-Api-Key"] == "0012"


def test_two_dollars_are_one(tmp_path: Path) -> None:
    text = 'live: {url: http://a}\nsampling: {salt: "$${HOME} $5"}\n'
    assert config.load(written(tmp_path, text), {"HOME": "/root"}).sampling.salt == "${HOME} $5"


def test_a_variable_set_to_nothing_gives_way_to_the_default(tmp_path: Path) -> None:
    text = 'live: {url: "${URL:-http://a}"}'
    assert config.load(written(tmp_path, text), {"URL": ""}).live.url == "http://a"


def test_a_missing_variable_is_named_with_its_place(tmp_path: Path) -> None:
    message = file_fault(tmp_path, 'live:\n  url: "http://${HOST}:1"\n')
    assert message == "config.yaml:2: live.url: the environment variable HOST is not set"


def test_a_reference_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    assert "write ${NAME}" in file_fault(tmp_path, 'live: {url: "http://${not a name}"}')


# --- what is wrong, and where ----------------------------------------------------------------------------------------


def test_a_misspelt_key_is_named_with_file_line_and_the_nearest_key(tmp_path: Path) -> None:
    text = "live: {url: http://a}\nshadows:\n  challenger:\n    url: http://b\n    timout: 3s\n"
    assert (
        file_fault(tmp_path, text) == 'config.yaml:5: shadows.challenger.timout: unknown key (did you mean "timeout"?)'
    )


def test_a_key_at_the_wrong_level_is_told_where_it_belongs(tmp_path: Path) -> None:
    text = "live: {url: http://a}\nlog:\n  size: 5GiB\n"
    assert file_fault(tmp_path, text) == 'config.yaml:3: log.size: unknown key (did you mean "log.rotate.size"?)'


@pytest.mark.parametrize("written", ["36526d", f"1{'0' * 400}", f"{'9' * 400}d", ".inf"])
def test_a_duration_is_at_most_100_years(tmp_path: Path, written: str) -> None:
    text = "live: {url: http://a}\nlog: {rotate: {every: %s}}\n"
    assert file_fault(tmp_path, text % written) == "config.yaml:2: log.rotate.every: is longer than 100 years"


@pytest.mark.parametrize("key", ["drain", "limits: {capture"])
def test_a_number_far_below_0_is_a_fault_like_any_other(tmp_path: Path, key: str) -> None:
    ending = "}" if "{" in key else ""
    text = f"live: {{url: http://a}}\n{key}: -1{'0' * 400}{ending}\n"
    assert "must be greater than" in file_fault(tmp_path, text)


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = "live: {url: ftp://a}\ndrain: soon\nshadows: {b: {percent: 101}}\n"
    lines = file_fault(tmp_path, text).splitlines()
    assert {line.split(": ")[1] for line in lines} == {"live.url", "drain", "shadows.b.url", "shadows.b.percent"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("live: {url: http://a}\nlive: {url: http://b}\n", "config.yaml:2: live: appears twice"),
        ("live: {url: http://a\n", "config.yaml:2: not YAML"),
        ("live:\n\turl: http://a\n", "config.yaml:2: not YAML"),
        ("live: *nobody\n", "config.yaml:1: not YAML"),
        ("", "config.yaml: is empty"),
        ("- live\n", "config.yaml:1: must be a mapping"),
        ("live: !!python/object:os.system {}\n", "config.yaml:1: live: "),
        ("live: !secret x\n", "config.yaml:1: live: the tag !secret is not supported"),
        ("a: b\n---\nc: d\n", "config.yaml:2: not YAML"),
        ("? [a]\n: b\n", "config.yaml:1: a key must be plain text"),
        ("live: \0\n", "config.yaml: not YAML"),
        ("[" * 5000, "config.yaml: is nested too deeply"),
        ("live:\n  <<: 5\n", "config.yaml:2: live: << takes a mapping"),
        ("log:\n", "config.yaml:1: log: must be a mapping of keys"),
    ],
)
def test_what_is_no_configuration_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    told = file_fault(tmp_path, text)
    assert any(line.startswith(message) for line in told.splitlines()), told
    assert not any("Traceback" in line for line in told.splitlines())


def test_aliases_cannot_be_made_into_a_bomb(tmp_path: Path) -> None:
    layers = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
    assert "with its aliases expanded" in file_fault(tmp_path, f"a0: &a0 [x]\n{layers}\n")


def test_a_file_of_more_than_a_megabyte_is_not_even_parsed(tmp_path: Path) -> None:
    assert "is longer than" in file_fault(tmp_path, "#" * (1 << 20) + "\nlive: {url: http://a}\n")


def test_a_value_that_holds_itself_is_refused(tmp_path: Path) -> None:
    assert "nested deeper" in file_fault(tmp_path, "live: &loop [*loop]\n")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        config.load(tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"live: {url: http://\xe9}")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        config.load(tmp_path / "latin.yaml")


def test_flags_are_named_when_they_are_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        config.read(None, options=[("--live", "model:8000"), ("--shadow", "b!=http://b"), ("--listen", "8080")])
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["--listen", "--live", "--shadow b!"]


@pytest.mark.parametrize("value", [True, False, "x", "5 weeks", "-1s", -1, "", None, [], float("inf"), float("nan")])
def test_what_is_no_duration_is_refused(value: object) -> None:
    assert fault(drain=value).startswith("drain: ")


@pytest.mark.parametrize("value", [True, "5mb", "1.0001KiB", -5, "KiB", None])
def test_what_is_no_size_is_refused(value: object) -> None:
    assert fault(log={"body_limit": value}).startswith("log.body_limit: ")


@pytest.mark.parametrize("value", [True, "5", -0.1, 100.1, None, float("nan")])
def test_what_is_no_percentage_is_refused(value: object) -> None:
    assert shadow_fault(percent=value).startswith("shadows.b.percent: ")


def test_a_percentage_may_be_a_fraction() -> None:
    assert of(shadows={"b": {"url": "http://b", "percent": 0.5}}).shadows["b"].percent == 0.5


@pytest.mark.parametrize("value", ["yes", "true", 1, None])
def test_only_true_and_false_are_flags(value: object) -> None:
    assert fault(forwarded=value) == "forwarded: must be true or false"


@pytest.mark.parametrize("value", [True, 1.5, 0, "64"])
def test_what_is_no_count_is_refused(value: object) -> None:
    assert shadow_fault(in_flight=value).startswith("shadows.b.in_flight: ")


@pytest.mark.parametrize(
    "url",
    [
        "model:8000",
        "http://",
        "http:///p",
        "ftp://a",
        "http://a:99999",
        "http://a:x",
        "http://a:0",
        "http://a b",
        "http://a/é",
        "http://a/?q=1",
        "http://a/#f",
        "http://a\n",
        "http://[::1",
        "http://a,b",
        8000,
        None,
    ],
)
def test_what_is_no_endpoint_is_refused(url: object) -> None:
    assert shadow_fault(url=url).startswith("shadows.b.url: ")


@pytest.mark.parametrize(
    "url", ["http://a", "https://a.example:8443/base/path/", "http://[::1]:80", "http://10.0.0.1:1/v1"]
)
def test_endpoints_may_have_a_port_and_a_base_path(url: str) -> None:
    assert of(shadows={"b": {"url": url}}).shadows["b"].url == url


def test_a_password_in_a_url_is_refused_with_advice_and_not_repeated() -> None:
    message = shadow_fault(url="http://user:hunter2@b")
    assert "headers.set" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"set": {"": "x"}}, "shadows.b.query.set.: is not the name of a parameter"),
        ({"set": {"a=b": "x"}}, "shadows.b.query.set.a=b: is not the name of a parameter"),
        ({"set": {"a%20b": "x"}}, "shadows.b.query.set.a%20b: is percent-encoded"),
        ({"set": {"v": 2}}, "shadows.b.query.set.v: must be text: put it in quotes"),
        ({"remove": ["X-Amz-*"]}, "shadows.b.query.remove.0: has a * in it, which is no wildcard here"),
        ({"remove": [""]}, "shadows.b.query.remove.0: is not the name of a parameter"),
        ({"set": {"v": "2"}, "remove": ["v"]}, "shadows.b.query: v is both set and removed"),
        ({"put": {}}, "shadows.b.query.put: unknown key"),
    ],
)
def test_what_no_query_can_be_changed_by_is_refused(query: dict[str, object], problem: str) -> None:
    assert shadow_fault(query=query).startswith(problem)


@pytest.mark.parametrize("listen", ["8080", ":80", "host", "host:70000", "::1:80", "unix:relative", "", 8080, None])
def test_what_is_no_address_is_refused(listen: object) -> None:
    assert fault(listen=listen).startswith("listen: must be ")


@pytest.mark.parametrize("name", ["Live", "-a", "a b", "", "a" * 64, "ä", "live", "control", ".a", "a/b"])
def test_what_is_no_name_for_a_shadow_is_refused(name: str) -> None:
    assert "shadow" in fault(shadows={name: {"url": "http://b"}})


@pytest.mark.parametrize(
    "headers",
    [
        {"set": {"X Y": "1"}},
        {"set": {"X": "a\r\nInjected: 1"}},
        {"set": {"X": "\0"}},
        {"set": {"X": " padded "}},
        {"set": {"X": 1}},
        {"set": {"Content-Length": "1"}},
        {"set": {"Transfer-Encoding": "chunked"}},
        {"set": {"Connection": "close"}},
        {"set": {"Host": "b"}},
        {"set": {"Via": "x"}},
        {"set": {"X-Shadow-Request": "x"}},
        {"set": {"X-A": "1", "x-a": "2"}},
        {"set": {"X-A": "1"}, "remove": ["x-a"]},
        {"remove": ["Content-Length"]},
        {"remove": ["Host"]},
        {"remove": "X"},
        {"remove": [""]},
    ],
)
def test_header_edits_that_would_break_a_request_are_refused(headers: object) -> None:
    assert shadow_fault(headers=headers).startswith("shadows.b.headers")


def test_a_header_value_is_not_repeated_in_a_message_or_a_repr() -> None:
    assert "hunter2" not in shadow_fault(headers={"set": {"Authorization": "hunter2\n"}})
    shadows = {"b": {"url": "http://b", "headers": {"set": {"Authorization": "hunter2"}}}}
    made = of(shadows=shadows, log={"redact": {"hash_key": "hunter2"}})
    assert "hunter2" not in repr(made)


@pytest.mark.parametrize("pointer", ["a", "/a~2", "a/b", "~", 3])
def test_what_is_no_json_pointer_is_refused(pointer: object) -> None:
    assert "is not a JSON pointer" in fault(compare={"ignore": [pointer]})
    assert "is not a JSON pointer" in fault(log={"redact": {"json": [pointer]}})


INEFFECTIVE = {
    "a pointer without a slash": ("log: {redact: {json: [user.email]}}", "log.redact.json.0", "is not a JSON pointer"),
    "a part of a name": ("log: {redact: {json: [/user/e*]}}", "log.redact.json.0", "has a * within a name"),
    "three stars": ("compare: {ignore: [/a/***]}", "compare.ignore.0", "has a * within a name"),
    "a part of a tolerated name": ("compare: {tolerance: {/s*: 1}}", "compare.tolerance./s*", "has a * within a name"),
    "a part of an unordered name": ("compare: {unordered: [/t*]}", "compare.unordered.0", "has a * within a name"),
    "any depth, for one field": ("compare: {prediction: /**/score}", "compare.prediction", "has ** in it"),
    "a line break in a pointer": ('log: {redact: {json: ["/a\\n"]}}', "log.redact.json.0", "is not a JSON pointer"),
    "a header's colon": ('log: {redact: {headers: ["X-A:"]}}', "log.redact.headers.0", "is not the name of a header"),
    "a header's space": ("log: {redact: {headers: [X A]}}", "log.redact.headers.0", "is not the name of a header"),
    "no header's name": ('log: {redact: {headers: [""]}}', "log.redact.headers.0", "is not the name of a header"),
    "no parameter's name": ('log: {redact: {query: [""]}}', "log.redact.query.0", "is not the name of a parameter"),
    "a control character": ('log: {redact: {query: ["a\\t"]}}', "log.redact.query.0", "is not the name of a parameter"),
    "a whole parameter": ("log: {redact: {query: [email=*]}}", "log.redact.query.0", "is not the name of a parameter"),
    "a whole query": ('log: {redact: {query: ["?email"]}}', "log.redact.query.0", "is not the name of a parameter"),
    "an encoded name": ("log: {redact: {query: [user%5Bid%5D]}}", "log.redact.query.0", "is percent-encoded"),
    "headers to remove": ("shadows: {b: {url: http://b, headers: {remove: [X-*]}}}", "shadows.b.headers.remove.0", "*"),
    "a header to match": ("shadows: {b: {url: http://b, match: {headers: {X-*: a}}}}", "shadows.b.match.headers", "*"),
    "any method": ('shadows: {b: {url: http://b, match: {methods: ["P*"]}}}', "shadows.b.match.methods.0", "*"),
    "a glob with a query": (
        'shadows: {b: {url: http://b, match: {paths: ["/a?b=c"]}}}',
        "shadows.b.match.paths.0",
        "fits no path",
    ),
    "a glob with a space": (
        "shadows: {b: {url: http://b, match: {paths: [/a b]}}}",
        "shadows.b.match.paths.0",
        "fits no",
    ),
    "a glob with braces": (
        'shadows: {b: {url: http://b, match: {paths: ["/{a,b}/*"]}}}',
        "shadows.b.match.paths.0",
        "has braces",
    ),
    "a glob with half a class": (
        'shadows: {b: {url: http://b, match: {paths: ["/[ab"]}}}',
        "shadows.b.match.paths.0",
        "has a [ without its ]",
    ),
    "a value with half a class": (
        'shadows: {b: {url: http://b, match: {headers: {X-A: "[!]"}}}}',
        "shadows.b.match.headers.X-A",
        "has a [ without its ]",
    ),
    "a place to rewrite": (
        "shadows: {b: {url: http://b, rewrite: {json: {/a/*/b: 1}}}}",
        "shadows.b.rewrite.json",
        "*",
    ),
    "paths to rewrite": (
        'shadows: {b: {url: http://b, rewrite: {path: {"/v1/*": /v2}}}}',
        "shadows.b.rewrite.path",
        "no wildcard here",
    ),
    "a template to rewrite": (
        'shadows: {b: {url: http://b, rewrite: {path: {"/v1/{id}": /v2}}}}',
        "shadows.b.rewrite.path",
        "no wildcard here",
    ),
    "a place to sample by": ('sampling: {key: "json:/users/*/id"}', "sampling.key", "* is no wildcard"),
    "a header to sample by": ('sampling: {key: "header:X-*"}', "sampling.key", "* is no wildcard"),
    "a short token, far away": (
        "{admin: 0.0.0.0:9901, admin_token: abcdefghijklmno}",
        "admin_token",
        "is shorter than 16 characters and admin listens beyond loopback",
    ),
    "a short token by a name": (
        "{admin: 'model.example:9901', admin_token: '${SHORT}'}",
        "admin_token",
        "is shorter than 16 characters and admin listens beyond loopback",
    ),
}


@pytest.mark.parametrize(("text", "key", "problem"), INEFFECTIVE.values(), ids=INEFFECTIVE)
def test_what_would_have_no_effect_is_an_error_with_its_line(text: str, key: str, problem: str, tmp_path: Path) -> None:
    lines = text.strip("{}").replace(", admin_token", "\nadmin_token") if text.startswith("{") else text
    message = file_fault(tmp_path, f"live: {{url: http://a}}\n\n{lines}\n", {"SHORT": "hunter2"})
    line = 4 if key == "admin_token" else 3
    assert message.startswith(f"config.yaml:{line}: {key}"), message
    assert problem in message
    assert "hunter2" not in message
    assert "\n" not in message


@pytest.mark.parametrize("admin", ["127.0.0.1:0", "[::1]:0", "localhost:1", "unix:/tmp/a", None])
def test_on_loopback_any_token_will_do(admin: str | None) -> None:
    assert of(admin=admin, admin_token="short").admin_token == "short"


def test_patterns_that_work_are_taken() -> None:
    redact = {"json": ["/**/email", "/*", "/a/**", ""], "headers": ["X-Acme-*", "*"], "query": ["e*", "user[*]", "ä"]}
    compare = {"ignore": ["/**/id", "/a~1b/*"], "prediction": "/predictions/*/score"}
    shadow = {"url": "http://b", "match": {"paths": ["/v[12]/*", "/[]]", "/[!a]?", "/(1)"], "headers": {"X-A": "[[]*"}}}
    made = of(log={"redact": redact}, compare=compare, shadows={"b": shadow})
    assert made.log.redact.json == ("/**/email", "/*", "/a/**", "")
    assert [each for each in config.warnings_for(made) if "X-Request-ID" in each] == [
        "log.redact.headers covers X-Request-ID, but each record still has the ID, as its id"
    ]


def test_a_prediction_has_one_place_or_one_for_each_endpoint() -> None:
    shadows = {"b": {"url": "http://b"}, "c": {"url": "http://c"}}
    assert of(compare={"prediction": "/a"}, shadows=shadows).compare.predictions(["b", "c"]) == {}
    assert of(compare={"prediction": None}, shadows=shadows).compare.predictions(["b", "c"]) == {}
    made = of(compare={"prediction": {"live": "/a/*", "b": "/outputs/0/data"}}, shadows=shadows)
    assert made.compare.predictions(made.shadows) == {"b": ("/a/*", "/outputs/0/data"), "c": ("/a/*", "/a/*")}


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        ({"b": "/a"}, "compare.prediction: names no place in live's answers"),
        ({}, "compare.prediction: names no place in live's answers"),
        ({"live": "a"}, "compare.prediction: live: is not a JSON pointer"),
        ({"live": "/a", "b": "/**"}, "compare.prediction: b: has ** in it"),
        ({"live": "/a", "b": None}, "compare.prediction: b: is not a JSON pointer"),
        ({"live": "/a", "control": "/a"}, "compare.prediction: control: cannot be a shadow's name"),
        ({"live": "/a", "x": "/b"}, "compare: prediction names x, and no shadow has that name"),
        (["/a"], "compare.prediction: is not a JSON pointer"),
    ],
)
def test_places_by_endpoint_that_have_no_use_are_refused(prediction: object, words: str) -> None:
    assert words in fault(compare={"prediction": prediction}, shadows={"b": {"url": "http://b"}})


@pytest.mark.parametrize("key", ["request_id", "header:X-User", "cookie:sid", "json:/user/id"])
def test_sampling_keys(key: str) -> None:
    assert of(sampling={"key": key}).sampling.key == key


@pytest.mark.parametrize("key", ["user", "header:", "cookie:a b", "json:user", "json:", "request_id:x", None])
def test_what_is_no_sampling_key_is_refused(key: object) -> None:
    assert fault(sampling={"key": key}).startswith("sampling.key: must be")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sampling": {"salt": 3}}, "sampling.salt: must be text: put it in quotes"),
        ({"shadows": {"b": {"url": 8000}}}, "shadows.b.url: must be a URL, such as http://model:8000"),
        ({"log": {"path": None}}, 'log.path: must be a directory, or "-" for standard output'),
    ],
)
def test_a_value_of_another_type_is_told_what_belongs_there(values: dict[str, object], told: str) -> None:
    assert fault(**values) == told


def test_a_salt_too_long_for_the_hash_is_refused() -> None:
    assert of(sampling={"salt": "é" * 32}).sampling.salt == "é" * 32
    assert "64 bytes" in fault(sampling={"salt": "é" * 33})


@pytest.mark.parametrize("memory", [0, -1, "0MiB"])
def test_a_memory_of_nothing_is_one_line(memory: object) -> None:
    assert fault(limits={"memory": memory}) == "limits.memory: must be greater than 0, or auto"


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"buffer": "9MiB"}, "buffer must not be larger than capture"),
        ({"capture": "1GiB"}, "capture must not be larger than memory"),
        ({"headers": 0}, "greater than 0"),
        ({"head_timeout": 0}, "greater than 0"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(limits: object, why: str) -> None:
    assert why in fault(limits=limits)


@pytest.mark.parametrize(
    ("live", "why"),
    [
        ({}, "either url, or respond"),
        ({"url": "http://a", "respond": {}}, "either url, or respond"),
        ({"respond": {"json": 1, "text": "x"}}, "json or text"),
        ({"respond": {"status": 204, "text": "x"}}, "has no body"),
        ({"respond": {"status": 99}}, "greater than or equal to 200"),
        ({"respond": {"status": 600}}, "less than or equal to 599"),
        ({"respond": {"headers": {"Content-Length": "3"}}}, "written by the proxy itself"),
        ({"url": "http://a", "host": "a/b"}, "must be upstream, preserve"),
        ({"url": "http://a", "retry": "always"}, "must be idle or off"),
        ({"url": "http://a", "tls": {"key": __file__}}, "key needs cert"),
        ({"url": "http://a", "tls": {"ca": "/nowhere/ca.pem"}}, "/nowhere/ca.pem cannot be read: No such file"),
        ({"url": "http://a", "tls": {"ca": __file__, "verify": False}}, "no effect with verify: false"),
    ],
)
def test_a_live_that_cannot_be_is_refused(live: object, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        config.from_values({"live": live})


@pytest.mark.parametrize(
    ("shadow", "key"),
    [
        ({"match": {"methods": ["post"]}}, "match.methods.0"),
        ({"match": {"paths": ["v1"]}}, "match.paths.0"),
        ({"match": {"headers": {"a b": "*"}}}, "match.headers.a b"),
        ({"rewrite": {"path": {"v1": "/v2"}}}, "rewrite.path.v1"),
        ({"rewrite": {"path": {"/v1": "/v2?x=1"}}}, "rewrite.path./v1"),
        ({"rewrite": {"json": {"model": "new"}}}, "rewrite.json.model"),
        ({"breaker": {"failures": 0}}, "breaker.failures"),
        ({"budget": {"requests": -1}}, "budget.requests"),
        ({"budget": {"tokens": 1.5}}, "budget.tokens"),
        ({"budget": {"cost": -0.1}}, "budget.cost"),
        ({"lane": -1}, "lane"),
    ],
)
def test_a_shadow_that_cannot_be_is_refused_at_its_key(shadow: dict[str, object], key: str) -> None:
    assert shadow_fault(**shadow).startswith(f"shadows.b.{key}: ")


def test_a_fixed_answer_cannot_have_a_control() -> None:
    with pytest.raises(ConfigError, match="control"):
        config.from_values({"live": {"respond": {}}, "control": {"percent": 5}})


# --- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({}, "no shadows"),
        ({"shadows": {"b": {"url": "http://live:8000"}}}, "shadows.b.url is the same as live.url"),
        ({"shadows": {"b": {"url": "http://b", "state": "auto", "percent": 10}}}, "shadows.b.percent tears sessions"),
        ({"shadows": {"b": {"url": "http://b", "timeout": "1m"}}}, "shadows.b.timeout is longer than drain"),
        ({"shadows": {"b": {"url": "https://b", "tls": {"verify": False}}}}, "shadows.b.tls.verify is false"),
        ({"shadows": {"b": {"url": "http://b", "tls": {"ca": __file__}}}}, "shadows.b.tls has no effect"),
        (
            {"shadows": {"b": {"url": "http://b", "headers": {"set": {"X-Api-Key": "k"}}}}},
            "shadows.b.headers.set.X-Api-Key is a secret written into the file",
        ),
        (
            {"shadows": {"b": {"url": "http://b", "headers": {"set": {"X-Up": "Bearer s3cr3t"}}}}},
            "shadows.b.headers.set.X-Up is a secret written into the file",
        ),
        (
            {"shadows": {"b": {"url": "http://b", "query": {"set": {"token": "k", "v": "2"}}}}},
            "shadows.b.query.set.token is a secret written into the file",
        ),
        (
            {"shadows": {"b": {"url": "http://b", "query": {"set": {"x": "Bearer s3cr3t"}}}}},
            "shadows.b.query.set.x is a secret written into the file",
        ),
        (
            {"shadows": {"b": {"url": "http://b", "match": {"headers": {"X-Api-Key": "k"}}}}},
            "shadows.b.match.headers.X-Api-Key is a secret written into the file",
        ),
        (
            {"shadows": {"b": {"url": "http://b", "rewrite": {"json": {"/auth/api_key": "k"}}}}},
            "shadows.b.rewrite.json./auth/api_key is a secret written into the file",
        ),
        (
            {"shadows": {"b": {"url": "http://b"}}, "log": {"redact": {"hash_key": "k"}}},
            "log.redact.hash_key is a secret written into the file",
        ),
    ],
)
def test_what_is_likely_not_meant_is_warned_of(values: dict[str, object], warning: str) -> None:
    (told,) = config.warnings_for(of(**values))
    assert told.startswith(warning)
    assert "\n" not in told


@pytest.mark.parametrize(
    "other",
    [
        {"rewrite": {"json": {"/model": "new"}}},
        {"rewrite": {"path": {"/v1/predict": "/v2/predict"}}},
        {"headers": {"set": {"X-Version": "2"}}},
        {"query": {"set": {"v": "2"}}},
    ],
    ids=str,
)
def test_another_model_of_the_same_server_is_not_warned_of(other: dict[str, object]) -> None:
    assert config.warnings_for(of(shadows={"b": {"url": "http://live:8000", **other}})) == ()


def test_a_credential_from_the_environment_is_not_warned_of(tmp_path: Path) -> None:
    text = """
live: {url: http://a, headers: {set: {Authorization: "Bearer ${TOKEN}"}}}
shadows:
  b:
    url: http://b
    query: {set: {api_key: "${KEY}", v: "2"}}
    match: {headers: {X-Api-Key: "${KEY}", Authorization: "Bearer *", X-Tenant: a}}
    rewrite: {json: {/api_key: "${KEY}", /token: null, /model: new}}
log: {redact: {hash_key: "${KEY}"}}
"""
    assert config.warnings_for(config.load(written(tmp_path, text), {"TOKEN": "t", "KEY": "k"})) == ()


# --- the YAML beneath ------------------------------------------------------------------------------------------------


@given(st.text(max_size=200))
def test_any_text_is_either_a_document_or_a_fault_in_one_line(text: str) -> None:
    try:
        source.parse(text, {})
    except YamlError as fault:
        problem = str(fault)
    else:
        problem = ""
    assert len(problem.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("9" * 5000, float("inf")),
    ],
)
def test_scalars_have_the_types_of_yaml_1_2_in_the_file_and_from_the_environment(text: str, value: object) -> None:
    assert source.parse(f"a: {text}", {}).values == {"a": value}
    assert source.retype(FromEnvironment(text)) == value


def test_not_a_number_is_a_float() -> None:
    assert str(source.parse("a: .NaN", {}).values["a"]) == "nan"


def test_lines_are_those_of_the_keys() -> None:
    document = source.parse("a:\n  b:\n    - c\n    - d: 1\n", {})
    assert document.lines[("a", "b")] == 2
    assert document.lines[("a", "b", 1, "d")] == 4


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Host", "Connection", "Via", "Authorization"])
def test_an_id_is_in_no_field_that_means_something_else(name: str) -> None:
    with pytest.raises(config.ConfigError, match="request_id"):
        config.from_values({"live": {"url": "http://a"}, "request_id": {"header": name}})


@pytest.mark.parametrize("merge", ["&a {url: http://a, <<: *a}", "&a {url: http://a, <<: {<<: *a}}"])
def test_a_mapping_merged_into_itself_is_an_error(tmp_path: Path, merge: str) -> None:
    (tmp_path / "c.yaml").write_text(f"live: {merge}\n")
    with pytest.raises(config.ConfigError, match="alias"):
        config.load(tmp_path / "c.yaml")


REWRITE = "live: {{url: http://a}}\nshadows: {{s: {{url: http://b, rewrite: {{json: {{/x: {value}}}}}}}}}"
TEXTS = {
    "a number over 64 bits": REWRITE.format(value="99999999999999999999"),
    "NaN": REWRITE.format(value=".nan"),
    "nested, from the environment": REWRITE.format(value='{"a": ["${HUGE}"]}'),
    "half a surrogate pair": REWRITE.format(value='"\\ud800"'),
    "half of one in a key": 'live: {url: http://a}\nshadows: {s: {url: http://b, rewrite: {json: {"/\\udfff": 1}}}}',
    "half of one from the environment": "live: {url: http://a, respond: {text: '${TORN}'}}",
    "in a fixed answer": "live: {respond: {json: {id: 99999999999999999999}}}",
    "in a salt": 'live: {url: http://a}\nsampling: {salt: "\\ud800"}',
    "in a name to be redacted": 'live: {url: http://a}\nlog: {redact: {query: ["\\ud800"]}}',
    "in a secret": 'live: {url: http://a}\nlog: {redact: {hash_key: "\\ud800"}}',
    "a size over 64 bits": "live: {url: http://a}\nlimits: {memory: 99999999TiB}",
    "an endless size": "live: {url: http://a}\nlimits: {memory: .inf}",
    "a count over 64 bits": "live: {url: http://a}\nlimits: {in_flight: 99999999999999999999}",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_could_not_be_sent_or_held_is_an_error_of_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        config.load(tmp_path / "c.yaml", {"HUGE": "99999999999999999999", "TORN": "\udcff"})
    (line,) = str(raised.value).splitlines()
    assert re.match(rf"{tmp_path}/c.yaml:\d: ", line), line
    line.encode()


def test_a_file_that_was_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    """It is looked at again and again; and what caught it in a frame of its own is how a thread hands it on."""
    file = tmp_path / "config.yaml"
    file.write_text("{live: {url: 'https://a', tls: {ca: /nowhere/at/all}}}")

    def refused() -> None:
        caught: list[ConfigError] = []
        try:
            config.load(file)
        except ConfigError as error:
            caught.append(error)
        assert len(caught) == 1

    gc.collect()
    before = sum(isinstance(each, ConfigError) for each in gc.get_objects())
    refused()
    gc.collect()
    assert sum(isinstance(each, ConfigError) for each in gc.get_objects()) == before


def test_the_gates_of_the_verdict_are_those_of_the_report() -> None:
    assert VerdictGates().values() == {each.name: getattr(Gates(), each.name) for each in dataclasses.fields(Gates)}
