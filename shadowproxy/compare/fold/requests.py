"""What a record's request holds, worked out once for requests that are equal."""

import marshal
from hashlib import blake2b
from typing import Any, Final

from shadowproxy.answers.asked_for import AskedFor, asked_for_in
from shadowproxy.answers.body import value_in
from shadowproxy.answers.leaves import in_lines, without_leaves
from shadowproxy.compare.fold.prompts import prompt_length
from shadowproxy.compare.fold.rows import lengths_of
from shadowproxy.compare.fold.samples import hashed_hex
from shadowproxy.compare.fold.slices import MODEL, PROMPT_LENGTH, Fields, leaves
from shadowproxy.compare.judge.visible import body_text
from shadowproxy.record import Body, Record, RecordedRequest

_LONGEST_BODY: Final = 100_000  # characters of a body that is compared with other requests' bodies
_MOST_KNOWN: Final = 256  # requests whose contents are remembered
_LONGEST_KNOWN: Final = 8192  # bytes of one


class Asked:
    """What one request asks: what its body says or None (`payload`, as bytes `written`), and its values by place
    (`fields`).

    Equal requests share one object, so nothing in it may be changed.
    """

    __slots__ = ("_asked_for", "_lengths", "_repeat", "_request", "_unread", "_written", "fields", "payload")

    def __init__(self, request: RecordedRequest, payload: Any, written: bytes | None = None) -> None:
        self._request = request
        self._written = written
        self.payload = payload
        found = leaves(payload)
        found["@method"] = [request.method]
        found["@path"] = [request.path]
        length = prompt_length(payload)
        if length is not None:
            found[PROMPT_LENGTH] = [length]
        if isinstance(payload, dict) and isinstance(payload.get("model"), str):
            found[MODEL] = [payload["model"]]  # it may come after more values than are looked at
        self.fields = Fields(found)
        self._asked_for: AskedFor | None = None
        self._lengths: set[int] | None = None
        self._repeat: str | None = None
        self._unread = True

    def asked_for(self) -> AskedFor:
        """Which tools a language model may call, and which schema its text is to follow."""
        found = self._asked_for
        if found is None:
            found = self._asked_for = asked_for_in(self.payload)
        return found

    def lengths(self) -> set[int]:
        """The lengths of its arrays that are in no other array."""
        found = self._lengths
        if found is None:
            found = self._lengths = lengths_of(self.payload)
        return found

    def repeat(self) -> str | None:
        """The key under which live's answers to equal requests are counted; None if the body is not in the log."""
        if self._unread:
            self._unread = False
            request = self._request
            body = _key_of(request.body, self._written)
            if body is not None:
                self._repeat = hashed_hex(request.method, request.path, request.query, body)
        return self._repeat


def _key_of(body: Body, payload: bytes | None) -> str | None:
    """A text that is the same for bodies that say the same, as far as that is known; None if it is not in the log.

    What delimits the parts of a body, and the clock in what gzip writes, are new for each request.
    """
    if payload is not None and body.kind != "json":
        return blake2b(payload, digest_size=16).hexdigest()
    if body.kind == "bytes":
        return None if body.truncated else blake2b(body.value, digest_size=16).hexdigest()
    return body_text(body, _LONGEST_BODY)


def request_json(record: Record) -> Any:
    """The request's JSON, or what its body holds in a format that is read like it; None if there is none."""
    request = record.request
    value = value_in(request.body, request.headers)
    return value if request.body.kind == "json" else in_lines(without_leaves(value))


_known: Final[dict[tuple[str, str, str, bytes], Asked]] = {}


def asked_by(record: Record) -> Asked:
    """What a record's request asks. Cached for some hundred requests that are not large: callers often ask the same."""
    request = record.request
    payload = request_json(record)
    if payload is None:
        return Asked(request, None)
    try:
        # Unlike JSON it keeps NaN from null; and in this version equal values have equal bytes, whatever they share.
        body = marshal.dumps(payload, 2)
    except ValueError:  # nested too deeply
        return Asked(request, payload)
    if len(body) > _LONGEST_KNOWN:
        return Asked(request, payload, body)
    key = request.method, request.path, request.query, body
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[key] = Asked(request, payload, body)
    return found
