"""The configuration as a JSON Schema, with which editors complete keys, explain them and mark errors.

The form of each value stands beside the function that reads it (values.py), the keys and their nesting come from the
models, and each key's description and default from docs/reference/configuration.md. That page is not installed, so
`shadowproxy schema` prints the file beside this one, which `make schema` writes; a test compares the two.

Its `$id` names the version, whose keys it has; a URN, as nothing is to be fetched: editors have the file itself.

A schema cannot express all that the loader tests: rules between keys, and whether a file exists.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
import yaml
from pydantic import WithJsonSchema
from pydantic.fields import FieldInfo

from shadowproxy import __version__
from shadowproxy.config import values
from shadowproxy.config.endpoints import Live
from shadowproxy.config.keys import key_of
from shadowproxy.config.models import Config

FILE = Path(__file__).with_name("schema.json")

_ROW = re.compile(r"^\| `([a-z0-9_.A-Z]+)` \|([^|]*)\|(.*)\|$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_LIKE_LIVE = re.compile(r"As for live\.")
_ENVIRONMENT = {
    "description": "A text in which ${NAME} or ${NAME:-default} is replaced from the environment.",
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
}
_BOUNDS = {annotated_types.Ge: "minimum", annotated_types.Gt: "exclusiveMinimum", annotated_types.Le: "maximum"}


def schema(reference: str) -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of a file; `reference` is the text of docs/reference/configuration.md."""
    rows = {key: (default.strip(), words.strip()) for key, default, words in _ROW.findall(reference)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:shadowproxy:config:{'.'.join(__version__.split('.')[:2])}",
        "title": "The configuration of shadowproxy",
        **_object(Config, "", rows),
        "$defs": {"environment": _ENVIRONMENT},
    }


def _object(model: type, prefix: str, rows: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in dataclasses.fields(model):
        name = key_of(field.name)
        key = prefix + name
        found = _value(hints[field.name], f"{key}.", rows)
        default, words = rows.get(key, ("", ""))
        if _LIKE_LIVE.match(words):
            words = _LIKE_LIVE.sub(rows[key.replace("shadows.NAME.", "live.")][1], words)
        properties[name] = (
            ({"description": _LINK.sub(r"\1", words).replace("`", "")} if words else {})
            | found
            | ({"default": yaml.safe_load(default.strip("`"))} if default else {})
        )
        if not default and _is_required(field):
            required.append(name)
    whole: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        whole["required"] = required
    if model is Live:
        whole["anyOf"] = [{"required": ["url"]}, {"required": ["respond"]}]
    return whole


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    given = field.default
    if isinstance(given, FieldInfo):
        return given.is_required()
    return given is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(hint: Any, prefix: str, rows: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return _object(hint, prefix, rows)
    arguments = get_args(hint)
    match get_origin(hint):
        case origin if origin is Annotated:
            return _annotated(arguments[0], arguments[1:], prefix, rows)
        case origin if origin in (Union, UnionType):
            forms = [_value(each, prefix, rows) for each in arguments if each is not NoneType]
            nothing = [{"type": "null"}] if NoneType in arguments else []
            return {"anyOf": [*(form for each in forms for form in each.get("anyOf", [each])), *nothing]}
        case origin if origin is Literal:
            return {"anyOf": [{"enum": list(arguments)}, {"$ref": "#/$defs/environment"}]}
        case origin if origin is tuple:
            return {"type": "array", "items": _value(arguments[0], prefix, rows)}
        case origin if origin is Mapping:
            names, inner = arguments
            own = "NAME." if dataclasses.is_dataclass(inner) else "POINTER."
            return {
                "type": "object",
                "propertyNames": _value(names, prefix, rows)["anyOf"][0],  # names have no ${NAME}
                "additionalProperties": _value(inner, prefix + own, rows),
            }
    raise TypeError(f"no schema for {hint}")


def _annotated(
    base: Any, metadata: tuple[Any, ...], prefix: str, rows: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    given = next((each.json_schema for each in metadata if isinstance(each, WithJsonSchema)), None)
    found: dict[str, Any] = _value(base, prefix, rows) if given is None else json.loads(json.dumps(given))
    bounds = [bound for each in metadata if isinstance(each, FieldInfo) for bound in each.metadata]
    for bound in bounds:
        key = _BOUNDS.get(type(bound))
        if key is not None and found["anyOf"][0].get("type") in ("number", "integer"):
            found["anyOf"][0][key] = getattr(bound, type(bound).__name__.lower())
    if values.ToleranceValue in metadata:
        number, *rest = found["properties"]["abs"]["anyOf"]
        found = {"anyOf": [number, *rest, found]}
    if values.StateValue in metadata:
        found["anyOf"].insert(0, {"const": "auto"})
    return found


if __name__ == "__main__":
    made = schema(Path(sys.argv[1]).read_text(encoding="utf-8"))
    FILE.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
