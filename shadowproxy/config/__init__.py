"""The configuration: a YAML file as frozen models, with one line for each error in it.

`models.py` has the keys, `endpoints.py` those of live and the shadows; `values.py` has their types, `readers.py` and
`addresses.py` read single values. `source.py` reads the YAML text, `environment.py` the variables that set keys,
`settings.py` puts them and options over the file's values, `loading.py` makes a Config of these, and `shown.py` turns a
Config back into values, without the secrets. `warning.py` has the warnings. `companion.py` reads what an application
describes.
"""

from shadowproxy.addresses import TcpAddress, UnixAddress, token_fault
from shadowproxy.config.companion import Companion, companion_of, load_companion
from shadowproxy.config.endpoints import (
    Budget,
    Headers,
    Live,
    Match,
    Query,
    Ramp,
    Respond,
    Shadow,
    Tls,
    Unless,
    UnusableShadow,
)
from shadowproxy.config.environment import sets_live, strays, variable_of
from shadowproxy.config.keys import keys
from shadowproxy.config.loading import Loaded, from_values, load, read
from shadowproxy.config.models import BodiesBy, Compare, Config, Limits, ListenTls, Log, Redact
from shadowproxy.config.readers import REPEATABLE
from shadowproxy.config.settings import ConfigError, Options
from shadowproxy.config.shown import shown, shown_headers, shown_json, shown_parameters, shown_proxy, shown_text
from shadowproxy.config.warning import warnings_for

__all__ = [
    "REPEATABLE",
    "BodiesBy",
    "Budget",
    "Companion",
    "Compare",
    "Config",
    "ConfigError",
    "Headers",
    "Limits",
    "ListenTls",
    "Live",
    "Loaded",
    "Log",
    "Match",
    "Options",
    "Query",
    "Ramp",
    "Redact",
    "Respond",
    "Shadow",
    "TcpAddress",
    "Tls",
    "UnixAddress",
    "Unless",
    "UnusableShadow",
    "companion_of",
    "from_values",
    "keys",
    "load",
    "load_companion",
    "read",
    "sets_live",
    "shown",
    "shown_headers",
    "shown_json",
    "shown_parameters",
    "shown_proxy",
    "shown_text",
    "strays",
    "token_fault",
    "variable_of",
    "warnings_for",
]
