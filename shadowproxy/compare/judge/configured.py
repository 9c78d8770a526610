"""The rules that a configuration compares by."""

from collections.abc import Collection

from shadowproxy.compare.judge.rules import Rules, Tolerance
from shadowproxy.config.models import Compare


def rules_in(compare: Compare, shadows: Collection[str]) -> Rules:
    """The rules of the part `compare` of a configuration with these shadows."""
    return Rules(
        ignore=compare.ignore,
        tolerance={pointer: Tolerance(abs=each.abs, rel=each.rel) for pointer, each in compare.tolerance.items()},
        unordered=compare.unordered,
        set_aside=compare.set_aside,
        predictions=compare.predictions(shadows),
    )
