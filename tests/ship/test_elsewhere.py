"""What runs where no engine of ours is: as much of it as can be tried here."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from ship.engine import ROOT, Engine

pytestmark = pytest.mark.soak

UNIT = ROOT / "deploy/systemd/shadowproxy.service"
EXPOSURE = 1.5  # of 10, by systemd's own count; below 4 it calls a unit OK


def test_the_unit_is_one_that_systemd_takes_and_calls_hardened(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    # The program is not installed here, and systemd looks for it.
    unit.write_text(UNIT.read_text().replace("/opt/shadowproxy/bin/shadowproxy", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    limit = f"--threshold={int(EXPOSURE * 10)}"
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", limit, unit], capture_output=True, text=True
    )
    assert judged.returncode == 0, judged.stdout.splitlines()[-1]


def test_on_ecs_the_proxy_finds_the_configuration_and_the_volume_that_were_made_for_it(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    """The task's containers in its order, with volumes as ECS makes them: empty, and root's."""
    task = json.loads((ROOT / "deploy/ecs/task-definition.json").read_text())
    containers = {each["name"]: each for each in task["containerDefinitions"]}
    for volume in task["volumes"]:
        (tmp_path / volume["name"]).mkdir(mode=0o755)

    def options(name: str) -> list[str]:
        container = containers[name]
        mounts = [
            f"--mount=type=bind,source={tmp_path / each['sourceVolume']},target={each['containerPath']}"
            + (",readonly" if each.get("readOnly") else "")
            for each in container["mountPoints"]
        ]
        read_only = ["--read-only"] if container.get("readonlyRootFilesystem") else []
        dropped = container.get("linuxParameters", {}).get("capabilities", {}).get("drop", [])
        return [f"--user={container['user']}", *mounts, *read_only, *(f"--cap-drop={each}" for each in dropped)]

    given = (ROOT / "deploy/ecs/config.yaml").read_text().replace("127.0.0.1:8080", "127.0.0.1:18080")
    first = containers["configuration"]
    words = ["--env", f"CONFIG={given}", f"--entrypoint={first['entryPoint'][0]}", image]
    engine(
        "run", "--rm", "--network=none", *options("configuration"), *words, *first["entryPoint"][1:], *first["command"]
    )
    proxy = engine("run", "--detach", "--network=host", *options("shadowproxy"), image)
    try:
        check = containers["shadowproxy"]["healthCheck"]["command"]
        until = time.monotonic() + 20
        while engine.run("exec", proxy, *check[1:], check=False).returncode:
            assert time.monotonic() < until, engine.said(proxy)
            time.sleep(0.1)
        engine("stop", "--time", str(containers["shadowproxy"]["stopTimeout"]), proxy)
        assert engine.inspect(proxy)["State"]["ExitCode"] == 0
    finally:
        engine("rm", "--force", proxy)
    assert (tmp_path / "shadowproxy-log/shadow-log").is_dir()
