"""The books of a live process: what became of every exchange that it appended. Plain data, to be sent anywhere."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from shadowproxy.serve.journal.losses import WORKER_ENDED
from shadowproxy.serve.journal.source import Settled

_Key = TypeVar("_Key")

NOTHING = Settled(0, 0, {}, {}, {})


class Books(NamedTuple):
    """`appended = written + sampled_out + queued + lost`, always. None of them but `queued` ever goes down.

    `queued_bytes` are held by the live process; an exchange that was sent, and of which nothing was reported yet, is
    still `queued`. `bytes` are those of the lines written. `here` is the part of the rest that the present recorder has
    reported, `handed` how many exchanges it was sent.
    """

    appended: int
    written: int
    queued: int
    queued_bytes: int
    lost: Mapping[str, int]
    bytes: int
    verdicts: Mapping[tuple[str, str], int]
    failed: Mapping[str, int] = MappingProxyType({})
    handed: int = 0
    sampled_out: int = 0
    here: Settled = NOTHING


def books_of(plain: Any) -> Books:
    """The books, out of plain tuples (`plain_books`)."""
    *rest, here = plain
    return Books._make((*rest, Settled._make(here)))


def plain_books(books: Books) -> tuple[object, ...]:
    """As `marshal` takes it: it takes no named tuple."""
    *rest, here = books
    return (*rest, tuple(here))


def books_now(last: Books, since: int, settled: Settled) -> Books:
    """The books of a live process, from the last that it has sent, and from what the recorder knows beside them.

    `since`: exchanges that came after these books and are not in them. `settled`: what became of all the exchanges
    that this recorder was sent.
    """
    here = last.here
    appended = last.appended + since
    written = last.written + settled.written - here.written
    sampled_out = last.sampled_out + settled.sampled_out - here.sampled_out
    lost = add_counts(last.lost, settled.lost, here.lost)
    return Books(
        appended=appended,
        written=written,
        queued=appended - written - sampled_out - sum(lost.values()),
        queued_bytes=last.queued_bytes,
        lost=lost,
        bytes=last.bytes + settled.bytes - here.bytes,
        verdicts=add_counts(last.verdicts, settled.verdicts, here.verdicts),
        failed=add_counts(last.failed, settled.failed, here.failed),
        handed=last.handed,
        sampled_out=sampled_out,
        here=settled,
    )


def final_books(books: Books) -> Books:
    """The books of a live process that has ended: what has not come to its end is lost."""
    lost = add_counts(books.lost, {WORKER_ENDED: books.queued})
    return books._replace(queued=0, queued_bytes=0, lost=lost)


def add_settled(one: Settled, other: Settled) -> Settled:
    return Settled(
        one.written + other.written,
        one.bytes + other.bytes,
        add_counts(one.lost, other.lost),
        add_counts(one.verdicts, other.verdicts),
        add_counts(one.failed, other.failed),
        one.sampled_out + other.sampled_out,
    )


def add_counts(
    one: Mapping[_Key, int], other: Mapping[_Key, int], less: Mapping[_Key, int] = MappingProxyType({})
) -> dict[_Key, int]:
    """Both together, without those of `less`; no zeros."""
    total = dict(one)
    for key, count in other.items():
        total[key] = total.get(key, 0) + count
    for key, count in less.items():
        total[key] = total.get(key, 0) - count
    return {key: count for key, count in total.items() if count}
