"""What ships says the same everywhere: versions, ports, paths, users, times, sizes and the names of metrics.

These read the files. tests/ship builds and runs them.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from inprocess import FLUSH
from object_stores import object_store
from test_engines import log

from shadowproxy import __version__, config
from shadowproxy.exchange import Outcome
from shadowproxy.healthcheck import ADMIN
from shadowproxy.serve.journal.losses import LOSSES
from shadowproxy.serve.sidecar.room import little_memory, share_out_memory

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
CONFIGURATIONS = sorted(DEPLOY.rglob("config.yaml"))
MANIFESTS = [
    path
    for path in (*sorted(DEPLOY.rglob("*.yaml")), *sorted(DEPLOY.rglob("*.json")))
    if path.parent.name != "templates"  # Helm's, which become YAML
]

UID = 65532
ADMIN_PORT = int(ADMIN.rpartition(":")[2])
PROXY_PORT = 8080
HOME = "/var/lib/shadowproxy"
CONFIGURATION = "/etc/shadowproxy/config.yaml"
PROGRAM_BYTES = 256 << 20
"""What a container must leave beside twice limits.memory (docs/how-to/operations.md): the recorder keeps to it."""


def name_of(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


def documents(path: Path) -> list[Any]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def anywhere(value: Any, key: str) -> list[Any]:
    """What is under `key` at any depth."""
    if isinstance(value, dict):
        found = [value[key]] if key in value else []
        return found + [each for inner in value.values() for each in anywhere(inner, key)]
    if isinstance(value, list):
        return [each for inner in value for each in anywhere(inner, key)]
    return []


def size(text: str) -> int:
    """A Kubernetes or Docker quantity of bytes."""
    number, unit = re.fullmatch(r"(\d+)(\w*)", text).groups()  # type: ignore[union-attr]
    return int(number) << {"": 0, "Mi": 20, "m": 20, "M": 20, "Gi": 30, "G": 30}[unit]


# --- one version, one user, one place for everything -----------------------------------------------------------------


def test_every_image_is_the_version_that_the_program_says() -> None:
    named = re.findall(r"ARG VERSION=(\S+)", DOCKERFILE) + re.findall(r"shadowproxy:(\d[\w.-]*)", DOCKERFILE)
    for path in (*MANIFESTS, DEPLOY / "README.md"):
        named += re.findall(r"shadowproxy:(\d[\w.-]*)", path.read_text())
    assert len(named) > 10
    assert set(named) == {__version__}
    (chart,) = documents(DEPLOY / "helm/shadowproxy/Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_image_and_every_manifest_have_the_same_user() -> None:
    assert f"USER {UID}:{UID}" in DOCKERFILE
    assert f"-o {UID} -g {UID} {HOME}" in DOCKERFILE
    told = [each for path in MANIFESTS for key in ("runAsUser", "runAsGroup", "fsGroup") for doc in documents(path)
            for each in anywhere(doc, key)]  # fmt: skip
    assert len(told) >= 10
    assert set(told) == {UID}
    containers = json.loads((DEPLOY / "ecs/task-definition.json").read_text())["containerDefinitions"]
    assert {each["name"]: each.get("user") for each in containers} == {
        "configuration": "0:0",  # it gives the log's volume to the proxy's user, and ends
        "shadowproxy": f"{UID}:{UID}",
        "caller": None,
    }


def test_the_configuration_and_the_log_are_in_one_place_everywhere() -> None:
    assert f'CMD ["serve", "-c", "{CONFIGURATION}"]' in DOCKERFILE
    assert f"WORKDIR {HOME}\n" in DOCKERFILE
    directory = CONFIGURATION.rpartition("/")[0]
    for path in [*DEPLOY.glob("kubernetes/*/component/sidecar.yaml"), DEPLOY / "cloud-run/service.yaml"]:
        mounted = [each for doc in documents(path) for each in anywhere(doc, "mountPath")]
        assert mounted == [directory, HOME]
    task = json.loads((DEPLOY / "ecs/task-definition.json").read_text())
    assert set(anywhere(task, "containerPath")) == {directory, HOME}
    proxy = documents(DEPLOY / "compose/compose.yaml")[0]["services"]["proxy"]
    assert proxy["volumes"] == [f"./config.yaml:{CONFIGURATION}:ro", f"log:{HOME}"]
    unit = (DEPLOY / "systemd/shadowproxy.service").read_text()
    assert f"serve -c {CONFIGURATION}\n" in unit
    assert f"WorkingDirectory={HOME}\n" in unit
    assert "StateDirectory=shadowproxy\n" in unit


@pytest.mark.parametrize("path", sorted((DEPLOY / "logshipping").iterdir()), ids=lambda path: path.name)
def test_a_shipper_reads_the_segments_where_the_proxy_writes_them(path: Path) -> None:
    default = config.from_values({"live": {"respond": {}}}).log.path
    assert f"{HOME}/{default}" in path.read_text()
    assert "*.jsonl" in path.read_text()


def test_only_the_shippers_that_were_run_say_so() -> None:
    run = {path.name for path in (DEPLOY / "logshipping").iterdir() if "Run by the project's tests" in path.read_text()}
    not_run = {path.name for path in (DEPLOY / "logshipping").iterdir() if "Not run by the" in path.read_text()}
    assert run == {"rsyslog.conf", "syslog-ng.conf"}
    assert not_run == {"fluent-bit.yaml", "otel-collector.yaml", "vector.yaml"}


# --- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=name_of)
def test_a_configuration_is_one_that_the_program_takes_without_a_warning(path: Path) -> None:
    loaded = config.load(path, environment={})
    assert config.warnings_for(loaded) == ()
    assert loaded.shadows


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=name_of)
def test_a_configuration_has_the_ports_that_probes_and_services_ask(path: Path) -> None:
    loaded = config.load(path, environment={})
    (listen,) = loaded.listen
    assert isinstance(listen, config.TcpAddress)
    assert isinstance(loaded.admin, config.TcpAddress)
    assert (listen.port, loaded.admin.port) == (PROXY_PORT, ADMIN_PORT)
    # In front of the API only the caller beside it may ask; everywhere else the callers are elsewhere.
    inside = path.parent.parent.name == "in-front" or path.parent.name in ("ecs", "caller")
    # Compose and Cloud Run have IPv4 within; a cluster or a subnet may have IPv6 alone, also for its probes.
    everywhere = "::" if {"kubernetes", "ecs"} & set(path.parts) else "0.0.0.0"
    assert listen.host == ("127.0.0.1" if inside else everywhere)
    assert loaded.admin.host == everywhere


def test_every_manifest_names_the_ports_of_the_image() -> None:
    assert f"EXPOSE {PROXY_PORT} {ADMIN_PORT}\n" in DOCKERFILE
    for path in DEPLOY.glob("kubernetes/*/component/sidecar.yaml"):
        (sidecar,) = documents(path)
        assert anywhere(sidecar, "prometheus.io/port") == [str(ADMIN_PORT)]
        ports = {each["name"]: each["containerPort"] for each in anywhere(sidecar, "ports")[0]}
        # KServe would make a port of the Service of each that is named.
        assert ports == {"http1": PROXY_PORT} if "kserve" in path.parts else ports["sp-admin"] == ADMIN_PORT
        assert ports.get("sp-http", PROXY_PORT) == PROXY_PORT
        assert {ports.get(each["port"], each["port"]) for each in anywhere(sidecar, "httpGet")} == {ADMIN_PORT}
    assert f'"127.0.0.1:{PROXY_PORT}:{PROXY_PORT}"' in (DEPLOY / "compose/compose.yaml").read_text()
    assert f'["127.0.0.1:{ADMIN_PORT}"]' in (DEPLOY / "prometheus/prometheus.yaml").read_text()
    service = documents(DEPLOY / "cloud-run/service.yaml")[0]
    assert anywhere(service, "containerPort") == [PROXY_PORT]
    assert {each["port"] for each in anywhere(service, "httpGet")} == {ADMIN_PORT}
    assert anywhere(json.loads((DEPLOY / "ecs/task-definition.json").read_text()), "containerPort") == [ADMIN_PORT]


def test_probes_ask_paths_that_the_admin_server_has() -> None:
    known = set(
        re.findall(r"^\| `GET (/\w+)` \| anyone \|", (ROOT / "docs/reference/admin.md").read_text(), re.MULTILINE)
    )
    for path in [*DEPLOY.glob("kubernetes/*/component/sidecar.yaml"), DEPLOY / "cloud-run/service.yaml"]:
        probes = {name: anywhere(documents(path), f"{name}Probe")[0] for name in ("startup", "liveness")}
        assert probes["startup"]["httpGet"]["path"] == "/readyz"
        assert probes["liveness"]["httpGet"]["path"] == "/healthz"
        assert {each["httpGet"]["path"] for each in probes.values()} <= known


def test_grace_periods_leave_time_to_drain_and_to_flush() -> None:
    """What a supervisor waits, less what others in the pod may take of it first."""

    def drain(setting: str) -> float:
        return config.load(DEPLOY / setting / "config.yaml", environment={}).drain

    app, pre_stop = 20, 10
    for setting, others in (("in-front", app), ("behind", app + pre_stop)):
        (sidecar,) = documents(DEPLOY / f"kubernetes/{setting}/component/sidecar.yaml")
        (grace,) = anywhere(sidecar, "terminationGracePeriodSeconds")
        assert grace >= others + drain(f"kubernetes/{setting}/example") + FLUSH
    (compose,) = documents(DEPLOY / "compose/compose.yaml")
    assert int(compose["services"]["proxy"]["stop_grace_period"].removesuffix("s")) > drain("compose") + FLUSH
    task = json.loads((DEPLOY / "ecs/task-definition.json").read_text())
    (stop,) = (each["stopTimeout"] for each in task["containerDefinitions"] if each["name"] == "shadowproxy")
    assert stop > drain("ecs") + FLUSH
    unit = (DEPLOY / "systemd/shadowproxy.service").read_text()
    (wait,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(wait) > config.from_values({"live": {"respond": {}}}).drain + FLUSH


def held(path: Path | None, allowed: int) -> int:
    """`limits.memory` of a configuration, or of the defaults, in a container of that size."""
    loaded = config.load(path, environment={}) if path else config.from_values({"live": {"respond": {}}})
    given = loaded.limits.memory
    return share_out_memory(allowed, loaded.workers) if given == "auto" else given


def test_memory_limits_leave_room_for_the_copies_and_the_program() -> None:
    """With the shipped configuration, and with one that says nothing of memory."""
    for setting in ("in-front", "behind"):
        (sidecar,) = documents(DEPLOY / f"kubernetes/{setting}/component/sidecar.yaml")
        allowed = size(anywhere(sidecar, "limits")[0]["memory"])
        for path in (DEPLOY / f"kubernetes/{setting}/example/config.yaml", None):
            assert held(path, allowed) >= 64 << 20
            assert little_memory(held(path, allowed), 1, allowed) is None
    (compose,) = documents(DEPLOY / "compose/compose.yaml")
    allowed = size(compose["services"]["proxy"]["mem_limit"])
    assert allowed >= 2 * held(DEPLOY / "compose/config.yaml", allowed) + PROGRAM_BYTES
    unit = (DEPLOY / "systemd/shadowproxy.service").read_text()
    assert "OOMPolicy=continue" in unit.splitlines()  # or the recorder's end for its memory would end all processes
    (most,) = re.findall(r"^MemoryMax=(\w+)$", unit, re.MULTILINE)
    assert size(most) >= 2 * held(None, size(most)) + PROGRAM_BYTES


def test_a_log_fits_its_volume() -> None:
    """With two segments on top: the one that is written, and one that is there twice while it is compressed."""
    for path, volumes in (
        (DEPLOY / "kubernetes/in-front/example", DEPLOY / "kubernetes/in-front/component/sidecar.yaml"),
        (DEPLOY / "kubernetes/behind/example", DEPLOY / "kubernetes/behind/component/sidecar.yaml"),
        (DEPLOY / "cloud-run", DEPLOY / "cloud-run/service.yaml"),
    ):
        log = config.load(path / "config.yaml", environment={}).log
        (limit,) = anywhere(documents(volumes), "sizeLimit")
        logs = [log]
        if "component" in volumes.parts:  # it is used with configurations of one's own
            logs.append(config.from_values({"live": {"respond": {}}}).log)
            (sidecar,) = documents(volumes)
            assert anywhere(sidecar, "limits")[0]["ephemeral-storage"] == limit
        for each in logs:
            assert each.keep.size is not None
            assert each.keep.size + 2 * each.rotate.size <= size(limit)


# --- the order of starting and stopping ------------------------------------------------------------------------------


def test_on_ecs_the_caller_waits_for_the_proxy_and_the_proxy_for_its_configuration() -> None:
    task = json.loads((DEPLOY / "ecs/task-definition.json").read_text())
    waits = {each["name"]: each.get("dependsOn", []) for each in task["containerDefinitions"]}
    assert waits["caller"] == [{"containerName": "shadowproxy", "condition": "HEALTHY"}]
    assert waits["shadowproxy"] == [{"containerName": "configuration", "condition": "SUCCESS"}]
    proxy = next(each for each in task["containerDefinitions"] if each["name"] == "shadowproxy")
    assert proxy["healthCheck"]["command"] == ["CMD", "shadowproxy", "healthcheck"]


def test_on_cloud_run_the_proxy_waits_for_the_model() -> None:
    (service,) = documents(DEPLOY / "cloud-run/service.yaml")
    waits = json.loads(anywhere(service, "run.googleapis.com/container-dependencies")[0])
    names = [each["name"] for each in anywhere(service, "containers")[0]]
    assert waits == {"shadowproxy": ["model"]}
    assert names == ["shadowproxy", "model"]


def test_the_two_sidecars_of_kubernetes_differ_only_where_they_have_to() -> None:
    texts = [(DEPLOY / f"kubernetes/{each}/component/sidecar.yaml").read_text() for each in ("in-front", "behind")]
    differing = set(texts[0].splitlines()) ^ set(texts[1].splitlines())
    assert {line for line in differing if not line.lstrip().startswith("#")} == {
        "            - {name: sp-http, containerPort: 8080}",
        "      terminationGracePeriodSeconds: 60",
        "      terminationGracePeriodSeconds: 90",
    }


@pytest.mark.parametrize("setting", ["in-front", "behind"])
def test_a_rollout_gets_the_same_sidecar(setting: str) -> None:
    """Twice, because kustomize reads no file outside a component's own directory."""
    place = DEPLOY / "kubernetes" / setting
    assert (place / "rollout/sidecar.yaml").read_text() == (place / "component/sidecar.yaml").read_text()


