"""The section `verdict`: the standing verdict and its gates, as frozen models."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from shadowproxy.config.values import Amount, Flag, GateRange, Nullable, PositiveSeconds

_STRICT = ConfigDict(extra="forbid")


_Share = Annotated[Amount, Field(le=1)]
Share = Annotated[_Share | None, Nullable]
Ratio = Annotated[Amount | None, Nullable]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class VerdictGates:
    """What the checks allow: the keys and defaults of a file of gates. null turns a check off."""

    answered: Share = 0.005
    structure: Share = 0.005
    errors: Share = 0.005
    flips: Share = 0.01
    p99_ratio: Ratio = 1.2
    related: Ratio = 0.05
    range: Annotated[GateRange | None, Nullable] = 0.005
    collapse: Flag = True
    drift: Ratio = 0.1
    unexplained: Share = 0.05
    slices: Share = 0.05
    accuracy_loss: Ratio = 0.005
    judge: Share = 0.05
    min_agreement: Share = None

    def values(self) -> Mapping[str, Any]:
        """All of them, by key."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Verdict:
    """`window`: seconds of the latest records that count; null: all since the beginning. `cpu`: the share of the
    recorder's other CPU time that counting may take; null: every record is counted, whatever it takes."""

    window: Annotated[PositiveSeconds | None, Nullable] = None
    cpu: Annotated[Annotated[Amount, Field(gt=0, le=1)] | None, Nullable] = 0.04
    gates: VerdictGates = VerdictGates()
