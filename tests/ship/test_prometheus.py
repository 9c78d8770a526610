"""The alert rules and the dashboard: tested, parsed, and one alert fired by a real Prometheus at a real sidecar."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from ship.engine import ROOT, Engine

pytestmark = pytest.mark.soak

PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/shadowproxy.json"
ADDRESS = "127.0.0.1:19090"
ADMIN = "127.0.0.1:19901"
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}


def promtool(tools: dict[str, str], *words: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, words)], env=tools, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_pass_their_unit_tests(tools: dict[str, str]) -> None:
    assert "SUCCESS" in promtool(tools, "test", "rules", PROMETHEUS / "rules_test.yaml")


def test_the_configuration_is_one_that_prometheus_takes(tools: dict[str, str]) -> None:
    promtool(tools, "check", "config", PROMETHEUS / "prometheus.yaml")


def test_every_expression_of_the_dashboard_parses(tools: dict[str, str], tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    for variable, value in VARIABLES.items():
        expressions = [each.replace(variable, value) for each in expressions]
    assert len(expressions) > 20
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool(tools, "check", "rules", file)


def test_what_is_exported_is_as_prometheus_wants_it(tools: dict[str, str], tmp_path: Path) -> None:
    """Names, units, help and types, by `promtool check metrics`, of a sidecar that has been asked and failed."""
    words = ["--live", "http://127.0.0.1:9", "--shadow", "dead=http://127.0.0.1:9", "--listen", "127.0.0.1:18080"]
    process = subprocess.Popen(
        [sys.executable, "-m", "shadowproxy", "serve", *words, "--admin", ADMIN],
        cwd=tmp_path, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 20
        text = b""
        while b'outcome="connect_error"} 1' not in text:
            assert time.monotonic() < until, text.decode()
            ask()
            time.sleep(0.1)
            with suppress(OSError), urllib.request.urlopen(f"http://{ADMIN}/metrics", timeout=2) as answer:
                text = answer.read()
    finally:
        process.terminate()
        process.wait(30)
    checked = subprocess.run(["promtool", "check", "metrics"], env=tools, input=text, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text())["panels"]  # type: ignore[no-any-return]


@contextmanager
def prometheus(tools: dict[str, str], place: Path) -> Iterator[None]:
    """The shipped configuration and rules, but hurried: a second for a quarter of a minute, and no waiting to fire."""
    place.mkdir()
    hurried = (PROMETHEUS / "prometheus.yaml").read_text().replace("15s", "1s").replace("127.0.0.1:9901", ADMIN)
    (place / "prometheus.yaml").write_text(hurried)
    rules = re.sub(r"for: \d+m", "for: 0s", (PROMETHEUS / "rules.yaml").read_text())
    (place / "rules.yaml").write_text(rules)
    words = [f"--config.file={place}/prometheus.yaml", f"--storage.tsdb.path={place}/data"]
    words.append(f"--web.listen-address={ADDRESS}")
    with (place / "said.txt").open("wb") as said:
        process = subprocess.Popen(["prometheus", *words], env=tools, stdout=said, stderr=said)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def firing() -> set[tuple[str, str]]:
    """Each alert that fires, with its shadow where it has one."""
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}/api/v1/alerts", timeout=2) as answer:
            alerts = json.loads(answer.read())["data"]["alerts"]
    except OSError:
        return set()  # it is still starting
    names = ((each["labels"], each["state"]) for each in alerts)
    return {(labels["alertname"], labels.get("shadow", "")) for labels, state in names if state == "firing"}


def test_a_real_prometheus_fires_the_shipped_alert_for_a_shadow_that_is_dead(
    engine: Engine, image: str, tools: dict[str, str], tmp_path: Path
) -> None:
    """The sidecar of the image, a live system that answers, a shadow that nobody serves; then the sidecar goes too."""
    words = ("serve", "--live", "http://127.0.0.1:9001", "--shadow", "dead=http://127.0.0.1:1")
    where = ("--listen", "127.0.0.1:18080", "--admin", ADMIN)
    system = ("--entrypoint=python3", image, "-m", "shadowproxy.demo.server", "live", "--port", "9001")
    containers = [engine("run", "--detach", "--network=host", "--no-healthcheck", *system)]
    containers.append(engine("run", "--detach", "--network=host", "--no-healthcheck", image, *words, *where))
    try:
        with prometheus(tools, tmp_path / "prometheus"):
            wait_for("ShadowproxyShadowFailing", "dead", asking=True)
            assert {name for name, _ in firing()} == {"ShadowproxyShadowFailing"}
            engine("rm", "--force", containers.pop())
            wait_for("ShadowproxyDown", "", asking=False)
    finally:
        engine("rm", "--force", *containers)


def wait_for(alert: str, shadow: str, *, asking: bool) -> None:
    until = time.monotonic() + 60
    while (alert, shadow) not in firing():
        assert time.monotonic() < until, f"{alert} does not fire"
        if asking:
            ask()
        time.sleep(0.2)


def ask() -> None:
    body = b'{"instances": []}'
    request = urllib.request.Request("http://127.0.0.1:18080/invocations", data=body, method="POST")
    with suppress(OSError):  # the containers may still be starting
        urllib.request.urlopen(request, timeout=2).close()
