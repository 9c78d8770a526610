"""What an answer says that it took, found in its bytes as they came: for a shadow's budget of tokens or of cost.

A live process does not read answers. So only the first and the last 16 KiB are searched, for objects called `usage`
(`usageMetadata` in Gemini) and Ollama's counts: all known APIs have them at the end, Anthropic's streams also at the
beginning. Names in a text that a model wrote are escaped there, and are not found. An answer with a content coding is
decoded, if that costs little.
"""

import json
import re
from typing import Any, Final

from shadowproxy.content import Undecodable, decoded, names_events
from shadowproxy.exchange import Fields
from shadowproxy.serve.policy.headers import find
from shadowproxy.usage import COST_FIELD, NOTHING, Usage, cost_in, usage_in

WINDOW: Final = 16 << 10
MOST_CODED: Final = 64 << 10
MOST_DECODED: Final = 1 << 20
_LONGEST: Final = 4096  # characters of a usage; the longest seen have 900
_MOST_OBJECTS: Final = 64  # of one window: some servers repeat the usage in each event

_OBJECT: Final = re.compile(r'"(usage|usageMetadata)"\s{0,20}:\s{0,20}(?=\{)')
_COUNT: Final = re.compile(r'"(prompt_eval_count|eval_count)"\s{0,20}:\s{0,20}(\d{1,9})(?!\d)')
_JSON: Final = json.JSONDecoder()


def spent_by(fields: Fields, body: bytes) -> Usage:
    """What an answer with these fields and this body says that it took. What was not found is None."""
    found = _in_body(fields, body)
    if found.cost is not None or names_events((find(fields, b"content-type") or b"").decode("latin-1")):
        return found
    header = find(fields, COST_FIELD.encode())
    return found if header is None else found._replace(cost=cost_in(header.decode("latin-1")))


def _in_body(fields: Fields, body: bytes) -> Usage:
    coding = find(fields, b"content-encoding")
    if coding:
        if len(body) > MOST_CODED:
            return NOTHING
        try:
            body = decoded(body, coding.decode("latin-1"), MOST_DECODED)
        except Undecodable:
            return NOTHING
    windows = [body] if len(body) <= 2 * WINDOW else [body[:WINDOW], body[-WINDOW:]]
    found: dict[str, Any] = {}
    for window in windows:
        _look(window.decode("utf-8", "replace"), found)
    return usage_in(found)


def _look(text: str, found: dict[str, Any]) -> None:
    """Add what a text has, the last of each count, to what was found before it."""
    for match in [*_OBJECT.finditer(text)][-_MOST_OBJECTS:]:
        try:
            value, _ = _JSON.raw_decode(text[match.end() : match.end() + _LONGEST])
        except (ValueError, RecursionError):
            continue  # it is cut, or is no JSON
        usage = found.setdefault(match[1], {})
        usage.update({name: each for name, each in value.items() if each is not None})
    for match in _COUNT.finditer(text):
        found[match[1]] = int(match[2])
