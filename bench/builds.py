"""The compiled builds of the program that `bench/setup` makes in .bench, and the Python that they run on."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError

HERE = Path(__file__).parent.parent / ".bench"
PROGRAM = HERE / "program/bin/python"
"""The Python that has the program of the working directory."""


@dataclass(frozen=True, slots=True)
class Build:
    """A compiled program: the Python that has it, and what the table calls it."""

    python: Path
    name: str = "shadowproxy"


def find_build(python: Path, name: str = "shadowproxy") -> Build:
    """The program that `python` has. Raises BenchError if it has none, or one that is not compiled."""
    try:
        version = subprocess.check_output([python, "-P", "-m", "shadowproxy", "--version"], text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"no program in {python}, `make bench` builds it: {error}") from error
    if "(compiled)" not in version:
        raise BenchError(f"the program of {python} is not compiled: {version.strip()}")
    return Build(python, name)


def find_other(directory: Path) -> Build | None:
    """The build of another commit, under the commit's name. None if `bench/setup` could not make it."""
    built = directory / "built"
    if not built.exists():
        return None
    return find_build(directory / "bin/python", f"commit {built.read_text().split()[0]}")


def find_envoy(directory: Path = HERE / "envoy") -> Path:
    """Envoy's binary. Raises BenchError."""
    for found in directory.glob("lib/python3*/site-packages/envoy/_bin/envoy"):
        found.chmod(0o755)
        return found
    raise BenchError(f"no Envoy in {directory}: `make bench` installs it")


def describe_python(python: Path) -> str:
    """Its version, path, and whether it was built as the image's Python is."""
    script = Path(__file__).with_name("interpreter.py")
    printed = subprocess.run([python, script], capture_output=True, text=True, check=False).stdout
    told = json.loads(printed)
    with_pgo = "with" if told["profile_guided"] else "without"
    return f"{told['version']} built {with_pgo} profile-guided optimisation ({told['path']})"
