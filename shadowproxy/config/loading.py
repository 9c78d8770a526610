"""Makes a Config from a file, the environment and options, or from plain values; or an error of one line a problem.

A line reads `file:line: key: problem`, so that editors and people find the place, or `VARIABLE: problem`.

Every problem in the file itself is an error. A value that a shadow's section takes from the environment is not in the
file: if the variable is not set, or its value does not fit the key, only that shadow becomes unusable.
"""

import dataclasses
import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from shadowproxy.config import source
from shadowproxy.config.endpoints import NUMBER, RAMP, UNKNOWN_URL, Shadow, UnusableShadow
from shadowproxy.config.environment import settings_in
from shadowproxy.config.keys import keys
from shadowproxy.config.models import BY, WORD, Config, KeyFault
from shadowproxy.config.settings import ConfigError, Layers, Options, dotted, line, settings_by
from shadowproxy.config.source import Document, FromEnvironment, Location, NotSet, YamlError, is_of_shadow

_config = TypeAdapter(Config)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and where its values are from.

    `given` has the keys that something sets, dotted, sections included, with their values. `by` has those of the
    environment and of options, each with the variable or the option, and `replaced` the lines of the file that these
    made void. `file` is its name, None without one.
    """

    config: Config
    file: str | None
    given: Mapping[str, Any]
    by: Mapping[str, str]
    replaced: Mapping[str, int]
    places: Mapping[Location, str] = dataclasses.field(default_factory=dict, repr=False)

    def origin(self, *location: str) -> str:
        """What sets a key: `FILE:LINE`, a variable, an option, or "default" if nothing does."""
        if ".".join(location) not in self.given:
            return "default"
        leads = (location[:length] for length in range(len(location), 0, -1))
        return next((self.places[lead] for lead in leads if lead in self.places), "default")


def read(path: Path | str | None, *, options: Options = (), environment: Mapping[str, str] = os.environ) -> Loaded:
    """Read a YAML file, the environment and options. Raises ConfigError if they make no configuration."""
    layers = Layers({}) if path is None else layers_of(path, environment)
    chosen = settings_by(options)
    named = [str(each.location[1]) for each in chosen if each.location[0] == "shadows"]
    sections = layers.values.get("shadows")
    layers.put(settings_in(environment, map(str, sections) if isinstance(sections, dict) else (), named))
    layers.put(chosen)
    given = dotted(layers.values)
    by = {".".join(map(str, location)): each for location, each in layers.by.items()}
    replaced = {".".join(map(str, location)): number for location, number in layers.replaced.items()}
    if path is not None and not layers.values:
        raise ConfigError(f"{path}: is empty: it needs at least live: {{url: http://...}}")
    places = {location: f"{layers.file}:{number}" for location, number in layers.lines.items()}
    places |= {location: option.split()[0] for location, option in layers.by.items()}
    return Loaded(validated(layers), layers.file, given, by, replaced, places)


def load(path: Path | str, environment: Mapping[str, str] = os.environ) -> Config:
    """Read a YAML file, and what the environment sets besides. Raises ConfigError."""
    return read(path, environment=environment).config


def layers_of(path: Path | str, environment: Mapping[str, str]) -> Layers:
    """The values of a file, with their lines. Raises ConfigError."""
    document = document_of(path, environment)
    values = {} if document.values is None else document.values
    if not isinstance(values, dict):
        raise ConfigError(line(str(path), document.lines[()], (), "must be a mapping of keys"))
    return Layers(values, str(path), dict(document.lines))


def document_of(path: Path | str, environment: Mapping[str, str]) -> Document:
    """The text of a file as values with their lines. Raises ConfigError."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8") from None
    try:
        return source.parse(text, environment)
    except YamlError as error:
        raise ConfigError(line(str(path), error.line, error.location, error.problem)) from None


def from_values(values: Mapping[str, Any]) -> Config:
    """The Config of a file with these values. Raises ConfigError."""
    return validated(Layers(dict(values)))


def validated(layers: Layers) -> Config:
    """The Config of these values, which it changes. Raises ConfigError."""
    values, located = layers.values, layers.located
    if half := {
        located(location, "contains half of a surrogate pair, which UTF-8 cannot encode") for location in _torn(values)
    }:
        raise ConfigError("\n".join(text for _, text in sorted(half)))
    fresh = {
        location: text.problem
        for location, text in _leaves(values)
        if isinstance(text, NotSet) and _is_value_of_shadow(location)
    }
    wanting: dict[Location, str] = {}
    while True:
        _take_out(values, fresh, wanting)
        wanting |= fresh
        try:
            config = _config.validate_python(values)
        except ValidationError as error:
            found = [
                (_before_taken(location, wanting), problem)
                for location, problem in map(_explained, error.errors(include_url=False))
            ]
        else:
            return _with_unusable(config, wanting, layers)
        leaves = ((_before_taken(location, wanting), text) for location, text in _leaves(values))
        given = {location: text for location, text in leaves if isinstance(text, FromEnvironment)}
        fresh = {
            location: _without(given[location], problem)
            for location, problem in found
            if location in given and _is_value_of_shadow(location)
        }
        if {location for location, _ in found} != fresh.keys():
            break
    # Raised out here, without a context: the garbage collector does not see pydantic's error, so the frames that both
    # hold would leak with every reading of an invalid file.
    raise ConfigError("\n".join(text for _, text in sorted({located(*each) for each in found})))


