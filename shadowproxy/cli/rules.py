"""The rules of comparing as a command line and a configuration give them together."""

from pathlib import Path
from typing import TYPE_CHECKING

from shadowproxy.cli.group import load_config

if TYPE_CHECKING:
    from shadowproxy.compare.rules import Rules


def rules_of(
    file: Path | None, ignore: tuple[str, ...] = (), tolerance: tuple[str, ...] = (), unordered: tuple[str, ...] = ()
) -> "Rules":
    """The rules of a configuration with those of the command line added. Raises ValueError for the latter."""
    from shadowproxy.compare.rules import Rules, Tolerance

    allowed: dict[str, float | Tolerance] = {}
    if file is not None:
        compare = load_config(file).compare
        ignore, unordered = (*compare.ignore, *ignore), (*compare.unordered, *unordered)
        allowed = {pointer: Tolerance(abs=each.abs, rel=each.rel) for pointer, each in compare.tolerance.items()}
    for text in tolerance:
        pointer, _, number = text.rpartition("=")
        try:
            allowed[pointer] = float(number)
        except ValueError:
            raise ValueError(f'"{text}" is not POINTER=NUMBER') from None
    return Rules(ignore=ignore, tolerance=allowed, unordered=unordered)
