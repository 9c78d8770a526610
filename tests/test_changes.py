"""Changed defaults: `check` names those that matter for a file, and CHANGELOG.md has the same way back for each."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cli import run

from shadowproxy import config
from shadowproxy.config.changes import CHANGES, Change, changed

ROOT = Path(__file__).parent.parent
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
REFERENCE = (ROOT / "docs/reference/configuration.md").read_text()
OF_A_FILE = [change for change in CHANGES if change.restore is not None and not change.restore.startswith("--")]
NAMED = pytest.mark.parametrize("change", OF_A_FILE, ids=lambda change: change.key)
MEANS_LESS = {"shadows.NAME.forward_credentials"}
"""What has the value that it had, which lets less pass now: no value is as it was before."""

LEAST: dict[str, Any] = {
    "live": {"url": "http://127.0.0.1:1"},
    "shadows": {"challenger": {"url": "http://127.0.0.1:2"}},
    "control": {"percent": 5},
}


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in more.items()
    }


def restored(change: Change) -> dict[str, Any]:
    assert change.restore is not None
    return merged(LEAST, yaml.safe_load(change.restore.replace("NAME", "challenger")))


def told(directory: Path, values: dict[str, Any]) -> list[str]:
    file = directory / "config.yaml"
    file.write_text(json.dumps(values))
    loaded = config.read(file)
    return changed(loaded.config, loaded.given)


def about(change: Change, lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(f"{change.key.replace('NAME', 'challenger')} was ")]


def items(heading: str) -> list[str]:
    """What CHANGELOG.md has under *Changed* of a version, each on one line."""
    section = re.search(rf"^## \[{re.escape(heading)}\](.*?)(?=^## |\Z)", CHANGELOG, re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    under = re.search(r"^### Changed\n(.*?)(?=^### |\Z)", section[1], re.MULTILINE | re.DOTALL)
    parts = re.split(r"^- ", under[1], flags=re.MULTILINE)[1:] if under is not None else []
    return [" ".join(item.split()) for item in parts]


# --- a file ----------------------------------------------------------------------------------------------------------


@NAMED
def test_a_file_that_leaves_it_out_is_told_once(change: Change, tmp_path: Path) -> None:
    assert about(change, told(tmp_path, LEAST)) == [f"{change.key.replace('NAME', 'challenger')} was {change.old}"]


@NAMED
def test_the_way_back_loads_does_what_it_says_and_is_not_told_of_any_more(change: Change, tmp_path: Path) -> None:
    assert about(change, told(tmp_path, restored(change))) == []


@NAMED
def test_the_new_value_is_the_default_and_the_old_one_is_what_the_way_back_sets(change: Change) -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| `([^`]*)` \|", REFERENCE, re.MULTILINE))
    assert rows[change.key] == change.new
    value: Any = restored(change)
    for step in change.key.replace("NAME", "challenger").split("."):
        value = value[step]
    if change.key in MEANS_LESS:
        assert change.old.startswith(f"{change.new}, ")
    else:
        assert value == yaml.safe_load(change.old)
    assert change.old != change.new


@NAMED
def test_a_file_that_says_it_itself_is_not_told(change: Change, tmp_path: Path) -> None:
    values: Any = yaml.safe_load(change.new)
    for step in reversed(change.key.replace("NAME", "challenger").split(".")):
        values = {step: values}
    assert about(change, told(tmp_path, merged(LEAST, values))) == []


def test_what_a_file_has_no_use_for_is_not_told(tmp_path: Path) -> None:
    assert told(tmp_path, {"live": {"respond": {}}}) == ["log.redact.query was [key]", "limits.memory was 256MiB"]


def test_an_empty_list_of_methods_is_told_as_it_meant_every_one(tmp_path: Path) -> None:
    shadows: dict[str, Any] = {n: {"url": "http://127.0.0.1:2", "match": {"methods": []}} for n in ("a", "b")}
    lines = told(tmp_path, {"live": {"respond": {}}, "shadows": shadows})
    assert [line for line in lines if "methods" in line] == ['shadows.*.match.methods was ["*"]']
    shadows["b"]["match"] = {"methods": ["GET"]}
    lines = told(tmp_path, {"live": {"respond": {}}, "shadows": shadows})
    assert [line for line in lines if "methods" in line] == ['shadows.a.match.methods was ["*"]']


def test_check_says_them_and_they_are_no_warnings(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    values = LEAST | {"listen": "127.0.0.1:0", "admin": None, "log": {"path": str(tmp_path / "log")}}
    file.write_text(json.dumps(values))
    lines = run("check", "-c", str(file), "--no-request").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)
    flowing = " ".join(" ".join(lines).split())
    expected = told(tmp_path, values)
    assert len(expected) == 9
    assert (
        f"changed if you had an earlier version: {' '.join(expected)} (CHANGELOG.md says how to restore each)"
    ) in flowing
    assert 'shadows.challenger.match.methods was ["*"]' in expected
    assert "warning" not in lines[-1]


def test_flags_get_the_defaults_too_and_check_says_so() -> None:
    said = run("check", "--live", "http://127.0.0.1:1", "--shadow", "b=http://127.0.0.1:2", "--no-request").stdout
    assert "            shadows.b.match.methods was " in said


def test_a_file_that_leaves_nothing_out_is_told_nothing(tmp_path: Path) -> None:
    values = LEAST
    for change in OF_A_FILE:
        values = merged(values, restored(change))
    assert told(tmp_path, values) == []


def test_what_a_file_says_is_known_by_its_keys(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "live: {url: http://a}\nshadows: {y: &b {url: http://y, percent: 5}, x: {<<: *b, url: http://b}}\n"
    )
    found = config.read(tmp_path / "c.yaml").given
    assert found["shadows.x.percent"] == 5
    assert found["live.url"] == "http://a"
    assert "live.timeout" not in found
    (tmp_path / "c.yaml").write_text("{")
    with pytest.raises(config.ConfigError, match="not YAML"):
        config.read(tmp_path / "c.yaml")


@pytest.mark.parametrize("file", ["0.1.0/defaults.json", "defaults.json"])
def test_a_default_that_is_not_what_it_was_is_among_the_changes(file: str) -> None:
    """What the reference told in 0.1.0, and in the latest version: a release writes tests/data/defaults.json anew."""
    before = json.loads((ROOT / "tests/data" / file).read_text())
    rows = re.findall(r"^\| `([^`]+)` \|([^|]*)\|", REFERENCE, re.MULTILINE)
    now = {key: default.strip().strip("`") for key, default in rows}
    different = {key for key, default in before.items() if now.get(key) != default}
    assert len(before) > 50
    assert different - {change.key for change in CHANGES} == set()


# --- the changelog ---------------------------------------------------------------------------------------------------


NO_WAY_BACK = "here is no line that restores the old behaviour"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.key)
def test_the_changelog_has_every_change_under_changed_with_the_same_way_back(change: Change) -> None:
    if change.restore is None:
        (found,) = [item for item in items(change.since) if NO_WAY_BACK in item and f"`{change.key}" in item]
    else:
        (found,) = [item for item in items(change.since) if f"As before: `{change.restore}`" in item]
    assert found


def test_the_table_has_every_change_that_the_changelog_tells_of() -> None:
    in_changelog = {
        (heading, back)
        for heading in re.findall(r"^## \[([^\]]+)\]", CHANGELOG, re.MULTILINE)
        for item in items(heading)
        for back in [*re.findall(r"[Aa]s before: `([^`]+)`", item), *re.findall(NO_WAY_BACK, item)]
    }
    assert in_changelog == {(change.since, change.restore or NO_WAY_BACK) for change in CHANGES}
    told = " ".join(item for heading in {change.since for change in CHANGES} for item in items(heading))
    assert told.count(NO_WAY_BACK) == len([change for change in CHANGES if change.restore is None])


def test_what_nothing_restores_is_told_to_those_who_ask_for_it(tmp_path: Path) -> None:
    def about_retry(live: dict[str, Any]) -> list[str]:
        return [line for line in told(tmp_path, merged(LEAST, {"live": live})) if line.startswith("live.retry")]

    assert about_retry({"retry": "idle"}) == ["live.retry was idle, however long live had it"]
    assert about_retry({}) == about_retry({"retry": "off"}) == []
    limited = told(tmp_path, merged(LEAST, {"log": {"body_limit": "4KiB"}}))
    assert [line for line in limited if "body_limit" in line] == ["log.body_limit was a limit of what is compared, too"]


@pytest.mark.parametrize(
    ("values", "told_of"),
    [
        ({"listen": "[::]:1"}, True),
        ({"listen": ["127.0.0.1:1", "[::]:2"]}, True),
        ({"admin": "[::]:1"}, True),
        ({"listen": "0.0.0.0:1", "admin": None}, False),
        ({"listen": "[::1]:1"}, False),
        ({"listen": "unix:/s"}, False),
    ],
)
def test_both_families_at_the_wildcard_are_told_to_those_who_listen_there(
    tmp_path: Path, values: dict[str, Any], told_of: bool
) -> None:
    lines = [line for line in told(tmp_path, merged(LEAST, values)) if line.startswith("listen was")]
    assert lines == (["listen was IPv6 alone at [::], and so was admin"] if told_of else [])
