"""Tool calls and structured outputs by the schemas of their requests: exact counts, and no schema costs too much."""

import random
import socket
from typing import Any

import pytest
from logs import record, report_json, said
from test_language_report import calling, message, wrote
from test_losses_in_forms import form

from shadowproxy.answers.asked_for import NOTHING, AskedFor, asked_for_in
from shadowproxy.answers.written import written_in
from shadowproxy.compare.fold import schemas
from shadowproxy.compare.fold.schemas import MOST_BYTES, follows
from shadowproxy.compare.fold.summary import load, merge, save, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.record import Body, Record, RecordedLeg

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": CITY}}]}, AskedFor({"f": CITY})),
        ({"tools": [{"type": "function", "name": "f", "parameters": CITY}]}, AskedFor({"f": CITY})),
        ({"tools": [{"name": "f", "input_schema": CITY}]}, AskedFor({"f": CITY})),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, AskedFor({"web_search": None})),
        ({"tools": [{"type": "custom", "name": "shell"}]}, AskedFor({"shell": None})),
        ({"functions": [{"name": "f", "parameters": CITY}]}, AskedFor({"f": CITY})),
        (
            {"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": CITY}}}]}},
            AskedFor({"f": CITY}),
        ),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "STRING", "nullable": True}}]}]},
            AskedFor({"f": {"type": ["string", "null"], "nullable": True}}),
        ),
        (
            {"tools": [{"function_declarations": [{"name": "f", "parametersJsonSchema": CITY}]}]},
            AskedFor({"f": CITY}),
        ),
        ({"tools": [{"name": "f"}, {"name": 7}, 7, {"function": {}}]}, AskedFor({"f": None})),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": CITY}}},
            AskedFor(None, CITY),
        ),
        ({"response_format": {"type": "json_object"}}, AskedFor(None, True)),
        ({"response_format": {"type": "json_object", "schema": CITY}}, AskedFor(None, CITY)),  # llama.cpp
        ({"response_format": {"type": "text"}}, NOTHING),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": CITY}}}, AskedFor(None, CITY)),
        ({"output_config": {"format": {"type": "json_schema", "schema": CITY}}}, AskedFor(None, CITY)),
        ({"format": "json", "messages": []}, AskedFor(None, True)),
        ({"format": CITY, "messages": []}, AskedFor(None, CITY)),
        ({"format": "csv"}, NOTHING),
        (
            {"generationConfig": {"responseSchema": {"type": "ARRAY", "items": {"type": "INTEGER"}}}},
            AskedFor(None, {"type": "array", "items": {"type": "integer"}}),
        ),
        ({"generationConfig": {"responseMimeType": "application/json"}}, AskedFor(None, {})),
        ({"generationConfig": {"temperature": 0}}, NOTHING),
        ({"tools": {"a": 1}, "toolConfig": 7, "text": "x", "response_format": []}, NOTHING),
        (["a"], NOTHING),
        (None, NOTHING),
    ],
)
def test_what_a_request_asks_for(request_: Any, asked: AskedFor) -> None:
    assert asked_for_in(request_) == asked


NAMES = [
    "choices",
    "message",
    "content",
    "text",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "type",
    "output",
    "candidates",
    "parts",
    "functionCall",
    "args",
    "tools",
    "functionDeclarations",
    "input_schema",
    "parameters",
    "response_format",
    "json_schema",
    "schema",
    "format",
    "generationConfig",
    "responseSchema",
    "items",
    "properties",
    "anyOf",
    "$ref",
    "required",
    "enum",
    "not",
    "oneOf",
    "pattern",
    "additionalProperties",
    "minimum",
    "multipleOf",
    "uniqueItems",
    "const",
    "$defs",
    "prefixItems",
    "contains",
    "dependentRequired",
    "if",
    "then",
    "$id",
    "$anchor",
    "$dynamicRef",
    "minLength",
    "maxItems",
]
VALUES = [None, True, 0, -1, 1.5, 1e308, 10**25, "", "a", "object", "#", "#/$defs/a", "http://x/", "http://[", "STRING"]


def made_up(source: random.Random, depth: int = 0) -> Any:
    kind = source.random()
    if depth > 6 or kind < 0.3:
        return source.choice(VALUES)
    if kind < 0.5:
        return [made_up(source, depth + 1) for _ in range(source.randrange(4))]
    return {source.choice(NAMES): made_up(source, depth + 1) for _ in range(source.randrange(6))}


