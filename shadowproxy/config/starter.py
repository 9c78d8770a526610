"""The file that `shadowproxy init` writes: the keys that most configurations have, with a line on each."""

import json
import re
from collections.abc import Mapping

from shadowproxy.config.addresses import read_url
from shadowproxy.config.readers import read_log_path, read_shadow_name

SHADOW = "challenger"
"""The name of a shadow that is given by its URL alone."""


def url_of(text: str) -> str:
    """The URL of a live system. Raises ValueError with a phrase that follows what was asked for."""
    return read_url(text.strip())


def shadow_of(text: str) -> tuple[str, str]:
    """The name and the URL in `NAME=URL`, or in a URL alone. Raises ValueError."""
    named = re.match(r"([^=/:]*)=(.*)", text.strip(), re.DOTALL)
    name, url = (named[1], named[2]) if named else (SHADOW, text)
    return read_shadow_name(name), url_of(url)


def log_of(text: str) -> str:
    """Where a log goes: a directory, or - for standard output. Raises ValueError."""
    path = read_log_path(text.strip())
    if not path.isprintable():
        raise ValueError('must be a directory, or "-" for standard output')
    return path


def starter(live: str, shadows: Mapping[str, str], log: str, *, file: str, schema: str) -> str:
    """The text of the file. `file` is its name for a shell, `schema` that of its schema beside it for a URL."""
    sections = "".join(_SHADOW.format(name=_key(name), url=_text(url)) for name, url in shadows.items())
    return _FILE.format(live=_text(live), shadows=sections, log=_text(log), file=file, schema=schema)


def _text(text: str) -> str:
    """As YAML has it, without being read as anything else."""
    escaped = text.replace("${", "$${")
    return escaped if re.fullmatch(r"[A-Za-z./][A-Za-z0-9._/:-]*[A-Za-z0-9._/-]", escaped) else json.dumps(escaped)


def _key(name: str) -> str:
    is_word = re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name) and name.lower() not in ("true", "false", "null")
    return name if is_word else json.dumps(name)


_FILE = """\
# yaml-language-server: $schema={schema}
# What `shadowproxy serve -c {file}` does. `shadowproxy check -c {file}` explains this file and tries it.
# Only live.url and a shadow's url are needed. An editor with the YAML language server completes all other keys.
# Secrets belong in the environment: "${{NAME}}" in a text stands for that variable.

# Where callers connect, in place of live. 0.0.0.0:8080 lets other machines connect.
listen: 127.0.0.1:8080

# Health, metrics, and a page to look at: http://127.0.0.1:9901/
admin: 127.0.0.1:9901

# Callers get the responses of this system, unchanged. It never waits for a shadow.
live:
  url: {live}

# Each of these gets a copy of the requests, and no caller gets its responses.
shadows:
{shadows}
# One line of JSON for each request, with all answers.
log:
  path: {log}
  bodies: full              # full, hash (length and SHA-256) or none
  keep: {{size: 10GiB, age: 30d}}
  # Credentials are never written. What else is not to be: values in JSON, header fields, parameters of the query.
  redact: {{json: [], headers: [], query: []}}

# When two answers are the same. `shadowproxy report -c {file}` compares by this, and says what differs.
compare:
  ignore: []                # places that do not count, such as /created or /items/*/id
  tolerance: {{}}             # by how much numbers may differ: {{/score: 0.001}}
"""

_SHADOW = """\
  {name}:
    url: {url}
    percent: 100            # of the requests; 0 is off. Each shadow gets the same ones
    timeout: 30s            # for the whole answer
    # What callers send to prove who they are is held back from a shadow. Its own credentials:
    # headers: {{set: {{Authorization: "Bearer ${{SHADOW_KEY}}"}}}}
"""
