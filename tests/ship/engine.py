"""A Docker engine for the tests, out of .ship/: one of this machine's own where it runs, else one of theirs."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ship import base

ROOT = Path(__file__).parents[2]
SHIP = ROOT / ".ship"
BASE, BUILD = "python:3.13-slim", "python:3.13"

START_DEADLINE = 60.0  # seconds, for the engine
POLL = 0.05


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine. `environment` is what its client needs to find it."""

    environment: Mapping[str, str]

    def run(self, *words: str | Path, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """`docker words`. With `check`, a failure fails the test with what the client said."""
        done = subprocess.run(
            ["docker", *map(str, words)], env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"docker {' '.join(map(str, words))}:\n{done.stdout}{done.stderr}"
        return done

    def __call__(self, *words: str | Path) -> str:
        return self.run(*words).stdout.strip()

    def inspect(self, container: str) -> dict[str, Any]:
        return json.loads(self("inspect", container))[0]  # type: ignore[no-any-return]

    def said(self, container: str) -> str:
        """Both streams."""
        done = self.run("logs", container)
        return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """This process's, with the programs of .ship/ before all others. Fails where they have not been installed."""
    assert (SHIP / "ready").exists(), "these tests need `tests/ship/install`, as `make soak` runs it"
    places = [SHIP / "venv/bin", SHIP / "root/usr/bin", SHIP / "root/usr/sbin", os.environ["PATH"]]
    return {**os.environ, "PATH": ":".join(map(str, places)), "DOCKER_CONFIG": str(SHIP / "docker")}


@contextmanager
def running() -> Iterator[Engine]:
    """The engine that this machine runs, or one that is started here and stopped again. Needs root for the latter."""
    found = Engine(environment())
    if found.run("info", check=False).returncode == 0:
        yield found
    else:
        with _started() as engine:
            yield engine


@contextmanager
def alone() -> Iterator[None]:
    """Wait for other runs of these tests on this machine, whatever their checkout, and have others wait for this one.

    What they start listens on the ports that ship.
    """
    with (Path(tempfile.gettempdir()) / "shadowproxy-ship.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _started() -> Iterator[Engine]:
    # A socket's path has at most 107 bytes, and nobody knows how deep the checkout is.
    place = Path(tempfile.mkdtemp(prefix="ship."))
    socket, data = place / "docker.sock", SHIP / "engine"
    data.mkdir(exist_ok=True)
    with (SHIP / "dockerd.log").open("wb") as log:
        # No bridge and no rules for packets: every container here shares the machine's own network.
        process = subprocess.Popen(
            ["dockerd", "--data-root", data, "--exec-root", place / "exec", "--pidfile", place / "pid",
             "-H", f"unix://{socket}", "--bridge=none", "--iptables=false", "--default-ulimit", "nofile=16384:16384"],
            env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        engine = Engine({**environment(), "DOCKER_HOST": f"unix://{socket}"})
        until = time.monotonic() + START_DEADLINE
        while engine.run("info", check=False).returncode:
            assert process.poll() is None, f"the engine ended:\n{(SHIP / 'dockerd.log').read_text()[-2000:]}"
            assert time.monotonic() < until, "the engine did not come up"
            time.sleep(POLL)
        yield engine
    finally:
        process.terminate()
        process.wait(30)
        for kept in (place / "exec/netns").glob("*"):  # the engine leaves its networks mounted
            subprocess.run(["umount", kept], check=False)
        shutil.rmtree(place)


def provide_bases(engine: Engine) -> None:
    """Have BASE and BUILD: here already, from a registry, or made of this machine's own files."""
    for name in (BASE, BUILD):
        if engine.run("image", "inspect", name, check=False).returncode == 0:
            continue
        if engine.run("pull", "--quiet", name, check=False).returncode == 0:
            continue
        with tempfile.TemporaryDirectory(prefix="ship.", dir=SHIP) as directory:
            base.make(Path(directory) / "root", slim=name == BASE)
            archive = Path(directory) / "base.tar"
            tar = [
                "tar",
                "-C",
                f"{directory}/root",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "-cf",
                str(archive),
                ".",
            ]
            subprocess.run(tar, check=True)
            changes = [word for each in base.ENVIRONMENT for word in ("--change", f"ENV {each}")]
            engine("import", *changes, "--change", 'CMD ["python3"]', archive, name)
