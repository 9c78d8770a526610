"""What ended processes had counted: the same in whatever order the accounts of it come."""

import itertools
import pickle
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_census import census, shadow
from test_handover import exchange, line_of, until

from shadowproxy import config
from shadowproxy.exchange import Exchange, Outcome, Verdict
from shadowproxy.serve.admin.accounts import together
from shadowproxy.serve.admin.census import Census, merge
from shadowproxy.serve.handover.outbox import Outbox
from shadowproxy.serve.journal.losses import RECORDER_ENDED, WORKER_ENDED
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.sidecar import specify
from shadowproxy.serve.sidecar.recorder import RecorderSide
from shadowproxy.serve.workers import counts
from shadowproxy.serve.workers.counts import Counts


def account(requests: int, written: int, **lost: int) -> Census:
    """Of a process that has counted so many requests. Each written record of a mirrored one has a verdict."""
    one = replace(shadow(), chosen=requests, outcomes={Outcome.OK: requests}, verdicts={Verdict.MATCH: written})
    left = requests - written - sum(lost.values())
    books = Statistics(written, 100 * written, max(0, left), 0, {key: n for key, n in lost.items() if n}, 1, None)
    return replace(census(), outcomes={Outcome.OK: requests}, shadows=(one,), journal=books, in_flight=0)


def final(found: Counts) -> tuple[int, int, dict[str, int], int]:
    """Requests, records written and lost, and verdicts, of all processes that have ended."""
    merged = merge((), found.ended)
    verdicts = sum(merged.shadows[0].verdicts.values())
    lost = {reason: n for reason, n in merged.journal.lost.items() if n}
    assert sum(merged.outcomes.values()) == merged.journal.written + sum(lost.values())
    return sum(merged.outcomes.values()), merged.journal.written, lost, verdicts


LATEST_FIRST = [
    # In order: both know all.
    (account(9, 8), account(76, 76), account(76, 76), (76, 76, {}, 76)),
    # It has given up on the recorder, which has written all nevertheless.
    (account(9, 8), account(76, 75, recorder_ended=1), account(76, 76), (76, 76, {}, 76)),
    # The recorder had been sent a part only, and wrote it after the process had given up.
    (
        account(9, 8),
        account(76, 20, recorder_ended=40, journal_closed=16),
        account(60, 60),
        (76, 60, {"journal_closed": 16}, 60),
    ),
    # And a part of that was lost there.
    (
        account(9, 8),
        account(76, 20, recorder_ended=56),
        account(76, 70, disk_full=4, worker_ended=2),
        (76, 70, {"disk_full": 4, RECORDER_ENDED: 2}, 70),
    ),
    # It was killed: the recorder knows more than the last figures that were read, or less.
    (account(9, 8), None, account(30, 29, worker_ended=1), (30, 29, {WORKER_ENDED: 1}, 29)),
    (account(30, 8), None, account(20, 20), (30, 20, {WORKER_ENDED: 10}, 20)),
    # Losses of long ago, which the recorder has heard of.
    (account(9, 4, recorder_ended=5), account(76, 71, recorder_ended=5), account(76, 71, recorder_ended=5), None),
]


@pytest.mark.parametrize(("now", "closing", "report", "expected"), LATEST_FIRST)
@pytest.mark.parametrize("when", ["before its end", "after its end", "while the next one runs", "after the next one"])
@pytest.mark.parametrize("times", [1, 2])
def test_the_recorders_report_may_come_at_any_time(
    now: Census, closing: Census | None, report: Census, expected: Any, when: str, times: int
) -> None:
    found = Counts()
    run = found.begin()
    found.now = now

    def report_if(moment: str) -> None:
        for _ in range(times if moment == when else 0):
            found.note_report(run, report)

    report_if("before its end")
    found.note_end(closing)
    report_if("after its end")
    found.begin()
    found.now = account(3, 3)
    report_if("while the next one runs")
    found.note_end(account(5, 5))
    report_if("after the next one")
    requests, written, lost, verdicts = expected or (76, 71, {RECORDER_ENDED: 5}, 71)
    assert final(found) == (requests + 5, written + 5, lost, verdicts + 5)


def test_what_a_process_had_used_of_its_budgets_goes_to_the_next_though_the_one_before_is_reported_late() -> None:
    found = Counts()
    first = found.begin()
    found.note_end(replace(account(9, 9), shadows=(replace(shadow(), begun=4),)))
    found.begin()
    found.note_end(replace(account(9, 9), shadows=(replace(shadow(), begun=7),)))
    found.note_report(first, account(9, 9))
    assert found.used["a"].begun == 7


def test_a_process_that_did_not_start_has_counted_nothing() -> None:
    found = Counts()
    found.begin()
    found.note_end(None)
    found.begin()
    assert found.ended == []


def test_the_counts_of_many_processes_take_bounded_room_and_none_is_forgotten() -> None:
    found = Counts()
    for _ in range(3 * counts.APART):
        run = found.begin()
        found.note_end(account(10, 9))
        found.note_report(run, account(10, 10))
    found.note_report(1, account(10, 10))  # so late that it is about none that is kept apart
    assert len(found.ended) == counts.APART + 1
    assert final(found) == (30 * counts.APART, 30 * counts.APART, {}, 30 * counts.APART)


