"""How exchanges are recorded: how much of a body, what is redacted, and who compares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from shadowproxy.answers import About
from shadowproxy.budget import MEMORY, SECONDS, Budget
from shadowproxy.record import Judgement, RecordedLeg
from shadowproxy.recorder.heads import Heads
from shadowproxy.recorder.sample import Sample
from shadowproxy.redaction import Redaction

Judge: TypeAlias = Callable[[RecordedLeg, RecordedLeg, Budget, About], Judgement]
"""Compares live's answer with a shadow's, or with the control's, for no more than the budget. Both are whole,
decoded, and not cut to what is recorded of them.

Before writing, the only header fields they have are Content-Type and Content-Length.
"""

JudgeValues: TypeAlias = Callable[[Any, Any, Budget, About], Judgement]
"""The same for two answers of one status that are JSON and report no failure: most are, and this is faster."""

Bodies: TypeAlias = Literal["full", "hash", "none"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How much of a body is recorded (`body_limit` in bytes once decoded), and what is redacted.

    Bodies are searched and compared whole, within `seconds` and `memory` bytes for each exchange. `own_secrets` are
    those that the endpoints are sent beside what callers sent: they are looked for in every answer. `bodies_by` says in
    place of `bodies` what is recorded of them, by what became of the exchange (`sample.kind_of`), and `sample` which
    exchanges are not recorded at all.
    """

    bodies: Bodies = "full"
    body_limit: int = 256 << 10
    redaction: Redaction = field(default_factory=Redaction)
    own_secrets: tuple[str, ...] = field(default=(), repr=False)
    bodies_by: Mapping[str, Bodies] | None = None
    sample: Sample | None = None
    seconds: float = SECONDS
    memory: int = MEMORY

    def shows(self, *kinds: str) -> bool:
        """Whether bodies are recorded whole whichever of these becomes of an exchange."""
        by = self.bodies_by
        return self.bodies == "full" if by is None else all(by[kind] == "full" for kind in kinds)

    heads: Heads = field(default_factory=lambda: Heads(), init=False, repr=False, compare=False)
