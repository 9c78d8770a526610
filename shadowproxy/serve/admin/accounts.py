"""Two accounts of what one live process has counted, put together: its own, and the recorder's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from shadowproxy.serve.admin.census import Census, ShadowCensus
from shadowproxy.serve.journal.losses import RECORDER_ENDED, WORKER_ENDED
from shadowproxy.serve.journal.statistics import Statistics

_Key = TypeVar("_Key")


def together(one: Census, other: Census) -> Census:
    """What one process had counted, by two accounts of it. Where they know the same, states are those of `one`.

    None of its counts ever went down, so the higher one of two is the later. What it counted as lost with the recorder
    is less by all that came to its end there nevertheless. What neither account has at its end, `merge` counts as lost.
    """
    more, less = (other, one) if _requests(other) > _requests(one) else (one, other)
    found = {each.name: each for each in less.shadows}
    return replace(
        more,
        shadows=tuple(_shadow(each, found[each.name]) if each.name in found else each for each in more.shadows),
        answers_failed=max(more.answers_failed, less.answers_failed),
        journal=_journal(more.journal, less.journal, _requests(more)),
    )


def _shadow(one: ShadowCensus, other: ShadowCensus) -> ShadowCensus:
    return replace(
        one,
        verdicts=_highest(one.verdicts, other.verdicts),
        answers_failed=max(one.answers_failed, other.answers_failed),
    )


def _journal(one: Statistics, other: Statistics, requests: int) -> Statistics:
    lost = _highest(one.lost, other.lost)
    lost.pop(WORKER_ENDED, None)  # what an account without the end of some exchanges takes for lost
    written = max(one.written, other.written)
    sampled_out = max(one.sampled_out, other.sampled_out)
    too_many = written + sampled_out + sum(lost.values()) - requests
    if too_many > 0 and RECORDER_ENDED in lost:
        lost[RECORDER_ENDED] = max(0, lost[RECORDER_ENDED] - too_many)
    return one._replace(
        written=written,
        bytes=max(one.bytes, other.bytes),
        lost={reason: count for reason, count in lost.items() if count},
        queued=max(0, requests - written - sampled_out - sum(lost.values())),
        sampled_out=sampled_out,
    )


def _requests(census: Census) -> int:
    return sum(census.outcomes.values())


def _highest(one: Mapping[_Key, int], other: Mapping[_Key, int]) -> dict[_Key, int]:
    return {key: max(one.get(key, 0), other.get(key, 0)) for key in {**one, **other}}
