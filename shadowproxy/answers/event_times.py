"""When the events of a streamed answer came, from its body and the marks that were noted as its pieces came.

An event has come with the piece that holds its end. Where marks are coarse (arrivals.py), the events that end between
two of them are taken to have come evenly in that time: k gaps of one k-th of it.

They are read from the body's bytes without putting the stream together, which takes three times as long and is done
only where it is compared. What cannot be known is None. An answer whose end is missing has no last token, no number of
tokens and no gaps; one with a content coding has no times at all, as its events end nowhere in the bytes that came.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from math import ceil
from typing import Any, Final, NamedTuple

import orjson

from shadowproxy.answers import chat_stream, gemini_stream, messages_stream, ollama_stream, responses_stream
from shadowproxy.answers.contents import INNER_TYPE, Fields, field_value
from shadowproxy.answers.formats import event_frames
from shadowproxy.answers.sse import DONE, looks_like_events
from shadowproxy.answers.streams import KEEP_ALIVE
from shadowproxy.answers.texts import LINE, UNREADABLE, json_in
from shadowproxy.arrivals import Marks
from shadowproxy.budget import Budget, read_json
from shadowproxy.content import names_events, names_lines
from shadowproxy.record import Events, Gaps
from shadowproxy.usage import usage_in


def times_in(body: bytes, headers: Fields, marks: Marks, budget: Budget, *, whole: bool = True) -> Events | None:
    """The times of a body's events; None if it is no stream. `whole`: it is all that came. Raises Exhausted."""
    found = _Found(budget)
    budget.spend_bytes(8 * len(body))
    if event_frames.begins_with_frame(body):
        found.read_frames(body, headers, whole)
    else:
        found.read(body, field_value(headers, "content-type"), whole)
    return found.times(marks, whole)


_LOOKED_AT: Final = 4096  # bytes


class _Api(NamedTuple):
    """`spoken` finds a piece in most of the events that have one: a quarter of what reading their JSON takes. Within a
    text of JSON its quotes would be escaped."""

    knows: Callable[[Any], bool]
    has_piece: Callable[[Any], bool]
    spoken: re.Pattern[bytes] | None


_APIS: Final = (
    _Api(
        chat_stream.knows,
        chat_stream.has_piece,
        re.compile(
            rb'"delta":\s?\{(?:"role":\s?"assistant",\s?)?"(?:content|reasoning_content|reasoning)":\s?"[^"]'
            rb'|"choices":\s?\[\{(?:"index":\s?\d,\s?)?"text":\s?"[^"]'
        ),
    ),
    _Api(
        messages_stream.knows,
        messages_stream.has_piece,
        re.compile(
            rb'\{"type":\s?"content_block_delta",\s?"index":\s?\d{1,9},\s?"delta":\s?\{"type":\s?"'
            rb'(?:text_delta",\s?"text|thinking_delta",\s?"thinking|input_json_delta",\s?"partial_json)":\s?"[^"]'
        ),
    ),
    _Api(
        responses_stream.knows,
        responses_stream.has_piece,
        re.compile(
            rb'\{"type":\s?"response\.(?:output_text|reasoning_text|function_call_arguments)\.delta"[^\n]{0,300}"delta":\s?"[^"]'
        ),
    ),
    _Api(
        ollama_stream.knows,
        ollama_stream.has_piece,
        re.compile(
            rb'"(?:response|message":\s?\{"role":\s?"assistant",\s?"content)":\s?"[^"][^\n]{0,300}"done":\s?false'
        ),
    ),
    _Api(gemini_stream.knows, gemini_stream.has_piece, None),
)
_USED: Final = re.compile(rb'"usage":\s?\{')

_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_NAMED: Final = re.compile(rb"event: ?([^\r\n]*)\ndata: ?([^\r\n]*)")
_BLANKS: Final = b" \t\r\n\x1e"
_CLOSES: Final = 0x7D  # }
_NEW_LINE: Final = 0x0A
_MARK: Final = b"\xef\xbb\xbf"
_HELD: Final = 80  # bytes of memory of an event
_LARGE: Final = 16 << 10


