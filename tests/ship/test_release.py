"""What `make dist` makes: everything that a user of it needs, and nothing that is only ours."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from shadowproxy import __version__
from ship.engine import ROOT

pytestmark = pytest.mark.soak


def committed(*under: str) -> set[str]:
    words = ["git", "ls-tree", "-r", "--name-only", "HEAD", "--", *under]
    return set(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")[:-1])


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what is committed, as a release is: the work tree may hold what is not."""
    place = tmp_path_factory.mktemp("release")
    archive = place / "head.tar"
    subprocess.run(["git", "archive", "--output", archive, "HEAD"], cwd=ROOT, check=True)
    with tarfile.open(archive) as tar:
        tar.extractall(place / "checkout", filter="data")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(place / "dist")]
    subprocess.run(build, cwd=place / "checkout", check=True, capture_output=True)
    return place / "dist"


def test_the_version_is_written_in_one_place(dist: Path) -> None:
    assert {path.name for path in dist.iterdir()} == {
        f"shadowproxy_sidecar-{__version__}-py3-none-any.whl",
        f"shadowproxy_sidecar-{__version__}.tar.gz",
    }
    assert re.search(r"^version", (ROOT / "pyproject.toml").read_text(), re.MULTILINE) is None


def test_the_wheel_is_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = {name for name in names if name.startswith(f"shadowproxy_sidecar-{__version__}.dist-info/")}
    assert names - about == committed("shadowproxy")
    assert f"shadowproxy_sidecar-{__version__}.dist-info/licenses/LICENSE" in about


def test_the_source_archive_is_what_is_committed(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {each.name.partition("/")[2] for each in tar.getmembers() if each.isfile()}
    assert names - {"PKG-INFO"} == committed()
