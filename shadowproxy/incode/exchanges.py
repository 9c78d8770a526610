"""What the adapters build on: `Sender` begins exchanges, and an `Exchange` is told what passes.

Nothing here raises, waits or keeps more of a body than the companion reads.
"""

import itertools
import os
import re
import time
import uuid
from collections.abc import Sequence
from time import perf_counter
from typing import Final

from shadowproxy.arrivals import Arrivals
from shadowproxy.exchange import Failure, Field, LiveLeg, Outcome, Reply
from shadowproxy.incode.connection import Connection, Ticket
from shadowproxy.intake_frames import Begin, begin_frame, end_frame

OVERSIZE_KEPT: Final = 256 << 10
"""Bytes that are kept of a request longer than `limits.capture`: no shadow gets it, and the log shows its beginning."""


_SOUND_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


class Sender:
    """Begins exchanges and sends them over one connection. One for each Shadow; safe to use from several threads.

    Attributes:
        connection: where the frames go.
        capture: how many bytes of a body are copied (`limits.capture`).
        id_header: the name of the header field with the request ID, in lower case.
        recorded: gets the ID of each exchange's record, where somebody wants to know them: then they are made here.
    """

    __slots__ = ("__weakref__", "_keys", "_most", "capture", "connection", "held", "id_header", "recorded")

    def __init__(self, connection: Connection, capture: int, id_header: bytes, most: int) -> None:
        """`most` is how many bytes the bodies of exchanges that are under way may take in this process."""
        self.connection = connection
        self.capture = capture
        self.id_header = id_header.lower()
        self.held = 0
        self.recorded: list[str] | None = None
        self._most = most
        self._keys = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Sender over {self.connection!r}>"

    def begin(
        self,
        method: str,
        target: bytes,
        fields: Sequence[Field],
        *,
        at_ns: int | None = None,
        request_id: str | None = None,
    ) -> "Exchange | None":
        """A new exchange.

        Args:
            method: the request's, in upper case.
            target: its raw path and query.
            fields: its header fields, as received.
            at_ns: when it was received, in nanoseconds since the Unix epoch; now by default.
            request_id: the caller's, if it is not in the field that the configuration names.

        Returns:
            None if this process is to leave the request alone: the connection is closed.
        """
        if self.connection.closed:
            return None
        return Exchange(self, next(self._keys), method, target, tuple(fields), at_ns or time.time_ns(), request_id)

    def next_key(self) -> int:
        """A key for an exchange."""
        return next(self._keys)

    def note_record(self, at_ns: int) -> str:
        """A new record's ID, which is added to `recorded`."""
        # As serve/policy/identity.py: a UUIDv7. Only tests want one, so it need not be fast.
        value = (at_ns // 1_000_000 << 80 | int.from_bytes(os.urandom(10))) & ~(0xF << 76 | 0b11 << 62)
        record = str(uuid.UUID(int=value | 0x7 << 76 | 0b10 << 62))
        if self.recorded is not None:
            self.recorded.append(record)
        return record

    def has_room(self, count: int) -> bool:
        """Whether so many more bytes of bodies may be held."""
        return self.held + count <= self._most


class _Body:
    """The copy of a body: its first bytes, up to a limit."""

    __slots__ = ("_sender", "arrivals", "at", "crowded", "held", "pieces", "size")

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.size = 0
        self.held = 0
        self.pieces: list[bytes] = []
        self.crowded = False
        self.at = 0.0
        self.arrivals: Arrivals | None = None

    def add(self, data: bytes | bytearray | memoryview) -> None:
        count, sender = len(data), self._sender
        before = self.size
        self.size = before + count
        if self.held != before:
            return  # a part is missing, so the rest is useless
        keep = min(count, sender.capture - before)
        if not keep:
            return
        if not sender.has_room(keep):
            self.crowded = True
            return
        self.pieces.append(bytes(data if keep == count else data[:keep]))
        self.held += keep
        sender.held += keep

    def cut(self, count: int) -> None:
        """Keep no more than so many bytes."""
        if self.held > count:
            kept = self.joined()[:count]
            self._sender.held -= self.held - count
            self.pieces, self.held = [kept], count

    def joined(self) -> bytes:
        pieces = self.pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def release(self) -> None:
        self._sender.held -= self.held
        self.held = -1  # what comes from now on is not kept
        self.pieces = []


class Exchange:
    """One request and live's answer as they pass through the application. No method raises or waits.

    The calls come in this order; those of the request and those of the answer may mix:

        request_body*  request_end    answer  answer_body*  (end | fail)

    A request is sent to the companion at `request_end`, or with `end` and `fail` if it has not been read to its end.
    What comes after `end` or `fail` is ignored.
    """

    __slots__ = (
        "_answer",
        "_at_ns",
        "_began",
        "_begun",
        "_ended",
        "_fields",
        "_first_at",
        "_key",
        "_method",
        "_reply_fields",
        "_request",
        "_request_id",
        "_sender",
        "_status",
        "_target",
        "_ticket",
    )

    def __init__(
        self,
        sender: Sender,
        key: int,
        method: str,
        target: bytes,
        fields: tuple[Field, ...],
        at_ns: int,
        request_id: str | None,
    ) -> None:
        self._sender = sender
        self._key = key
        self._method = method
        self._target = target
        self._fields = fields
        self._at_ns = at_ns
        self._request_id = request_id
        self._began = perf_counter()
        self._begun = False
        self._ended = False
        self._ticket = Ticket()
        self._request = _Body(sender)
        self._answer = _Body(sender)
        self._status: int | None = None
        self._reply_fields: tuple[Field, ...] = ()
        self._first_at = 0.0

    def __repr__(self) -> str:
        state = "ended" if self._ended else "begun" if self._begun else "being received"
        return f"<Exchange {self._method} {self._target.decode('latin-1')} {state}>"

    def request_body(self, data: bytes | bytearray | memoryview) -> None:
        """The next piece of the request's body."""
        if not self._begun:
            self._request.add(data)

    def request_end(self) -> None:
        """The request is whole."""
        if not self._begun:
            self._begin(False)

    def _begin(self, cut_short: bool) -> None:
        self._begun = True
        request, sender = self._request, self._sender
        unfit = Outcome.OVERLOAD if cut_short else None
        if request.size > sender.capture:
            unfit = Outcome.OVERSIZE
            request.cut(OVERSIZE_KEPT)
        elif request.crowded:
            unfit = Outcome.OVERLOAD
        begin = Begin(
            self._key,
            self._id(),
            None if self._sender.recorded is None else self._sender.note_record(self._at_ns),
            self._at_ns,
            (perf_counter() - self._began) * 1000,
            self._method,
            self._target,
            self._fields,
            request.joined(),
            request.size,
            unfit=unfit,
        )
        sender.connection.begin(begin_frame(begin), self._ticket)
        request.release()

    def _is_cut_short(self) -> bool:
        """Whether live answered before it had read the whole body, which therefore was not copied."""
        for name, value in self._fields:
            lower = name.lower()
            if lower == b"content-length":
                return value.strip() != b"%d" % self._request.size
            if lower == b"transfer-encoding":
                return True
        return False

    def _id(self) -> str | None:
        found = self._request_id
        if found is None:
            name = self._sender.id_header
            for field, value in self._fields:
                if field.lower() == name:
                    found = value.decode("latin-1")
                    break
        return found if found is not None and _SOUND_ID.fullmatch(found) else None

    def answer(self, status: int, fields: Sequence[Field]) -> None:
        """The head of live's answer."""
        if not self._ended:
            self._status = status
            self._reply_fields = tuple(fields)
            self._first_at = perf_counter()

    def answer_body(self, data: bytes | bytearray | memoryview) -> None:
        """The next piece of live's answer."""
        if self._ended or not data:
            return
        answer = self._answer
        now = perf_counter()
        if answer.size:
            if answer.arrivals is None:
                answer.arrivals = Arrivals(answer.size, answer.at)
            answer.arrivals.add(answer.size + len(data), now)
        else:
            answer.at = now
        answer.add(data)

    def answer_unseen(self, size: int) -> None:
        """So many bytes of live's answer do not pass here, such as those of a file that the server sends by itself."""
        if not self._ended:
            self._answer.size += size

    def end(self, *, caller_left: bool = False) -> None:
        """Live's answer is whole. `caller_left`: its own end had come, but the caller did not take all of it."""
        if self._status is None:
            self.fail(Outcome.PROTOCOL_ERROR, "live gave no answer")
        elif not self._ended:
            self._end(self._reply(caller_left))

    def fail(self, outcome: Outcome, error: str) -> None:
        """Live's leg did not end well: `error` is one line. What came of the answer until now is recorded with it."""
        if not self._ended:
            reply = None if self._status is None else self._reply(False)
            total_ms = (perf_counter() - self._began) * 1000
            self._end(Failure(outcome, " ".join(error.split())[:1000], total_ms, reply))

    def _reply(self, caller_left: bool) -> Reply:
        answer, began = self._answer, self._began
        assert self._status is not None
        return Reply(
            self._status,
            self._reply_fields,
            answer.joined(),
            answer.size,
            (self._first_at - began) * 1000,
            (perf_counter() - began) * 1000,
            0.0,
            None,
            caller_left,
            b"" if answer.arrivals is None else answer.arrivals.packed(began),
        )

    def _end(self, live: LiveLeg) -> None:
        if not self._begun:
            self._begin(self._is_cut_short())
        self._ended = True
        self._sender.connection.end(end_frame(self._key, live), self._ticket)
        self._answer.release()
