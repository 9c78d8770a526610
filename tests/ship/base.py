"""`python:3.13-slim` and `python:3.13`, near enough, of this machine's own files: it may reach no image registry.

They hold what the Dockerfile's commands need and what official images have that they take away: a CPython 3.13 with pip
under /usr/local, a shell and a few tools, the libraries that these load, and the certificates that this machine trusts;
the one that is not slim also has a C compiler and Python's headers.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

TOOLS = ("sh", "cat", "chmod", "chown", "cp", "env", "find", "id", "install", "ls", "mkdir", "rm", "sleep", "test")
WHEELS_LOAD = (
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
)
"""Libraries that every Debian has and that wheels count on: the manylinux rules allow it."""

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "*.a", "*tkinter*"
)
ENVIRONMENT = ("SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "PATH=/usr/local/bin:/usr/bin:/bin")

COMPILER = ("gcc", "libc6-dev")
"""Debian's packages, which bring in all that compiling an extension takes."""

_DEPENDENCY = re.compile(r"(?:^|, )([a-z0-9.+-]+)")
_LOADED = re.compile(r"(/\S+) \(0x")
_CACHED = re.compile(r"^\t(\S+) .* => (\S+)$", re.MULTILINE)


def make(root: Path, *, slim: bool) -> None:
    """Lay the file system out in `root`, which is new. Raises FileNotFoundError where there is no CPython 3.13."""
    for directory in ("usr/bin", "usr/lib", "usr/lib64", "usr/local", "etc/ssl/certs", "proc", "sys", "dev", "root"):
        (root / directory).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root / name).mkdir(parents=True)
        (root / name).chmod(0o1777)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    _python(python_3_13(), root / "usr/local")
    tools = [Path(found).resolve() for found in map(shutil.which, TOOLS) if found]
    for name, tool in zip(TOOLS, tools, strict=True):
        shutil.copy2(tool, root / "usr/bin" / name)
    extensions = [*(root / "usr/local").rglob("*.so*"), *(root / "usr/local/bin").glob("python3.13"), *tools]
    for library in sorted({*_libraries(extensions, root / "usr/local/lib"), *_known(WHEELS_LOAD)}):
        into = root / "usr" / library.relative_to("/usr" if library.is_relative_to("/usr") else "/")
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library.resolve(), into)
    if not slim:
        shutil.copytree(python_3_13() / "include/python3.13", root / "usr/local/include/python3.13")
        _copy_packages(COMPILER, root)
    shutil.copy2(CERTIFICATES, root / "etc/ssl/certs")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    (root / "etc/ld.so.conf").write_text("/usr/local/lib\n/usr/lib/x86_64-linux-gnu\n/usr/lib/aarch64-linux-gnu\n")
    subprocess.run(["/sbin/ldconfig", "-r", root], check=True)


def _copy_packages(names: Iterable[str], root: Path) -> None:
    """The files of these packages of Debian and of all that they depend on, without their documentation."""
    waiting, known = [*names], {*names}
    while waiting:
        asked = ["dpkg-query", "--show", "--showformat=${Depends}", waiting.pop()]
        needed = {*_DEPENDENCY.findall(subprocess.run(asked, capture_output=True, text=True).stdout)} - known
        known |= needed
        waiting += needed
    # Of what can be provided by several packages one is installed, and the others are not known here.
    listed = subprocess.run(["dpkg-query", "--listfiles", *sorted(known)], capture_output=True, text=True).stdout
    for path in map(Path, listed.split("\n")):
        into = root / path.relative_to("/") if path.is_absolute() else root
        if not (into.exists() or into.is_symlink() or path.is_relative_to("/usr/share") or path.is_dir()):
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, into, follow_symlinks=False)


def python_3_13() -> Path:
    """The prefix of a CPython 3.13 of this machine: the one on the path, or one that pyenv has."""
    candidates = [Path("python3.13"), *Path.home().glob(".pyenv/versions/3.13.*/bin/python3.13")]
    for candidate in candidates:
        if shutil.which(candidate) is None:
            continue
        asked = subprocess.run([candidate, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True)
        if asked.returncode == 0:
            return Path(asked.stdout.strip())
    raise FileNotFoundError("no CPython 3.13 on this machine to make the base image of")


def _python(prefix: Path, into: Path) -> None:
    shutil.copytree(prefix / "lib/python3.13", into / "lib/python3.13", symlinks=True, ignore=LEFT_OUT)
    site_packages = into / "lib/python3.13/site-packages"
    for entry in site_packages.iterdir():
        if not entry.name.startswith("pip"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for library in prefix.glob("lib/libpython3*.so*"):
        shutil.copy2(library, into / "lib", follow_symlinks=False)
    (into / "bin").mkdir()
    shutil.copy2(prefix / "bin/python3.13", into / "bin")
    for name in ("python", "python3"):
        (into / "bin" / name).symlink_to("python3.13")
    pip = into / "bin/pip"
    pip.write_text("#!/usr/local/bin/python3\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n")
    pip.chmod(0o755)


def _libraries(programs: Iterable[Path], own: Path) -> Iterator[Path]:
    """What the loader would load for each of `programs`, without what is in `own` already."""
    for program in programs:
        told = subprocess.run(
            ["ldd", program], capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": str(own)}
        )
        for found in _LOADED.findall(told.stdout):
            if not Path(found).is_relative_to(own):
                yield Path(found)


def _known(names: Iterable[str]) -> Iterator[Path]:
    """Where the loader finds these libraries; the first of each name is the one it takes."""
    told = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    places = {name: Path(path) for name, path in reversed(_CACHED.findall(told))}
    for name in names:
        yield places[name]