# --- metrics ---------------------------------------------------------------------------------------------------------

RULES = (DEPLOY / "prometheus/rules.yaml").read_text()
RULES_TEST = (DEPLOY / "prometheus/rules_test.yaml").read_text()
DASHBOARD = (DEPLOY / "grafana/shadowproxy.json").read_text()
METRIC = re.compile(r"\bshadowproxy_[a-z_]+")


def exported() -> set[str]:
    """Every name in docs/reference/metrics.md, which test_metrics.py holds to what is exported; with their series."""
    rows = re.findall(
        r"^\| `(shadowproxy_\w+)` \| (\w+)", (ROOT / "docs/reference/metrics.md").read_text(), re.MULTILINE
    )
    names = {name for name, _ in rows}
    return names | {
        f"{name}{end}" for name, kind in rows if kind == "histogram" for end in ("_bucket", "_sum", "_count")
    }


@pytest.mark.parametrize("text", [RULES, RULES_TEST, DASHBOARD], ids=["rules", "rules_test", "dashboard"])
def test_every_metric_that_is_asked_for_is_exported(text: str) -> None:
    asked = set(METRIC.findall(text))
    assert asked
    assert asked - exported() == set()


@pytest.mark.parametrize("text", [RULES, RULES_TEST, json.dumps(DASHBOARD)], ids=["rules", "rules_test", "dashboard"])
def test_every_outcome_and_reason_that_is_asked_for_is_one(text: str) -> None:
    asked = re.findall(r'(outcome|reason)!?=~?\\*"([a-z_|]+)', text)
    known = {"outcome": {each.value for each in Outcome}, "reason": set(LOSSES)}
    for label, values in asked:
        assert set(values.split("|")) <= known[label]


