"""The report's types say what report.schema.json says and what real reports hold: no key more, and none less."""

import json
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from test_forms import SCHEMA, SETS

from shadowproxy.compare.report.figures.types import Report

ROOT = Path(__file__).parent.parent
Schema = dict[str, Any]
NAMES = {int: "integer", float: "number", str: "string", bool: "boolean", NoneType: "null"}


def resolved(schema: Schema) -> Schema:
    """A schema without references, and with what it takes over from others put in."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    found = {**schema, "properties": {}, "required": []}
    for part in [*map(resolved, schema.get("allOf", ())), schema]:
        found["properties"] |= part.get("properties", {})
        found["required"] += part.get("required", [])
    return found


def alternatives(schema: Schema) -> list[Schema]:
    """A schema as the list of those of which one must hold, each with one type or one value."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return [each for part in schema["anyOf"] for each in alternatives(part)]
    if "enum" in schema:
        return [{"const": value} for value in schema["enum"]]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": name} for name in schema["type"]]
    return [schema]


def members(of: Any, bound: dict[Any, Any] | None = None) -> list[Any]:
    """A type as the list of those in its union, a literal of each value by itself."""
    of = (bound or {}).get(of, of) if isinstance(of, TypeVar) else of
    if get_origin(of) in (Union, UnionType):
        return [each for part in get_args(of) for each in members(part, bound)]
    if get_origin(of) is Literal:
        return [Literal[value] for part in get_args(of) for value in ([part] if not get_args(part) else get_args(part))]
    return [of]


@cache
def keys_of(of: Any) -> dict[str, Any]:
    """The keys of a TypedDict with their types; of a generic one with what it was given for its parameter."""
    bound: dict[Any, Any] = {}
    for base in getattr(of, "__orig_bases__", ()):
        parameters = getattr(get_origin(base), "__parameters__", ())
        bound |= dict(zip(parameters, get_args(base), strict=False))
    hints = get_type_hints(of, include_extras=True)
    return {
        name: next((bound[each] for each in [hint] if isinstance(each, TypeVar)), hint) for name, hint in hints.items()
    }


def required_in(of: Any) -> set[str]:
    return {name for name, hint in keys_of(of).items() if get_origin(hint) is not NotRequired}


def differences(of: list[Any], schemas: list[Schema], at: str) -> Iterator[str]:
    """Where types and schemas do not say the same."""
    if Any in of:
        if schemas != [resolved({})]:
            yield f"{at}: anything in the types, {schemas} in the schema"
        return
    tables = [each for each in of if is_typeddict(each)]
    objects = [each for each in schemas if each.get("type") == "object" and each["properties"]]
    yield from differing_keys(tables, objects, at)
    for origin, inner, index in ((list, "items", 0), (dict, "additionalProperties", 1)):
        parts = [member for each in of if get_origin(each) is origin for member in members(get_args(each)[index])]
        found = [
            one
            for each in schemas
            if inner in each and each.get("type") == ("array" if origin is list else "object") and each not in objects
            for one in alternatives(each[inner])
        ]
        if bool(parts) != bool(found):
            yield f"{at}: {origin.__name__} only in {'the types' if parts else 'the schema'}"
        elif parts:
            yield from differences(parts, found, f"{at}[]")
    words = {repr(get_args(each)[0]) for each in of if get_origin(each) is Literal}
    words |= {NAMES[each] for each in of if each in NAMES and not (each is NoneType and {"const": None} in schemas)}
    words |= {"None"} if {"const": None} in schemas and NoneType in of else set()
    said = {repr(each["const"]) for each in schemas if "const" in each}
    said |= {each["type"] for each in schemas if each.get("type") in NAMES.values()}
    if words != said:
        yield f"{at}: {sorted(words - said)} only in the types, {sorted(said - words)} only in the schema"


def differing_keys(tables: list[Any], objects: list[Schema], at: str) -> Iterator[str]:
    """The same of objects: those of one place are taken together, as `kind` tells them apart."""
    if not tables or not objects:
        if tables or objects:
            yield f"{at}: an object only in {'the types' if tables else 'the schema'}"
        return
    if len(objects) > 1:  # alternatives with keys of their own: each is one of the types
        for each in objects:
            same = [table for table in tables if set(keys_of(table)) == set(each["properties"])]
            if len(same) != 1:
                yield f"{at}: no type has the keys {sorted(each['properties'])}"
            else:
                yield from differing_keys(same, [each], at)
        return
    (schema,) = objects
    hints: dict[str, list[Any]] = {}
    for table in tables:
        for name, hint in keys_of(table).items():
            plain = get_args(hint)[0] if get_origin(hint) is NotRequired else hint
            hints.setdefault(name, []).extend(each for each in members(plain) if each not in hints.get(name, []))
    for name in sorted(hints.keys() ^ schema["properties"].keys()):
        yield f"{at}/{name}: only in {'the types' if name in hints else 'the schema'}"
    always = set.intersection(*map(required_in, tables))
    for name in sorted(always ^ set(schema["required"])):
        yield f"{at}/{name}: required only by {'the types' if name in always else 'the schema'}"
    for name in sorted(hints.keys() & schema["properties"].keys()):
        yield from differences(hints[name], alternatives(schema["properties"][name]), f"{at}/{name}")


