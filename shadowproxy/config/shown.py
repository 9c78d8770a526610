"""The configuration in force as a file would have it, with every default and without secrets."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic_core import to_jsonable_python

from shadowproxy.config.models import Config
from shadowproxy.config.source import FROM_ENVIRONMENT
from shadowproxy.credential_values import is_credential, is_credential_field
from shadowproxy.credentials import is_credential_parameter, may_be_credential_parameter
from shadowproxy.redaction import BLANK


def shown(config: Config) -> dict[str, Any]:
    """Plain values for JSON or YAML. Where nothing was blanked, they make the same configuration again.

    Blanked are the proxy's own tokens and keys, values that are credentials by their name or by what they look like,
    and every text from the environment, where secrets belong. URLs are not blanked, since they have no user and no
    query, and of a proxy's only its credentials; nor are addresses, quantities and the paths of files.
    """
    values: dict[str, Any] = _without_environment(config, to_jsonable_python(config))
    if config.admin_token is not None:
        values["admin_token"] = BLANK
    if config.log.redact.hash_key is not None:
        values["log"]["redact"]["hash_key"] = BLANK
    values["live"]["headers"]["set"] = shown_headers(config.live.headers.set)
    values["live"]["query"]["set"] = shown_parameters(config.live.query.set)
    values["live"]["proxy"] = shown_proxy(config.live.proxy)
    if config.live.respond is not None:
        values["live"]["respond"]["headers"] = shown_headers(config.live.respond.headers)
    for name, shadow in config.shadows.items():
        section = values["shadows"][name]
        section.pop("reason", None)  # an attribute of an unusable shadow, not a key
        section["headers"]["set"] = shown_headers(shadow.headers.set)
        section["query"]["set"] = shown_parameters(shadow.query.set)
        section["proxy"] = shown_proxy(shadow.proxy)
        match = section["match"]
        match["headers"] = shown_headers(shadow.match.headers)
        match["not"]["headers"] = shown_headers(shadow.match.not_.headers)
        for places in (match, match["not"], section["rewrite"]):
            places["json"] = shown_json(places["json"])
    return values


def shown_proxy(url: str | None) -> str | None:
    """A proxy's URL without its credentials."""
    if url is None or "@" not in url:
        return None if url is None else str(url)
    return f"http://{BLANK}@{url.rpartition('@')[2]}"


def shown_headers(values: Mapping[str, str]) -> dict[str, str]:
    """Header fields' values, or globs over them, without possible credentials."""
    return {name: BLANK if is_credential_field(name, value) else shown_text(value) for name, value in values.items()}


def shown_parameters(values: Mapping[str, str]) -> dict[str, str]:
    """Query parameters' values, without possible credentials."""
    return {name: BLANK if _may_be_secret(name, value) else shown_text(value) for name, value in values.items()}


def _may_be_secret(name: str, value: Any) -> bool:
    """Whether a value is a credential by its name, certain or doubtful, or as a text by what it looks like."""
    if is_credential_parameter(name) or may_be_credential_parameter(name):
        return True
    return isinstance(value, str) and is_credential(name, value)


def shown_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values in JSON by pointer, or globs over them, without possible credentials."""
    return {
        pointer: BLANK if _may_be_secret(pointer.rpartition("/")[2], value) else value
        for pointer, value in values.items()
    }


def shown_text(value: str) -> str:
    """`value`, unless it came from the environment."""
    return BLANK if isinstance(value, FROM_ENVIRONMENT) else str(value)


def _attribute(model: Any, key: str) -> Any:
    return getattr(model, key if hasattr(model, key) else f"{key}_")


def _without_environment(value: Any, plain: Any) -> Any:
    """`plain`, the plain form of `value`, with a blank for everything in `value` from the environment."""
    if isinstance(value, FROM_ENVIRONMENT):
        return BLANK
    if isinstance(plain, dict):
        inner = value.__getitem__ if isinstance(value, Mapping) else partial(_attribute, value)
        return {name: _without_environment(inner(name), each) for name, each in plain.items()}
    if isinstance(plain, list):
        return [_without_environment(*pair) for pair in zip(value, plain, strict=True)]
    return plain