def test_every_alert_has_a_test_that_fires_it_and_one_that_does_not() -> None:
    alerts = {rule["alert"] for group in yaml.safe_load(RULES)["groups"] for rule in group["rules"]}
    cases = [case for test in yaml.safe_load(RULES_TEST)["tests"] for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert fired == alerts
    assert silent <= alerts


def test_the_dashboard_asks_whatever_prometheus_its_reader_picks() -> None:
    dashboard = json.loads(DASHBOARD)
    variables = {each["name"]: each["type"] for each in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}
    assert {each["uid"] for each in anywhere(dashboard, "datasource") if isinstance(each, dict)} == {"${datasource}"}


def test_the_dashboards_panels_have_a_place_of_their_own() -> None:
    panels = json.loads(DASHBOARD)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        x, y, width, height = (panel["gridPos"][each] for each in "xywh")
        cells = {(x + right, y + down) for right in range(width) for down in range(height)}
        assert not cells & taken
        assert x + width <= 24
        assert panel["title"]
        taken |= cells


# --- the image's ingredients -----------------------------------------------------------------------------------------


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_the_image_has_the_versions_that_are_tested(name: str) -> None:
    locked, tested = pins(DEPLOY / "image" / name), pins(ROOT / "constraints.txt")
    assert locked
    assert {name: version for name, version in locked.items() if tested.get(name) != version} == {}


def test_the_lock_has_every_dependency_of_the_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["otel"], *extras["fleet"]]
    names = {re.split(r"[<>=; ]", each)[0].lower().replace("_", "-") for each in declared}
    assert len(names) > 10
    assert names <= set(pins(DEPLOY / "image/requirements.lock"))