def test_the_types_and_the_schema_say_the_same() -> None:
    assert list(differences([Report], alternatives(SCHEMA), "")) == []


def tables_below(of: Any) -> Iterator[Any]:
    """Every TypedDict that a type consists of, itself among them."""
    if is_typeddict(of):
        yield of
    for each in keys_of(of).values() if is_typeddict(of) else get_args(of):
        if not isinstance(each, TypeVar):
            yield from tables_below(each)


def test_no_type_of_the_report_is_compiled_as_its_keys_would_lose_their_types() -> None:
    compiled = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    files = compiled["hooks"]["custom"]["modules"]
    found = {each.__module__ for each in tables_below(Report)}
    assert "shadowproxy.compare.fold.example_types" in found
    assert [each for each in found if each.replace(".", "/") + ".py" in files] == []


def tables_in(schema: Any) -> Iterator[Schema]:
    """Every object with keys of its own in a schema, however deep."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and "required" in schema:
            yield schema
        for each in schema.values():
            yield from tables_in(each)
    if isinstance(schema, list):
        for each in schema:
            yield from tables_in(each)


def test_no_key_of_the_schema_can_go_change_its_type_or_become_optional_unseen() -> None:
    count = 0
    for table in list(tables_in(SCHEMA)):
        keys, required = table["properties"], table["required"]
        for name in keys:
            changes = [{**table, "properties": {key: keys[key] for key in keys if key != name}}]
            changes.append({**table, "properties": {**keys, name: {"type": "null"}}})
            changes.append({**table, "required": sorted({*required} ^ {name})})
            for change in changes:
                before = dict(table)
                table.update(change)
                assert next(differences([Report], alternatives(SCHEMA), ""), None), name
                table.update(before)
                count += 1
    assert count > 500
    assert list(differences([Report], alternatives(SCHEMA), "")) == []


def misfits(value: Any, of: Any, at: str = "") -> Iterator[str]:
    """The places of a value that are not as its type says."""
    found = [list(misfits_one(value, each, at)) for each in members(of)]
    if all(found):
        yield from min(found, key=len)


def misfits_one(value: Any, of: Any, at: str) -> Iterator[str]:
    if is_typeddict(of):
        if not isinstance(value, dict):
            yield f"{at}: no object"
            return
        hints = keys_of(of)
        for name in sorted((value.keys() - hints.keys()) | (required_in(of) - value.keys())):
            yield f"{at}/{name}: {'not in the type' if name in value else 'missing'}"
        for name in value.keys() & hints.keys():
            hint = hints[name]
            yield from misfits(
                value[name], get_args(hint)[0] if get_origin(hint) is NotRequired else hint, f"{at}/{name}"
            )
    elif get_origin(of) is list:
        if not isinstance(value, list):
            yield f"{at}: no list"
            return
        for number, each in enumerate(value):
            yield from misfits(each, get_args(of)[0], f"{at}/{number}")
    elif get_origin(of) is dict:
        if not isinstance(value, dict):
            yield f"{at}: no mapping"
            return
        for name, each in value.items():
            yield from misfits(each, get_args(of)[1], f"{at}/{name}")
    elif get_origin(of) is Literal:
        if value not in get_args(of):
            yield f"{at}: {value!r}"
    elif of is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{at}: {value!r} is no number"
    elif of is not Any and (not isinstance(value, of) or (of is int and isinstance(value, bool))):
        yield f"{at}: {value!r} is no {of.__name__}"


@pytest.mark.parametrize("name", sorted(SETS))
def test_a_real_report_is_as_its_types_say(name: str) -> None:
    report = json.loads(json.dumps(SETS[name]()))
    assert list(misfits(report, Report)) == []


def test_a_key_that_no_type_has_is_seen() -> None:
    report = json.loads(json.dumps(SETS["few"]()))
    report["shadows"]["s"]["outputs"][0]["more"] = 1
    report["shadows"]["s"]["verdict"]["result"] = "perhaps"
    del report["log"]["blocks"]
    found = list(misfits(report, Report))
    assert len(found) == 3
    assert any(each.startswith("/log/blocks") for each in found)
