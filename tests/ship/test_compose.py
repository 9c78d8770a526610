"""`docker compose up`, as deploy/README.md says it: a caller, the proxy, live and a shadow, to a report."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ship.engine import ROOT, Engine

pytestmark = pytest.mark.soak

COMPOSE = ROOT / "deploy/compose/compose.yaml"
FILES = ("compose", "--file", COMPOSE, "--file", Path(__file__).with_name("host-network.yaml"))


@pytest.fixture
def compose(engine: Engine, image: str) -> Iterator[Engine]:
    """An engine on which nothing of the project is left afterwards."""
    yield engine
    engine(*FILES, "down", "--volumes", "--timeout", "40")


def test_the_file_fits_the_compose_specification(tools: dict[str, str]) -> None:
    words = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(words, env=tools, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_one_command_shows_the_log_filling_and_the_report(compose: Engine) -> None:
    compose(*FILES, "up", "--detach")
    assert compose("wait", "shadowproxy-caller-1") == "0"
    compose("wait", "shadowproxy-report-1")
    watched, told = compose.said("shadowproxy-watch-1"), compose.said("shadowproxy-report-1")
    assert "sent 1,000 flights" in compose.said("shadowproxy-caller-1")
    assert len(re.findall(r"^.*mismatch.*$", watched, re.MULTILINE)) >= 10
    assert re.search(r"Coverage +1,000 chosen", told), told
    compose(*FILES, "stop", "proxy")
    state = compose.inspect("shadowproxy-proxy-1")["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
