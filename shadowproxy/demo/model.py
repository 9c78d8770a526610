"""Evaluates a gradient-boosted model without the library that trained it: its trees are JSON.

train.py writes the JSON from scikit-learn's `HistGradientBoostingClassifier`. The trees are added up in the order they
were trained, as scikit-learn does, so the probabilities equal scikit-learn's except for the last bits.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeAlias

Tree: TypeAlias = "float | Sequence[Any]"
"""A leaf's value in log-odds, or `[feature, threshold, below, above]` with a tree for each side of the threshold."""

UNKNOWN = -1
"""The code of a category that training did not see. Codes start at 0, so it is on the low side of every split."""


@dataclass(frozen=True, slots=True)
class Model:
    """Trees over `features`, in that order. Features in `categories` are words, the others numbers."""

    features: Sequence[str]
    categories: Mapping[str, Mapping[str, int]]
    baseline: float
    trees: Sequence[Tree]

    def probability(self, instance: Mapping[str, Any]) -> float:
        """The probability of a late arrival. Raises KeyError for a missing feature."""
        row = [self._number(name, instance[name]) for name in self.features]
        log_odds = self.baseline
        for tree in self.trees:  # not sum(): from Python 3.12 on that corrects for rounding, and scikit-learn does not
            log_odds += leaf(tree, row)
        return sigmoid(log_odds)

    def late(self, instance: Mapping[str, Any]) -> bool:
        """Whether a late arrival is the likelier one."""
        return self.probability(instance) > 0.5

    def _number(self, name: str, value: Any) -> float:
        codes = self.categories.get(name)
        return float(value) if codes is None else codes.get(value, UNKNOWN)


def leaf(tree: Tree, row: Sequence[float]) -> float:
    """The value of the leaf that `row` falls into. A number that equals a threshold goes below."""
    while not isinstance(tree, float):
        feature, threshold, below, above = tree
        tree = below if row[feature] <= threshold else above
    return tree


def sigmoid(log_odds: float) -> float:
    """1 / (1 + exp(-x)), in the form that cannot overflow."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1 + odds)


def model_from(parts: Mapping[str, Any]) -> Model:
    """The model from its JSON values."""
    return Model(
        features=parts["features"],
        categories={
            name: {word: code for code, word in enumerate(words)} for name, words in parts["categories"].items()
        },
        baseline=parts["baseline"],
        trees=parts["trees"],
    )


def load() -> Model:
    """The model in the package."""
    return model_from(json.loads(files("shadowproxy.demo").joinpath("data/gbm.json").read_bytes()))
