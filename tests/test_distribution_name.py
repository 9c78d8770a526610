"""The distribution is `shadowproxy-sidecar`: the bare name is a stranger's on the index, and no text may install it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shadowproxy.check.machine import OURS, STRANGERS, installed

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

INSTALLING = re.compile(
    r"""\b(?:
        (?:pip[0-9.]*|pipx)\b[^\n`;&|]*?\s(?:install|download|wheel|upgrade|inject|run)
      | (?:uv|poetry|pdm|rye|hatch|conda|mamba|micromamba)\b[^\n`;&|]*?\s(?:install|add|sync|tool\s+run|download)
      | uvx
    )\b(?P<rest>[^\n`;&|]*)""",
    re.VERBOSE,
)
REQUIREMENT = re.compile(r"""['"]?shadowproxy(?:\[[^\]]*\])?(?:\s*[=<>!~@].*)?['"]?[.,:)]*""")
TEXTS = {
    ".md",
    ".py",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    ".json",
    ".sh",
    ".lock",
    ".service",
    ".conf",
    ".cfg",
    ".ini",
    "",
}


def installs_the_bare_name(text: str) -> list[str]:
    """The commands within a text that would fetch the stranger's package; a command may go on in the next line."""
    joined = text.replace("\\\n", " ")
    spans = [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", joined)]
    return [
        command[0].strip()
        for place in (*joined.splitlines(), *spans)
        for command in INSTALLING.finditer(place)
        if any(REQUIREMENT.fullmatch(word) for word in command["rest"].split())
    ]


@pytest.mark.parametrize(
    "text",
    [
        "pip install shadowproxy",
        "pip install 'shadowproxy[otel]'",
        'python3 -m pip install -U "shadowproxy[otel]"',
        "/opt/venv/bin/pip3.11 install --quiet shadowproxy==0.2.0",
        "pipx install shadowproxy",
        "pipx run shadowproxy serve",
        "uv tool install shadowproxy",
        "uv pip install shadowproxy>=0.1",
        "uvx shadowproxy serve",
        "uvx --from shadowproxy shadowproxy serve",
        "poetry add shadowproxy",
        "RUN pip install --no-cache-dir \\\n    shadowproxy",
        "it is installed by `pip install\nshadowproxy`.",
        "not installed; pip install 'shadowproxy[otel]' installs it",
    ],
)
def test_a_text_that_would_install_the_strangers_package_is_found(text: str) -> None:
    assert installs_the_bare_name(text) != []


@pytest.mark.parametrize(
    "text",
    [
        "pip install .",
        "pip install '.[otel]'",
        "pip install shadowproxy-sidecar",
        "pip install 'shadowproxy-sidecar[otel]'",
        "pip install dist/shadowproxy_sidecar-0.2.0-py3-none-any.whl",
        "/opt/shadowproxy/bin/pip install .",
        "pip install . && shadowproxy serve",
        "uv run shadowproxy serve",
        "pip uninstall -y shadowproxy",
    ],
)
def test_a_text_that_installs_ours_or_only_runs_it_is_not_found(text: str) -> None:
    assert installs_the_bare_name(text) == []


def committed_texts() -> Iterator[Path]:
    """Every text that people read or run, but this file, whose examples are what is looked for."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        ours = not any(part.startswith(".") and part != ".ci" for part in parts) and parts[0] not in ("build", "dist")
        if ours and path.is_file() and path.suffix in TEXTS and path != Path(__file__):
            yield path


def test_no_text_installs_the_bare_name() -> None:
    texts = {path.relative_to(ROOT): path.read_text(errors="replace") for path in committed_texts()}
    assert {
        Path("README.md"),
        Path("SECURITY.md"),
        Path("docs/how-to/tracing.md"),
        Path("Dockerfile"),
        Path(".ci/run"),
    } <= set(texts)
    assert {name: found for name, text in texts.items() if (found := installs_the_bare_name(text))} == {}


def test_no_text_asks_an_index_for_this_program_which_is_on_none() -> None:
    asking = re.compile(r"install '?shadowproxy-sidecar")
    texts = {path.relative_to(ROOT): path.read_text(errors="replace") for path in committed_texts()}
    assert [str(name) for name, text in texts.items() if asking.search(text)] == []


def test_no_file_of_requirements_asks_for_the_bare_name() -> None:
    files = [*ROOT.glob("*.txt"), *(ROOT / "deploy").rglob("*.lock"), *(ROOT / "tests").rglob("*.txt")]
    asked = {
        line.strip() for path in files for line in path.read_text().splitlines() if REQUIREMENT.match(line.strip())
    }
    assert {line for line in asked if not line.startswith("shadowproxy-sidecar")} == set()


def test_the_distribution_has_a_name_of_its_own_and_the_command_and_the_package_keep_theirs() -> None:
    assert PROJECT["project"]["name"] == OURS == "shadowproxy-sidecar"
    assert PROJECT["project"]["scripts"] == {"shadowproxy": "shadowproxy.__main__:main"}
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["shadowproxy"]


def test_what_reads_the_version_asks_for_our_distribution() -> None:
    asked = re.compile(r"""\b(?:version|distribution|metadata|requires|files)\(\s*["']shadowproxy["']\s*\)""")
    sources = [*ROOT.glob("*.py"), *(path for room in ("shadowproxy", "bench") for path in (ROOT / room).rglob("*.py"))]
    assert [path.name for path in sources if asked.search(path.read_text())] == []


def test_security_md_warns_of_the_stranger() -> None:
    text = " ".join((ROOT / "SECURITY.md").read_text().split())
    for words in ("`shadowproxy-sidecar`", "unrelated project", "console script of the same name", "uninstall both"):
        assert words in text


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in which only what is put into it is installed."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return tmp_path


def put(environment: Path, name: str) -> None:
    about = environment / f"{name.replace('-', '_')}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")


@pytest.mark.parametrize("names", [(), (OURS,), (STRANGERS,), (OURS, "shadowproxy-other")])
def test_one_of_the_two_alone_is_not_warned_of(environment: Path, names: tuple[str, ...]) -> None:
    for name in names:
        put(environment, name)
    assert list(installed()) == []


def test_check_warns_where_both_are_installed(environment: Path) -> None:
    put(environment, "shadowproxy_sidecar")
    put(environment, "ShadowProxy")
    (found,) = installed()
    assert found.level.name == "WARN"
    assert "uninstall both" in found.words
