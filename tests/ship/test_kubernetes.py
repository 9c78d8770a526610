"""The Kubernetes examples: sound by the API's schemas and the restricted policy, and run, to a report, without one."""

import asyncio
import json
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from shadowproxy.demo.client import send_all
from shadowproxy.demo.flights import flights
from ship import pods
from ship.engine import ROOT, Engine

pytestmark = pytest.mark.soak

EXAMPLES = ("in-front", "behind")
LOOPBACK = ("live:127.0.0.1", "gbm:127.0.0.1")  # the names of the examples' Services
REQUESTS = 200
SECRET = {"admin-token": secrets.token_hex(32)}
PROXY, ADMIN = "http://127.0.0.1:8080", "http://127.0.0.1:9901"


def rendered(example: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", ROOT / "deploy/kubernetes" / example / "example"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@contextmanager
def model(engine: Engine, image: str, system: str, port: int) -> Iterator[None]:
    """One of the demo's systems as a container beside the pod."""
    words = ("--entrypoint=python3", image, "-m", "shadowproxy.demo.server", system, "--port", str(port))
    container = engine("run", "--detach", "--network=host", "--no-healthcheck", *words)
    try:
        until = time.monotonic() + 30
        while "listening" not in engine.said(container):
            assert time.monotonic() < until, engine.said(container)
            time.sleep(0.05)
        yield
    finally:
        engine("rm", "--force", container)


def report(engine: Engine, image: str, log: Path) -> dict[str, Any]:
    """What `shadowproxy report --json` of the image says of a pod's log."""
    mount = f"type=bind,source={log},target=/var/lib/shadowproxy,readonly"
    words = ("--rm", "--network=none", "--read-only", "--mount", mount, image, "report", "--json", "shadow-log")
    done = engine.run("run", *words, check=False)
    assert done.returncode in (0, 1, 3), done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def lines(file: Path) -> list[str]:
    return file.read_text().removesuffix("\n").split("\n")


def records(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted((log / "shadow-log").iterdir()) for line in lines(file)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_fits_the_schemas_of_the_api(example: str, tools: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(rendered(example)))
    done = subprocess.run(["kubernetes-validate", "--strict", file], env=tools, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_keeps_to_the_restricted_policy(example: str) -> None:
    """Of the Pod Security Standards, as far as it bears on these pods; and what they lack that a sidecar needs."""
    (deployment,) = (each for each in rendered(example) if each["kind"] == "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert {kind for volume in spec["volumes"] for kind in set(volume) - {"name"}} == {"configMap", "emptyDir"}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if "emptyDir" in volume)
    (sidecar,) = spec["initContainers"]
    assert sidecar["restartPolicy"] == "Always"  # the API's schema would take any word
    for container in (sidecar, *spec["containers"]):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        assert not container["image"].endswith(":latest")


def test_behind_the_api_the_service_leads_to_the_proxy_and_nothing_to_the_model() -> None:
    manifests = rendered("behind")
    (service,) = (each for each in manifests if each["kind"] == "Service")
    (policy,) = (each for each in manifests if each["kind"] == "NetworkPolicy")
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [8080]
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == {8080, 9901}


def test_in_front_of_the_api_the_pod_runs_to_a_report(engine: Engine, image: str, tmp_path: Path) -> None:
    """The caller in the pod asks live through the sidecar, is stopped before it, and what it asked is in the log."""
    with (
        model(engine, image, "live", 9001),
        model(engine, image, "shadow", 9002),
        pods.running(engine, rendered("in-front"), tmp_path / "pod", LOOPBACK) as pod,
    ):
        wait_for_rounds(engine, 1)
        asked_inside = engine.run("exec", "pod-shadowproxy", "shadowproxy", "report", "shadow-log", check=False)
        assert "Coverage" in asked_inside.stdout
        assert pause(token=None) == 403  # there is no secret, so nobody may
        change_the_configuration(engine, pod)
        wait_for_rounds(engine, 2)  # the second of them is all of the new configuration
        ended = pod.stop()
        log = pod.volume("shadowproxy-log")
        told, written = report(engine, image, log), records(log)
    assert {name: end.status for name, end in ended.items()} == {"caller": 0, "shadowproxy": 0}
    assert not any(end.out_of_memory for end in ended.values())
    assert len(written) >= 500
    check(written, told)


def test_behind_the_api_the_pod_runs_to_a_report(engine: Engine, image: str, tmp_path: Path) -> None:
    """Callers ask the port that the Service leads to, and the model in the pod answers."""

    def ask() -> list[int | None]:
        return [each.status for each in asyncio.run(send_all(PROXY, flights(REQUESTS), lambda: None))]

    with (
        model(engine, image, "shadow", 9002),
        pods.running(engine, rendered("behind"), tmp_path / "pod", LOOPBACK, {"shadowproxy": SECRET}) as pod,
    ):
        assert [pause(token=None), pause(token="another"), pause(SECRET["admin-token"], "resume")] == [401, 401, 200]
        answers = ask()
        change_the_configuration(engine, pod)
        answers += ask()
        ended = pod.stop()
        log = pod.volume("shadowproxy-log")
        told, written = report(engine, image, log), records(log)
    assert answers == [200] * REQUESTS * 2
    assert ended["shadowproxy"].status == 0
    assert len(written) == REQUESTS * 2
    check(written, told)


def wait_for_rounds(engine: Engine, more: int) -> None:
    """Until the caller has asked all its flights so many times more."""
    told = "answered: 500 with 200"
    begun = engine.said("pod-caller").count(told)
    until = time.monotonic() + 60
    while (said := engine.said("pod-caller")).count(told) < begun + more:
        assert time.monotonic() < until, said
        time.sleep(0.1)


def change_the_configuration(engine: Engine, pod: pods.Pod) -> None:
    """As a kubelet does once the ConfigMap was changed: to one that is no good, then to one that is."""
    (given,) = pod.config_maps.values()
    pod.swap("shadowproxy-config", {"config.yaml": given["config.yaml"] + "compare: {ignored: [/predictions]}\n"})
    wait_for_metric(engine, "shadowproxy_config_last_reload_successful", 0)
    assert "ignored" in engine.said("pod-shadowproxy")
    pod.swap("shadowproxy-config", {"config.yaml": given["config.yaml"] + "compare: {ignore: [/predictions]}\n"})
    wait_for_metric(engine, "shadowproxy_config_generation", 2)
    wait_for_metric(engine, "shadowproxy_config_last_reload_successful", 1)


def pause(token: str | None, call: str = "pause") -> int:
    """The status of pausing all, or of another such call."""
    fields = {"X-Shadowproxy-Admin": "1"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(f"{ADMIN}/{call}", headers=fields, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status  # type: ignore[no-any-return]
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def wait_for_metric(engine: Engine, name: str, value: int) -> None:
    until = time.monotonic() + 20
    while True:
        with urllib.request.urlopen(f"{ADMIN}/metrics", timeout=5) as answer:
            if f"\n{name} {value}.0\n" in (text := answer.read().decode()):
                return
        assert time.monotonic() < until, (text, engine.said("pod-shadowproxy"))
        time.sleep(0.1)


def check(written: Sequence[dict[str, Any]], told: dict[str, Any]) -> None:
    """Every request has both answers, some differ, which is ignored in the end, and the report counts the same.

    But for those that a caller was about to send when it was stopped: what has not come in whole is mirrored to nobody.
    """
    broken_off = [record for record in written if not record["shadows"]]
    assert {record["live"]["outcome"] for record in broken_off} <= {"caller_left"}
    written = [record for record in written if record["shadows"]]
    outcomes = [record["shadows"]["gbm"]["outcome"] for record in written]
    verdicts = [record["shadows"]["gbm"].get("verdict") for record in written]
    assert set(outcomes) <= {"ok", "overload"}  # a machine that is busy elsewhere sheds some
    assert outcomes.count("ok") >= 0.9 * len(written)
    assert {"match", "mismatch"} <= set(verdicts[:REQUESTS]) <= {"match", "mismatch", None}
    assert {"match", "ignored"} <= set(verdicts[-REQUESTS:]) <= {"match", "ignored", None}
    assert told["shadows"]["gbm"]["coverage"]["chosen"] == len(written)
