"""The alert rules and the dashboard: tested, parsed, and one alert fired by a real Prometheus at a real sidecar."""

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from shadowproxy.demo.client import NoAnswer, send_all
from shadowproxy.demo.flights import flights
from ship.engine import ROOT, Engine
from ship.test_kubernetes import model

pytestmark = pytest.mark.soak

PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/shadowproxy.json"
ADDRESS = "127.0.0.1:19090"
PROXY, ADMIN = "http://127.0.0.1:18080", "127.0.0.1:19901"
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


def test_what_is_exported_is_as_prometheus_wants_it(the_ports: None, tools: dict[str, str], tmp_path: Path) -> None:
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
    """The shipped configuration and rules, but hurried: a second for a quarter of a minute, and no waiting to fire.

    And one answer in a hundred that differs is enough: the demo's two systems differ in four.
    """
    place.mkdir()
    hurried = (PROMETHEUS / "prometheus.yaml").read_text().replace("15s", "1s").replace("127.0.0.1:9901", ADMIN)
    (place / "prometheus.yaml").write_text(hurried)
    rules = re.sub(r"for: \d+m", "for: 0s", (PROMETHEUS / "rules.yaml").read_text())
    rules, replaced = re.subn(r"> 0.05(\s+and sum .*verdicts)", r"> 0.01\1", rules)
    assert replaced == 1
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
    """Each alert that fires, with its shadow or cause where it has one."""
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}/api/v1/alerts", timeout=2) as answer:
            alerts = json.loads(answer.read())["data"]["alerts"]
    except OSError:
        return set()  # it is still starting
    names = ((each["labels"], each["state"]) for each in alerts)
    of = ((labels, labels.get("shadow", labels.get("cause", ""))) for labels, state in names if state == "firing")
    return {(labels["alertname"], what) for labels, what in of}


CONFIG = """
listen: 127.0.0.1:18080
admin: 127.0.0.1:19901
live: {url: "http://127.0.0.1:9001"}
shadows: {gbm: {url: "http://127.0.0.1:9002"}, dead: {url: "http://127.0.0.1:1"}}
"""


def test_a_real_prometheus_fires_the_shipped_alerts_when_what_they_tell_of_is_so(
    engine: Engine, image: str, tools: dict[str, str], tmp_path: Path
) -> None:
    """The sidecar of the image with a live system, a shadow that differs and one that is dead.

    Then, one after the other: it may take one request at a time, its file is spoilt, live goes, it goes itself.
    """
    directory = tmp_path / "config"
    directory.mkdir(mode=0o755)
    (directory / "config.yaml").write_text(CONFIG)
    mount = f"--mount=type=bind,source={directory},target=/etc/shadowproxy,readonly"
    with (
        ExitStack() as stack,
        model(engine, image, "shadow", 9002),
        prometheus(tools, tmp_path / "prometheus"),
    ):
        live = stack.enter_context(ExitStack())
        live.enter_context(model(engine, image, "live", 9001))
        sidecar = engine("run", "--detach", "--network=host", "--no-healthcheck", mount, image)
        stack.callback(engine, "rm", "--force", sidecar)

        wait_for(("ShadowproxyShadowFailing", "dead"), ("ShadowproxyDisagreement", "gbm"))
        assert {name for name, _ in firing()} == {"ShadowproxyShadowFailing", "ShadowproxyDisagreement"}
        (directory / "config.yaml").write_text(CONFIG + "limits: {in_flight: 1}\n")
        wait_for(("ShadowproxyCausesErrors", "503"))
        (directory / "config.yaml").write_text(CONFIG + "limits: {in_flight: none}\n")
        wait_for(("ShadowproxyReloadFailed", ""))
        assert "ShadowproxyLiveFailing" not in {name for name, _ in firing()}
        live.close()
        wait_for(("ShadowproxyLiveFailing", ""))
        assert "ShadowproxyDown" not in {name for name, _ in firing()}
        engine("kill", sidecar)
        wait_for(("ShadowproxyDown", ""))


def wait_for(*alerts: tuple[str, str]) -> None:
    until = time.monotonic() + 60
    while not set(alerts) <= (found := firing()):
        assert time.monotonic() < until, f"{alerts} do not fire, {found} do"
        with suppress(NoAnswer):  # the containers may still be starting, or have ended
            asyncio.run(send_all(PROXY, flights(200), lambda: None))
        time.sleep(0.1)


def ask() -> None:
    body = b'{"instances": []}'
    request = urllib.request.Request(f"{PROXY}/invocations", data=body, method="POST")
    with suppress(OSError):  # it may still be starting
        urllib.request.urlopen(request, timeout=2).close()
