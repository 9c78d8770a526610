"""The Kubernetes examples: sound by the API's schemas and the restricted policy, and run, to a report, without one."""

import asyncio
import json
import os
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

EXAMPLES = ("in-front/example", "behind/example", "kserve/example", "two-workloads")
KSERVES_OWN = ("annotations", "labels", "minReplicas", "maxReplicas")
"""Keys of an InferenceService's predictor that are no pod's."""
LOOPBACK = ("live:127.0.0.1", "gbm:127.0.0.1")  # the names of the examples' Services
REQUESTS = 200
SECRET = {"admin-token": secrets.token_hex(32)}
PROXY, ADMIN = "http://127.0.0.1:8080", "http://127.0.0.1:9901"


def rendered(example: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", ROOT / "deploy/kubernetes" / example], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def in_kubernetes_own_words(manifests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, with a Deployment in place of what Kubernetes has no schema for: its pods are as theirs would be."""
    return [_as_deployment(each) for each in manifests]


def _as_deployment(manifest: dict[str, Any]) -> dict[str, Any]:
    if manifest["kind"] == "Rollout":
        spec = {key: value for key, value in manifest["spec"].items() if key != "strategy"}
    elif manifest["kind"] == "InferenceService":
        predictor = manifest["spec"]["predictor"]
        labels = {"app": f"isvc.{manifest['metadata']['name']}-predictor"}  # as KServe gives them
        pod = {key: value for key, value in predictor.items() if key not in KSERVES_OWN}
        template = {"metadata": {"labels": labels, "annotations": predictor["annotations"]}, "spec": pod}
        spec = {"replicas": predictor["minReplicas"], "selector": {"matchLabels": labels}, "template": template}
    else:
        return manifest
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": manifest["metadata"], "spec": spec}


def pods_of(manifests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    workloads = [each for each in in_kubernetes_own_words(manifests) if each["kind"] in ("Deployment", "StatefulSet")]
    return [each["spec"]["template"]["spec"] for each in workloads]


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
    return [json.loads(line) for file in sorted((log / "shadow-log").glob("*.jsonl")) for line in lines(file)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_fits_the_schemas_of_the_api(example: str, tools: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(in_kubernetes_own_words(rendered(example))))
    done = subprocess.run(["kubernetes-validate", "--strict", file], env=tools, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_keeps_to_the_restricted_policy(example: str) -> None:
    """Of the Pod Security Standards, as far as it bears on these pods; and what they lack that a sidecar needs."""
    found = pods_of(rendered(example))
    assert found
    for pod in found:
        keeps_to_the_restricted_policy(pod)


def keeps_to_the_restricted_policy(spec: dict[str, Any]) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert {kind for volume in spec["volumes"] for kind in set(volume) - {"name"}} == {"configMap", "emptyDir"}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if "emptyDir" in volume)
    sidecars = spec.get("initContainers", [])
    assert {each["restartPolicy"] for each in sidecars} <= {"Always"}  # the API's schema would take any word
    for container in (*sidecars, *spec["containers"]):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        assert not container["image"].endswith(":latest")


def test_two_workloads_of_one_namespace_have_a_configuration_each() -> None:
    manifests = rendered("two-workloads")
    maps = {each["metadata"]["name"] for each in manifests if each["kind"] == "ConfigMap"}
    assert maps == {"shadowproxy-caller", "shadowproxy-scorer"}
    assert {each["metadata"].get("namespace") for each in manifests if each["kind"] != "Namespace"} == {
        "shadowproxy-two"
    }
    named = [each["configMap"]["name"] for pod in pods_of(manifests) for each in pod["volumes"] if "configMap" in each]
    assert sorted(named) == sorted(maps)


@pytest.mark.parametrize("side", ["in-front", "behind"])
@pytest.mark.parametrize("kinds", [["Deployment"], ["StatefulSet"], ["Rollout"], ["Deployment", "Rollout"]])
def test_what_a_workload_has_of_its_own_stays_beside_the_sidecar(kinds: list[str], side: str, tmp_path: Path) -> None:
    """A list of a kind that kustomize does not know would be replaced whole. The ConfigMap's name gets the prefix."""
    pod = {
        "initContainers": [{"name": "own", "image": "own:1"}],
        "containers": [{"name": "app", "image": "own:1"}],
        "volumes": [{"name": "own", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": {"app": "a"}}, "spec": pod}
    workloads = [
        {
            "apiVersion": "argoproj.io/v1alpha1" if kind == "Rollout" else "apps/v1",
            "kind": kind,
            "metadata": {"name": "my-app", "labels": {"shadowproxy": side}},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template},
        }
        for kind in kinds
    ]
    (tmp_path / "workloads.yaml").write_text(yaml.safe_dump_all(workloads))
    kubernetes = os.path.relpath(ROOT / "deploy/kubernetes", tmp_path.resolve())
    sidecars = [f"{kubernetes}/{side}/{'rollout' if kind == 'Rollout' else 'component'}" for kind in kinds]
    kustomization = {
        "namePrefix": "eu-",
        "resources": ["workloads.yaml"],
        "components": [*sidecars, *(f"{kubernetes}/own-config/{kind.lower()}" for kind in kinds)],
        "generatorOptions": {"disableNameSuffixHash": True},
        "configMapGenerator": [{"name": "shadowproxy-my-app", "literals": ["config.yaml="]}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    made = rendered(str(tmp_path))
    assert {each["kind"] for each in made} == {"ConfigMap", *kinds}
    for each in made:
        if each["kind"] != "ConfigMap":
            patched = each["spec"]["template"]["spec"]
            assert [inner["name"] for inner in patched["initContainers"]] == ["shadowproxy", "own"]
            assert [inner["name"] for inner in patched["containers"]] == ["app"]
            assert [inner["name"] for inner in patched["volumes"]] == ["shadowproxy-config", "shadowproxy-log", "own"]
            assert patched["volumes"][0]["configMap"]["name"] == "eu-shadowproxy-my-app"


def test_behind_the_api_the_service_leads_to_the_proxy_and_nothing_to_the_model() -> None:
    manifests = rendered("behind/example")
    (service,) = (each for each in manifests if each["kind"] == "Service")
    (policy,) = (each for each in manifests if each["kind"] == "NetworkPolicy")
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [8080]
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == {8080, 9901}


def test_in_front_of_the_api_the_pod_runs_to_a_report(engine: Engine, image: str, tmp_path: Path) -> None:
    """The caller in the pod asks live through the sidecar, is stopped before it, and what it asked is in the log."""
    with (
        model(engine, image, "live", 9001),
        model(engine, image, "shadow", 9002),
        pods.running(engine, rendered("in-front/example"), tmp_path / "pod", LOOPBACK) as pod,
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


@pytest.mark.parametrize(("example", "sidecar"), [("behind", "shadowproxy"), ("kserve", "transformer-container")])
def test_behind_the_api_the_pod_runs_to_a_report(
    engine: Engine, image: str, tmp_path: Path, example: str, sidecar: str
) -> None:
    """Callers ask the port that the Service leads to, and the model in the pod answers."""
    manifests = in_kubernetes_own_words(rendered(f"{example}/example"))

    def ask() -> list[int | None]:
        return [each.status for each in asyncio.run(send_all(PROXY, flights(REQUESTS), lambda: None))]

    with (
        model(engine, image, "shadow", 9002),
        pods.running(engine, manifests, tmp_path / "pod", LOOPBACK, {"shadowproxy": SECRET}) as pod,
    ):
        assert [pause(token=None), pause(token="another"), pause(SECRET["admin-token"], "resume")] == [401, 401, 200]
        answers = ask()
        change_the_configuration(engine, pod, sidecar)
        answers += ask()
        ended = pod.stop()
        log = pod.volume("shadowproxy-log")
        told, written = report(engine, image, log), records(log)
    assert answers == [200] * REQUESTS * 2
    assert ended[sidecar].status == 0
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


def change_the_configuration(engine: Engine, pod: pods.Pod, sidecar: str = "shadowproxy") -> None:
    """As a kubelet does once the ConfigMap was changed: to one that is no good, then to one that is."""
    (given,) = pod.config_maps.values()
    pod.swap("shadowproxy-config", {"config.yaml": given["config.yaml"] + "compare: {ignored: [/predictions]}\n"})
    wait_for_metric(engine, "shadowproxy_config_last_reload_successful", 0)
    assert "ignored" in engine.said(f"pod-{sidecar}")
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
