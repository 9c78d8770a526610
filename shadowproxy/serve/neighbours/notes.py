"""What live processes tell each other of IDs, as bytes. Pure; no socket, no clock.

Every message is one packet: a tuple that `marshal` wrote. Both ends are this program, of one version.
"""

import marshal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

MOST: Final = 60_000
"""Bytes of a packet. An ID and the shadow's own are 2 KiB each at most."""

_VERSION: Final = 2
_NOTES, _ASK, _END = 0, 1, 2

_dumps: Callable[[Any, int], bytes] = marshal.dumps


class Note(NamedTuple):
    """What is known of one of live's IDs: `standing` as a number; `own` is the shadow's; `issuer` is the process that
    will know its end."""

    value: bytes
    scope: bytes
    record: str
    place: str
    standing: int
    own: bytes
    issuer: int


class Notes(NamedTuple):
    """What `sender` knows of IDs for a shadow."""

    sender: int
    shadow: str
    notes: tuple[Note, ...]


class Ask(NamedTuple):
    """`sender` has just started, and its predecessor's requests are over; or, if `wanted`, it asks for all IDs."""

    sender: int
    wanted: bool


class End(NamedTuple):
    """`sender` has sent all that it knows to one that asked."""

    sender: int


Message: TypeAlias = Notes | Ask | End


class NoteError(Exception):
    """What was received is no message. One line."""


def packet_of(message: Message) -> bytes:
    if isinstance(message, Notes):
        plain = [tuple(note) for note in message.notes]
        return _dumps((_NOTES, message.sender, message.shadow, plain), _VERSION)
    if isinstance(message, Ask):
        return _dumps((_ASK, message.sender, message.wanted), _VERSION)
    return _dumps((_END, message.sender), _VERSION)


def message_of(packet: bytes) -> Message:
    """Raises NoteError."""
    try:
        kind, sender, *rest = marshal.loads(packet)
        if kind == _NOTES:
            shadow, plain = rest
            return Notes(sender, shadow, tuple([Note(*each) for each in plain]))
        if kind == _ASK:
            return Ask(sender, *rest)
        if kind == _END and not rest:
            return End(sender)
    except (ValueError, EOFError, TypeError) as error:
        raise NoteError(f"a message about IDs cannot be read ({type(error).__name__})") from error
    raise NoteError(f"no message about IDs has the kind {kind!r:.20}")


def in_packets(sender: int, shadow: str, notes: Iterable[Note]) -> Iterator[bytes]:
    """All of these notes, in packets that are not too long."""
    held: list[Note] = []
    size = 0
    for note in notes:
        weight = 60 + len(note.value) + len(note.scope) + len(note.own) + 4 * (len(note.place) + len(note.record))
        if held and size + weight > MOST:
            yield packet_of(Notes(sender, shadow, tuple(held)))
            held, size = [], 0
        held.append(note)
        size += weight
    if held:
        yield packet_of(Notes(sender, shadow, tuple(held)))
