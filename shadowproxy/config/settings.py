"""What sets a key besides the file, and what then stands where: an option before the environment before the file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shadowproxy.config.source import Location

Options = Sequence[tuple[str, str]]
"""The options of `serve` and `check` that set a key, each with its value: ("--shadow", "challenger=http://b")."""


class ConfigError(Exception):
    """The configuration cannot be used. `str()` is one line for each problem."""


@dataclass(frozen=True, slots=True)
class Setting:
    """`by` is what sets it, as in an error: the name of a variable, or an option. Empty where code does."""

    location: Location
    value: Any
    by: str


def settings_by(options: Options) -> list[Setting]:
    """What the options set. `--listen` may be given several times."""
    listen = [value for option, value in options if option == "--listen"]
    found = [] if not listen else [Setting(("listen",), listen, "--listen")]
    for option, value in options:
        match option:
            case "--live":
                found.append(Setting(("live", "url"), value, option))
            case "--shadow":
                name, _, url = value.partition("=")
                found.append(Setting(("shadows", name, "url"), url, f"{option} {name}"))
            case "--admin":
                found.append(Setting(("admin",), None if value == "off" else value, option))
            case "--log":
                found.append(Setting(("log", "path"), value, option))
    return found


@dataclass(slots=True)
class Layers:
    """Values, and where each is from. `put` changes both.

    `file` is the name of the file that `lines` counts in, None without one. `by` has what was put over it, `replaced`
    the lines of the file that this made void.
    """

    values: dict[Any, Any]
    file: str | None = None
    lines: dict[Location, int] = field(default_factory=dict)
    by: dict[Location, str] = field(default_factory=dict)
    replaced: dict[Location, int] = field(default_factory=dict)

    def put(self, settings: Iterable[Setting]) -> None:
        for setting in settings:
            *parents, last = setting.location
            within: dict[Any, Any] = self.values
            for step in parents:
                inner = within.get(step)
                # A section may have a short form, as `state: auto`: what is put into it makes it a long one.
                within[step] = within = dict(inner) if isinstance(inner, dict) else {}
            within[last] = setting.value
            if setting.location in self.lines:
                self.replaced[setting.location] = self.lines[setting.location]
            length = len(setting.location)
            for held in (self.lines, self.by):
                for location in [each for each in held if each[:length] == setting.location]:
                    del held[location]
            self.by[setting.location] = setting.by

    def located(self, location: Location, problem: str) -> tuple[int, str]:
        """A problem's line in an error, after the number to sort it by."""
        for length in range(len(location), -1, -1):
            lead = location[:length]
            if (by := self.by.get(lead)) or (lead == location and (by := self._within(lead))):
                return 0, f"{by}: {problem}" if lead == location or by[0] == "-" else line(by, None, location, problem)
            if number := self.lines.get(lead):
                return number, line(self.file, number, location, problem)
        return 0, line(self.file, None, location, problem)

    def _within(self, location: Location) -> str | None:
        """What was put into a section that is in no file: it may have a name that none can have."""
        if location in self.lines or not location:
            return None
        return next((by for each, by in self.by.items() if each[: len(location)] == location), None)

    def unplaced(self, location: Location, problem: str) -> str:
        """The same without the file's name and line."""
        by = next(filter(None, (self.by.get(location[:length]) for length in range(len(location), 0, -1))), None)
        return line(None, None, location, problem) if by is None else self.located(location, problem)[1]


def line(file: str | None, number: int | None, location: Location, problem: str) -> str:
    """`file` may be a variable's name as well."""
    place = "" if file is None else f"{file}: " if number is None else f"{file}:{number}: "
    key = _dotted(location)
    return f"{place}{key}: {problem}" if key else f"{place}{problem}"


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))


def dotted(values: Any, prefix: str = "") -> Mapping[str, Any]:
    """Every key in `values`, dotted, sections included, with its value."""
    found: dict[str, Any] = {}
    if isinstance(values, dict):
        for key, value in values.items():
            found[f"{prefix}{key}"] = value
            found |= dotted(value, f"{prefix}{key}.")
    return found
