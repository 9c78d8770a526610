"""A report that is looked at repeatedly is not wrong more often than one that is looked at once."""

import json
import math
import random
from typing import Any, TypeAlias

import pytest
from test_checks import estimate, figures, output
from thorough import THOROUGH

from shadowproxy.compare.fold.bins import bin_of
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.report.checks.all import checks_of
from shadowproxy.compare.report.checks.check import Check, Result
from shadowproxy.compare.report.figures.latency import latency
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.looks import Decided, chance_at, checks_again, due_at, look_at

Figures: TypeAlias = Any
BLOCKS = 40
LOOKS = 20


def twin(n: int, **changes: Any) -> Figures:
    return figures(pairs={"n": n, "live_2xx": n}, over_time=[{}] * BLOCKS, **changes)


def p99(value: float, low: float, high: float) -> Figures:
    times = {"live": {"p99": 10.0}, "shadow": {"p99": 10 * value}, "at_least": []}
    return {"ratio": {"p99": estimate(value, low=low, high=high)}, **times}


def looked(shadow: Figures, before: dict[str, Decided]) -> tuple[dict[str, Check], dict[str, Decided]]:
    checks, after = checks_again(shadow, Gates(), before)
    return {check.name: check for check in checks}, json.loads(json.dumps(after))


def test_the_chances_of_all_looks_add_up_to_five_percent() -> None:
    total = math.fsum(chance_at(k) for k in range(100_000))
    assert 0.0499 < total < 0.05
    assert [look_at(n) for n in (0, 999, 1000, 1999, 2000, 7999, 8000)] == [-1, -1, 0, 0, 1, 2, 3]
    assert all(look_at(due_at(k)) == k and look_at(due_at(k) - 1) == k - 1 for k in range(30))


def test_before_a_thousand_requests_only_shares_are_decided() -> None:
    checks, after = looked(twin(999), {})
    waiting = {name for name, check in checks.items() if check.result is Result.INCONCLUSIVE}
    assert waiting == {"latency", "related", "collapse", "drift"}
    assert checks["latency"].sentence == "latency is decided at 1,000 requests; there are 999"
    assert checks["latency"].more == 1
    assert after == {}


def test_of_weighted_records_those_that_were_written_count() -> None:
    weighted = twin(16 * 999) | {
        "pairs": {"n": 16 * 999, "live_2xx": 16 * 999, "written": 999, "live_2xx_written": 999}
    }
    checks, after = looked(weighted, {})
    assert checks["latency"].sentence == "latency is decided at 1,000 records; there are 999"
    assert after == {}


def test_between_two_looks_the_last_word_stands() -> None:
    checks, after = looked(twin(1000), {})
    assert {check.result for check in checks.values()} == {Result.PASS}
    slower = twin(1999, latency=p99(1.5, 1.4, 1.6))
    checks, again = looked(slower, after)
    assert checks["latency"].result is Result.PASS
    assert "decided at 1,000 requests, again at 2,000" in checks["latency"].sentence
    assert again == after
    checks, after = looked(twin(2500, latency=p99(1.5, 1.4, 1.6)), after)  # the first look after 2,000
    assert checks["latency"].result is Result.FAIL
    assert after["latency"]["k"] == 1


def test_each_decision_has_a_wider_interval_than_the_report() -> None:
    near = p99(1.1, 1.005, 1.195)  # within 1.2 by itself
    checks, after = looked(twin(1000, latency=near), {})
    assert checks["latency"].result is Result.INCONCLUSIVE
    assert (checks["latency"].finding.high or 0) > 1.2
    checks, _ = looked(twin(1500, latency=near), after)
    assert checks["latency"].more == 500


def test_a_share_is_judged_at_every_look() -> None:
    checks, after = looked(twin(1000), {})
    lost = twin(1001, agreement={"settled": None, "whole": estimate(0.5), "incomparable": {}})
    lost["outputs"] = [output(agreement=estimate(0.5))]
    checks, _ = looked(lost, after)
    assert checks["unexplained"].result is Result.INCONCLUSIVE
    assert checks["drift"].result is Result.PASS


def test_fewer_requests_than_before_begin_anew() -> None:
    _, after = looked(twin(8000), {})
    checks, again = looked(twin(400), after)
    assert checks["latency"].result is Result.INCONCLUSIVE
    assert again == {}


def labelled(n: int, high: float) -> Figures:
    against = {
        "labelled": n,
        "uneven": 0,
        "measure": "mean absolute error",
        "live_only": 0,
        "shadow_only": 0,
        "live": estimate(100.0),
        "shadow": estimate(100.0),
        "difference": estimate(0.0, n, low=-high, high=high),
    }
    return twin(5000, outputs=[output(labels=against)], labels_supplied=n)


def test_a_mean_error_is_decided_by_the_number_of_labels() -> None:
    checks, after = looked(labelled(999, 0.1), {})
    assert checks["labels"].result is Result.INCONCLUSIVE
    checks, after = looked(labelled(1000, 0.1), after)
    assert checks["labels"].result is Result.PASS
    checks, _ = looked(labelled(1500, 5.0), after)
    assert checks["labels"].result is Result.PASS
    assert after["labels"]["n"] == 1000


def test_a_pass_without_an_interval_decides_nothing() -> None:
    sudden = twin(1000, outputs=[output(drift={"jensen_shannon": estimate(0.02), "cells": 2, "effective": 1000.0})])
    checks, _ = looked(sudden, {})
    assert checks["drift"].result is Result.INCONCLUSIVE


def is_wrongly_passed(seed: int, each: int, *, scheduled: bool) -> bool:
    """Whether one of twenty looks, `each` requests apart, passes a p99 that is 1.22 times live's."""
    source = random.Random(seed)
    pair = Pair()
    decided: dict[str, Decided] = {}
    for look in range(1, LOOKS + 1):
        for at in range(each):
            block = ((look - 1) * each + at) * BLOCKS // (LOOKS * each)
            pair.live_ms.add(block, bin_of(10 * source.lognormvariate(0, 1)))
            pair.shadow_ms.add(block, bin_of(12.2 * source.lognormvariate(0, 1)))
        n = look * each
        if not scheduled:
            decided = {}
        elif look_at(n) <= (decided["latency"]["k"] if decided else -1):
            continue  # the last word stands, whatever the figures
        shadow = twin(n, latency=latency(pair)) | {"over_time": [{}] * len(pair.live_ms)}
        checks, decided = checks_again(shadow, Gates(), decided) if scheduled else (checks_of(shadow, Gates()), {})
        if any(check.name == "latency" and check.result is Result.PASS for check in checks):
            return True
    return False


def test_twenty_looks_hardly_ever_pass_a_p99_that_is_too_high() -> None:
    assert sum(is_wrongly_passed(seed, 250, scheduled=True) for seed in range(16)) <= 1


@pytest.mark.soak
def test_over_many_runs_at_most_five_percent_pass_a_p99_that_is_too_high() -> None:
    runs = 600 if THOROUGH else 80
    assert sum(is_wrongly_passed(seed, 250, scheduled=True) for seed in range(runs)) <= 0.05 * runs
    plainly = 40  # each of them takes 20 reports
    assert sum(is_wrongly_passed(seed, 250, scheduled=False) for seed in range(plainly)) > 0.05 * plainly
