"""Which Python runs this file, and whether it was built with profile-guided optimisation. Needs no package.

`bench/setup` runs it with each Python that it finds; its exit status says whether that one is as good as the image's.
"""

import json
import sys
import sysconfig
from pathlib import Path
from typing import Any

WITH_PGO, WITHOUT_PGO, UNUSABLE = 0, 3, 4
"""The exit statuses; a Python too old to read this file exits with 1. The image's Python is built with profile-guided
optimisation; without it, Python takes about a quarter more CPU."""


def profile_guided(settings: dict[str, Any]) -> bool:
    """Whether the `sysconfig` variables are those of a Python that was built with profile-guided optimisation.

    Such a build is asked for by `--enable-optimizations`. Debian runs the same steps without that option, and then
    removes the compiler's flags from the settings that it installs; other builds keep them, used or not.
    """
    asked_for = "--enable-optimizations" in str(settings.get("CONFIG_ARGS"))
    return asked_for or settings.get("PGO_PROF_USE_FLAG") == ""


def describe() -> dict[str, Any]:
    return {
        "version": ".".join(map(str, sys.version_info[:3])),
        "path": str(Path(sys.executable).resolve()),
        "profile_guided": profile_guided(sysconfig.get_config_vars()),
    }


def status() -> int:
    """Compiling needs Python's header files, and an environment the module `ensurepip`."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    try:
        import ensurepip  # noqa: F401 - Debian has it in a package of its own
    except ImportError:
        return UNUSABLE
    if sys.version_info < (3, 11) or not headers.exists():
        return UNUSABLE
    return WITH_PGO if describe()["profile_guided"] else WITHOUT_PGO


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe()) + "\n")
    sys.exit(status())
