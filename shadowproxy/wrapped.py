"""Takes a record's line out of what a container runtime, a log collector or journald put around it.

| form | a line of it |
|---|---|
| CRI (containerd, CRI-O) | `TIME stdout F {"schema":…`, in pieces with `P` before the last one's `F` |
| Docker's json-file | `{"log":"…\\n","stream":"stdout","time":"…"}`, in pieces without `\\n` before the last |
| Fluent Bit | `{"log":"…","logtag":"F"}` or `"_p"`, as it reads CRI; `{"log":"…"}` otherwise |
| journald as JSON | `{"MESSAGE":"…"}` |
| `docker logs -t`, `kubectl logs --timestamps` | `TIME {"schema":…` |
| `kubectl logs --prefix`, `docker compose logs` | `[pod/NAME/CONTAINER] {"schema":…`, `NAME  | {"schema":…` |

Runtimes cut a line after 16 KiB. A piece is never read by itself, since callers decide what is in it: it could look
like a record. Pieces are put together until the last one has come, for each stream by itself.

Sources: the CRI's log format (kubernetes/design-proposals-archive, node/kubelet-cri-logging.md); Docker's json-file
driver and containerd 2.1, tried in tests/test_wrapped.py on lines that they wrote.
"""

import re
from typing import Any, Final, Literal, NamedTuple

import orjson

from shadowproxy.sources import RECORD

_MOST: Final = 64 << 20  # bytes of the pieces of one line
_TIME: Final = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"
_CRI: Final = re.compile(_TIME + rb" (stdout|stderr) ([FP])(?::\S*)? ?")
_BEFORE: Final = re.compile(rb"(?:(?:\[[^\]]{1,400}\]|[\w.-]{1,200} *\|) )?(?:" + _TIME + rb" )?\Z")
_LONGEST_BEFORE: Final = 700


class Piece(NamedTuple):
    """What one line holds of a stream's line. `more` says that further pieces follow."""

    stream: str
    text: bytes
    more: bool


class Unwrapper:
    """Takes the lines of one file, in their order."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[bytes]] = {}
        self._sizes: dict[str, int] = {}

    @property
    def waits(self) -> bool:
        """Whether a line's last piece has not come, but for those on standard error."""
        return any(stream != "stderr" for stream in self._pieces)

    def unwrap(self, raw: bytes) -> bytes | Literal[False] | None:
        """The line inside; the line itself if nothing is around it.

        None for a piece that is kept until the rest of its line comes, or what was written to standard error, where
        the operator's log goes. False for a line whose pieces are too long together.
        """
        if raw.startswith(RECORD):
            return raw
        piece = _piece(raw)
        if piece is None:
            return raw
        stream, text, more = piece
        waiting = self._pieces.get(stream)
        if waiting is None and not more:
            return None if stream == "stderr" else text
        size = self._sizes.get(stream, 0) + len(text)
        if size <= _MOST:
            self._pieces.setdefault(stream, []).append(text)
        self._sizes[stream] = size
        if more:
            return None
        whole = b"".join(self._pieces.pop(stream, ()))
        del self._sizes[stream]
        if stream == "stderr":
            return None
        return whole if size <= _MOST else False


def _piece(raw: bytes) -> Piece | None:
    found = _CRI.match(raw)
    if found is not None:
        return Piece(found[1].decode(), raw[found.end() :], found[2] == b"P")
    if raw.startswith(b"{"):
        return _in_object(raw)
    at = raw.find(RECORD, 0, _LONGEST_BEFORE)
    if at > 0 and _BEFORE.match(raw[:at]) is not None:
        return Piece("", raw[at:], more=False)
    return None


def _in_object(raw: bytes) -> Piece | None:
    if b'"log"' not in raw and b'"MESSAGE"' not in raw:
        return None
    try:
        whole: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    text = whole.get("log", whole.get("MESSAGE"))
    if not isinstance(text, str) or "schema" in whole:
        return None
    stream = whole.get("stream")
    stream = stream if isinstance(stream, str) else ""
    tag = whole.get("logtag", whole.get("_p"))
    if tag is not None:
        more = tag == "P"
    else:
        more = "log" in whole and "time" in whole and stream != "" and not text.endswith("\n")
    return Piece(stream, text.rstrip("\n").encode() if not more else text.encode(), more)
