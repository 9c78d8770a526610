"""What several workers counted, told as if they were one."""

from collections import Counter
from dataclasses import replace

import pytest

from shadowproxy.exchange import Exchange, Failure, Outcome, Reply, Request, Verdict
from shadowproxy.serve.admin.census import Census, ConfigCensus, Durations, ShadowCensus, merge, with_tail
from shadowproxy.serve.handover.books import Books, final_books
from shadowproxy.serve.handover.tail import Tail
from shadowproxy.serve.journal.losses import LOSSES, WORKER_ENDED
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.policy.not_chosen import NotChosen
from shadowproxy.serve.telemetry.durations import BOUNDS

COUNTS = (1,) * (len(BOUNDS) + 1)


def shadow(name: str = "a", count: int = 1, *, breaker: str = "closed") -> ShadowCensus:
    return ShadowCensus(
        name=name,
        url="http://127.0.0.1:1",
        percent=50.0,
        configured_percent=100.0,
        paused=False,
        breaker=breaker,
        in_flight=count,
        waiting=count,
        begun=count,
        budget_requests=10,
        budget_left=float(count),
        tokens=10 * count,
        cost=count / 4,
        budget_tokens=100,
        budget_cost=2.5,
        chosen=count,
        not_chosen={NotChosen.METHOD: count},
        retries=count,
        outcomes={Outcome.OK: count},
        verdicts={Verdict.MATCH: count},
        durations=Durations(COUNTS, float(count)),
    )


def census(count: int = 1, *shadows: ShadowCensus) -> Census:
    return Census(
        accepts=True,
        paused=False,
        live_url="http://127.0.0.1:2",
        outcomes={Outcome.OK: count},
        retries=count,
        rejected={503: count},
        in_flight=count,
        live_mirrored=Durations(COUNTS, float(count)),
        live_alone=Durations(COUNTS, float(count)),
        shadows=shadows or (shadow(count=count),),
        journal=Statistics(count, count, count, count, {LOSSES[0]: count}, count, None),
        loop_lag=count / 1000,
        memory_held=count,
        memory_limit=count,
        config=ConfigCensus(1, 0.0, 0, 0, None),
        keys_first=count,
        keys_again=2 * count,
        tunnels=count,
        tls_failed=count,
    )


def test_the_census_of_one_worker_is_unchanged() -> None:
    assert merge([census(3)]) == census(3)


def test_counts_and_sizes_are_added_up() -> None:
    both = merge([census(2), census(3)])
    (one,) = both.shadows
    assert (both.outcomes, both.rejected, both.in_flight) == ({Outcome.OK: 5}, {503: 5}, 5)
    assert (one.not_chosen, both.keys_first, both.keys_again) == ({NotChosen.METHOD: 5}, 5, 10)
    assert (both.tunnels, both.tls_failed) == (5, 5)
    assert (one.chosen, one.outcomes, one.verdicts) == (5, {Outcome.OK: 5}, {Verdict.MATCH: 5})
    assert (one.in_flight, one.waiting, one.begun, one.budget_requests) == (5, 5, 5, 20)
    assert (one.tokens, one.budget_tokens, one.cost, one.budget_cost) == (50, 200, 1.25, 5.0)
    assert both.live_mirrored == both.live_alone == one.durations == Durations((2,) * len(COUNTS), 5.0)
    assert both.journal == Statistics(5, 5, 5, 5, {LOSSES[0]: 5}, 5, None)
    assert (both.memory_held, both.memory_limit) == (5, 5)


def test_states_that_cannot_be_added_up_are_the_worst_of_all_workers() -> None:
    lame = census(7, shadow(breaker="open"))
    both = merge([census(1, shadow(breaker="probing")), lame, census(1)])
    assert both.shadows[0].breaker == "open"
    assert both.loop_lag == 0.007
    assert not merge([replace(census(), accepts=False)] * 2).accepts
    assert merge([replace(census(), accepts=False), census()]).accepts


def test_of_a_worker_that_has_ended_its_counts_stay_and_nothing_else() -> None:
    both = merge([census(2)], [census(3, shadow(count=3, breaker="open"))])
    (one,) = both.shadows
    assert (both.outcomes, both.journal.written, one.chosen, one.outcomes) == ({Outcome.OK: 5}, 5, 5, {Outcome.OK: 5})
    assert (both.retries, one.retries, both.tls_failed) == (5, 5, 5)
    assert (both.in_flight, both.memory_held, both.memory_limit, both.loop_lag) == (2, 2, 2, 0.002)
    assert (one.breaker, one.in_flight, one.waiting, one.begun, one.budget_requests) == ("closed", 2, 2, 2, 10)
    assert (one.tokens, one.budget_tokens, one.cost, one.budget_cost) == (20, 100, 0.5, 2.5)
    assert (both.journal.queued, both.journal.queued_bytes) == (2, 2)


def test_a_removed_shadow_is_counted_only_while_no_worker_runs() -> None:
    gone = census(3, shadow("gone", 3))
    assert [each.name for each in merge([census()], [gone]).shadows] == ["a"]
    assert [each.name for each in merge([], [gone, census()]).shadows] == ["gone", "a"]


