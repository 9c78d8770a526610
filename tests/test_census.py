"""What several workers counted, told as if they were one."""

from collections import Counter
from dataclasses import replace

from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.serve.admin.census import Census, ConfigCensus, Durations, ShadowCensus, merge
from shadowproxy.serve.journal.losses import LOSSES, WORKER_ENDED
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.policy.sampling import NotChosen
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
    )


def test_the_census_of_one_worker_is_unchanged() -> None:
    assert merge([census(3)]) == census(3)


def test_counts_and_sizes_are_added_up() -> None:
    both = merge([census(2), census(3)])
    (one,) = both.shadows
    assert (both.outcomes, both.rejected, both.in_flight) == ({Outcome.OK: 5}, {503: 5}, 5)
    assert (one.not_chosen, both.keys_first, both.keys_again) == ({NotChosen.METHOD: 5}, 5, 10)
    assert (one.chosen, one.outcomes, one.verdicts) == (5, {Outcome.OK: 5}, {Verdict.MATCH: 5})
    assert (one.in_flight, one.waiting, one.begun, one.budget_requests) == (5, 5, 5, 20)
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
    assert (both.retries, one.retries) == (5, 5)
    assert (both.in_flight, both.memory_held, both.memory_limit, both.loop_lag) == (2, 2, 2, 0.002)
    assert (one.breaker, one.in_flight, one.waiting, one.begun, one.budget_requests) == ("closed", 2, 2, 2, 10)
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
