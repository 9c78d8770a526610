"""Bodies as a record has them: decoded within a bound, read once, and cut to the limit."""

import base64
import codecs
import hashlib
from typing import Any, NamedTuple

import orjson

from shadowproxy.content import Undecodable, decoded, parsed
from shadowproxy.record import BodyKind
from shadowproxy.recorder.heads import Head
from shadowproxy.recorder.policy import Policy


class Content(NamedTuple):
    """A captured body, decoded as far as possible. `wire` is the captured bytes, `raw` what `value` was read from.

    `size` is bytes on the wire. `whole`: all of them were captured. `over`: the decoded body is longer than `raw`.
    `coding` is the codings that could not be undone.
    """

    head: Head
    kind: BodyKind
    value: Any
    raw: bytes
    wire: bytes
    size: int
    whole: bool
    over: bool
    coding: str | None = None

    @property
    def form(self) -> bool:
        return self.kind == "text" and self.head.names_form


def read_body(head: Head, wire: bytes, size: int, limit: int, beside: Content | None = None) -> Content:
    """`wire` decoded, and cut to `limit` bytes: longer JSON is text.

    `beside` is another content that was read with this `limit`. Where its bytes are the same, its value is used again:
    what a shadow answers is mostly what live answered, and is not read a second time.
    """
    whole = len(wire) == size
    if not wire:
        return Content(head, "none", None, wire, wire, size, whole, False)
    raw = wire
    if head.codings:
        try:
            raw = decoded(wire, head.codings)
        except Undecodable:
            over, raw = len(wire) > limit, wire[:limit]
            return Content(head, "bytes", raw, raw, wire, size, whole, over, head.codings)
    elif (
        beside is not None
        and beside.raw is beside.wire == wire
        and (beside.size, beside.head.types, beside.coding) == (size, head.types, None)
    ):
        return beside._replace(head=head)
    over = len(raw) > limit
    if over:
        raw = raw[:limit]
    # KServe's servers send JSON without a type. Only an object or an array is taken for it then: 42 may be anything.
    typed = head.types and head.types[0]
    if whole and not over and (head.names_json if typed else raw.lstrip()[:1] in (b"{", b"[")):
        try:
            return Content(head, "json", parsed(raw), raw, wire, size, whole, over)
        except ValueError:
            pass  # recorded as text, which is what it is
    try:
        text, _ = codecs.utf_8_decode(raw, "strict", whole and not over)
    except UnicodeDecodeError:
        return Content(head, "bytes", raw, raw, wire, size, whole, over)
    return Content(head, "text", text, raw, wire, size, whole, over)


class Redacted(NamedTuple):
    """A body's text without its secrets, the same object where there are none; or why the body is withheld.

    `hashed`: the body's hash reveals no secret either.
    """

    text: bytes
    withheld: str | None = None
    hashed: bool = True


def add_body(parts: dict[str, Any], content: Content, policy: Policy, redacted: Redacted | None) -> None:
    """Add a body's keys to a record's `parts`; `redacted` is None where nothing is to be redacted."""
    _, kind, _, searched, wire, size, whole, over, coding = content
    withheld, hashed = None, True
    if redacted is not None:
        searched, withheld, hashed = redacted
    limit = policy.body_limit
    recorded = policy.bodies == "full" and withheld is None
    cut = over or len(searched) > limit
    if recorded and kind != "none":
        shown = searched[:limit] if cut else searched
        if kind == "json" and not cut:
            # CR and LF are nothing but white space in valid JSON, and a record is one line.
            parts["body"] = orjson.Fragment(shown.replace(b"\n", b" ").replace(b"\r", b" "))
        elif kind == "bytes":
            parts["body_base64"] = base64.b64encode(shown).decode()
            if coding is not None:
                parts["body_coding"] = coding
        else:
            parts["body_text"] = codecs.utf_8_decode(shown, "strict", False)[0]
    parts["body_bytes"] = size
    if size and (cut or not recorded or not whole):
        parts["body_truncated"] = True
        # The hash is of all bytes on the wire; the hash of a body with a secret in it would let the secret be guessed.
        if policy.bodies != "none" and whole and hashed:
            parts["body_sha256"] = hashlib.sha256(wire).hexdigest()
    if withheld is not None:
        parts["body_redacted"] = withheld
