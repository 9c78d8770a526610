"""Secrets taken out of targets and bodies: those that the redaction names, and those that an answer repeats.

What is taken out of a request is collected in `secrets`, to be looked for in its answers.
"""

import codecs
from typing import Final

from shadowproxy.budget import Budget, Exhausted
from shadowproxy.echoes import Echoes, form_values, leaves, part_values, pieces, taken_out
from shadowproxy.recorder.bodies import Content, Redacted
from shadowproxy.recorder.heads import with_decoded
from shadowproxy.redaction import Redaction

_NOT_SEARCHED_FOR_ECHOES: Final = "too large to be searched for what was redacted in the request"
_NOT_SEARCHED: Final = "not JSON, so it could not be searched for what is to be redacted"
_ECHO_IN_BYTES: Final = "not text, and in it is something that was redacted in the request"


def hide_in_path(text: str, redaction: Redaction, secrets: list[str]) -> str:
    """A path without its secrets, which are added to `secrets`."""
    shown = redaction.path(text)
    if shown != text:
        secrets += with_decoded(taken_out(text, shown))
    return shown


def hide_in_parameters(text: str, redaction: Redaction, secrets: list[str] | None) -> str:
    """A query or a form without its secrets, which are added to `secrets`."""
    shown = redaction.parameters(text)
    if secrets is not None and shown != text:
        secrets += with_decoded(taken_out(text, shown))
    return shown


def hide_in_body(
    content: Content, redaction: Redaction, budget: Budget, secrets: list[str] | None = None
) -> Redacted | None:
    """The body without its secrets, which are added to `secrets`; None where none is looked for.

    It is searched whole, however little of it is recorded, unless that costs more than the budget: then a form is
    searched as far as it is recorded, and anything else is withheld.
    """
    if content.kind == "none":
        return None
    if redaction.json:
        return _hide_places(content, redaction, budget, secrets)
    if not content.is_form:
        return None
    text: str = content.value
    searched = content.raw
    if content.over and (whole := _whole_form(content, budget)) is not None:
        text, searched = whole, content.decoded
    after = hide_in_parameters(text, redaction, secrets).encode()
    if after == searched:
        return Redacted(searched, hashed=len(searched) == len(content.decoded))
    return Redacted(after, hashed=False)


def _whole_form(content: Content, budget: Budget) -> str | None:
    """All of a form of which the record has a part; None if it is no text, or would cost too much to search."""
    body = content.decoded
    try:
        parameters = body.count(b"&") + body.count(b";") + 1
        budget.spend(_PARAMETER * parameters + len(body) // 4)
        kind, value = content.answer(budget)
        held = budget.held
        budget.hold(_PARAMETER_BYTES * parameters)
        budget.held = held  # they are freed as soon as it has been searched
    except Exhausted:
        return None
    return value if kind == "text" else None


_PARAMETER: Final = 60
"""Steps of one parameter: its name is looked up, and its value is searched."""

_PARAMETER_BYTES: Final = 200
"""Bytes of memory of one parameter while it is searched, beside its own."""


def _hide_places(content: Content, redaction: Redaction, budget: Budget, secrets: list[str] | None) -> Redacted:
    """The body without what the redaction's places name."""
    values: list[bytes] = []
    searched: bytes | None = None
    body = content.decoded
    try:
        if content.kind == "json":
            searched = redaction.body(body, values, budget)
        elif content.whole and content.kind == "text" and content.coding is None:
            if content.head.names_lines:
                searched = redaction.lines(body, values, budget)
            elif content.over and content.answer(budget)[0] == "json":
                searched = redaction.body(body, values, budget)
        if searched is not None and secrets is not None:
            for value in dict.fromkeys(values):
                for leaf in leaves(value):
                    budget.hold(_SECRET + len(leaf))
                    secrets.append(leaf)
    except Exhausted:
        searched = None
    if secrets is not None and content.over:
        # Also what stands near such a place: a long body is not always what its sender meant it to be.
        for value in redaction.behind_keys(body):
            secrets += pieces(value)
    if searched is None:
        if secrets is not None:
            secrets += _all_values(content)
        return Redacted(content.raw, _NOT_SEARCHED, hashed=False)
    return Redacted(searched, hashed=searched == body)


_SECRET: Final = 500
"""About the bytes of memory that one secret holds while it is looked for, beside its own."""


def _all_values(content: Content) -> list[str]:
    """All values in a request's body that is withheld, as far as they can be told apart: each may be a secret."""
    if content.kind != "text":
        return []
    if content.head.names_form:
        return list(form_values(content.value))
    raw = content.raw
    if content.head.names_json or content.head.names_lines or raw.lstrip()[:1] in (b"{", b"["):
        return [*leaves(raw), *pieces(raw), content.value]
    return [content.value, *part_values(content.value)]


def hide_echoes(content: Content, redacted: Redacted | None, echoes: Echoes, budget: Budget) -> Redacted | None:
    """An answer's body, `redacted` so far, without what was redacted in the request. It is searched whole, or withheld
    if that costs more than the budget."""
    if content.kind == "none" or (redacted is not None and redacted.withheld is not None):
        return redacted
    try:
        return _hide_echoes(content, redacted, echoes, budget)
    except Exhausted:
        echoes.met = True  # nobody knows: so a difference shows no part of a text
        return Redacted(content.raw, _NOT_SEARCHED_FOR_ECHOES, hashed=False)


def _hide_echoes(content: Content, redacted: Redacted | None, echoes: Echoes, budget: Budget) -> Redacted | None:
    body = redacted.text if redacted is not None else content.decoded if content.whole else content.raw
    kind, value = content.answer(budget) if content.whole else (content.kind, content.value)
    if content.kind == "bytes" or kind == "bytes":
        budget.spend_bytes(len(body) * (1 + len(echoes)))
        if echoes.is_in_bytes(body):
            return Redacted(body, _ECHO_IN_BYTES, hashed=False)
        # Nobody knows what coded bytes hold.
        return Redacted(body, None, hashed=False) if content.over and content.coding is not None else redacted
    if kind == "json":
        after = echoes.json(body, value, budget)
        return redacted if after is body else Redacted(after, None, hashed=False)
    text = codecs.utf_8_decode(body, "strict", content.whole)[0]
    shown = echoes.text(text, budget)
    end = len(shown) if content.whole else echoes.beginning_at_the_end(shown)
    if shown is text and end == len(text):
        return redacted
    return Redacted(shown[:end].encode(), None, hashed=False)
