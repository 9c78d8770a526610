"""A Deployment's pod, run on a Docker engine as a kubelet would: sidecars in their order and each up before the next,
then the containers; at the end the containers first, the sidecars in reverse, and one grace period for all of it.

The network is the machine's own, so a pod's containers share loopback, as they do in a cluster. A key of the manifest
that nothing here acts on or allows for is an error, and so is a volume of another kind.
"""

import os
import shutil
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ship.engine import Engine

Manifest = Mapping[str, Any]

ACTED_ON = {
    "name", "image", "command", "args", "env", "ports", "resources", "securityContext", "volumeMounts", "restartPolicy",
    "startupProbe", "readinessProbe", "livenessProbe",
}  # fmt: skip
ALLOWED_FOR = {"lifecycle"}  # preStop only waits for Services to forget the pod, and there is none here


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a container ended. `seconds` from being told to."""

    status: int
    seconds: float
    out_of_memory: bool


@dataclass
class Pod:
    """A pod that runs. Owns its containers and its volumes' directory; made by `running`."""

    engine: Engine
    spec: Manifest
    config_maps: Mapping[str, Mapping[str, str]]
    place: Path
    hosts: Sequence[str]
    secrets: Mapping[str, Mapping[str, str]]
    started: list[str] = field(default_factory=list)

    @property
    def sidecars(self) -> list[Manifest]:
        found: list[Manifest] = self.spec.get("initContainers", [])
        assert all(each.get("restartPolicy") == "Always" for each in found), "init containers that end are not run here"
        return found

    def volume(self, name: str) -> Path:
        return self.place / name

    def start(self) -> None:
        self.place.chmod(0o755)
        for volume in self.spec.get("volumes", []):
            self._provide(volume)
        for sidecar in self.sidecars:
            self._run(sidecar)
            self._wait(sidecar, "startupProbe")
        for container in self.spec["containers"]:
            self._run(container)
        for each in (*self.sidecars, *self.spec["containers"]):
            for probe in ("readinessProbe", "livenessProbe"):
                self._wait(each, probe)

    def stop(self) -> dict[str, Stopped]:
        """As for a pod that was deleted. Each container by name with how it ended."""
        until = time.monotonic() + self.spec["terminationGracePeriodSeconds"]
        ended = {}
        for each in (*self.spec["containers"], *reversed(self.sidecars)):
            begun = time.monotonic()
            self.engine("stop", "--time", str(max(2, int(until - begun))), f"pod-{each['name']}")
            state = self.engine.inspect(f"pod-{each['name']}")["State"]
            ended[each["name"]] = Stopped(state["ExitCode"], time.monotonic() - begun, state["OOMKilled"])
        return ended

    def remove(self) -> None:
        for container in self.started:
            self.engine("rm", "--force", "--volumes", container)

    def swap(self, volume: str, texts: Mapping[str, str]) -> None:
        """What a kubelet does when a ConfigMap has changed: another directory, and `..data` leads there at once."""
        directory = self.volume(volume)
        before = [*directory.glob("..version_*")]
        version = directory / f"..version_{time.monotonic_ns()}"
        version.mkdir()
        for name, text in texts.items():
            (version / name).write_text(text)
        (directory / "..data_tmp").symlink_to(version.name)
        (directory / "..data_tmp").replace(directory / "..data")
        for old in before:
            shutil.rmtree(old)

    def _provide(self, volume: Manifest) -> None:
        directory = self.volume(volume["name"])
        directory.mkdir()
        if "configMap" in volume:
            texts = self.config_maps[volume["configMap"]["name"]]
            self.swap(volume["name"], texts)
            for name in texts:
                (directory / name).symlink_to(f"..data/{name}")
        else:
            assert set(volume) == {"name", "emptyDir"}, f"volumes like {volume} are not run here"
            os.chown(directory, 0, self.spec["securityContext"]["fsGroup"])
            directory.chmod(0o2770)

    def _run(self, container: Manifest) -> None:
        unknown = set(container) - ACTED_ON - ALLOWED_FOR
        assert not unknown, f"{unknown} of {container['name']} is not acted on here"
        pod, own = self.spec["securityContext"], container["securityContext"]
        name = f"pod-{container['name']}"
        user, memory = {**pod, **own}, container["resources"]["limits"]["memory"].replace("Mi", "m")
        options = [
            f"--name={name}", "--network=host", "--no-healthcheck", f"--user={user['runAsUser']}:{user['runAsGroup']}",
            f"--group-add={pod['fsGroup']}", f"--memory={memory}",
            *(f"--cap-drop={each}" for each in own["capabilities"]["drop"]), *(f"--add-host={h}" for h in self.hosts),
        ]  # fmt: skip
        if own["readOnlyRootFilesystem"]:
            options.append("--read-only")
        if own["allowPrivilegeEscalation"] is False:
            options.append("--security-opt=no-new-privileges")
        for mount in container.get("volumeMounts", []):
            read_only = ",readonly" if mount.get("readOnly") else ""
            options.append(
                f"--mount=type=bind,source={self.volume(mount['name'])},target={mount['mountPath']}{read_only}"
            )
        options += [f"--env={name}={value}" for name, value in self._environment(container)]
        first, *rest = container.get("command", [None])
        if first is not None:
            options.append(f"--entrypoint={first}")
        self.started.append(name)
        self.engine("run", "--detach", *options, container["image"], *rest, *container.get("args", []))

    def _environment(self, container: Manifest) -> Iterator[tuple[str, str]]:
        for variable in container.get("env", []):
            assert set(variable) == {"name", "valueFrom"}, f"variables like {variable} are not set here"
            wanted = variable["valueFrom"]["secretKeyRef"]
            value = self.secrets.get(wanted["name"], {}).get(wanted["key"])
            assert value is not None or wanted.get("optional"), f"the pod would not start without {wanted}"
            if value is not None:
                yield variable["name"], value

    def _wait(self, container: Manifest, name: str) -> None:
        probe = container.get(name)
        if probe is None:
            return
        get = probe["httpGet"]
        ports = {each["name"]: each["containerPort"] for each in container.get("ports", [])}
        port = ports.get(get["port"], get["port"])
        for _ in range(probe.get("failureThreshold", 3)):
            try:
                url = f"http://127.0.0.1:{port}{get['path']}"
                urllib.request.urlopen(url, timeout=probe.get("timeoutSeconds", 1)).close()
                return
            except OSError:
                time.sleep(probe.get("periodSeconds", 10))
        raise AssertionError(f"{name} of {container['name']}: {self.engine.said('pod-' + container['name'])}")


@contextmanager
def running(
    engine: Engine,
    manifests: Sequence[Manifest],
    place: Path,
    hosts: Sequence[str] = (),
    secrets: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Pod]:
    """The pod of the one Deployment in `manifests`, started; its volumes are under `place`, which is new.

    `hosts` are the names that a cluster's DNS would know, each as `name:address`, `secrets` its Secrets' keys by name.
    """
    (deployment,) = (each for each in manifests if each["kind"] == "Deployment")
    config_maps = {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"}
    place.mkdir()
    pod = Pod(engine, deployment["spec"]["template"]["spec"], config_maps, place, hosts, secrets or {})
    try:
        pod.start()
        yield pod
    finally:
        pod.remove()
