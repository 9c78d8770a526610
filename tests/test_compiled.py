"""The compiled program: how it is built, what it says of itself, and what its modules must not do.

`make test-compiled` runs all the tests against it.
"""

import asyncio
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Protocol

import pytest

import shadowproxy

ROOT = Path(__file__).parent.parent
SWITCH = "HATCH_BUILD_HOOKS_ENABLE"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOOK = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
MODULES = [path.removesuffix(".py").replace("/", ".") for path in HOOK["modules"]]

ALIKE = {
    object, Protocol, Generic, Exception, ValueError, dict, Counter, AsyncIterator, asyncio.Protocol,
}  # fmt: skip
"""What a class of a compiled module may inherit from, besides others of them.

mypyc lays a class's fields out behind those of `object`, `dict` or `BaseException`. Where a base has fields of its own
there, as one with `__slots__` and most that are written in C have, the two write over each other, and Python crashes.
"""


def test_every_module_that_is_listed_is_there_and_once() -> None:
    assert [path for path in HOOK["modules"] if not (ROOT / path).is_file()] == []
    assert len(set(MODULES)) == len(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_class_of_a_compiled_module_has_no_base_that_lies_otherwise_in_memory(name: str) -> None:
    own = [each for each in vars(importlib.import_module(name)).values() if getattr(each, "__module__", "") == name]
    classes = [each for each in own if isinstance(each, type) and not issubclass(each, Enum | tuple)]
    bases = {base for each in classes for base in each.__bases__ if base.__module__ not in MODULES}
    assert bases - ALIKE == set()


def test_of_the_listed_modules_all_are_compiled_or_none() -> None:
    suffixes = {Path(str(importlib.import_module(name).__file__)).suffix for name in MODULES}
    assert suffixes == ({".so"} if shadowproxy.compiled() else {".py"})


@pytest.mark.parametrize(("extension", "told"), [(True, " (compiled)"), (False, "")])
def test_the_version_says_whether_what_would_be_imported_is_compiled(
    tmp_path: Path, extension: bool, told: str
) -> None:
    package = tmp_path / "shadowproxy"
    package.mkdir()
    for name in ("__init__.py", "__main__.py", "exchange.py"):
        shutil.copy(ROOT / "shadowproxy" / name, package)
    if extension:
        (package / f"exchange{sysconfig.get_config_var('EXT_SUFFIX')}").touch()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "shadowproxy", "--version"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"shadowproxy {shadowproxy.__version__}{told}\n"


# --- building --------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's own build, of a package with three small modules of which two are listed."""
    shutil.copy(ROOT / "hatch_build.py", tmp_path)
    package = tmp_path / "shadowproxy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "exchange.py").write_text("def part(of: bytes, at: int, to: int) -> bytes:\n    return of[at:to]\n")
    (package / "record.py").write_text(
        "from shadowproxy.exchange import part\n\nPARTS = part(b'abc', 2, 1), part(b'abc', 1, 3)\n"
    )
    (package / "other.py").write_text("THREE = 3\n")
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "shadowproxy-sidecar"\nversion = "1"\nrequires-python = ">=3.11"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["shadowproxy"]\n'
        "[tool.hatch.build.targets.wheel.hooks.custom]\nenable-by-default = false\n"
        'modules = ["shadowproxy/exchange.py", "shadowproxy/record.py"]\n'
    )
    return tmp_path


def build(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(project / "dist")]
    kept = {name: value for name, value in os.environ.items() if name not in (SWITCH, "CC")}
    return subprocess.run(words, cwd=project, env=kept | environment, capture_output=True, text=True, check=False)


def contents(project: Path) -> tuple[str, list[str]]:
    """The wheel's name, and what it holds besides what every wheel holds about itself."""
    (wheel,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return wheel.name, sorted(name for name in archive.namelist() if ".dist-info/" not in name)


SOURCES = [f"shadowproxy/{name}.py" for name in ("__init__", "exchange", "other", "record")]
NO_COMPILER = shutil.which("cc") is None


def test_a_wheel_is_pure_python_unless_compiling_is_asked_for(project: Path) -> None:
    assert build(project, CC="no-such-compiler").returncode == 0
    assert contents(project) == ("shadowproxy_sidecar-1-py3-none-any.whl", SOURCES)


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="compiling needs a C compiler")
def test_a_compiled_wheel_has_sources_and_extensions_and_nothing_of_the_build(project: Path) -> None:
    before = {path.name for path in project.iterdir()}
    done = build(project, **{SWITCH: "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    name, held = contents(project)
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert name.startswith(f"shadowproxy_sidecar-1-{python}-{python}-")
    added = sorted({*held} - {*SOURCES})
    assert {*SOURCES} <= {*held}
    assert len(added) == 3  # one for each module, and the one with the code of both
    assert all(each.endswith(str(sysconfig.get_config_var("EXT_SUFFIX"))) for each in added)
    assert {path.name for path in project.iterdir()} == before | {"dist"}
    place = project / "installed"
    with zipfile.ZipFile(next((project / "dist").glob("*.whl"))) as archive:
        archive.extractall(place)
    script = "from shadowproxy import record, other; print(record.__file__, other.__file__, *record.PARTS)"
    said = subprocess.check_output(
        [sys.executable, "-P", "-c", script], env=os.environ | {"PYTHONPATH": str(place)}, text=True
    ).split()
    assert (Path(said[0]).suffix, Path(said[1]).suffix, *said[2:]) == (".so", ".py", "b''", "b'bc'")


def test_without_a_compiler_compiling_fails_in_one_line(project: Path) -> None:
    done = build(project, **{SWITCH: "1"}, CC="no-such-compiler --fast")
    assert done.returncode == 1
    assert done.stderr == (
        'shadowproxy cannot be compiled: there is no C compiler "no-such-compiler"'
        " (without HATCH_BUILD_HOOKS_ENABLE it need not be)\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="compiling needs a C compiler")
@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def one() -> int:\n    return 'one'\n", "Incompatible return value type"),
        ("import unheard_of\n\nclass Mine(unheard_of.Base):\n    pass\n", "subclass"),
    ],
    ids=["a wrong type", "a base that is unknown"],
)
def test_what_cannot_be_compiled_fails_the_build_and_the_last_line_says_why(
    project: Path, source: str, why: str
) -> None:
    (project / "shadowproxy/exchange.py").write_text(source)
    done = build(project, **{SWITCH: "1"})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("shadowproxy cannot be compiled: shadowproxy/exchange.py:")
    assert why in last


def test_an_editable_install_is_never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extension beside a source file that is being edited would be run in its place."""
    monkeypatch.syspath_prepend(str(ROOT))
    hook: Any = importlib.import_module("hatch_build").CompiledModules(
        str(ROOT), HOOK, None, None, str(ROOT / "dist"), "wheel"
    )
    data: dict[str, Any] = {"force_include": {}}
    hook.initialize("editable", data)
    assert data == {"force_include": {}}
    assert list((ROOT / "shadowproxy").rglob("*.so")) == []


def test_whoever_builds_gets_the_versions_that_are_tested() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    for each in HOOK["dependencies"]:
        assert each in PROJECT["project"]["optional-dependencies"]["dev"]
        assert each.partition(">")[0] in pinned