def test_those_that_ended_can_be_put_together_beforehand() -> None:
    ended = [census(2), census(3, shadow("b", 3)), census(4)]
    folded = merge([], [merge([], ended[:2]), ended[2]])
    assert merge([census(1)], [folded]) == merge([census(1)], ended)
    assert Counter(folded.outcomes) == {Outcome.OK: 9}
    assert not folded.accepts


def test_requests_under_way_in_a_workers_last_census_have_ended_with_it() -> None:
    torn = replace(
        census(0, replace(shadow(), chosen=30, outcomes={Outcome.OK: 6, Outcome.SHUTDOWN: 1})),
        outcomes={Outcome.OK: 20, Outcome.CALLER_LEFT: 2},
        journal=Statistics(9, 900, 4, 400, {LOSSES[0]: 1}, 1, None),
    )
    for both in (merge([census(0)], [torn]), merge([census(0)], [merge([], [merge([], [torn])])])):
        (one,) = both.shadows
        books = both.journal
        assert (books.written, books.lost[LOSSES[0]], books.lost[WORKER_ENDED]) == (9, 1, 12)
        assert sum(both.outcomes.values()) == books.written + sum(books.lost.values()) == 22
        assert (one.chosen, one.outcomes) == (30, {Outcome.OK: 6, Outcome.SHUTDOWN: 24})
    assert merge([torn]).journal.lost == {LOSSES[0]: 1}  # as long as it runs, it may come to its end


# --- a live process's last census, and what came after it ------------------------------------------------------------

REQUEST = Request("1", "019c139e-6efb-7cc4-8d34-1f1f3a1f9a51", 0, "GET", b"/", (), b"", 0)
ANSWER = Reply(200, (), b"{}", 2, 1.0, 1.0)
FAILURE = Failure(Outcome.TIMEOUT, "no answer", 2.0)


def books(appended: int, written: int, lost: int = 0) -> Books:
    return Books(
        appended=appended,
        written=written,
        queued=appended - written - lost,
        queued_bytes=0,
        lost={WORKER_ENDED: lost} if lost else {},
        bytes=100 * written,
        verdicts={("a", "match"): written},
    )


def tail(*exchanges: Exchange) -> Tail:
    found = Tail()
    for each in exchanges:
        found.add(each)
    return found


def settled(requests: int, chosen: int, in_flight: int = 0) -> Census:
    """Of a live process with so many answered requests, all of whose shadow's legs but one for each in flight ended."""
    one = replace(shadow(), chosen=chosen, outcomes={Outcome.OK: chosen - in_flight}, in_flight=in_flight)
    return replace(census(), outcomes={Outcome.OK: requests}, in_flight=0, shadows=(one,))


def test_all_that_came_after_a_census_with_nothing_under_way_is_new() -> None:
    before = settled(5, 5)
    now = with_tail(
        before,
        books(8, 7),
        tail(Exchange(REQUEST, ANSWER, {"a": ANSWER}), *[Exchange(REQUEST, FAILURE, {"a": FAILURE})] * 2),
    )
    (one,) = now.shadows
    assert now.outcomes == {Outcome.OK: 6, Outcome.TIMEOUT: 2}
    assert (one.chosen, one.outcomes) == (8, {Outcome.OK: 6, Outcome.TIMEOUT: 2})
    assert one.verdicts == {Verdict.MATCH: 7}
    assert (now.journal.written, now.journal.queued, now.journal.bytes) == (7, 1, 700)
    assert sum(one.durations.counts) == sum(before.shadows[0].durations.counts) + 3
    assert sum(now.live_mirrored.counts) == sum(before.live_mirrored.counts) + 3


def test_a_request_that_was_under_way_at_the_census_is_counted_once() -> None:
    """Live had answered it, and its shadow had not: both are counted in the census, as begun."""
    now = with_tail(settled(5, 5, in_flight=1), books(5, 5), tail(Exchange(REQUEST, ANSWER, {"a": FAILURE})))
    (one,) = now.shadows
    assert now.outcomes == {Outcome.OK: 5}
    assert (one.chosen, one.outcomes, one.in_flight) == (5, {Outcome.OK: 4, Outcome.TIMEOUT: 1}, 0)


@pytest.mark.parametrize("under_way", [0, 1, 2, 5])
@pytest.mark.parametrize("came", [0, 1, 3])
def test_the_books_of_one_that_was_killed_balance_whatever_was_under_way(under_way: int, came: int) -> None:
    appended = 5 - under_way + came
    now = with_tail(
        settled(5, 5, in_flight=under_way),
        final_books(books(appended, written=appended // 2)),
        tail(*[Exchange(REQUEST, ANSWER, {"a": FAILURE})] * came),
    )
    ended = merge((), [now])
    (one,) = ended.shadows
    assert sum(ended.outcomes.values()) == ended.journal.written + sum(ended.journal.lost.values())
    assert sum(ended.outcomes.values()) >= max(5, appended)
    assert one.chosen == sum(one.outcomes.values()) >= 5
