"""Live processes that share what they know of IDs: told at once, never waited for, and fetched by a new one."""

import asyncio
import marshal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.serve.neighbours import neighbours as rules
from shadowproxy.serve.neighbours.neighbours import Neighbours
from shadowproxy.serve.neighbours.notes import Ask, End, Note, NoteError, Notes, in_packets, message_of, packet_of
from shadowproxy.serve.state.pairs import KNOWN, LOST, PENDING, Pairs, Standing

SHADOW = "challenger"
LIVE, OWN = b"live-0123456789", b"own-0123456789"
NAME, MAILBOX = Neighbours.mailbox_name, Neighbours.mailbox_name()


def new_map(most: int = 10_000) -> Pairs:
    return Pairs(most, 3600.0, lambda: 0.0)


class Processes:
    """Some live processes of one program, as the supervisor connects them."""

    def __init__(self, count: int) -> None:
        self.boxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
        self.maps = [new_map() for _ in range(count)]
        self.neighbours = [Neighbours(number, several=True, patience=0.2) for number in range(count)]
        for number in range(count):
            self.connect(number)

    def connect(self, number: int) -> None:
        mine = self.neighbours[number]
        mine.connect(MAILBOX, self.boxes[number][0].dup())
        for other, (_, end) in enumerate(self.boxes):
            if other != number:
                mine.connect(NAME(other), end.dup())
        mine.share({SHADOW: self.maps[number]})

    async def replace(self, number: int, *knowing: int) -> asyncio.Task[None]:
        """End one, and start another in its place."""
        await self.neighbours[number].close()
        self.neighbours[number] = Neighbours(number, several=True, patience=0.2)
        self.maps[number] = new_map()
        self.connect(number)
        starting = asyncio.get_running_loop().create_task(self.neighbours[number].start(knowing))
        await asyncio.sleep(0)
        return starting


@asynccontextmanager
async def processes(count: int) -> AsyncIterator[Processes]:
    made = Processes(count)
    for each in made.neighbours:
        await each.start()
    try:
        yield made
    finally:
        for each in made.neighbours:
            await each.close()
        for pair in made.boxes:
            for end in pair:
                end.close()


def standing_at(pairs: Pairs, value: bytes = LIVE) -> Standing | None:
    assert pairs.refresh is not None
    pairs.refresh()
    entry = pairs.find(value)
    return None if entry is None else entry.standing


async def test_an_id_is_known_to_all_before_the_turn_ends_and_waits_for_its_own() -> None:
    async with processes(3) as given:
        one, two, three = given.maps
        entry = one.issue(LIVE, b"", "record-1", "json:/id")
        assert entry is not None
        assert [standing_at(each) for each in (two, three)] == [PENDING, PENDING]
        called: list[str] = []
        waiting = two.find(LIVE)
        assert waiting is not None
        waiting.when_settled(lambda: called.append("now"))
        one.settle(entry, KNOWN, OWN)
        assert [standing_at(each) for each in (two, three)] == [KNOWN, KNOWN]
        assert called == ["now"]
        known = three.find(LIVE)
        assert known is not None
        assert (known.own, known.record, known.place) == (OWN, "record-1", "json:/id")
        assert given.neighbours[0].counts == (2, 0, 0)
        assert given.neighbours[1].counts == (0, 2, 0)


async def test_short_ids_and_sessions_are_shared_with_their_scopes() -> None:
    async with processes(2) as given:
        one, two = given.maps
        for scope, own in ((b"/items", b"7"), (b"/users", b"9")):
            entry = one.issue(b"5", scope, "record-1", "json:/id")
            assert entry is not None
            one.settle(entry, KNOWN, own)
        one.issue(LIVE, b"header:mcp-session-id", "record-2", "header:mcp-session-id")
        standing_at(two)
        found = [two.find_short(b"5", scope) for scope in (b"/items", b"/users", b"/others")]
        assert [each and each.own for each in found] == [b"7", b"9", None]
        assert two.session_names == {b"mcp-session-id"}


async def test_a_new_process_fetches_all_and_those_that_wait_for_its_predecessor_wait_no_more() -> None:
    async with processes(3) as given:
        for number in range(500):
            one = given.maps[number % 3]
            entry = one.issue(b"live-%010d" % number, b"", "record", "json:/id")
            assert entry is not None
            one.settle(entry, KNOWN, b"own-%010d" % number)
            if number % 50 == 49:
                await asyncio.sleep(0)  # the others read
        given.maps[0].issue(LIVE, b"", "record", "json:/id")  # its own would come to the process that ends
        assert standing_at(given.maps[1]) is PENDING
        starting = await given.replace(0, 1, 2)
        assert not given.neighbours[0].complete
        called: list[str] = []
        given.maps[0].when_caught_up(lambda: called.append("now"))
        await starting
        assert called == ["now"]
        assert given.neighbours[0].complete
        assert [standing_at(each) for each in given.maps] == [LOST, LOST, LOST]
        assert [len(each) for each in given.maps] == [501] * 3
        assert standing_at(given.maps[0], b"live-%010d" % 499) is KNOWN


