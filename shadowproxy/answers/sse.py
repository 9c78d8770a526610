"""Server-sent events, read by the standard (WHATWG HTML, section 9.2.6).

A line ends in LF, CRLF or CR and in nothing else: U+2028 and U+0085 are text, so `str.splitlines` is the wrong tool.
Several `data` lines of one event join with LF. A blank after the colon is dropped, once. Comments, `id` and `retry`
carry no answer. One exception to the standard: an event cut off by the end of the body, before its
blank line, is given too, as callers that read line by line use it.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from shadowproxy.answers.texts import LINE, LINE_ENDS, UNREADABLE, hold_lines, json_in
from shadowproxy.budget import Budget

DONE: Final = "[DONE]"
"""The data of the event that ends the streams of OpenAI and of servers that speak its API."""

_BEGINS: Final = re.compile(
    # Possessive, as a line's end can be read in two ways: 32 of them before a letter would take a quarter of an hour.
    r"\ufeff?(?:(?:event|id|retry)?:[^\r\n]*+(?:\r\n|[\r\n])++){0,8}"
    r"data: ?(?:[{\[]|[\w\"-]++(?:\r\n|[\r\n]){1,2}(?:data|event|id):)"
)


class Event(NamedTuple):
    """One event: its name ("" if it has none) and its data, parsed if it is JSON."""

    name: str
    data: Any


def looks_like_events(text: str) -> bool:
    """Whether a body begins as a stream of events does, for servers that give it another Content-Type, or none."""
    return _BEGINS.match(text) is not None


def events_of(text: str, budget: Budget | None = None) -> Iterator[Event]:
    """The events of a stream in order, without those that have no data. Raises Exhausted if it has too many."""
    budget = budget or Budget()
    hold_lines(budget, text)
    name = ""
    data: list[str] = []
    text = text.removeprefix("\ufeff")
    for line in LINE_ENDS.split(text) if "\r" in text else text.split("\n"):
        budget.spend(1)
        if not line:
            if data:
                budget.spend(LINE)
                yield _event(name, data)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
    if data:
        yield _event(name, data)


def names_no_field(text: str, budget: Budget) -> bool:
    """Whether a body without events has lines that are no fields of one: then it is a text, whatever its type says.

    BentoML 1.4.40 sends what a generator of texts yields as it is, under `text/event-stream`.
    """
    hold_lines(budget, text)
    for line in LINE_ENDS.split(text.removeprefix("\ufeff")):
        budget.spend(1)
        if line and line.partition(":")[0] not in _FIELDS:
            return True
    return False


_FIELDS: Final = frozenset({"", "data", "event", "id", "retry"})  # "" is a comment's


def _event(name: str, data: list[str]) -> Event:
    text = "\n".join(data)
    if text.strip() == DONE:
        return Event(name, DONE)
    value = json_in(text)
    return Event(name, text if value is UNREADABLE else value)
