"""What an answer's body says, whatever it came as; and what its header fields say of it."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from shadowproxy.answers.streams import Stream
from shadowproxy.usage import COST_FIELD


class Content(NamedTuple):
    """The content of an answer. `lenient` marks a value that has NaN or Infinity in it, or may have them.

    For a stream, `stream` says how it ended, and `value` is the answer put together.

    Attributes:
        format: how its bytes are to be read, as docs/reference/answers.md names it.
        leaves: whether its tree may have leaves that JSON has no word for.
        broken: why the bytes are not what their format asks for; the content is then the bytes, or the text.
        warnings: what else is wrong with it, or with its Content-Type.
    """

    kind: Literal["json", "text", "bytes", "empty", "unknown"]
    value: Any = None
    lenient: bool = False
    why: str | None = None
    stream: Stream | None = None
    format: str = ""
    leaves: bool = False
    broken: str | None = None
    warnings: tuple[str, ...] = ()


Fields: TypeAlias = Mapping[str, str | list[str]]
"""Header fields as a record has them."""


INNER_TYPE: Final = "x-amzn-sagemaker-content-type"
"""The field with the type of what SageMaker's event frames carry."""

FIELDS_OF_ANSWERS: Final = frozenset(
    {
        "content-type",
        "content-length",  # an empty answer with neither is a stream that broke off
        "inference-header-content-length",
        INNER_TYPE,
        COST_FIELD,
    }
)
"""The header fields that are looked at to read an answer."""


def field_value(headers: Fields, name: str) -> str:
    """The value of a header field; several values are joined with commas."""
    value = headers.get(name, "")
    return value if isinstance(value, str) else ", ".join(value)


def media_type(content_type: str) -> str:
    """The media type that a Content-Type names, in lower case; no type is as long as `_LONGEST_TYPE`."""
    return content_type.partition(";")[0].strip().lower()[:_LONGEST_TYPE]


_LONGEST_TYPE: Final = 128  # RFC 6838 section 4.2 allows 127 for each of its two parts
