"""The gates: what each check allows a shadow by default, and the YAML file that changes it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from shadowproxy.compare.report.figures.types import Allowed

OUTSIDE: Final = 0.005
"""The share of answers that may lie outside the range."""

_SHARES: Final = frozenset(
    {"answered", "structure", "errors", "flips", "unexplained", "slices", "judge", "min_agreement"}
)
"""Gates that are shares of 1, where a figure above 1 is a slip: 5 is not 5 %."""

_OLD_NAMES: Final = {"success_loss": "errors", "json": "structure"}
"""Keys of version 1 with the check that stands in their place. `json` was the least share that is sound, not the most
that may be lost."""


class GateError(Exception):
    """A file of gates that cannot be used. The text is one line."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What is allowed. None switches a check off; `min_agreement` is off by default, as a better model must differ.

    answered: points (of 1) of answers that may be missing where live has one. structure: share of answers that may lack
    what live's always have. errors: points by which failed answers may exceed live's. flips: points that may turn from
    2xx to 4xx, and back. p99_ratio: shadow's p99 by live's. related: least relatedness of the two answers to a request
    beyond chance. range: share of answers that may lie outside live's range, or the range itself as (low, high).
    drift: Jensen-Shannon distance. unexplained: share of answers that may differ where nothing says who is right.
    slices: points that may be lost within one part of the requests. accuracy_loss: points below live against labels;
    for numbers, the part by which the mean absolute error may grow. judge: points below 50 % for a judge's
    win rate.
    """

    answered: float | None = 0.005
    structure: float | None = 0.005
    errors: float | None = 0.005
    flips: float | None = 0.01
    p99_ratio: float | None = 1.2
    related: float | None = 0.05
    range: float | tuple[float, float] | None = OUTSIDE
    collapse: bool = True
    drift: float | None = 0.1
    unexplained: float | None = 0.05
    slices: float | None = 0.05
    accuracy_loss: float | None = 0.005
    judge: float | None = 0.05
    min_agreement: float | None = None

    def figures(self) -> Allowed:
        """The gates as the report's JSON has them."""
        return {
            "answered": self.answered,
            "structure": self.structure,
            "errors": self.errors,
            "flips": self.flips,
            "p99_ratio": self.p99_ratio,
            "related": self.related,
            "range": list(self.range) if isinstance(self.range, tuple) else self.range,
            "collapse": self.collapse,
            "drift": self.drift,
            "unexplained": self.unexplained,
            "slices": self.slices,
            "accuracy_loss": self.accuracy_loss,
            "judge": self.judge,
            "min_agreement": self.min_agreement,
        }

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The range that answers must lie in, where one is given."""
        return self.range if isinstance(self.range, tuple) else None

    @property
    def outside(self) -> float | None:
        """The share of answers that may lie outside the range."""
        return OUTSIDE if isinstance(self.range, tuple) else self.range


def load_gates(path: str | Path) -> Gates:
    """Gates from a YAML file whose keys are those of `Gates`. Raises GateError."""
    import yaml  # only here: it takes 9 ms to load

    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise GateError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise GateError(f"{path}: not YAML: {' '.join(str(error).split()):.120}") from error
    return gates_in(raw, str(path))


def gates_in(raw: Any, where: str = "gates") -> Gates:
    """Gates from a mapping with the keys of `Gates`. Raises GateError, whose text begins with `where`."""
    names = [each.name for each in fields(Gates)]
    if not isinstance(raw, Mapping):
        raise GateError(f"{where}: a mapping is needed, of {', '.join(sorted(names))}")
    given: dict[Any, Any] = {}
    for key, value in raw.items():
        name = _OLD_NAMES.get(key, key)
        if name not in names:
            raise GateError(f"{where}: unknown key {key!r}; there are {', '.join(sorted(names))}")
        if name in given:
            raise GateError(f"{where}: {key} is the old name of {name}: give one of them")
        try:
            given[name] = _checked(key, value)
        except ValueError as error:
            raise GateError(f"{where}: {key} is {error}") from None
    return Gates(**given)


def _checked(key: str, value: Any) -> Any:
    """The value of one key as `Gates` has it. Raises ValueError that says what the key takes."""
    if key == "collapse":
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value
    if value is None:
        return None
    if key == "range" and isinstance(value, list | tuple):
        if len(value) != 2 or not all(map(_is_number, value)) or not value[0] <= value[1]:
            raise ValueError("a list of two numbers, the lower first, or the share that may lie outside live's range")
        return (float(value[0]), float(value[1]))
    if not _is_number(value) or not value >= 0:
        raise ValueError("a number of at least 0, or null")
    if key == "json":
        if value > 1:
            raise ValueError("a share of 1, such as 0.999, or null")
        return round(1 - value, 12)
    if _OLD_NAMES.get(key, key) in _SHARES and value > 1:
        raise ValueError("a share of 1, such as 0.005 for 0.5 points, or null")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308
