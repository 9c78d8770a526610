"""The configuration in force, to be looked at: what a file would say, defaults spelt out and secrets blanked."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from shadowproxy.config.models import Config
from shadowproxy.config.source import FromEnvironment
from shadowproxy.credentials import is_credential_header, is_credential_parameter
from shadowproxy.redaction import BLANK


def shown(config: Config) -> dict[str, Any]:
    """Plain values for JSON or YAML. Where nothing was blanked, they make the same configuration again.

    Blanked are the tokens and keys of the proxy itself, and header values whose name says that they are credentials or
    that came from the environment, which is where secrets are to be kept. URLs cannot hold any: they have no user and
    no query.
    """
    told: dict[str, Any] = to_jsonable_python(config)
    if config.admin_token is not None:
        told["admin_token"] = BLANK
    if config.log.redact.hash_key is not None:
        told["log"]["redact"]["hash_key"] = BLANK
    told["live"]["headers"]["set"] = _headers(config.live.headers.set)
    if config.live.respond is not None:
        told["live"]["respond"]["headers"] = _headers(config.live.respond.headers)
    for name, shadow in config.shadows.items():
        section = told["shadows"][name]
        section["headers"]["set"] = _headers(shadow.headers.set)
        section["match"]["headers"] = _headers(shadow.match.headers)
        section["rewrite"]["json"] = {
            pointer: BLANK if is_credential_parameter(pointer.rpartition("/")[2]) else value
            for pointer, value in section["rewrite"]["json"].items()
        }
    return told


def _headers(values: Mapping[str, str]) -> dict[str, str]:
    return {
        name: BLANK if isinstance(value, FromEnvironment) or is_credential_header(name.encode()) else str(value)
        for name, value in values.items()
    }
