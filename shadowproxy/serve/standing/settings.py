"""What a configuration means for the standing verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shadowproxy.compare.judge.rules import Rules


@dataclass(frozen=True, slots=True)
class StandingSettings:
    """How the records of one generation are folded and judged.

    Attributes:
        window: seconds of the latest records that count; None: all since the beginning.
        cpu: the share of CPU time (budget.py).
        gates: what is allowed, as in a file of gates.
        rules: how answers are compared. `fields`: where the answer is, in live's and in the shadow's.
        live: what identifies live. Another live system is another thing to be compared with.
        shadows: what identifies each shadow. Another address is another candidate.
    """

    window: float | None = None
    cpu: float | None = 0.04
    gates: Mapping[str, Any] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    fields: tuple[tuple[str, str], ...] = ()
    live: str = ""
    shadows: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> dict[str, Any]:
        """What all records that are counted together have in common, as JSON."""
        return {
            "rules": self.rules.digest,
            "fields": [list(each) for each in self.fields],
            "live": self.live,
            "window": self.window,
        }

    def counts_with(self, other: "StandingSettings") -> bool:
        """Whether records of both are records of the same systems, compared in the same way."""
        return self is other or (self.shadows == other.shadows and self.key == other.key)


def why_start_over(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why nothing that was counted with one key counts with another one; None where it does."""
    for name, why in (
        ("live", "live is another system"),
        ("rules", "answers are compared by other rules"),
        ("fields", "the answer is in another place"),
        ("window", "another window is configured"),
    ):
        if before.get(name) != now.get(name):
            return why
    return None
