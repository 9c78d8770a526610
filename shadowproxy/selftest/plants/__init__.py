"""The faults that can be planted. Each has a name, the check that should see it, and a function."""

from typing import Final

from shadowproxy.selftest.plants import classes, embeddings, no_answer, numbers, order, parts, rankings, service, texts
from shadowproxy.selftest.plants import kept as kept_values
from shadowproxy.selftest.plants.fault import Fault

FAULTS: Final[tuple[Fault, ...]] = (
    *no_answer.FAULTS,
    *service.FAULTS,
    *order.FAULTS,
    *numbers.FAULTS,
    *classes.FAULTS,
    *texts.FAULTS,
    *rankings.FAULTS,
    *embeddings.FAULTS,
    *parts.FAULTS,
    *kept_values.FAULTS,
)
"""All of them, in the order of the table."""