def _is_value_of_shadow(location: Location) -> bool:
    """Whether the location is a key in a shadow's section, or a part of such a key's value."""
    if not is_of_shadow(location):
        return False
    known = frozenset(keys())
    steps = [str(step) for step in ("shadows", "*", *location[2:])]
    if steps[2:] == ["percent"]:
        return True  # a number, though it has keys where it is a ramp
    leads = [".".join(steps[:length]) for length in range(3, len(steps) + 1)]
    return any(lead in known and not any(key.startswith(f"{lead}.") for key in known) for lead in leads)


def _leaves(value: Any, location: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Every value that is not a mapping or a list, with its location."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _leaves(item, (*location, key))
        case list():
            for index, item in enumerate(value):
                yield from _leaves(item, (*location, index))
        case _:
            yield location, value


def _take_out(values: Any, locations: Iterable[Location], taken: Collection[Location]) -> None:
    """Remove the values at `locations`, so that defaults apply. `taken` are the list items removed earlier."""
    # Later items of a list are removed first, so that the indexes of the others stay valid.
    for location in sorted(locations, reverse=True):
        last = location[-1]
        if location[2:3] == ("percent",):
            values["shadows"][location[1]].pop("percent", None)  # whole: what a ramp needs has no default
            continue
        around = values
        for step in location[:-1]:
            around = around[step]
        if location[2:] == ("url",):
            around["url"] = UNKNOWN_URL  # which has no default
        elif isinstance(last, int):
            del around[last - sum(each[:-1] == location[:-1] and each < location for each in taken)]
        else:
            around.pop(last, None)
            if location[2:] == ("tls", "cert"):
                around.pop("key", None)  # which needs it


def _before_taken(location: Location, taken: Collection[Location]) -> Location:
    """The location before items of its list were removed."""
    if not location or not isinstance(place := location[-1], int):
        return location
    for each in sorted(each for each in taken if each[:-1] == location[:-1]):
        place += int(each[-1]) <= place
    return (*location[:-1], place)


def _without(text: str, problem: str) -> str:
    """The problem, without a value that came from the environment: it may be a secret."""
    return "what the environment gives for it cannot be used" if text and text in problem else problem


def _with_unusable(config: Config, wanting: Mapping[Location, str], layers: Layers) -> Config:
    """`config` with every shadow unusable that lacks a value."""
    shadows = dict(config.shadows)
    for name in dict.fromkeys(str(location[1]) for location in wanting):
        problems = [layers.unplaced(*each) for each in sorted(wanting.items(), key=str) if each[0][1] == name]
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        values = {field.name: getattr(shadows[name], field.name) for field in dataclasses.fields(Shadow)}
        shadows[name] = UnusableShadow(**values, reason=f"{problems[0]}{more}")
    return dataclasses.replace(config, shadows=shadows) if wanting else config


def _torn(value: Any, location: Location = ()) -> Iterator[Location]:
    """The locations of text that cannot be sent or written: YAML escapes and the environment can contain it."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                yield location
        case dict():
            for key, item in value.items():
                yield from _torn(key, location)
                yield from _torn(item, (*location, key if isinstance(key, int) else _readable(str(key))))
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _torn(item, (*location, index))


def _readable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _explained(detail: ErrorDetails) -> tuple[Location, str]:
    # Pydantic marks a mapping's key with a last step of "[key]"; the key itself is the step before. It names the form
    # of a value that has two.
    location = tuple(step for step in detail["loc"] if step not in ("[key]", NUMBER, RAMP, WORD, BY))
    context = detail.get("ctx", {})
    match detail["type"]:
        case "unexpected_keyword_argument":
            return location, "unknown key" + _meant(location)
        case "missing":
            return location, "is required"
        case "value_error":
            error = context["error"]
            return (*location, error.key) if isinstance(error, KeyFault) else location, str(error)
        case "literal_error":
            return location, f"must be {context['expected'].replace(chr(39), '')}"
        case "dataclass_type" | "mapping_type" | "dict_type":
            return location, "must be a mapping of keys"
        case "tuple_type":
            return location, "must be a list"
        case _:
            message = detail["msg"]
            return location, message.replace("Input should", "must").replace("Value should", "must")


def _meant(location: Location) -> str:
    step = str(location[-1])
    dotted = ".".join(str(part) for part in location)
    generic = ["*" if place == 1 and location[0] == "shadows" else str(part) for place, part in enumerate(location)]
    parent = "".join(f"{part}." for part in generic[:-1])
    known = list(keys())
    siblings = [key.removeprefix(parent) for key in known if key.startswith(parent) and "." not in key[len(parent) :]]
    near = difflib.get_close_matches(step, siblings, n=1)
    if near:
        return f' (did you mean "{near[0]}"?)'
    elsewhere = [key for key in known if key.rpartition(".")[2] == step and key != dotted]
    return f' (did you mean "{elsewhere[0]}"?)' if elsewhere else ""
