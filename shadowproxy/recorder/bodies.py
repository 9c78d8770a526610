"""Bodies: decoded within a bound, read once for the record and for the judge, and cut to the limit of the record."""

import base64
import codecs
import hashlib
import re
from typing import Any, Final, NamedTuple

import orjson

from shadowproxy.budget import Budget, Exhausted, read_json
from shadowproxy.content import Undecodable, decoded, parsed
from shadowproxy.record import BodyKind
from shadowproxy.recorder.heads import Head
from shadowproxy.recorder.policy import Bodies, Policy


class Content:
    """A captured body, decoded as far as possible.

    Attributes:
        kind: what it is for the record, as which `raw` is read to `value`.
        raw: the decoded bytes, up to the limit of the record.
        wire: the captured bytes; `size` is how many there were on the wire, `whole` whether these are all.
        sha256: the hash of all bytes on the wire, where it was taken as they passed.
        decoded: the decoded bytes, all of them; `over` says that these are more than `raw`.
        coding: the codings that could not be undone. `decoded` are then the bytes on the wire.
        twin: another body of the same exchange that says the same, byte for byte, under the same Content-Type.
    """

    __slots__ = ("_kind", "_value", "_why", "coding", "decoded", "head", "kind", "over", "raw", "sha256", "size",
                 "twin", "value", "whole", "wire")  # fmt: skip

    def __init__(
        self,
        head: Head,
        kind: BodyKind,
        value: Any,
        raw: bytes,
        decoded: bytes,
        wire: bytes,
        size: int,
        coding: str | None = None,
        twin: "Content | None" = None,
    ) -> None:
        self.head = head
        self.kind = kind
        self.value = value
        self.raw = raw
        self.decoded = decoded
        self.wire = wire
        self.size = size
        self.sha256: str | None = None
        self.whole = len(wire) == size
        self.over = len(raw) < len(decoded)
        self.coding = coding
        self.twin = twin
        self._kind: BodyKind | None = None if self.over else kind
        self._value: Any = None if self.over else value
        self._why: str | None = None

    def is_json(self) -> bool:
        """Whether the whole body is JSON, as far as was read: what is the same as another body was read there."""
        return self._kind == "json" if self.twin is None else self.twin.is_json()

    @property
    def is_form(self) -> bool:
        return self.kind == "text" and self.head.names_form

    def answer(self, budget: Budget) -> tuple[BodyKind, Any]:
        """What the whole body is and says, however little of it is recorded. It is read once. Raises Exhausted."""
        if self._why is not None:
            raise Exhausted(self._why)
        if self._kind is None:
            try:
                self._kind, self._value = self._read(budget)
            except Exhausted as why:
                self._why = str(why)
                raise
        return self._kind, self._value

    def _read(self, budget: Budget) -> tuple[BodyKind, Any]:
        if self.twin is not None:
            return self.twin.answer(budget)
        body = self.decoded
        if self.coding is not None:
            return "bytes", body
        if self.whole and _may_be_json(self.head, body):
            read_json(budget, body)
            try:
                return "json", parsed(body)
            except ValueError:
                pass
        budget.spend_bytes(len(body))
        budget.hold(len(body) if body.isascii() else 4 * len(body))
        try:
            return "text", codecs.utf_8_decode(body, "strict", self.whole)[0]
        except UnicodeDecodeError:
            return "bytes", body


def _may_be_json(head: Head, body: bytes) -> bool:
    # KServe's servers send JSON without a type. Only an object or an array is taken for it then: 42 may be anything.
    if head.types and head.types[0]:
        return head.names_json
    return _OPENS.match(body) is not None


_OPENS: Final = re.compile(rb"\s*+[{\[]")


