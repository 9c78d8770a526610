"""Shell completion, in a real bash, as pressing Tab does it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shadowproxy.cli import commands

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

COMPLETE = """
source <(shadowproxy completion bash)
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
$(complete -p shadowproxy | sed 's/.*-F \\([^ ]*\\) .*/\\1/') shadowproxy
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(*words: str) -> list[str]:
    """What bash offers after these words, the last of which is being typed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", "shadowproxy", *words],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.slow
@needs_bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("rep",), ["report", "replay"]),
        (("report", "--min"), ["--min-agreement"]),
        (("report", "--fail-on", "in"), ["inconclusive"]),
        (("replay", "shadow-log", "--full"), ["--full-speed"]),
        (("completion", "f"), ["fish"]),
        (("report", "--nonsense"), []),
    ],
)
def test_bash_completes_commands_options_and_their_values(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.slow
@needs_bash
def test_bash_offers_every_command() -> None:
    assert completed("") == list(commands.commands)


@pytest.mark.slow
@pytest.mark.parametrize(("shell", "begins"), [("zsh", "#compdef shadowproxy"), ("fish", "function _shadowproxy")])
def test_the_other_shells_get_a_script_that_they_can_read(shell: str, begins: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shadowproxy", "completion", shell],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(begins)
    if shutil.which(shell) is not None:
        (tmp_path / "script").write_text(done.stdout)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True, timeout=60)
