"""Asks a judge about the drawn pairs, both ways round, until the result is settled or the budget is spent.

Each pair's line is written as soon as it is known, so whatever ends a run, what was asked is kept, and a later run with
the same file asks only the rest.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

from shadowproxy.compare.report.preferences import Head, JudgedError, Preference, Said, WinRate, read_preferences
from shadowproxy.judge.draw import Drawn, Texts
from shadowproxy.judge.endpoint import BudgetSpent, CallFailed, Calls, Endpoint, JudgeStopped, Target
from shadowproxy.judge.prompt import decision_in, messages_for

UNREADABLE: Final = "unreadable"
"""Why there is no decision where the judge replied, twice, without one."""

_MOST_FAILED: Final = 5
"""Pairs in a row that fail before a run gives up."""


Ended: TypeAlias = Literal["all", "settled", "spent", "stopped", "interrupted"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be asked, and where what is said goes.

    Attributes:
        pairs: the drawn pairs, in order.
        line: the win rate that the interval must lie above or below to be settled; None to ask all that is drawn.
    """

    target: Target
    head: Head
    pairs: tuple[Drawn, ...]
    texts: Mapping[str, Texts]
    output: Path
    budget: int
    concurrency: int = 4
    line: float | None = 0.45


@dataclass(slots=True)
class Result:
    """What is known, and how a run ended.

    Attributes:
        known: all preferences of the file, by record.
        before, calls: calls of earlier runs into this file, and of this one.
        stopped: why the judge could not be asked further.
    """

    head: Head
    rate: WinRate
    known: dict[str, Preference] = field(default_factory=dict)
    before: int = 0
    calls: int = 0
    ended: Ended = "all"
    stopped: str | None = None

    @property
    def failures(self) -> list[str]:
        """Why calls failed, in the order of the pairs."""
        return [each.why or "" for each in self.rate.used if each.failed]

    @classmethod
    def of(cls, head: Head) -> "Result":
        return cls(head, WinRate(head))


def earlier(output: Path, head: Head) -> tuple[Head, list[Preference]] | None:
    """What an earlier run left in this file; None if there is none. Raises JudgedError if it is another judge's."""
    if not output.exists():
        return None
    if not output.is_file():
        raise JudgedError(f"{output}: it is no regular file; choose another one with --out")
    if output.stat().st_size == 0:
        return None
    old, preferences = read_preferences(output)
    for what, before, now in (
        ("shadow", old.shadow, head.shadow),
        ("model", old.model, head.model),
        ("prompt", old.prompt, head.prompt),
    ):
        if before != now:
            raise JudgedError(
                f"{output}: it has the {what} {before:.60}, not {now:.60}; choose another file with --out"
            )
    return old, preferences


def in_new_places(
    pairs: Iterable[Drawn], old: tuple[Head, list[Preference]] | None, head: Head
) -> tuple[Head, list[Preference]]:
    """What an earlier run knows, with each pair's place and probability in this draw. Failed calls are not kept."""
    if old is None:
        return head, []
    places = {pair.record: (place, pair.probability) for place, pair in enumerate(pairs)}
    kept: list[Preference] = []
    other_calls = old[0].other_calls
    for each in old[1]:
        if each.failed:
            other_calls += each.calls
            continue
        place, probability = places.get(each.record, (None, each.probability))
        kept.append(replace(each, place=place, probability=probability))
    return replace(head, other_calls=other_calls), kept


