"""The names of the keys, from the models: `live.url`, `shadows.*.percent`."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from shadowproxy.config.models import Config


def keys(model: type = Config, prefix: str = "") -> Iterator[str]:
    """Every key, dotted, parents before children; `*` stands for a name that the file chooses."""
    for key, _ in hinted_keys(model, prefix):
        yield key


def hinted_keys(model: type = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with the type of its value."""
    names = {field.name for field in dataclasses.fields(model)}
    for attribute, hint in get_type_hints(model, include_extras=True).items():
        if attribute not in names:
            continue
        name = key_of(attribute)
        yield prefix + name, hint
        inner = _inner_model(hint)
        if inner is not None:
            nested, is_mapping = inner
            yield from hinted_keys(nested, f"{prefix}{name}.*." if is_mapping else f"{prefix}{name}.")


def key_of(attribute: str) -> str:
    """The key of an attribute: the key `not` is a word of Python, so its attribute is `not_`."""
    return attribute.removesuffix("_")


def takes_structure(hint: Any) -> bool:
    """Whether a value of this type may be a list or a mapping."""
    if hint is Any or get_origin(hint) in (tuple, Mapping) or _is_model(hint):
        return True
    arguments = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
    return any(takes_structure(each) for each in arguments)


def _inner_model(hint: Any) -> tuple[type, bool] | None:
    if get_origin(hint) is Annotated:
        return _inner_model(get_args(hint)[0])
    if _is_model(hint):
        return hint, False
    is_mapping = get_origin(hint) is Mapping
    for argument in get_args(hint):
        found = _inner_model(argument)
        if found is not None:
            return found[0], is_mapping
    return None


def _is_model(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) and hasattr(hint, "__pydantic_validator__")
