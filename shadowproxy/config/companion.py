"""Makes a Config for a companion: the application's keys over the environment's over a file's, none with `live`.

The application describes its companion in a JSON object: `socket` is the path that it connects to, `config` the file
with the team's keys or null, `keys` those that the code gives, which come first.

A shadow that is a Python callable has `candidate: true` in place of `url`, and may have `memory`.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from shadowproxy.config.environment import settings_in
from shadowproxy.config.loading import layers_of, validated
from shadowproxy.config.models import Config
from shadowproxy.config.readers import read_bytes
from shadowproxy.config.settings import ConfigError, Layers, Setting
from shadowproxy.config.source import Location

CANDIDATE_URL = "http://candidate.invalid"
"""The `url` of a shadow that is a callable: no host can have this name (RFC 6761 section 6.4)."""

LOOP_LAG = 1.0
"""The default of `overload.loop_lag` here, in seconds: no caller waits for this process, and starting one takes it a
while."""

NOT_HERE = {
    "live": "is the application itself: leave it out here, or run the sidecar with this file",
    "listen": "has no use in an application, which nobody connects to",
    "listen_tls": "has no use in an application, which nobody connects to",
    "workers": "has no use in an application: it has one live process for all of its own",
    "forwarded": "has no use in an application, which forwards nothing",
    "control": "has no use in an application, which is asked once",
}


@dataclass(frozen=True, slots=True)
class Companion:
    """`candidates` has, for each shadow that is a callable, the bytes of memory that a process of it may take.

    None as such a number: half of what the machine, or its container, has. `file` is the one with the team's keys.
    """

    config: Config
    candidates: Mapping[str, int | None]
    file: Path | None


def load_companion(described: Path | str, environment: Mapping[str, str] = os.environ) -> Companion:
    """Read an application's description. Raises ConfigError, with one line for each problem."""
    try:
        content = Path(described).read_bytes()
    except OSError as error:
        raise ConfigError(f"{described}: cannot be read: {error.strerror}") from None
    return companion_of(content, described, environment)


def companion_of(content: bytes, described: Path | str, environment: Mapping[str, str] = os.environ) -> Companion:
    """The same from what the file `described` has, or will have."""
    try:
        description = orjson.loads(content)
        path, name, keys = description["socket"], description.get("config"), description.get("keys") or {}
    except (ValueError, TypeError, LookupError, AttributeError):
        raise ConfigError(f"{described}: does not describe a companion") from None
    if not isinstance(keys, dict):
        raise ConfigError(f"{described}: must be a mapping of keys")
    layers = Layers({}) if name is None else layers_of(name, environment)
    settings = list(_settings(keys))
    of_file, of_code = (
        [str(name) for name in section] if isinstance(section, dict) else []
        for section in (layers.values.get("shadows"), keys.get("shadows"))
    )
    # What is for a sidecar alone may be in the environment of both.
    layers.put(each for each in settings_in(environment, of_file, of_code) if each.location[0] not in NOT_HERE)
    for key, why in NOT_HERE.items():
        if key in layers.values or key in keys:
            raise ConfigError(layers.located((key,), why)[1])
    layers.put(settings)
    values = layers.values
    candidates = _take_candidates(values, layers.located)
    log = values.get("log")
    if isinstance(log, dict) and log.get("path") == "-":
        raise ConfigError(
            layers.located(("log", "path"), "must be a directory: nobody reads what a companion prints")[1]
        )
    values["live"] = {"respond": {}}
    values["listen"] = f"unix:{path}"
    values.setdefault("admin", None)
    if isinstance(overload := values.setdefault("overload", {}), dict):
        overload.setdefault("loop_lag", LOOP_LAG)
    return Companion(validated(layers), candidates, None if name is None else Path(name))


def _settings(keys: Mapping[str, Any], location: Location = ()) -> Iterator[Setting]:
    """What the application's keys set, value by value: a section is put over the file's key by key."""
    for key, value in keys.items():
        if isinstance(value, dict) and value:
            yield from _settings(value, (*location, key))
        else:
            yield Setting((*location, key), value, "")


def _take_candidates(values: Any, located: Any) -> dict[str, int | None]:
    """Replace `candidate` by a `url`, and take out what only a callable has. Changes `values`."""
    candidates: dict[str, int | None] = {}
    shadows = values.get("shadows")
    if not isinstance(shadows, dict):
        return candidates
    for name, section in shadows.items():
        if not isinstance(section, dict) or not section.get("candidate"):
            continue
        if "url" in section:
            raise ConfigError(located(("shadows", name, "url"), "this shadow is a callable, which has none")[1])
        section = dict(section)
        del section["candidate"]
        given = section.pop("memory", None)
        try:
            candidates[str(name)] = None if given is None else read_bytes(given)
        except ValueError as error:
            raise ConfigError(located(("shadows", name, "memory"), str(error))[1]) from None
        section["url"] = CANDIDATE_URL
        section.setdefault("in_flight", 1)
        shadows[name] = section
    return candidates
