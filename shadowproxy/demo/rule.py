"""The live system of the demo, whole: the if statement that many a model has to beat."""

from collections.abc import Mapping
from typing import Any

LATE_DEPARTURE_MINUTES = 15


def departed_late(instance: Mapping[str, Any]) -> bool:
    """The plane will arrive late if it left more than 15 minutes late."""
    return bool(instance["dep_delay"] > LATE_DEPARTURE_MINUTES)
