"""Secrets taken out of targets and bodies: those that the redaction names, and those that an answer repeats.

What is taken out of a request is collected in `secrets`, to be looked for in its answers.
"""

from typing import Final

from shadowproxy.content import Undecodable, decoded
from shadowproxy.echoes import Echoes, form_values, leaves, part_values, pieces, taken_out
from shadowproxy.recorder.bodies import Content, Redacted
from shadowproxy.recorder.heads import with_decoded
from shadowproxy.redaction import Redaction

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


def hide_in_body(content: Content, redaction: Redaction, secrets: list[str] | None = None) -> Redacted | None:
    """The body without its secrets, which are added to `secrets`; None where none is looked for."""
    raw = content.raw
    if content.kind == "none":
        return None
    if redaction.json:
        values: list[bytes] = []
        searched: bytes | None = None
        if content.kind == "json":
            searched = redaction.body(raw, values)
        elif content.kind == "text" and content.head.names_lines and content.whole and not content.over:
            searched = redaction.lines(raw, values)
        if searched is None:
            if secrets is not None:
                secrets += _all_values(content)
                if content.over:
                    for value in redaction.behind_keys(_uncut(content)):
                        secrets += pieces(value)
            return Redacted(raw, _NOT_SEARCHED, hashed=False)
        after = searched
        if secrets is not None:
            for value in dict.fromkeys(values):
                secrets += leaves(value)
    elif content.form:
        after = hide_in_parameters(content.value, redaction, secrets).encode()
    else:
        return None
    if raw == after:
        return Redacted(raw, hashed=not (content.form and content.over))
    return Redacted(after, hashed=False)


def _uncut(content: Content) -> bytes:
    """A body that is over the limit, as far as it was captured and can be decoded."""
    if not content.head.codings:
        return content.wire
    try:
        return decoded(content.wire, content.head.codings)
    except Undecodable:
        return b""


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


def hide_echoes(content: Content, redacted: Redacted | None, echoes: Echoes) -> Redacted | None:
    """An answer's body, `redacted` so far, without what was redacted in the request."""
    kind, cut = content.kind, content.over or not content.whole
    if kind == "none" or (redacted is not None and redacted.withheld is not None):
        return redacted
    before = content.raw if redacted is None else redacted.text
    if kind == "bytes":
        return Redacted(before, _ECHO_IN_BYTES, hashed=False) if echoes.is_in_bytes(before) else redacted
    if kind == "json":
        after = echoes.json(before, content.value)
    else:
        text = content.value if before is content.raw else before.decode()
        shown = echoes.text(text)
        end = echoes.beginning_at_the_end(shown) if cut else len(shown)
        after = before if shown is text and end == len(text) else shown[:end].encode()
    if after is not before:
        return Redacted(after, None, hashed=False)
    # What is beyond the limit was not searched, and nobody knows what coded bytes hold.
    if content.over and (content.head.codings != "" or echoes.is_in_bytes(content.wire)):
        return Redacted(before, None, hashed=False)
    return redacted
