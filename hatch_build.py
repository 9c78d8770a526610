"""Compiles the modules that every request passes through, with mypyc, into the wheel: `HATCH_BUILD_HOOKS_ENABLE=1`.

Without that switch nothing here runs, and the wheel is pure Python. What is compiled stays in the wheel as source too,
for tracebacks and for `inspect`; Python imports an extension before a source file of the same name. An editable
install is never compiled: an extension beside a file that is being edited would be run in its place.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "shadowproxy"
# A class whose base has an unknown type would be laid out over the base's own memory, and Python crash. So the types of
# what is imported have to be there (`require-runtime-dependencies` in pyproject.toml), and such a base is an error: but
# only in what is compiled ("silent"). Other modules stay Python's own, and some types of theirs (YAML's) are not there.
MYPY = ("--config-file=", "--ignore-missing-imports", "--disallow-subclassing-any", "--follow-imports=silent")
# In a process of its own: mypyc prints, and ends the process where it fails. `multi_file`: one C file for all of the
# modules would have gcc take more time and memory (says mypyc's documentation). Its runtime lies in build/ too, in C.
COMPILE = """\
import sys
from pathlib import Path
from setuptools import setup
from mypyc.build import mypycify

extensions = mypycify(sys.argv[3:], opt_level="3", debug_level="0", multi_file=True)
runtime = Path("build/bytes_ops.c")
runtime.write_text(runtime.read_text().replace(sys.argv[1], sys.argv[2]))
setup(name="shadowproxy", packages=[], ext_modules=extensions, script_args=["--quiet", "build_ext", "--inplace"])
"""
# With mypyc 2.4 `b"abc"[2:1]` is a SystemError, and should be b"": one word of its runtime is wrong.
NEGATIVE_SIZE, NO_SIZE = "slice_len = endn - startn;", "slice_len = endn < startn ? 0 : endn - startn;"


class CompiledModules(BuildHookInterface[Any]):
    """Asks for `modules`: their paths, as pyproject.toml lists them."""

    _directory: TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._directory = TemporaryDirectory(prefix="shadowproxy-build-")
        place = Path(self._directory.name)
        shutil.copytree(Path(self.root, PACKAGE), place / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        self._compile(place)
        built = [*place.glob("*.so"), *place.glob(f"{PACKAGE}/**/*.so")]
        build_data["force_include"].update({str(each): str(each.relative_to(place)) for each in built})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._directory is not None:
            self._directory.cleanup()

    def _compile(self, place: Path) -> None:
        compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        if shutil.which(compiler.split()[0]) is None:
            self._fail(f'there is no C compiler "{compiler.split()[0]}"')
        words = [sys.executable, "-c", COMPILE, NEGATIVE_SIZE, NO_SIZE, *MYPY, *self.config["modules"]]
        done = subprocess.run(
            words, cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode:
            self.app.display(done.stdout)
            wrong = (
                line for line in done.stdout.splitlines() if "error:" in line
            )  # the first is the cause of the others
            self._fail(next(wrong, f"mypyc ended with {done.returncode}"))

    def _fail(self, why: str) -> None:
        self.app.abort(f"shadowproxy cannot be compiled: {why} (without HATCH_BUILD_HOOKS_ENABLE it need not be)")
