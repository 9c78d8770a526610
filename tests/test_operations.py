"""The runbook is true: a heading for each alarm that ships, commands that run, lines that the program says."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from test_docs import MARKED, moved, needs_curl, ports  # noqa: F401 (a fixture is found by its name)

ROOT = Path(__file__).parent.parent
RUNBOOK = (ROOT / "docs/how-to/operations.md").read_text()
RULES = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}


def section(heading: str) -> str:
    """What is under a heading, up to the next one of its level or above."""
    marks, words = heading.split(" ", 1)
    (found,) = map(
        str, re.findall(rf"^{marks} {re.escape(words)}\n(.*?)(?=^#{{1,{len(marks)}}} |\Z)", RUNBOOK, re.M | re.S)
    )
    return found


def test_every_alarm_has_its_heading_and_leads_there() -> None:
    headings = re.findall(r"^### (\w+)$", section("## Alarms"), re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/how-to/operations.md#{name.lower()}"
        assert section(f"### {name}").lstrip().startswith(f"*{rule['labels']['severity']}.*")


def test_every_link_to_a_heading_leads_to_one() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in re.findall(r"^#+ (.*)$", RUNBOOK, re.M)
    }
    wanted = set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK))
    assert len(wanted) > 5
    assert wanted - anchors == set()


def test_every_cause_and_reason_that_an_alarm_tells_is_explained_there() -> None:
    for name, label in (
        ("ShadowproxyCausesErrors", r'(?:outcome|status|short)=~?"([\w|]+)"'),
        ("ShadowproxyShadowFailing", r'outcome=~"([\w|]+)"'),
        ("ShadowproxyShedding", r'outcome=~"([\w|]+)"'),
        ("ShadowproxyLiveFailing", r'outcome=~"([\w|]+)"'),
    ):
        told = {value for found in re.findall(label, ALERTS[name]["expr"]) for value in found.split("|")}
        assert told - set(re.findall(r"`([\w]+)`", section(f"### {name}"))) == set()


def test_the_program_has_every_event_that_the_runbook_names() -> None:
    source = "".join(path.read_text() for path in (ROOT / "shadowproxy/serve").rglob("*.py"))
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section("## What it says on standard error"), re.MULTILINE)
    events = {event for row in rows for event in re.findall(r"\w+", row)}
    assert len(events) > 20
    assert {event for event in events if f'"{event}"' not in source} == set()


@pytest.mark.timing  # it waits for seconds, and a late event loop sheds what is to be mirrored
@pytest.mark.slow
@needs_curl
def test_the_commands_of_the_runbook_run_and_do_what_it_says(tmp_path: Path, ports: dict[str, str]) -> None:  # noqa: F811
    config = tmp_path / "config.yaml"
    config.write_text(
        moved(
            "{listen: '127.0.0.1:0', admin: '127.0.0.1:0', live: {url: 'http://127.0.0.1:9001'},"
            " shadows: {challenger: {url: 'http://127.0.0.1:9002'}}, overload: {loop_lag: 1m}}",
            ports | {"0": "0"},
        )
    )
    program = [sys.executable, "-m", "shadowproxy"]
    with ExitStack() as stack:
        words = [*program, "serve", "-c", "config.yaml"]
        running = stack.enter_context(subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
        stack.callback(running.kill)  # which does nothing to one that has ended
        assert running.stderr is not None
        started = json.loads(next(line for line in running.stderr if "listening on" in line))
        proxy, admin = (started[each].removeprefix("http://") for each in ("listen", "admin"))
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PID": str(running.pid),
        }

        def run(block: str) -> str:
            here = block.replace("127.0.0.1:9901", admin).replace(" healthcheck", f" healthcheck --admin {admin}")
            words = ["bash", "-euc", here]
            done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
            return done.stdout

        def ask() -> None:
            urlopen(f"http://{proxy}/", data=b"{}", timeout=10).close()

        def state() -> tuple[object, ...]:
            with urlopen(f"http://{admin}/shadows", timeout=10) as answer:
                told = json.loads(answer.read())
            challenger = told["shadows"]["challenger"]
            return told["paused"], challenger["paused"], challenger["percent"]

        blocks = [block for _, block in MARKED.findall(RUNBOOK)]
        (pause_all,) = (block for block in blocks if "9901/pause" in block)
        (steer,) = (block for block in blocks if "/challenger/pause" in block)
        (reload,) = (block for block in blocks if "-HUP" in block)
        (stop,) = (block for block in blocks if "-TERM" in block)
        looks = [block for block in blocks if block not in (pause_all, steer, reload, stop)]

        ask()
        run(pause_all)
        assert state() == (True, False, 100)
        ask()
        run(steer)
        assert state() == (False, False, 5)
        config.write_text(config.read_text().replace("challenger: {", "challenger: {percent: 100, timeout: 5s, "))
        run(reload)
        until = time.monotonic() + 20
        # `check` can take longer than the two seconds after which a changed file is read anyway: then there is a third.
        while not re.search(rb"config_generation [23]\.0", urlopen(f"http://{admin}/metrics", timeout=10).read()):
            assert time.monotonic() < until
            time.sleep(0.05)
        said = [run(look) for look in looks]
        assert len(said) >= 3
        assert any("mismatch" in each and "paused" in each for each in said)
        assert running.poll() is None
        run(stop)
        last = json.loads(running.stderr.read().splitlines()[-1])["message"]
        assert running.wait(20) == 0
        (balance,) = re.findall(r"stopped: [^`]*lost", section("### Stop and drain"))
        assert re.fullmatch(re.sub(r"\d\d+", r"2", balance), last), last