async def test_one_that_knows_little_itself_answers_once_it_has_asked() -> None:
    async with processes(3) as given:
        entry = given.maps[2].issue(LIVE, b"", "record", "json:/id")
        assert entry is not None
        given.maps[2].settle(entry, KNOWN, OWN)
        given.neighbours[0].read()
        given.neighbours[1].read()
        first = await given.replace(0, 2)
        second = await given.replace(1, 0)  # it asks the one that has just been started, too
        await asyncio.gather(first, second)
        assert [standing_at(each) for each in given.maps] == [KNOWN, KNOWN, KNOWN]


async def test_what_a_killed_process_would_have_learnt_is_lost_for_those_too_that_fetched_it() -> None:
    async with processes(3) as given:
        given.maps[0].issue(LIVE, b"", "record", "json:/id")
        given.neighbours[1].read()
        await (await given.replace(2, 1))
        assert [standing_at(each) for each in given.maps[1:]] == [PENDING, PENDING]
        await (await given.replace(0, 2))
        assert [standing_at(each) for each in given.maps] == [LOST, LOST, LOST]


async def test_another_configuration_fetches_what_others_know_and_takes_nothing_of_the_one_before() -> None:
    """Processes put it in force one after the other."""
    async with processes(2) as given:
        old = given.maps[1]
        new = [new_map(), new_map()]
        given.neighbours[0].share({"new": new[0]})
        one, other = given.maps[1].issue(LIVE, b"", "record", "json:/id"), new[0].issue(LIVE, b"", "record", "json:/id")
        assert one is not None
        assert other is not None
        old.settle(one, KNOWN, b"of-the-old-one")
        new[0].settle(other, KNOWN, OWN)
        given.neighbours[1].share({"new": new[1]})
        await asyncio.sleep(0)
        assert new[1].catches_up
        caught_up = asyncio.Event()
        new[1].when_caught_up(caught_up.set)
        async with asyncio.timeout(2):
            await caught_up.wait()
        found = [each.find(LIVE) for each in new]
        assert [each and each.own for each in found] == [OWN, OWN]
        assert old.on_issued is None


async def test_a_new_process_waits_no_longer_than_its_patience() -> None:
    async with processes(3) as given:
        for each in given.neighbours[1:]:
            each.read = lambda: None  # type: ignore[method-assign]  # they hang
        for number in (1, 2):
            asyncio.get_running_loop().remove_reader(given.neighbours[number]._mailbox)  # type: ignore[arg-type]
        starting = await given.replace(0, 1, 2)
        async with asyncio.timeout(2):
            await starting
        assert given.neighbours[0].complete


async def test_a_mailbox_that_nobody_reads_costs_a_bounded_memory_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "MOST_KEPT", 20_000)
    async with processes(2) as given:
        asyncio.get_running_loop().remove_reader(given.neighbours[1]._mailbox)  # type: ignore[arg-type]
        one, two = given.maps
        for number in range(5000):
            one.issue(b"live-%010d" % number, b"", "record", "json:/id")
        counts = given.neighbours[0].counts
        assert counts.sent == 5000
        assert 0 < counts.lost < 5000
        # Once it reads again, what was kept comes too.
        for _ in range(20):
            standing_at(two)
            await asyncio.sleep(0)
        assert len(two) == 5000 - counts.lost


async def test_what_is_no_message_is_counted_and_changes_nothing() -> None:
    async with processes(2) as given:
        given.boxes[1][1].send(b"nonsense")
        assert standing_at(given.maps[1]) is None
        assert given.neighbours[1].counts.lost == 1


async def test_one_process_alone_shares_nothing() -> None:
    alone = Neighbours()
    pairs = new_map()
    alone.share({SHADOW: pairs})
    await alone.start((0, 1))
    assert pairs.on_issued is None  # nothing is learnt earlier than it has to be
    entry = pairs.issue(LIVE, b"", "record", "json:/id")
    assert entry is not None
    assert alone.complete
    assert alone.counts == (0, 0, 0)
    await alone.close()
    assert pairs.refresh is None


_TEXTS = st.text(max_size=9)
_NOTES = st.builds(
    Note,
    st.binary(max_size=40),
    st.binary(max_size=9),
    _TEXTS,
    _TEXTS,
    st.integers(0, 4),
    st.binary(max_size=40),
    st.integers(0, 127),
)
_MESSAGES = st.one_of(
    st.builds(Notes, st.integers(0, 127), st.text(max_size=9), st.lists(_NOTES, max_size=4).map(tuple)),
    st.builds(Ask, st.integers(0, 127), st.booleans()),
    st.builds(End, st.integers(0, 127)),
)


@given(_MESSAGES)
def test_whatever_a_message_says_it_arrives(message: Notes | Ask | End) -> None:
    assert message_of(packet_of(message)) == message


@pytest.mark.parametrize("plain", [(), 7, (0, 1), (1, 2, 3, 4), (2,), (2, 1, 1), (9, 1), (0, 1, "s", [(b"",)])])
def test_what_is_no_message_is_an_error(plain: Any) -> None:
    with pytest.raises(NoteError):
        message_of(marshal.dumps(plain))


def test_all_notes_fit_into_packets() -> None:
    notes = [Note(b"v" * 2048, b"", "r" * 36, "json:/id", 1, b"o" * 2048, 3) for _ in range(100)]
    packets = list(in_packets(1, SHADOW, notes))
    assert [note for each in packets for note in message_of(each).notes] == notes  # type: ignore[union-attr]
    assert max(map(len, packets)) < 64_000
