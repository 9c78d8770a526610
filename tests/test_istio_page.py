"""The page on Istio, without a cluster: its resources have only fields that Istio's API has, and fit each other."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from page_blocks import ROOT, blocks

PAGE = blocks(ROOT / "docs/how-to/istio.md")
RESOURCES = [each for block in PAGE if "kind: VirtualService" in block.text for each in yaml.safe_load_all(block.text)]
(CONFIGURATION,) = [yaml.safe_load(block.text) for block in PAGE if block.marker == "configuration"]

METADATA: dict[str, Any] = {"name": str, "namespace": str}
DESTINATION: dict[str, Any] = {"host": str, "subset": str, "port": {"number": int}}
FIELDS: Mapping[str, Any] = {
    # Istio's VirtualService, networking.istio.io/v1, with what the page may use of an HTTPRoute.
    "VirtualService": {
        "apiVersion": "networking.istio.io/v1",
        "kind": str,
        "metadata": METADATA,
        "spec": {
            "hosts": [str],
            "gateways": [str],
            "exportTo": [str],
            "http": [
                {
                    "name": str,
                    "match": [{"uri": {"exact": str, "prefix": str, "regex": str}, "headers": dict}],
                    "route": [{"destination": DESTINATION, "weight": int}],
                    "timeout": str,
                    "retries": {"attempts": int, "perTryTimeout": str, "retryOn": str},
                    "mirror": DESTINATION,
                    "mirrorPercentage": {"value": float},
                }
            ],
        },
    },
    "Service": {
        "apiVersion": "v1",
        "kind": str,
        "metadata": METADATA,
        "spec": {
            "selector": dict,
            "ports": [{"name": str, "port": int, "targetPort": int, "protocol": str, "appProtocol": str}],
        },
    },
}


def faults(value: Any, form: Any, at: str = "") -> Iterator[str]:
    if isinstance(form, dict):
        if not isinstance(value, dict):
            yield f"{at} is no object"
            return
        for key, inner in value.items():
            if key in form:
                yield from faults(inner, form[key], f"{at}/{key}")
            else:
                yield f"{at}/{key} is not a field of it"
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield f"{at} is no list"
            return
        for number, inner in enumerate(value):
            yield from faults(inner, form[0], f"{at}/{number}")
    elif not (isinstance(value, form) if isinstance(form, type) else value == form):
        yield f"{at} is {value!r}"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: each["kind"])
def test_the_resources_have_only_fields_that_istio_has(resource: dict[str, Any]) -> None:
    assert list(faults(resource, FIELDS[resource["kind"]])) == []


def test_a_wrong_field_is_found() -> None:
    wrong = {"apiVersion": "networking.istio.io/v1", "spec": {"http": [{"routes": []}], "hosts": "late"}}
    assert list(faults(wrong, FIELDS["VirtualService"])) == [
        "/spec/http/0/routes is not a field of it",
        "/spec/hosts is no list",
    ]


def test_the_names_and_ports_of_the_resources_fit() -> None:
    virtual, service = RESOURCES
    route = virtual["spec"]["http"][0]["route"]
    to_live, to_proxy = (each["destination"] for each in route)
    assert sum(each["weight"] for each in route) == 100
    assert to_proxy["host"] == "{name}.{namespace}.svc.cluster.local".format(**service["metadata"])
    (port,) = service["spec"]["ports"]
    assert (to_proxy["port"]["number"], port["name"]) == (port["port"], "http")
    assert CONFIGURATION["listen"].endswith(f":{port['targetPort']}")
    assert CONFIGURATION["live"]["url"] == f"http://{to_live['host']}"
    assert to_live["host"] not in virtual["spec"]["hosts"], "the proxy would be asked again"
    assert "host" not in CONFIGURATION["live"]
