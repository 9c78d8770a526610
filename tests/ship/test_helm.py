"""The Helm chart, rendered by Helm: sound by the API's schemas and the restricted policy, alone and in another one."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from shadowproxy import config
from ship.engine import ROOT
from ship.test_kubernetes import keeps_to_the_restricted_policy, pods_of

pytestmark = pytest.mark.soak

CHART = ROOT / "deploy/helm/shadowproxy"
CHARTS_VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
MODELS = {"config": {"live": {"url": "http://model:8000"}, "shadows": {"challenger": {"url": "http://model-v2:8000"}}}}
DIGEST = "sha256:" + "0123456789abcdef" * 4
SIDECAR = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      initContainers:
        {{- include "shadowproxy.sidecar" (dict "root" .) | nindent 8 }}
      containers:
        - {name: app, image: "app:1"}
      volumes:
        {{- include "shadowproxy.volumes" (dict "root" . "config" "app-shadowproxy") | nindent 8 }}
"""


def helm(tools: Mapping[str, str], *words: str | Path, values: Mapping[str, Any], place: Path) -> tuple[int, str]:
    """What `helm words` prints, and its status."""
    (place / "values.yaml").write_text(yaml.safe_dump(dict(values)))
    done = subprocess.run(
        ["helm", *words, "--values", place / "values.yaml"], env=tools, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def rendered(tools: Mapping[str, str], chart: Path, values: Mapping[str, Any], place: Path) -> list[dict[str, Any]]:
    status, text = helm(tools, "template", "eu", chart, values=values, place=place)
    assert status == 0, text
    (place / "all.yaml").write_text(text)
    return [each for each in yaml.safe_load_all(text) if each]


def test_the_chart_is_without_fault(tools: dict[str, str], tmp_path: Path) -> None:
    status, text = helm(tools, "lint", "--strict", CHART, values=MODELS, place=tmp_path)
    assert status == 0, text


@pytest.mark.parametrize(
    "more", [{}, {"networkPolicy": None, "replicas": 1, "image": {"digest": DIGEST}, "labels": {"team": "models"}}]
)
def test_a_release_fits_the_schemas_and_the_restricted_policy(
    tools: dict[str, str], more: dict[str, Any], tmp_path: Path
) -> None:
    manifests = rendered(tools, CHART, MODELS | more, tmp_path)
    done = subprocess.run(
        ["kubernetes-validate", "--strict", tmp_path / "all.yaml"],
        env=tools,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (pod,) = pods_of(manifests)
    keeps_to_the_restricted_policy(pod)
    (container,) = pod["containers"]
    assert container["image"] == (f"shadowproxy@{DIGEST}" if more else f"shadowproxy:{CHARTS_VERSION}")
    (map_of_it,) = (each for each in manifests if each["kind"] == "ConfigMap")
    assert pod["volumes"][0]["configMap"]["name"] == map_of_it["metadata"]["name"] == "eu-shadowproxy"
    file = tmp_path / "config.yaml"
    file.write_text(map_of_it["data"]["config.yaml"])
    loaded = config.load(file, environment={})
    assert config.warnings_for(loaded) == ()
    assert set(loaded.shadows) == {"challenger"}


def test_in_a_chart_of_ones_own_it_is_a_sidecar(tools: dict[str, str], tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(CHART, own / "charts/shadowproxy")
    (own / "templates").mkdir()
    (own / "templates/app.yaml").write_text(SIDECAR)
    needs = [{"name": "shadowproxy", "version": CHARTS_VERSION}]
    (own / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "own", "version": "1.0.0", "dependencies": needs})
    )
    values = {"shadowproxy": {"enabled": False, "image": {"repository": "registry.example/shadowproxy"}}}
    (deployment,) = rendered(tools, own, values, tmp_path)
    pod = deployment["spec"]["template"]["spec"]
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["image"] == f"registry.example/shadowproxy:{CHARTS_VERSION}"
    assert pod["volumes"][0]["configMap"]["name"] == "app-shadowproxy"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "config.live is missing"),
        ({"config": {"live": {"url": "http://model:8000"}}}, "config.shadows is missing"),
        (MODELS | {"image": {"digest": "latest"}}, "image.digest"),
        (MODELS | {"replica": 2}, "replica"),
    ],
)
def test_what_is_wrong_is_named(tools: dict[str, str], values: dict[str, Any], said: str, tmp_path: Path) -> None:
    status, text = helm(tools, "template", "eu", CHART, values=values, place=tmp_path)
    assert status == 1
    assert said in text