def read_body(head: Head, wire: bytes, size: int, limit: int, budget: Budget, beside: Content | None = None) -> Content:
    """`wire` decoded, and for the record cut to `limit` bytes: longer JSON is text there.

    `beside` is another content that was read with this `limit`. Where its bytes are the same, its value is used again:
    what a shadow answers is mostly what live answered, and is not read a second time.
    """
    if not wire:
        return Content(head, "none", None, wire, wire, wire, size)
    if beside is not None and beside.head.types != head.types:
        beside = None
    if beside is not None and beside.size == size and beside.head.codings == head.codings and beside.wire == wire:
        return Content(head, beside.kind, beside.value, beside.raw, beside.decoded, wire, size, beside.coding, beside)
    body = wire
    if head.codings:
        try:
            body = decoded(wire, head.codings)
        except Undecodable:
            raw = wire if len(wire) <= limit else wire[:limit]
            return Content(head, "bytes", raw, raw, wire, wire, size, head.codings)
        if (
            beside is not None
            and beside.coding is None
            and beside.whole
            and len(wire) == size
            and beside.decoded == body
        ):
            return Content(head, beside.kind, beside.value, beside.raw, beside.decoded, wire, size, None, beside)
    whole = len(wire) == size
    over = len(body) > limit
    raw = body[:limit] if over else body
    if whole and not over and _may_be_json(head, raw):
        try:
            read_json(budget, raw)
            return Content(head, "json", parsed(raw), raw, body, wire, size)
        except (ValueError, Exhausted):
            pass  # recorded as text, which is what it is
    try:
        text, _ = codecs.utf_8_decode(raw, "strict", whole and not over)
    except UnicodeDecodeError:
        return Content(head, "bytes", raw, raw, body, wire, size)
    return Content(head, "text", text, raw, body, wire, size)


class Redacted(NamedTuple):
    """A body's text without its secrets, the same object where there are none; or why the body is withheld.

    `hashed`: the body's hash reveals no secret either. The text may be longer than what is recorded of it.
    """

    text: bytes
    withheld: str | None = None
    hashed: bool = True


ANSWER: Final = 4 << 10
"""Bytes of an answer that stays where bodies are hashed by verdict: what a report counts of most answers."""


def body_json(
    content: Content, policy: Policy, redacted: Redacted | None, bodies: Bodies | None = None, keep: int = 0
) -> bytes:
    """A body's keys as members of JSON, each after a comma; `redacted` is None where nothing is redacted.

    `bodies` says what is recorded of it, if not the policy does; with `hash` one of up to `keep` bytes stays.
    """
    bodies = bodies or policy.bodies
    kind, size = content.kind, content.size
    searched, withheld, hashed = content.raw, None, True
    if redacted is not None:
        searched, withheld, hashed = redacted
    limit = policy.body_limit
    cut = content.over or len(searched) > limit
    recorded = withheld is None and (bodies == "full" or (bodies == "hash" and not cut and len(searched) <= keep))
    parts: list[bytes] = []
    if recorded and kind != "none":
        shown = searched[:limit] if len(searched) > limit else searched
        if kind == "json" and not cut:
            # CR and LF are nothing but white space in valid JSON, and a record is one line.
            parts += (b',"body":', shown.replace(b"\n", b" ").replace(b"\r", b" "))
        elif kind == "bytes":
            parts += (b',"body_base64":"', base64.b64encode(shown), b'"')
            if content.coding is not None:
                parts += (b',"body_coding":', orjson.dumps(content.coding))
        else:
            parts += (b',"body_text":', orjson.dumps(codecs.utf_8_decode(shown, "strict", False)[0]))
    parts.append(b',"body_bytes":%d' % size)
    if size and (cut or not recorded or not content.whole):
        parts.append(b',"body_truncated":true')
        # The hash is of all bytes on the wire; the hash of a body with a secret in it would let the secret be guessed.
        if bodies != "none" and hashed and (content.whole or content.sha256 is not None):
            digest = content.sha256 or hashlib.sha256(content.wire).hexdigest()
            parts += (b',"body_sha256":"', digest.encode(), b'"')
    if withheld is not None:
        parts += (b',"body_redacted":', orjson.dumps(withheld))
    return b"".join(parts)