@given(
    settled=st.integers(0, 50),  # requests of which the recorder has the last word
    unsent=st.integers(0, 50),
    written=st.integers(0, 50),
    acknowledged=st.integers(0, 50),
    known=st.integers(0, 100),
    closes=st.booleans(),
)
def test_books_balance_and_no_written_record_is_missing(
    settled: int, unsent: int, written: int, acknowledged: int, known: int, closes: bool
) -> None:
    requests = settled + unsent
    written = min(written, settled)
    acknowledged = min(acknowledged, written)
    closing = account(requests, acknowledged, recorder_ended=settled - acknowledged, journal_closed=unsent)
    now = account(min(known, requests), min(acknowledged, known))
    report = account(settled, written, worker_ended=settled - written)
    results = []
    for before in (True, False):
        found = Counts()
        found.begin()
        found.now = now
        if before:
            found.note_report(1, report)
        found.note_end(closing if closes else None)
        if not before:
            found.note_report(1, report)
        results.append(final(found))
    assert results[0] == results[1]
    total, in_log, lost, _ = results[0]
    assert in_log == written
    assert total == (requests if closes else max(settled, min(known, requests)))
    if closes:
        expected = {RECORDER_ENDED: settled - written, "journal_closed": unsent}
        assert lost == {reason: n for reason, n in expected.items() if n}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_accounts_are_the_same_together_in_any_order(order: tuple[int, ...]) -> None:
    accounts = [account(76, 20, recorder_ended=40, journal_closed=16), account(60, 55), account(60, 60)]
    one, other, third = (accounts[at] for at in order)
    found = Counts()
    found.begin()
    found.note_end(together(together(one, other), third))
    assert final(found) == (76, 60, {"journal_closed": 16}, 60)


# --- in the recorder --------------------------------------------------------------------------------------------------


def side(path: Path) -> RecorderSide:
    spec = specify.specify(config.from_values({"live": {"respond": {}}, "log": {"path": str(path)}}))
    return RecorderSide(spec.recorder, name="h", commands=cast(Any, None))


class LiveEnd:
    """A live process's outbox, whose census has as many requests as it has appended."""

    def __init__(self) -> None:
        self.outbox = Outbox(budget=1 << 20, gather=0.001, census=self._census)

    def _census(self) -> bytes:
        appended = self.outbox.statistics().appended
        return pickle.dumps(replace(account(appended, 0), shadows=()))

    def connect(self, recorder: RecorderSide, name: str) -> None:
        ours, theirs = socket.socketpair()
        recorder.add(name, theirs)
        self.outbox.connect(ours)

    def append(self, count: int) -> None:
        for number in range(count):
            self.outbox.append(exchange(number), 1)


def requests(recorder: RecorderSide) -> int:
    found = recorder.census()
    return 0 if found is None else sum(found.outcomes.values())


async def test_a_live_process_that_connects_again_is_counted_once(tmp_path: Path) -> None:
    """Only its connection had ended."""
    async with side(tmp_path) as recorder:
        live = LiveEnd()
        live.connect(recorder, "0.1")
        live.append(10)
        await until(lambda: live.outbox.statistics().written == 10)
        live.outbox._lose_connection()
        await until(lambda: recorder.inbox.states() == {})
        assert requests(recorder) == 10
        live.connect(recorder, "0.1")
        await until(lambda: recorder.inbox.states()["0.1"].census is not None)
        assert requests(recorder) == 10
        live.append(5)
        await until(lambda: live.outbox.statistics().written == 15)
        assert requests(recorder) == 15
        await live.outbox.close(10)
        await until(lambda: recorder.inbox.states() == {})
        assert requests(recorder) == 15


async def test_a_process_whose_last_exchanges_are_being_written_is_counted_beside_its_successor(
    tmp_path: Path,
) -> None:
    gate = threading.Event()

    def slow(one: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        assert gate.wait(30)
        return line_of(one)

    async with side(tmp_path) as recorder:
        recorder._encoders["0", 1] = slow
        first, second = LiveEnd(), LiveEnd()
        first.connect(recorder, "0.1")
        first.append(10)
        await until(lambda: recorder.inbox.states()["0.1"].census is not None and requests(recorder) == 10)
        first.outbox._disconnect()  # as the kernel does
        second.connect(recorder, "0.2")
        second.append(5)
        await until(lambda: requests(recorder) == 15)
        gate.set()
        await until(lambda: list(recorder.inbox.states()) == ["0.2"])
        assert requests(recorder) == 15
        await second.outbox.close(10)


async def test_what_a_process_had_sent_before_it_ended_is_recorded_though_its_successor_knows_later_settings(
    tmp_path: Path,
) -> None:
    values = {"live": {"respond": {}}, "log": {"path": str(tmp_path)}}
    first = specify.specify(config.from_values(values))
    second = first.numbered(first.recorder.generation + 1)
    async with RecorderSide(second.recorder, name="h", commands=cast(Any, None), earlier=[first.recorder]) as recorder:
        recorder._note_oldest("0.1", first.recorder.generation)
        recorder._note_oldest("0.2", second.recorder.generation)
        assert recorder.oldest == first.recorder.generation
        live = LiveEnd()
        live.connect(recorder, "0.1")
        await live.outbox.close(10)
        await until(lambda: recorder.inbox.states() == {})
        recorder._note_oldest("0.2", second.recorder.generation)
        assert recorder.oldest == second.recorder.generation
