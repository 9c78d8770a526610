"""The flights: the request for each, and how it arrived. Read from the package, so no network is needed."""

import csv
import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

LATE = "late"
ON_TIME = "on time"

FEATURES: Mapping[str, type[int] | type[str]] = MappingProxyType(
    {
        "month": int,
        "day": int,
        "hour": int,
        "carrier": str,
        "origin": str,
        "dest": str,
        "distance": int,
        "dep_delay": int,
    }
)
"""What a caller knows when the plane has left: the schedule, miles, and minutes of delay (negative: early)."""

SAMPLE = 5000
"""Number of flights in the package."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One request. `id` is date, carrier, number and origin; `body` is the JSON."""

    id: str
    body: bytes


def body_of(instance: Mapping[str, int | str]) -> bytes:
    """A prediction request for one flight, in the form that TensorFlow Serving, KServe and MLflow take."""
    return json.dumps({"instances": [instance]}, separators=(",", ":")).encode()


def flights(count: int = SAMPLE) -> list[Flight]:
    """`count` of the shipped flights, spread evenly over the month."""
    lines = _shipped("flights.jsonl.gz").splitlines()
    chosen = (json.loads(lines[position * len(lines) // count]) for position in range(count))
    return [Flight(id=line["id"], body=body_of(line["instance"])) for line in chosen]


def labels_csv() -> str:
    """How each shipped flight arrived: CSV with the columns `id` and `label`."""
    return _shipped("labels.csv.gz")


def labels() -> dict[str, str]:
    """How each shipped flight arrived, by its ID: `late` is more than 15 minutes after the schedule."""
    return {row["id"]: row["label"] for row in csv.DictReader(io.StringIO(labels_csv()))}


def _shipped(name: str) -> str:
    return gzip.decompress(files("shadowproxy.demo").joinpath("data", name).read_bytes()).decode()
