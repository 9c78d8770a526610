"""Messages of the Open Inference Protocol whose tensors are binary, both ways.

Source: Triton's binary tensor data extension; tried on messages of tritonclient 2.73.0. The field
`Inference-Header-Content-Length` has the length of the JSON at the body's beginning; after it come the tensors that
have a `binary_data_size`, in order, little-endian, row by row. With a content coding it is the length of the JSON that
was coded. The result is the JSON of the same message, with vectors as `data`.
"""

import json
import math
from typing import Any, Final

from shadowproxy.answers.formats.refusals import Malformed
from shadowproxy.answers.leaves import blob_of, vector_from, width_of
from shadowproxy.answers.texts import UNREADABLE, json_in
from shadowproxy.budget import Budget, read_json

FIELD: Final = "inference-header-content-length"

_TYPES: Final = {
    "BOOL": "bool",
    "BF16": "bfloat16",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
_SIZE: Final = "binary_data_size"
_MOST_TENSORS: Final = 10_000
_TEXT: Final = 60  # bytes of memory of a short text and its place
_LENGTH: Final = 9  # digits of a length


def read(raw: bytes, length: str, budget: Budget) -> Any:
    """The message; `length` is the field's value."""
    stripped = length.strip()
    if not (stripped.isascii() and stripped.isdigit() and len(stripped) <= _LENGTH):
        raise Malformed("Inference-Header-Content-Length is not a number")
    size = int(stripped)
    if size > len(raw):
        raise Malformed(f"Inference-Header-Content-Length is {size}, and {len(raw)} bytes came")
    read_json(budget, raw[:size])
    try:
        message = json_in(raw[:size].decode())
    except UnicodeDecodeError:
        message = UNREADABLE
    if not isinstance(message, dict):
        raise Malformed("the beginning that Inference-Header-Content-Length names is not a JSON object")
    at = size
    made = dict(message)
    for side in ("inputs", "outputs"):
        tensors = message.get(side)
        if isinstance(tensors, list) and len(tensors) <= _MOST_TENSORS:
            read_tensors: list[Any] = []
            for tensor in tensors:
                one, at = _tensor(tensor, raw, at, budget)
                read_tensors.append(one)
            made[side] = read_tensors
    if at < len(raw):
        raise Malformed(f"{len(raw) - at} bytes follow its last tensor")
    return made


def _tensor(tensor: Any, raw: bytes, at: int, budget: Budget) -> tuple[Any, int]:
    """A tensor with its data, and where the next one begins."""
    parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
    if not isinstance(parameters, dict) or _SIZE not in parameters:
        return tensor, at
    name = json.dumps(tensor.get("name"), default=str)[:60]
    size = parameters[_SIZE]
    if type(size) is not int or size < 0:
        raise Malformed(f"the size of tensor {name} is not a number of bytes")
    if at + size > len(raw):
        raise Malformed(f"tensor {name} is cut: {len(raw) - at} of its {size} bytes came")
    data = raw[at : at + size]
    rest = {key: value for key, value in parameters.items() if key != _SIZE}
    made = {key: value for key, value in tensor.items() if key != "parameters"}
    if rest:
        made["parameters"] = rest
    made["data"] = _data(data, tensor, name, budget)
    return made, at + size


def _data(data: bytes, tensor: dict[str, Any], name: str, budget: Budget) -> Any:
    budget.spend_bytes(8 * len(data))
    budget.hold(2 * len(data))
    named = str(tensor.get("datatype"))
    count = _count(tensor.get("shape"))
    if named == "BYTES":
        elements = _elements(data, name, budget)
        if count is not None and count != len(elements):
            raise Malformed(f"tensor {name} has {len(elements)} elements, and its shape asks for {count}")
        return elements
    dtype = _TYPES.get(named, named.lower())
    width = width_of(dtype)
    if width is None:
        return blob_of(data)
    if len(data) % width or (count is not None and count * width != len(data)):
        raise Malformed(f"tensor {name} has {len(data)} bytes, which does not fit its shape and type")
    return vector_from(data, dtype)


def _count(shape: Any) -> int | None:
    if not isinstance(shape, list) or not all(type(each) is int and 0 <= each <= 1 << 40 for each in shape):
        return None
    return math.prod(shape[:64])


def _elements(data: bytes, name: str, budget: Budget) -> list[Any]:
    """The elements of a BYTES tensor: each has four bytes of its length before it. A text where it is one."""
    found: list[Any] = []
    at = 0
    while at < len(data):
        budget.spend(4)
        budget.hold(_TEXT)
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if start > len(data) or at > len(data):
            raise Malformed(f"element {len(found)} of tensor {name} is cut")
        try:
            found.append(data[start:at].decode())
        except UnicodeDecodeError:
            found.append(blob_of(data[start:at]))
    return found