class _Found:
    """The events of one body: where each ends, and which of them hold a piece of what the model generated.

    Unlike `events_of` it looks for their ends in bytes. A test compares what both find.
    """

    __slots__ = ("_api", "_budget", "_ends", "_spoken", "_spoken_at", "_spoken_form", "_usage")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._api: _Api | None = None
        self._spoken_form: re.Pattern[bytes] | None = None
        self._spoken_at = 0
        self._ends: list[int] = []
        self._spoken: list[int] = []  # indices of events
        self._usage: int | None = None

    def read_frames(self, body: bytes, headers: Fields, whole: bool) -> None:
        """Amazon's event frames: events by themselves, or parts of a body in which events end with one of the parts."""
        frames = [each for each in event_frames.read(body, self._budget).frames if event_frames.is_event(each)]
        parts = [each for each in frames if event_frames.is_part(each)]
        if not parts:
            for frame in frames:
                data = event_frames.inner_of(frame, self._budget)
                self._add(data, 0, len(data), frame.end)
            return
        inner = b"".join([each.payload for each in parts])
        self._budget.hold(len(inner))
        self.read(inner, field_value(headers, INNER_TYPE), whole)
        sizes = list(accumulate([len(each.payload) for each in parts]))
        self._ends = [parts[bisect_left(sizes, end)].end for end in self._ends]

    def read(self, body: bytes, content_type: str, whole: bool) -> None:
        """A body that has this type."""
        if names_events(content_type) or looks_like_events(body[:_LOOKED_AT].decode("utf-8", "replace")):
            self.read_events(body, whole)
        elif names_lines(content_type):
            self.read_lines(body, whole)

    def read_events(self, body: bytes, whole: bool) -> None:
        """Server-sent events. What stands behind the last blank line is an event too, where no more came."""
        start = len(_MARK) if body.startswith(_MARK) else 0
        size = len(body)
        plain = b"\r" not in body
        while start < size:
            if plain and body.startswith(b"data:", start):
                end = body.find(b"\n", start)
                if 0 < end < size - 1 and body[end + 1] == _NEW_LINE:  # one line, as most events are
                    self._add(body, start + 5, end, end + 2)
                    start = end + 2
                    continue
            after = 0
            if plain:
                end = body.find(b"\n\n", start)
                after = end + 2
            else:
                match = _BLANK_LINE.search(body, start)
                end = -1
                if match is not None:
                    end, after = match.span()
            if end < 0:
                if not whole:
                    break
                end = after = size
            block = body[start:end]
            start = after
            name, data = self._joined(block)
            if name not in _KEEP_ALIVE:
                self._add(data, 0, len(data), after)

    def read_lines(self, body: bytes, whole: bool) -> None:
        """Lines of JSON."""
        start = 0
        size = len(body)
        while start < size:
            end = body.find(b"\n", start)
            if end < 0:
                if not whole:
                    break
                end = size
            self._add(body, start, end, min(end + 1, size))
            start = end + 1

    def _joined(self, block: bytes) -> tuple[bytes, bytes]:
        """An event's name and data, from all of its lines."""
        plain = _NAMED.fullmatch(block)
        if plain is not None:
            return plain[1], plain[2]
        name = b""
        data: list[bytes] = []
        for line in _LINE_END.split(block):
            self._budget.spend(1)
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value.strip()
        return name, b"\n".join(data)

    def _add(self, body: bytes, start: int, end: int, after: int) -> None:
        """Add the event with the data between these places, and that ends at `after`, if there is any data."""
        self._budget.spend(LINE)
        self._budget.hold(_HELD)
        if self._is_spoken(body, start, end):
            self._spoken.append(len(self._ends))
        else:
            data = body[start:end].strip(_BLANKS)
            if not data or data == _DONE:
                return
            self._read(data)
        self._ends.append(after)

    def _is_spoken(self, body: bytes, start: int, end: int) -> bool:
        """Whether an event has a piece and nothing else that counts, as far as can be seen without reading its JSON."""
        spoken = self._spoken_form
        if spoken is None or end == start or body[end - 1] != _CLOSES:
            return False
        if spoken.match(body, start + self._spoken_at, end) is None:  # as in the event before: most are alike
            found = spoken.search(body, start, min(end, start + _LOOKED_AT))
            if found is None:
                return False
            self._spoken_at = found.start() - start
        if body.find(b'"usage"', start, end) >= 0 and _USED.search(body, start, end) is not None:
            return False
        return body.find(b"\n", start, end) < 0

    def _read(self, data: bytes) -> None:
        budget = self._budget
        held = budget.held
        if len(data) > _LARGE:
            read_json(budget, data)
        value = _value_of(data)
        budget.held = held
        api = self._api
        if api is None:
            for each in _APIS:
                if each.knows(value):
                    api = self._api = each
                    self._spoken_form = each.spoken
                    break
            else:
                return
        assert api is not None  # it was found
        if api.has_piece(value):
            self._spoken.append(len(self._ends))
        count = _tokens_in(value)
        if count is not None:
            self._usage = count

    def times(self, marks: Marks, whole: bool) -> Events | None:
        came = _times_of(self._ends, marks)
        if not came:
            return None
        spoken = [came[at] for at in self._spoken if at < len(came)] if self._api is not None else came
        gaps = _gaps_between(spoken) if whole else None
        if self._api is None:
            return Events(came[0], gaps=gaps)
        if not spoken:
            return Events(came[0])
        if not whole:
            return Events(came[0], spoken[0])
        if self._usage is not None:
            return Events(came[0], spoken[0], spoken[-1], self._usage, "usage", gaps)
        return Events(came[0], spoken[0], spoken[-1], len(spoken), "pieces", gaps)


_DONE: Final = DONE.encode()
_KEEP_ALIVE: Final = frozenset([name.encode() for name in KEEP_ALIVE])


def _value_of(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        value = json_in(data.decode("utf-8", "replace"))  # NaN, as of log-probabilities
        return None if value is UNREADABLE else value


def _tokens_in(event: Any) -> int | None:
    """How many tokens were generated, as an event says that is not the first of its answer."""
    if not isinstance(event, dict):
        return None
    response = event.get("response")
    said = response if isinstance(response, dict) else event
    if said.get("type") == "message_start":
        return None
    return usage_in(said).tokens_out or None


def _times_of(ends: list[int], marks: Marks) -> list[float]:
    """When the events with these ends came, as far as the marks go."""
    came: list[float] = []
    sizes, ms, pieces = marks
    at = 0
    before = 0.0
    for index in range(len(sizes)):
        size, now = sizes[index], ms[index]
        start = at
        while at < len(ends) and ends[at] <= size:
            at += 1
        count = at - start
        if pieces[index] == 1:
            came += [now] * count
        else:
            came += [before + (now - before) * each / count for each in range(1, count + 1)]
        before = now
    return came


def _gaps_between(came: list[float]) -> Gaps | None:
    gaps = sorted([came[at] - came[at - 1] for at in range(1, len(came))])
    if not gaps:
        return None
    return Gaps(_share(gaps, 0.5), _share(gaps, 0.99), gaps[-1])


def _share(ordered: list[float], share: float) -> float:
    """The least value that so large a share of them does not exceed."""
    return ordered[ceil(share * len(ordered)) - 1]