async def judge(
    plan: Plan, *, result: Result | None = None, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> Result:
    """Ask, and write what is said. `result` is filled in as it goes, for a caller that may be interrupted.

    Raises JudgedError for a file of another judge, and OSError if the file cannot be written.
    """
    head, kept = in_new_places(plan.pairs, earlier(plan.output, plan.head), plan.head)
    result = result or Result.of(head)
    result.head, result.rate = head, WinRate(head)
    for each in kept:
        result.known[each.record] = each
        result.rate.add(each)
    result.before = head.other_calls + sum(each.calls for each in kept)
    calls = Calls(max(0, plan.budget - result.before))
    with _begun(plan.output, head, kept) as file:
        try:
            async with Endpoint(plan.target, calls, sleep) as endpoint:
                await _Run(plan, result, calls, file).all(endpoint)
            asked = all(pair.record in result.known for pair in plan.pairs)
            result.ended = "settled" if _settled(plan, result) else "all" if asked else "spent"
            if (failures := result.failures) and len(failures) == len(result.rate.used):
                raise JudgeStopped(f"every pair failed at {plan.target.origin}: {failures[-1]}")
        except JudgeStopped as why:
            result.ended, result.stopped = "stopped", str(why)
        finally:
            result.calls = calls.made
    return result


def _settled(plan: Plan, result: Result) -> bool:
    return plan.line is not None and result.rate.settled(plan.line)


def count_lost_calls(plan: Plan, result: Result) -> None:
    """Keep in the file how many calls led to no line of it, as those that were under way at an interrupt."""
    lost = result.before + result.calls - result.head.other_calls - sum(each.calls for each in result.known.values())
    if lost > 0:
        result.head = replace(result.head, other_calls=result.head.other_calls + lost)
        _begun(plan.output, result.head, result.known.values()).close()


def _begun(output: Path, head: Head, kept: Iterable[Preference]) -> BinaryIO:
    """The file with what is known already, open for what follows. The old one is replaced as a whole."""
    beside = output.with_name(f".{output.name}.new")
    try:
        with beside.open("wb") as file:
            file.write(head.line())
            for each in kept:
                file.write(each.line(head))
        os.replace(beside, output)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    return output.open("ab")


class _Run:
    """One run: its workers take the next pair that is not known, until one of them finds that it is over."""

    def __init__(self, plan: Plan, result: Result, calls: Calls, file: BinaryIO) -> None:
        self._plan = plan
        self._result = result
        self._calls = calls
        self._file = file
        self._rest = iter([(place, pair) for place, pair in enumerate(plan.pairs) if pair.record not in result.known])
        self._reserved = 0
        self._failed = 0

    async def all(self, endpoint: Endpoint) -> None:
        """Ask about all that is to be asked. Raises JudgeStopped, and OSError where the file cannot be written."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._plan.concurrency):
                    group.create_task(self._work(endpoint))
        except BaseExceptionGroup as failed:
            raise _first(failed) from None

    async def _work(self, endpoint: Endpoint) -> None:
        while self._goes_on():
            found = next(self._rest, None)
            if found is None:
                return
            place, pair = found
            self._reserved += 2
            try:
                preference = await self._asked(endpoint, place, pair)
            except BudgetSpent:
                return
            finally:
                self._reserved -= 2
            self._keep(preference)

    def _goes_on(self) -> bool:
        return not _settled(self._plan, self._result) and self._calls.most - self._calls.made - self._reserved >= 2

    async def _asked(self, endpoint: Endpoint, place: int, pair: Drawn) -> Preference:
        texts = self._plan.texts.get(pair.record)
        preference = Preference(pair.id, pair.record, place, pair.probability, None, None, 0)
        if texts is None:
            return replace(preference, why="its answers are no longer in the log", failed=True)
        calls = Calls()
        decided: list[Said] = []
        try:
            for a, b in ((texts.live, texts.shadow), (texts.shadow, texts.live)):
                decision = None
                for _ in range(2):
                    decision = decision_in(await endpoint.ask(messages_for(texts.request, a, b), calls))
                    if decision is not None:
                        break
                if decision is None:
                    return replace(preference, why=UNREADABLE, calls=calls.made)
                decided.append(decision)
        except CallFailed as why:
            return replace(preference, why=str(why), failed=True, calls=calls.made)
        return replace(preference, live_first=decided[0], shadow_first=decided[1], calls=calls.made)

    def _keep(self, preference: Preference) -> None:
        """Write a preference and count it. Raises JudgeStopped after too many failures in a row."""
        self._write(preference)
        self._result.known[preference.record] = preference
        self._result.rate.add(preference)
        if not preference.failed:
            self._failed = 0
            return
        self._failed += 1
        if self._failed >= _MOST_FAILED:
            raise JudgeStopped(f"{self._failed} pairs in a row failed at {self._plan.target.origin}: {preference.why}")

    def _write(self, preference: Preference) -> None:
        self._file.write(preference.line(self._result.head))
        self._file.flush()


def _first(error: BaseException) -> BaseException:
    """The first of the errors of a group, which may be groups as well."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
