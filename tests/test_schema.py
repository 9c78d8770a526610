"""The configuration's schema: editors and the loader say the same of a file, and what is committed is the models'."""

import json
from collections.abc import Iterator
from typing import Any

import environment_page
import jsonschema  # type: ignore[import-untyped]  # its types are a package of their own
import pytest
import yaml
from test_cli import run
from test_docs import DOCUMENTS, REFERENCE, ROOT, blocks

from shadowproxy import config
from shadowproxy.config import ConfigError
from shadowproxy.config.schema import FILE, schema

SCHEMA = json.loads(FILE.read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

BASE: dict[str, Any] = {
    "live": {"url": "http://a"},
    "shadows": {"challenger": {"url": "http://b"}},
    "compare": {"tolerance": {"/p": {}}},
}
KEYS = list(config.keys())
LEAVES = sorted(key for key in KEYS if not any(other.startswith(f"{key}.") for other in KEYS))
REQUIRED = ("shadows.*.url", "listen_tls.cert", "shadows.*.percent.from", "shadows.*.percent.over")
BRANCHES = sorted({key.rpartition(".")[0] for key in KEYS} - {"shadows", "compare.tolerance"})


def marked(values: Any) -> bool:
    """Whether an editor would mark something."""
    return not VALIDATOR.is_valid(values)


def refused(values: Any) -> bool:
    try:
        config.from_values(values)
    except ConfigError:
        return True
    return False


def place(key: str, value: object) -> dict[str, Any]:
    """A configuration that is sound but for `value` at `key`."""
    values: dict[str, Any] = json.loads(json.dumps(BASE))
    within = values
    if key.startswith("live.respond."):
        del values["live"]["url"]
    if ".percent." in key:
        values["shadows"]["challenger"]["percent"] = {"from": 0.1, "over": "1h"}
    if key.startswith("listen_tls."):
        values["listen_tls"] = {"cert": "/dev/null"}  # a file that can be read
    *parents, last = [{"*": "/p" if key.startswith("compare") else "challenger"}.get(s, s) for s in key.split(".")]
    for step in parents:
        within = within.setdefault(step, {})
    within[last] = value
    return values


def test_the_committed_schema_is_that_of_the_models_and_the_reference() -> None:
    assert schema(REFERENCE) == SCHEMA, "write it anew: make schema"


def test_the_page_about_the_environment_has_the_variables_of_all_keys() -> None:
    text = environment_page.PAGE.read_text()
    assert environment_page.page(text) == text, "write it anew: make schema"


def test_it_is_a_sound_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_command_prints_it() -> None:
    assert json.loads(run("schema").stdout) == SCHEMA


def test_the_example_names_it_for_editors() -> None:
    first = (ROOT / "config.example.yaml").read_text().splitlines()[0]
    assert (ROOT / first.removeprefix("# yaml-language-server: $schema=")).read_bytes() == FILE.read_bytes()


def configurations() -> Iterator[tuple[str, str]]:
    for path in [ROOT / "config.example.yaml", *sorted((ROOT / "deploy").rglob("config.yaml"))]:
        yield str(path.relative_to(ROOT)), path.read_text()
    for document in DOCUMENTS:
        for number, text in enumerate(blocks("yaml", document.read_text())):
            if text.startswith("live:"):
                yield f"{document.name}-{number}", text


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in configurations()])
def test_every_configuration_there_is_has_nothing_to_mark(text: str) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("key", LEAVES)
def test_every_key_has_its_words_and_its_default(key: str) -> None:
    found = SCHEMA
    for step in key.split("."):
        if step == "*":
            found = found["additionalProperties"]
            found = found["anyOf"][-1] if "anyOf" in found else found
        else:
            found = next(each for each in (found, *found.get("anyOf", ())) if "properties" in each)["properties"][step]
    assert found["description"]
    assert "default" in found or key in REQUIRED


@pytest.mark.parametrize("branch", BRANCHES)
def test_an_unknown_key_is_marked_wherever_it_stands(branch: str) -> None:
    values = place(f"{branch}.nonsense".removeprefix("."), 1)
    assert refused(values)
    assert marked(values)


TRIED: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        7,
        0.5,
        250,
        [],
        {},
        ["a"],
        ["/a"],
        ["GET"],
        {"/a": "/b"},
        {"a": "b"},
        {"abs": 0.1},
        {"abs": []},
    ),
    *(
        "",
        "words",
        "5m",
        "8MiB",
        "1GiB",
        "/a",
        "http://a:1/b",
        "GET",
        "a:1",
        "unix:/s",
        "/dev/null",
        "header:a",
        "idle",
        "none",
        "a" * 32,
    ),
]


@pytest.mark.parametrize("key", LEAVES)
def test_what_the_loader_takes_is_not_marked_and_a_wrong_type_is(key: str) -> None:
    taken = 0
    for value in TRIED:
        values = place(key, value)
        if not refused(values):
            taken += 1
            assert not marked(values), f"{value!r} is taken and marked"
        elif isinstance(value, dict | list | bool):
            assert marked(values), f"{value!r} is refused and not marked"
    assert taken


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("drain", "5 minutes"),
        ("drain", -1),
        ("limits.memory", "1MIB"),
        ("limits.in_flight", 0),
        ("live.retry", "always"),
        ("live.respond.status", 600),
        ("live.url", "ftp://a"),
        ("live.url", "http://user:password@a"),
        ("shadows.*.percent", 101),
        ("shadows.*.match.paths", ["v1"]),
        ("sampling.key", "request-id"),
        ("log.bodies", "some"),
        ("compare.ignore", ["a"]),
        ("request_id.header", "not a name"),
    ],
)
def test_a_value_of_a_wrong_form_is_marked(key: str, value: object) -> None:
    assert refused(place(key, value))
    assert marked(place(key, value))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("drain", "${DRAIN}"),
        ("drain", "${DRAIN:-30}s"),
        ("limits.memory", "${MEMORY:-1GiB}"),
        ("limits.in_flight", "${REQUESTS}"),
        ("forwarded", "${FORWARDED:-false}"),
        ("live.retry", "${RETRY}"),
        ("live.url", "http://${HOST}:8000"),
        ("shadows.*.percent", "${PERCENT}"),
        ("compare.tolerance.*", "${TOLERANCE}"),
        ("log.keep.size", "${KEEP}"),
        ("shadows.*.match.paths", ["${PATHS}"]),
        ("live.headers.set", {"Authorization": "Bearer ${TOKEN}"}),
    ],
)
def test_what_comes_from_the_environment_is_not_marked(key: str, text: object) -> None:
    assert not marked(place(key, text))


def test_a_name_is_never_taken_from_the_environment() -> None:
    assert marked({"live": {"url": "http://a"}, "shadows": {"${NAME}": {"url": "http://b"}}})


def test_names_of_shadows_are_looked_at() -> None:
    for name in ("live", "control", "a b", "-a", ".a", "a/b"):
        values = {"live": {"url": "http://a"}, "shadows": {name: {"url": "http://b"}}}
        assert refused(values)
        assert marked(values)


def test_what_is_needed_is_missed() -> None:
    lacking: list[dict[str, Any]] = [{}, {"live": {}}, {"live": {"url": "http://a"}, "shadows": {"b": {}}}]
    for values in lacking:
        assert refused(values)
        assert marked(values)