@pytest.mark.parametrize("seed", range(4))
def test_no_request_answer_or_schema_raises(seed: int) -> None:
    source = random.Random(seed)
    results = set()
    for _ in range(500):
        one, other = made_up(source), made_up(source)
        asked_for_in(one)
        written_in(one)
        results.add(follows(one, other))
    assert {"valid", "invalid", "unusable schema"} <= results


def doubling(depth: int) -> Any:
    """A schema of a few lines that asks for 2^depth looks at a value."""
    defs: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(depth)}
    defs[f"a{depth}"] = {"type": "object"}
    return {"$defs": defs, "$ref": "#/$defs/a0"}


def nested(depth: int) -> Any:
    made: Any = {"type": "object"}
    for _ in range(depth):
        made = {"properties": {"a": made}}
    return made


@pytest.mark.parametrize(
    ("value", "schema", "result"),
    [
        ({"city": "Ulm"}, CITY, "valid"),
        ({"city": "Ulm", "days": 2.0}, CITY, "valid"),
        ({"city": "Ulm", "days": 0}, CITY, "invalid"),
        ({"days": 2}, CITY, "invalid"),
        ({"city": "Ulm", "more": 1}, CITY, "invalid"),
        ({"city": True}, CITY, "invalid"),
        ([1], {"$ref": "#/definitions/l", "definitions": {"l": {"type": "array"}}}, "valid"),
        ([1, "a"], {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}, "invalid"),
        ({"a": 1}, {}, "valid"),
        ({"a": 1}, {"$ref": "http://127.0.0.1:9/never"}, "unusable schema"),
        ({"a": 1}, {"$ref": "file:///etc/passwd"}, "unusable schema"),
        ({"a": 1}, {"$ref": "#/nowhere"}, "unusable schema"),
        ({"a": 1}, {"type": "text"}, "unusable schema"),
        ({"a": 1}, "text", "unusable schema"),
        ({"a": 1}, {"properties": 7}, "unusable schema"),
        ({"a": 1}, {"required": 7}, "unusable schema"),
        ([1], {"items": [{"type": "integer"}]}, "unusable schema"),
        ({"a": 1}, {"enum": ["x" * MOST_BYTES]}, "too large"),
        ({"a": 1}, doubling(40), "too costly"),
        ({"a": 1}, {"$ref": "#"}, "too costly"),
        ([[n] for n in range(5000)], {"uniqueItems": True}, "too costly"),
        ("a" * 40 + "!", {"pattern": "^(a|a)*$"}, "valid"),  # patterns are not tried: this one takes hours
        ({"a" * 40 + "!": 1}, {"patternProperties": {"^(a|a)*$": {}}, "additionalProperties": False}, "valid"),
        ({"a" * 40 + "!": 1}, {"patternProperties": {"^(a|a)*$": {}}, "unevaluatedProperties": False}, "valid"),
        ({"a": 1}, {"const": "\ud800"}, "unusable schema"),
        (10**400, {"multipleOf": 1e-300}, "unusable schema"),
        ({"a": 1}, nested(100), "valid"),
        ({"a": 1}, nested(200), "unusable schema"),
        ("b", {"not": {"pattern": "a"}}, "needs a pattern"),
        ("b", {"oneOf": [{"pattern": "a"}, {"type": "string"}]}, "needs a pattern"),
        ("b", {"allOf": [{"not": {"type": "integer"}}, {"pattern": "a"}]}, "valid"),
    ],
)
def test_whether_a_value_follows_a_schema(value: Any, schema: Any, result: str) -> None:
    assert follows(value, schema) == result


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    def connect(address: Any, *_: Any, **__: Any) -> Any:
        opened.append(address)
        raise OSError("not here")

    monkeypatch.setattr(socket, "create_connection", connect)
    assert follows({"a": 1}, {"$ref": "http://127.0.0.1:9/fetched.json"}) == "unusable schema"
    assert opened == []


def test_a_schema_without_an_end_and_a_value_without_a_bottom_do_not_raise() -> None:
    value: Any = 1
    for _ in range(900):
        value = {"a": value}
    assert follows(value, {"properties": {"a": {"$ref": "#"}}}) in ("valid", "too costly")


def asking(number: int, request: Any, live: RecordedLeg, shadow: RecordedLeg) -> Record:
    made = record(number, live, 3.0 * number, s=shadow)
    return made._replace(request=made.request._replace(body=Body("json", request, 100)))


TOOLS = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": CITY}}], "n": 1}
FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY}}}


