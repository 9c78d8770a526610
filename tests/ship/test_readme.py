"""The commands of deploy/README.md, run as they are written there, but for where this machine has no network or root's
own directories to spare: HERE says what is put in their place, and NOT_RUN what needs more than one machine can be.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError

import pytest

from shadowproxy.demo.client import send_all
from shadowproxy.demo.flights import flights
from ship.engine import ROOT, SHIP, Engine
from ship.test_kubernetes import model

pytestmark = pytest.mark.soak

README = (ROOT / "deploy/README.md").read_text()
REQUESTS = 100

BUILD, SERVE, REPORT = "docker build", "docker run --rm --network host", "docker run --rm --volume"
UP, DOWN = "docker compose -f deploy/compose/compose.yaml up", "docker compose -f deploy/compose/compose.yaml down"
RULES, RSYSLOG, SYSLOG_NG = "promtool test rules", "rsyslogd -N1", "syslog-ng --syntax-only"
INSTALL, CONFIGURE, UNIT = (
    "python3 -m venv",
    "install -D -m 0644 config.example.yaml",
    "install -D -m 0644 deploy/systemd",
)
READ = "/opt/shadowproxy/bin/shadowproxy report"
INSIDE = "kubectl -n shadowproxy-in-front exec"  # its end is run in the pod, by test_kubernetes.py
BILL = "make sbom"  # by test_image.py
IMAGE = "make image"  # by test_image.py
RUN = (BUILD, SERVE, REPORT, UP, DOWN, RULES, RSYSLOG, SYSLOG_NG, INSTALL, CONFIGURE, UNIT, READ, INSIDE, BILL, IMAGE)
NOT_RUN = {
    "kubectl apply -k": "these two commands need a cluster",
    "helm install": "Not run by the tests: the last command needs a cluster, and they render the chart instead",
    "systemctl daemon-reload": "Not run by the tests: the last line needs systemd",
}

HERE = {
    "docker build": "docker build --network=host",  # the engine has no bridge
    "compose.yaml up --build": "compose.yaml -f tests/ship/host-network.yaml up",
    "compose.yaml down": "compose.yaml -f tests/ship/host-network.yaml down",
    "docker run --rm --volume": "docker run --network=none --rm --volume",
}


def commands() -> list[str]:
    """Each command of the page's shell blocks, on one line."""
    text = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    return [re.sub(r" +", " ", line) for line in text.splitlines()]


def written(beginning: str) -> str:
    """The one command that begins so, as it can be run here."""
    (command,) = (each for each in commands() if each.startswith(beginning))
    for there, here in HERE.items():
        command = command.replace(there, here)
    return command


def run(command: str, environment: Mapping[str, str], timeout: float = 300) -> str:
    words = ["bash", "-euc", command]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def begun(command: str, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A command that goes on until it is ended. Whoever begins it ends it, or it is killed."""
    words = ["bash", "-euc", f"exec {command}"]
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_ready() -> None:
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen("http://127.0.0.1:9901/readyz", timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < until, "not ready"
            time.sleep(0.05)


def test_every_command_of_the_page_is_run_or_said_not_to_be() -> None:
    for command in commands():
        assert sum(command.startswith(each) for each in (*RUN, *NOT_RUN)) == 1, command
    assert len(commands()) == len(RUN) + len(NOT_RUN)
    for why in NOT_RUN.values():
        assert why in README.replace("\n", " ")


def test_the_image_is_built_run_and_asked_for_its_report(engine: Engine) -> None:
    environment = engine.environment
    run(written(BUILD), environment, timeout=1800)  # it compiles, perhaps beside other tests
    with ExitStack() as stack:
        for system, port in (("live", 9001), ("shadow", 9002)):
            stack.enter_context(model(engine, "shadowproxy:0.2.0", system, port))
        stack.callback(engine.run, "volume", "rm", "shadow-log", check=False)
        serving = stack.enter_context(begun(written(SERVE), environment))
        wait_ready()
        asyncio.run(send_all("http://127.0.0.1:8080", flights(REQUESTS), lambda: None))
        serving.send_signal(signal.SIGTERM)  # which the client passes on
        said, _ = serving.communicate(timeout=60)
        assert serving.returncode == 0
        assert f"stopped: {REQUESTS} requests, {REQUESTS} records in the log, 0 lost" in said
        told = subprocess.run(
            ["bash", "-c", written(REPORT)], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert f"{REQUESTS} chosen" in told.stdout


def test_compose_runs_to_a_report_and_is_forgotten(engine: Engine, image: str) -> None:
    environment = engine.environment
    with begun(written(UP), environment):
        try:
            until = time.monotonic() + 120
            while "Coverage" not in engine.run("logs", "shadowproxy-report-1", check=False).stdout:
                assert time.monotonic() < until, "there is no report"
                time.sleep(0.2)
            books = urllib.request.urlopen("http://127.0.0.1:9901/metrics", timeout=5).read()
            assert b"shadowproxy_records_written_total 1000.0" in books
        finally:
            run(written(DOWN), environment)
    assert engine("ps", "--all", "--quiet", "--filter", "name=shadowproxy-") == ""


def test_the_rules_and_the_shippers_files_are_sound(tools: Mapping[str, str], tmp_path: Path) -> None:
    rsyslog = tmp_path / "rsyslog.conf"  # which is sound only where its directory is
    rsyslog.write_text(
        (ROOT / "deploy/logshipping/rsyslog.conf").read_text().replace("/var/lib/rsyslog", str(tmp_path))
    )
    assert "SUCCESS" in run(written(RULES), tools)
    root = SHIP / "root/usr/lib"
    libraries = ":".join(str(root / each) for each in ("x86_64-linux-gnu", "syslog-ng", "../../lib/x86_64-linux-gnu"))
    found = {**tools, "LD_LIBRARY_PATH": libraries, "RSYSLOG_MODDIR": str(root / "x86_64-linux-gnu/rsyslog")}
    run(written(RSYSLOG).replace("deploy/logshipping/rsyslog.conf", str(rsyslog)), found)
    run(written(SYSLOG_NG).replace("syslog-ng ", f"syslog-ng --module-path={root}/syslog-ng/3.38 ", 1), found)


def test_what_is_installed_for_systemd_serves_by_the_units_own_command(the_ports: None, tmp_path: Path) -> None:
    """Installed under a root of its own; and the command is run as the unit has it, in its working directory."""

    def under(text: str) -> str:
        return re.sub(r"(?<![\w./])/(opt|etc|var)/", rf"{tmp_path}/\1/", text).replace(
            "python3 -m", f"{sys.executable} -m"
        )

    environment = dict(os.environ)
    for command in (INSTALL, CONFIGURE, UNIT):
        run(under(written(command)), environment)
    unit = (tmp_path / "etc/systemd/system/shadowproxy.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    (home,) = re.findall(r"^WorkingDirectory=(.*)$", unit, re.MULTILINE)
    Path(under(home)).mkdir(parents=True)
    with begun(f"env --chdir={under(home)} {under(start)}", environment) as serving:
        wait_ready()
        with pytest.raises(HTTPError, match="502"):  # nobody is at live's address
            urllib.request.urlopen("http://127.0.0.1:8080/", timeout=30)
        serving.send_signal(signal.SIGTERM)
        said, _ = serving.communicate(timeout=60)
        assert serving.returncode == 0, said
    told = subprocess.run(["bash", "-c", under(written(READ))], capture_output=True, text=True)
    assert told.returncode == 3  # one request is too little to tell
    assert "1 chosen" in told.stdout
