"""What a request asks of a language model's form: which tools it may call, and which schema its text is to follow.

| API | tools | schema of the text |
|---|---|---|
| chat | `tools[].function.parameters`, `functions[].parameters` | `response_format` |
| Responses | `tools[].parameters` | `text.format` |
| Anthropic's Messages | `tools[].input_schema` | `output_format`, `output_config.format` |
| Ollama | `tools[].function.parameters` | `format` |
| Gemini | `tools[].functionDeclarations[].parameters` | `generationConfig.responseSchema`, `responseJsonSchema` |
| Bedrock's Converse | `toolConfig.tools[].toolSpec.inputSchema.json` | |
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from shadowproxy.answers.pieces import objects

MOST_TOOLS: Final = 512
_DEEPEST: Final = 64


class AskedFor(NamedTuple):
    """What a request asks for.

    Attributes:
        tools: the schema of each tool's arguments by its name, None for a tool that names none; without tools None.
        schema: the schema that the text is to follow as JSON; True for any JSON object, None for any text.
    """

    tools: Mapping[str, Any] | None = None
    schema: Any = None


NOTHING: Final = AskedFor()


def asked_for_in(request: Any) -> AskedFor:
    """What a request with this value asks for; no request makes it raise."""
    if type(request) is not dict:
        return NOTHING
    tools = dict(_tools(request))
    schema = _schema(request)
    return AskedFor(tools or None, schema) if tools or schema is not None else NOTHING


def _tools(request: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    config = request.get("toolConfig")
    given = [*objects(request.get("tools")), *objects(config.get("tools") if isinstance(config, dict) else None)]
    for each in given[:MOST_TOOLS]:
        declared = each.get("functionDeclarations", each.get("function_declarations"))
        if isinstance(declared, list):
            for function in objects(declared)[:MOST_TOOLS]:
                exact = function.get("parametersJsonSchema")
                yield from _tool(function, exact if exact is not None else _from_gemini(function.get("parameters")))
        elif isinstance(inner := each.get("function"), dict):
            yield from _tool(inner, inner.get("parameters"))
        elif isinstance(spec := each.get("toolSpec"), dict):
            schema = spec.get("inputSchema")
            yield from _tool(spec, schema.get("json") if isinstance(schema, dict) else None)
        else:
            yield from _tool(each, each.get("input_schema", each.get("parameters")))
    for function in objects(request.get("functions"))[:MOST_TOOLS]:
        yield from _tool(function, function.get("parameters"))


def _tool(function: Mapping[str, Any], schema: Any) -> Iterable[tuple[str, Any]]:
    name = function.get("name")
    if isinstance(name, str):
        yield name, schema if isinstance(schema, dict) else None


def _schema(request: dict[str, Any]) -> Any:
    """The schema that the text is to follow."""
    text = request.get("text")
    config = request.get("output_config")
    for form in (
        request.get("response_format"),
        text.get("format") if isinstance(text, dict) else None,
        request.get("output_format"),
        config.get("format") if isinstance(config, dict) else None,
    ):
        if isinstance(form, dict) and form.get("type") in ("json_schema", "json_object"):
            inner = form.get("json_schema")
            schema = inner.get("schema") if isinstance(inner, dict) else form.get("schema")
            return schema if isinstance(schema, dict) else True
    form = request.get("format")  # Ollama
    if isinstance(form, dict):
        return form
    if form == "json":
        return True
    config = request.get("generationConfig", request.get("generation_config"))
    if isinstance(config, dict):
        exact = config.get("responseJsonSchema", config.get("response_json_schema"))
        if isinstance(exact, dict):
            return exact
        schema = config.get("responseSchema", config.get("response_schema"))
        if isinstance(schema, dict):
            return _from_gemini(schema)
        if config.get("responseMimeType", config.get("response_mime_type")) == "application/json":
            return {}
    return None


_INNER: Final = ("items", "additionalProperties")
_INNER_BY_NAME: Final = ("properties", "$defs")


def _from_gemini(schema: Any, depth: int = 0) -> Any:
    """A schema of Gemini's, which has types in capitals and `nullable` (OpenAPI 3.0), as a JSON Schema."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema
    made = dict(schema)
    if isinstance(kind := made.get("type"), str):
        made["type"] = [kind.lower(), "null"] if made.get("nullable") is True else kind.lower()
    if isinstance(values := made.get("enum"), list) and made.get("nullable") is True:
        made["enum"] = [*values, None]
    for name in _INNER:
        if name in made:
            made[name] = _from_gemini(made[name], depth + 1)
    for name in _INNER_BY_NAME:
        if isinstance(inner := made.get(name), dict):
            made[name] = {key: _from_gemini(each, depth + 1) for key, each in inner.items()}
    if isinstance(any_of := made.get("anyOf"), list):
        made["anyOf"] = [_from_gemini(each, depth + 1) for each in any_of]
    return made