def test_the_lock_has_what_compiles_the_program() -> None:
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    names = {each.partition(">")[0] for each in hook["custom"]["dependencies"]}
    assert names == {"mypy", "setuptools"} == names & set(pins(DEPLOY / "image/build.lock"))


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_every_locked_distribution_has_hashes_and_no_index_is_named(name: str) -> None:
    text = (DEPLOY / "image" / name).read_text()
    assert "://" not in text
    for entry in re.split(r"\n(?=\S)", text)[1:]:
        assert re.fullmatch(r"[\w.-]+==\S+ \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n?)+", entry), entry[:80]


def test_the_dockerfile_copies_only_what_the_allow_list_lets_in() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!/") for line in lines if line.startswith("!")}
    copied = [
        word for words in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in words.split()
    ]
    assert {re.sub(r"[\w.]+\.lock$", "*.lock", word) for word in copied} == allowed
    for word in copied:
        assert (ROOT / word).exists()


def test_the_dockerfile_downloads_no_grammar_and_checks_every_hash() -> None:
    assert not re.search(r"^# *syntax *=", DOCKERFILE, re.MULTILINE)
    downloads = re.findall(r"pip (?:--python \S+ )?(?:install|wheel) (.*)", DOCKERFILE)
    assert len(downloads) == 4
    assert all("--require-hashes" in each or "--no-index" in each for each in downloads)


