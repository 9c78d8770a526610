"""What a function was given and what it returned, as JSON: live's and a candidate's by the same rules.

| value | JSON |
|---|---|
| dict, list, tuple, text, numbers, booleans, None, datetime, date, UUID, enum | itself, as orjson writes it |
| arrays, numbers and frames of numpy, pandas, polars, torch, jax, arrow | its own `tolist`, `to_dict`, `item` ... |
| dataclass, pydantic model, attrs class, named tuple | its fields by name |
| set, frozenset | a list, in an order that does not depend on the process |
| bytes | text if they are UTF-8, or else base64 |
| Decimal, Fraction, complex, Path | text as Python writes it |
| NaN, infinite | null, as orjson writes them |
| anything else | `{"unwritable": "module.Class"}` |

Nothing is imported for this: an object is asked for a method that its own library has. Each of them may fail or take
long, which is why a candidate's result is written in the candidate's process.
"""

import base64
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Final

import orjson

_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
_KEYED: Final = frozenset({"DataFrame", "LazyFrame"})
_DEEPEST: Final = 200


def json_of(value: object) -> bytes:
    """`value` as JSON. Raises nothing that is an Exception: what cannot be written is named in its place."""
    try:
        return orjson.dumps(value, _default, _OPTIONS)
    except Exception:  # noqa: BLE001, S110 - long integers, halves of surrogate pairs, circles, odd keys: see below
        pass
    try:
        return orjson.dumps(_plain(value, 0), option=orjson.OPT_NON_STR_KEYS)
    except Exception:  # noqa: BLE001 - any library's own
        return orjson.dumps(_unwritable(value))


def failure_of(error: BaseException) -> str:
    """`Type: message`, as one line of at most 500 characters."""
    try:
        words = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the exception's own
        words = ""
    name = type(error).__name__
    line = (f"{name}: {words}" if words else name)[:500]
    return line.encode("utf-8", "replace").decode()


def json_of_failure(error: BaseException) -> bytes:
    """What stands in place of a result: the answer's `failed` is read from it."""
    return orjson.dumps({"error": failure_of(error)})


def _default(value: Any) -> Any:
    """What orjson writes in place of an object that it does not know, which may be one that it asks about again."""
    kind = type(value)
    if isinstance(value, tuple):  # a subclass: orjson writes plain ones
        names = getattr(kind, "_fields", None)
        return dict(zip(names, value, strict=True)) if names is not None else list(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=_order)
    if isinstance(value, bytes | bytearray | memoryview):
        return _text_of(bytes(value))
    if isinstance(value, Decimal | Fraction | complex | PurePath):
        return str(value)
    for name in ("model_dump", "__dataclass_fields__", "__attrs_attrs__", "tolist", "to_dict", "to_pylist", "item"):
        if hasattr(kind, name):
            found = _ASK[name](value)
            if found is not value:
                return found
    if hasattr(kind, "detach") and hasattr(kind, "numpy"):
        return value.detach().cpu().numpy().tolist()
    if hasattr(kind, "numpy"):
        return value.numpy().tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return _unwritable(value)


def _ask_frame(value: Any) -> Any:
    """A frame by rows where it can be, a series by its values: both are as their order is, with no index."""
    if type(value).__name__ not in _KEYED:
        return value.to_dict()
    if hasattr(value, "to_dicts"):
        return value.to_dicts()
    return value.to_dict(orient="records")


_ASK: Final[Mapping[str, Callable[[Any], Any]]] = {
    "model_dump": lambda value: value.model_dump(mode="json"),
    "__dataclass_fields__": lambda value: {name: getattr(value, name, None) for name in value.__dataclass_fields__},
    "__attrs_attrs__": lambda value: {each.name: getattr(value, each.name, None) for each in value.__attrs_attrs__},
    "tolist": lambda value: value.tolist(),
    "to_dict": _ask_frame,
    "to_pylist": lambda value: value.to_pylist(),
    "item": lambda value: value.item(),
}


def _plain(value: Any, depth: int) -> Any:
    """`value` of what orjson writes in any case: for values that it has refused somewhere."""
    if depth > _DEEPEST:
        return _unwritable(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else _long(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_key(name): _plain(each, depth + 1) for name, each in value.items()}
    if type(value) in (list, tuple):
        return [_plain(each, depth + 1) for each in value]
    try:
        return orjson.loads(orjson.dumps(value, option=_OPTIONS))
    except Exception:  # noqa: BLE001, S110 - it is asked below
        pass
    try:
        return _plain(_default(value), depth + 1)
    except Exception:  # noqa: BLE001 - its own library's
        return _unwritable(value)


def _long(value: int) -> float | str:
    try:
        return float(value)
    except OverflowError:
        return "an integer beyond 10^308"


def _key(name: Any) -> str:
    try:
        return (name if isinstance(name, str) else str(name)).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - the key's own
        return type(name).__name__


def _order(value: object) -> tuple[str, str]:
    return type(value).__name__, str(value)


def _text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _unwritable(value: object) -> dict[str, str]:
    kind = type(value)
    return {"unwritable": f"{kind.__module__}.{kind.__qualname__}"}
