"""The live system of the demo, complete: the if statement that many models must beat."""

from collections.abc import Mapping
from typing import Any

LATE_DEPARTURE_MINUTES = 15


def departed_late(instance: Mapping[str, Any]) -> bool:
    """Predicts a late arrival if the plane left more than 15 minutes late."""
    return bool(instance["dep_delay"] > LATE_DEPARTURE_MINUTES)