# --- the words -------------------------------------------------------------------------------------------------------


def test_the_readmes_links_and_paths_lead_somewhere() -> None:
    text = (DEPLOY / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    paths = re.findall(r"\bdeploy/[\w./-]*\w", text)
    assert len(links) >= 5
    assert len(paths) >= 5
    for target in (*(DEPLOY / link for link in links), *(ROOT / path for path in paths)):
        assert target.exists(), target


@pytest.mark.slow
def test_the_nightly_report_reads_what_the_pods_sent_the_day_before(tmp_path: Path) -> None:
    """The job's own command, with the ConfigMap's configuration, on a store with a segment of yesterday."""
    folder = DEPLOY / "kubernetes" / "report"
    (configmap,) = documents(folder / "configmap.yaml")
    (job,) = documents(folder / "cronjob.yaml")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["volumes"][0]["configMap"]["name"] == configmap["metadata"]["name"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    file = tmp_path / "config.yaml"
    file.write_text(configmap["data"]["config.yaml"])
    upload = config.load(file).log.upload
    assert upload is not None
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    assert str(upload.to) == "s3://logs/shadow/dt={date}/"
    (command,) = container["args"]
    with object_store() as store:
        segment = "20260131T120000.000001Z-pod-0-7-0001.jsonl"
        store.objects[f"shadow/dt={yesterday}/{segment}"] = log(0, 30)
        keys = {"AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = command.replace("s3://logs/", "s3://bucket/").replace("/etc/shadowproxy", str(tmp_path))
        done = subprocess.run(
            [*container["command"], command],
            env=os.environ | keys | {"PATH": path, "AWS_REGION": "us-east-1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 3, done.stderr  # 30 requests decide nothing
    assert done.stdout.startswith("# Shadow report\n\n30 requests, ")
