"""Where `install` puts what these suites need, and what they say when it is not there."""

import os
from pathlib import Path

SOURCE = Path(__file__).parent
ROOT = SOURCE.parent.parent
PARTIES = ROOT / ".parties"
CALLERS = PARTIES / "callers" / "bin" / "python"
SERVERS = PARTIES / "servers" / "bin" / "python"
GO = PARTIES / "go"
JAVA = PARTIES / "java"


def environment() -> dict[str, str]:
    """This process's environment without what would send a caller elsewhere, and with where the parties are."""
    foreign = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    kept = {name: value for name, value in os.environ.items() if name.lower() not in foreign}
    return kept | {"PARTIES": str(PARTIES), "PYTHONUNBUFFERED": "1"}


def check() -> None:
    """Raise RuntimeError where the parties are not installed, or not from these files."""
    if not (PARTIES / "ready").exists():
        raise RuntimeError("the parties are not installed: `make soak` does it and runs these tests")


def python(name: str) -> Path:
    """The Python of the environment that is installed from NAME.txt. Raises RuntimeError where it is not installed."""
    if not (PARTIES / name / "ready").exists():
        raise RuntimeError(f".parties/{name} is not installed: `tests/parties/install PYTHON {name}` does it")
    return PARTIES / name / "bin" / "python"
