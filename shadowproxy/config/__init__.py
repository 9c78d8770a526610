"""The configuration: a YAML file as frozen models, and what is wrong with it in one line each.

`models.py` is what there is to set, `values.py` what a value may be, `source.py` the YAML text with its lines and
the environment, `loading.py` the way from one to the other, and `shown.py` the way back, without the secrets.
"""

from shadowproxy.config.loading import ConfigError, from_flags, from_values, given, keys, load
from shadowproxy.config.models import (
    Budget,
    Compare,
    Config,
    Headers,
    Limits,
    Live,
    Log,
    Match,
    Query,
    Redact,
    Respond,
    Shadow,
    Tls,
    Unless,
    UnusableShadow,
    token_fault,
)
from shadowproxy.config.shown import shown, shown_headers, shown_json, shown_parameters, shown_text
from shadowproxy.config.values import REPEATABLE, TcpAddress, UnixAddress

__all__ = [
    "REPEATABLE",
    "Budget",
    "Compare",
    "Config",
    "ConfigError",
    "Headers",
    "Limits",
    "Live",
    "Log",
    "Match",
    "Query",
    "Redact",
    "Respond",
    "Shadow",
    "TcpAddress",
    "Tls",
    "UnixAddress",
    "Unless",
    "UnusableShadow",
    "from_flags",
    "from_values",
    "given",
    "keys",
    "load",
    "shown",
    "shown_headers",
    "shown_json",
    "shown_parameters",
    "shown_text",
    "token_fault",
]