def planted() -> list[Record]:
    good, bad = calling("weather", '{"city": "Ulm"}'), calling("weather", '{"days": 2}')
    pairs: list[tuple[Any, RecordedLeg, RecordedLeg]] = []
    pairs += [(TOOLS, wrote(None, good), wrote(None, good))] * 20
    pairs += [(TOOLS, wrote(None, good), wrote(None, bad))] * 5
    pairs += [(TOOLS, wrote(None, good), wrote(None, calling("weather", '{"city": ')))] * 4
    pairs += [(TOOLS, wrote(None, good, good), wrote(None, calling("wether", '{"city": "Ulm"}')))] * 3
    tool = message({"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Ulm"}})
    pairs += [(TOOLS, wrote(None, good), said(tool))] * 2
    pairs += [({"n": 1}, wrote(None, good), wrote(None, bad))] * 2  # the request has no tools
    pairs += [(FORMAT, wrote('{"city": "Ulm"}'), wrote(' {"city": "Bonn", "days": 3}\n'))] * 30
    pairs += [(FORMAT, wrote('{"city": "Ulm"}'), wrote('```json\n{"city": "Ulm"}\n```'))] * 6
    pairs += [(FORMAT, wrote('{"city": "Ulm'), wrote('{"city": "Ulm"}'))] * 4
    pairs += [(FORMAT, wrote('{"town": "Ulm"}'), wrote("[]"))] * 3
    pairs += [(FORMAT, wrote('{"city": "Ulm"}'), wrote(None, refusal="no"))] * 2
    pairs += [({"response_format": {"type": "json_object"}}, wrote("{}"), wrote("[]"))] * 1
    return [asking(n, *each) for n, each in enumerate(pairs)]


def test_planted_calls_and_outputs_come_out_exactly() -> None:
    found = report_json(summarise(planted(), Rules()))["shadows"]["s"]["language"]
    live, shadow = found["calls"]["live"], found["calls"]["shadow"]
    assert live["schema"] == {"checked": 37, "valid": 37, "not_checked": {}}
    assert shadow["schema"] == {"checked": 31, "valid": 22, "not_checked": {}}
    assert (live["unknown_tools"], shadow["unknown_tools"], shadow["no_json"]) == (0, 3, 4)
    assert found["output"] == {
        "live": {"checked": 46, "valid": 39, "not_checked": {}},
        "shadow": {"checked": 44, "valid": 34, "not_checked": {}},
        "requests": 44,
        "only_live": 7,
        "only_shadow": 4,
    }


@pytest.mark.parametrize("name", ["text", "html", "markdown"])
def test_every_form_shows_them(name: str) -> None:
    text = form(report_json(summarise(planted(), Rules())), name)
    for words in (
        "arguments follow the schema",
        "22 of 31",
        "tools unknown to the request",
        "texts follow the schema",
        "7 only live's, 4 only the shadow's",
    ):
        assert words in text, words


def test_parts_of_a_log_add_up_to_the_whole() -> None:
    records = planted()
    whole = summarise(records, Rules())
    one, other = summarise(records[::2], Rules()), load(save(summarise(records[1::2], Rules())))
    assert save(merge(other, one)) == save(whole)


def test_one_model_beside_itself_is_as_valid() -> None:
    records = [each._replace(shadows={"s": each.live}) for each in planted()]
    found = report_json(summarise(records, Rules()))["shadows"]["s"]["language"]
    assert found["calls"]["live"] == found["calls"]["shadow"]
    assert found["output"]["live"] == found["output"]["shadow"]
    assert (found["output"]["only_live"], found["output"]["only_shadow"]) == (0, 0)


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> Any:
    def missing(name: str) -> Any:
        raise ImportError(name)

    for each in (schemas._validator, schemas._classes):
        each.cache_clear()
    monkeypatch.setattr(schemas, "import_module", missing)
    yield
    for each in (schemas._validator, schemas._classes):
        each.cache_clear()


@pytest.mark.usefixtures("without_package")
def test_without_the_package_the_report_says_how_to_install_it() -> None:
    figures = report_json(summarise(planted(), Rules()))
    found = figures["shadows"]["s"]["language"]
    assert found["calls"]["live"]["schema"] == {"checked": 0, "valid": 0, "not_checked": {"no package": 37}}
    assert found["output"]["shadow"]["checked"] == 7  # what is no JSON follows no schema, and one asks for any object
    assert found["calls"]["shadow"]["unknown_tools"] == 3
    for name in ("text", "html", "markdown"):
        assert "pip install '.[schemas]' in a checkout" in form(figures, name)
