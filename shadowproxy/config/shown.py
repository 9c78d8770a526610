"""The configuration in force, to be looked at: what a file would say, defaults spelt out and secrets blanked."""

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

    Blanked are the tokens and keys of the proxy itself, values that are credentials by their name or by what they look
    like, and whatever text came from the environment, which is where secrets are to be kept, wherever it stands. Not so
    URLs, which cannot hold any: they have no user and no query; nor addresses, quantities, and the paths of files.
    """
    told: dict[str, Any] = _without_environment(config, to_jsonable_python(config))
    if config.admin_token is not None:
        told["admin_token"] = BLANK
    if config.log.redact.hash_key is not None:
        told["log"]["redact"]["hash_key"] = BLANK
    told["live"]["headers"]["set"] = shown_headers(config.live.headers.set)
    told["live"]["query"]["set"] = shown_parameters(config.live.query.set)
    if config.live.respond is not None:
        told["live"]["respond"]["headers"] = shown_headers(config.live.respond.headers)
    for name, shadow in config.shadows.items():
        section = told["shadows"][name]
        section.pop("reason", None)  # of one that is unusable: it is no key
        section["headers"]["set"] = shown_headers(shadow.headers.set)
        section["query"]["set"] = shown_parameters(shadow.query.set)
        match = section["match"]
        match["headers"] = shown_headers(shadow.match.headers)
        match["not"]["headers"] = shown_headers(shadow.match.not_.headers)
        for places in (match, match["not"], section["rewrite"]):
            places["json"] = shown_json(places["json"])
    return told


def shown_headers(values: Mapping[str, str]) -> dict[str, str]:
    """Header fields' values, or what they are matched by, without what may be a credential."""
    return {name: BLANK if is_credential_field(name, value) else shown_text(value) for name, value in values.items()}


def shown_parameters(values: Mapping[str, str]) -> dict[str, str]:
    """Query parameters' values, without what may be a credential."""
    return {name: BLANK if _may_be_secret(name, value) else shown_text(value) for name, value in values.items()}


def _may_be_secret(name: str, value: Any) -> bool:
    """Whether a value is a credential by its name, also by a doubtful one, or, a text, by what it looks like."""
    if is_credential_parameter(name) or may_be_credential_parameter(name):
        return True
    return isinstance(value, str) and is_credential(name, value)


def shown_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """What stands at places in JSON, or what it is matched by, without what may be a credential."""
    return {
        pointer: BLANK if _may_be_secret(pointer.rpartition("/")[2], value) else value
        for pointer, value in values.items()
    }


def shown_text(value: str) -> str:
    """`value`, unless it came from the environment."""
    return BLANK if isinstance(value, FROM_ENVIRONMENT) else str(value)


def _attribute(model: Any, key: str) -> Any:
    return getattr(model, key if hasattr(model, key) else f"{key}_")


def _without_environment(value: Any, told: Any) -> Any:
    """`told`, the plain form of `value`, with a blank wherever `value` has something from the environment."""
    if isinstance(value, FROM_ENVIRONMENT):
        return BLANK
    if isinstance(told, dict):
        inner = value.__getitem__ if isinstance(value, Mapping) else partial(_attribute, value)
        return {name: _without_environment(inner(name), each) for name, each in told.items()}
    if isinstance(told, list):
        return [_without_environment(*pair) for pair in zip(value, told, strict=True)]
    return told
