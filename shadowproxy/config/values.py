"""The types of values: each with the function that reads it, its bounds, and its form for editors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from shadowproxy.addresses import Address
from shadowproxy.config.addresses import (
    check_apart,
    read_host_header,
    read_listen,
    read_listens,
    read_proxy_url,
    read_url,
    written_listens,
)
from shadowproxy.config.readers import (
    SIZE_UNITS,
    duration,
    read_bytes,
    read_count,
    read_field_name,
    read_field_pattern,
    read_field_pointer,
    read_field_value,
    read_file,
    read_flag,
    read_header_glob,
    read_json,
    read_json_glob,
    read_learnt_place,
    read_log_path,
    read_memory,
    read_method,
    read_methods,
    read_nullable,
    read_number,
    read_parameter_name,
    read_parameter_pattern,
    read_path,
    read_path_glob,
    read_place_into,
    read_pointer,
    read_pointer_pattern,
    read_prediction,
    read_range,
    read_readable_file,
    read_salt,
    read_sampling_key,
    read_seconds,
    read_shadow_name,
    read_state,
    read_store_folder,
    read_text,
    read_token,
    read_tolerance,
    read_word,
    size,
    written_memory,
)
from shadowproxy.stateful import KINDS


def _looks(*forms: dict[str, Any]) -> WithJsonSchema:
    """The forms of a value in a file, for editors: one of these, or a text with `${NAME}`.

    Patterns follow ECMA-262. They accept all that the function accepts that reads the value, and may accept more.
    """
    return WithJsonSchema({"anyOf": [*forms, {"$ref": "#/$defs/environment"}]})


def _like(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern}$"}


_DURATION = _looks({"type": "number"}, _like("[0-9]+(\\.[0-9]+)? ?(ms|s|m|h|d)"))
_SIZE = _looks({"type": "number"}, _like(f"[0-9]+(\\.[0-9]+)? ?({'|'.join(SIZE_UNITS)})"))
_MEMORY = _looks({"const": "auto"}, {"type": "number"}, _like(f"[0-9]+(\\.[0-9]+)? ?({'|'.join(SIZE_UNITS)})"))
_NUMBER = _looks({"type": "number"})
_COUNT = _looks({"type": "integer"})
_NAME = _looks(_like("[!#$%&'+.^_`|~0-9A-Za-z-]+"))
_VALUE = _looks(_like("[^\\x00-\\x08\\x0a-\\x1f\\x7f]*"))
_POINTER_LIKE = _looks(_like("(/([^/~*]|~[01])*)*"))
_PATTERN = _like("(/(\\*\\*?|([^/~*]|~[01])*))*")
_PATTERN_LIKE = _looks(_PATTERN)
_ENVIRONMENT = {"$ref": "#/$defs/environment"}
_HOST_LIKE = "(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?"
_ANY_TEXT = _looks({"type": "string"})

Seconds = Annotated[
    float, BeforeValidator(read_seconds), PlainSerializer(duration), Field(ge=0, allow_inf_nan=False), _DURATION
]
PositiveSeconds = Annotated[
    float, BeforeValidator(read_seconds), PlainSerializer(duration), Field(gt=0, allow_inf_nan=False), _DURATION
]
Bytes = Annotated[int, BeforeValidator(read_bytes), PlainSerializer(size), Field(ge=0), _SIZE]
PositiveBytes = Annotated[int, BeforeValidator(read_bytes), PlainSerializer(size), Field(gt=0), _SIZE]
Memory = Annotated[
    int | Literal["auto"],
    BeforeValidator(read_memory),
    PlainSerializer(written_memory),
    _MEMORY,
]
Count = Annotated[int, BeforeValidator(read_count), Field(ge=0), _COUNT]
PositiveCount = Annotated[int, BeforeValidator(read_count), Field(gt=0), _COUNT]
Percent = Annotated[float, BeforeValidator(read_number), Field(ge=0, le=100, allow_inf_nan=False), _NUMBER]
PositivePercent = Annotated[float, BeforeValidator(read_number), Field(gt=0, le=100, allow_inf_nan=False), _NUMBER]
PercentBelowAll = Annotated[float, BeforeValidator(read_number), Field(gt=0, le=50, allow_inf_nan=False), _NUMBER]
Ratio = Annotated[float, BeforeValidator(read_number), Field(ge=1, le=1000, allow_inf_nan=False), _NUMBER]
Share = Annotated[float, BeforeValidator(read_number), Field(ge=0, le=1, allow_inf_nan=False), _NUMBER]
PositiveShare = Annotated[float, BeforeValidator(read_number), Field(ge=1e-6, le=1, allow_inf_nan=False), _NUMBER]
Amount = Annotated[float, BeforeValidator(read_number), Field(ge=0, allow_inf_nan=False), _NUMBER]
GateRange = Annotated[
    float | tuple[float, float],
    BeforeValidator(read_range),
    _looks(
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    ),
]
Flag = Annotated[bool, BeforeValidator(read_flag), _looks({"type": "boolean"})]
Json = Annotated[Any, BeforeValidator(read_json), WithJsonSchema({})]
Url = Annotated[str, BeforeValidator(read_url), _looks(_like(f'https?://{_HOST_LIKE}(/[!"$->@-~]*)?'))]
ProxyUrl = Annotated[str, PlainValidator(read_proxy_url), _looks(_like("http://[^\\x00-\\x1f\\x7f]*:[0-9]{1,5}/?"))]
_ADDRESS = _like("(unix:/.*|(\\[.+\\]|[^\\[\\]:]+):[0-9]{1,5})")
Listen = Annotated[Address, PlainValidator(read_listen), PlainSerializer(str), _looks(_ADDRESS)]
Listens = Annotated[
    tuple[Listen, ...],
    BeforeValidator(read_listens),
    AfterValidator(check_apart),
    PlainSerializer(written_listens),
    _looks(
        _ADDRESS,
        {"type": "array", "minItems": 1, "items": {"anyOf": [_ADDRESS, {"$ref": "#/$defs/environment"}]}},
    ),
]
FieldName = Annotated[str, BeforeValidator(read_field_name), _NAME]
FieldValue = Annotated[str, PlainValidator(read_field_value), _VALUE]
ParameterName = Annotated[str, BeforeValidator(read_parameter_name), _looks(_like("[^=&;?*\\x00-\\x1f\\x7f]+"))]
Token = Annotated[str, PlainValidator(read_token), _ANY_TEXT]
FieldPattern = Annotated[str, PlainValidator(read_field_pattern), _looks(_like("[!#$%&'*+.^_`|~0-9A-Za-z-]+"))]
ParameterPattern = Annotated[str, PlainValidator(read_parameter_pattern), _looks(_like("[^=&;?\\x00-\\x1f\\x7f]+"))]
Pointer = Annotated[str, PlainValidator(read_pointer), _POINTER_LIKE]
PointerPattern = Annotated[str, PlainValidator(read_pointer_pattern), _PATTERN_LIKE]
FieldPointer = Annotated[str, PlainValidator(read_field_pointer), _PATTERN_LIKE]
Prediction = Annotated[
    str | Mapping[str, str],
    PlainValidator(read_prediction),
    _looks(
        _PATTERN,
        {"type": "object", "required": ["live"], "additionalProperties": {"anyOf": [_PATTERN, _ENVIRONMENT]}},
    ),
]
RawPath = Annotated[str, PlainValidator(read_path), _looks(_like('/[!"$->@-~]*'))]
PathGlob = Annotated[str, PlainValidator(read_path_glob), _looks(_like("[/*].*"))]
Method = Annotated[str, PlainValidator(read_method), _looks(_like("[!#$%&'*+.^_`|~0-9A-Z-]+"))]
Methods = Annotated[tuple[Method, ...], AfterValidator(read_methods)]
HostHeader = Annotated[str, PlainValidator(read_host_header), _looks(_like(_HOST_LIKE))]
SamplingKey = Annotated[
    str, PlainValidator(read_sampling_key), _looks(_like("(request_id|(header|cookie):[^:/ ]+|json:/.*)"))
]
HeaderGlob = Annotated[str, PlainValidator(read_header_glob), _VALUE]
JsonGlob = Annotated[
    str,
    PlainValidator(read_json_glob),
    _looks({"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}),
]
ShadowName = Annotated[
    str, BeforeValidator(read_shadow_name), _looks(_like("(?!(live|control)$)[A-Za-z0-9][A-Za-z0-9._-]{0,62}"))
]
Salt = Annotated[str, PlainValidator(read_salt), _looks({"type": "string", "maxLength": 64})]
Text = Annotated[str, PlainValidator(read_text), _ANY_TEXT]
File = Annotated[Path, BeforeValidator(read_file), _looks({"type": "string", "minLength": 1})]
ReadableFile = Annotated[Path, BeforeValidator(read_readable_file), _looks({"type": "string", "minLength": 1})]
LogPath = Annotated[str, BeforeValidator(read_log_path), _looks({"type": "string", "minLength": 1})]
_HEADER_LIKE = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
LearntPlace = Annotated[
    str, PlainValidator(read_learnt_place), _looks(_PATTERN, _like(f"(header|set-cookie):{_HEADER_LIKE}"))
]
PlaceInto = Annotated[
    str,
    PlainValidator(read_place_into),
    _looks(
        {"enum": list(KINDS)},
        _like("path:(/[^/]*)*"),
        _like("(query|json):.*"),
        _like(f"(header|cookie):{_HEADER_LIKE}"),
    ),
]
StateValue = BeforeValidator(read_state)
StoreFolder = Annotated[
    str, BeforeValidator(read_store_folder), _looks(_like("(s3|s3a|gs|az|abfs|abfss)://[^*?\\[\\x00-\\x1f\\x7f]+"))
]
Word = BeforeValidator(read_word)
ToleranceValue = BeforeValidator(read_tolerance)
Nullable = BeforeValidator(read_nullable)
