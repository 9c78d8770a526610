"""What reading and comparing bodies costs is counted in steps, and ends where there are none left."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from shadowproxy.answers import content_of
from shadowproxy.answers.errors import error_in, says_error
from shadowproxy.answers.sse import looks_like_events
from shadowproxy.answers.texts import names_constants
from shadowproxy.budget import EVERY, Budget, Exhausted, read_json, read_json_text
from shadowproxy.compare.judge.diff import diff
from shadowproxy.compare.judge.differences import KEPT, shorten_both
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import compare
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Body, RecordedLeg


class Clock:
    """A clock that advances by `tick` each time it is read."""

    def __init__(self, tick: float = 1.0) -> None:
        self.now = 0.0
        self.tick = tick
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        self.now += self.tick
        return self.now


UNBOUNDED = Budget(steps=1 << 60, memory=1 << 60)


def steps_of(work: Callable[[Budget], object], most: int = 1 << 40) -> int:
    """How many steps some work takes."""
    budget = Budget(steps=most, memory=1 << 40)
    work(budget)
    return most - int(repr(budget).split()[1])


def leg(value: Any, kind: Any = "json", types: str = "application/json") -> RecordedLeg:
    size = len(value) if isinstance(value, str | bytes) else 100
    return RecordedLeg(Outcome.OK, 200, {"content-type": types}, Body(kind, value, size), 1.0, 1.0)


# --- the budget


def test_the_clock_is_read_once_for_many_steps() -> None:
    clock = Clock(0.001)
    budget = Budget(1e9, steps=1 << 40, clock=clock)
    for _ in range(10 * EVERY):
        budget.spend(1)
    assert clock.reads == 11  # one is the beginning


def test_work_ends_when_its_time_is_over_and_stays_ended() -> None:
    clock = Clock()
    budget = Budget(3, steps=1 << 40, clock=clock)
    budget.spend(EVERY)
    budget.spend(EVERY)
    for _ in range(EVERY - 1):
        budget.spend(1)
    with pytest.raises(Exhausted, match="it takes longer than 3 s"):
        budget.spend(EVERY)


def test_without_a_clock_steps_alone_end_the_work() -> None:
    budget = Budget(steps=100)
    for _ in range(99):
        budget.spend(1)
    for _ in range(2):
        with pytest.raises(Exhausted, match="it takes too many steps"):
            budget.spend(1)


def test_each_part_gets_its_share_of_the_time_that_is_left() -> None:
    clock = Clock(0.0)
    budget = Budget(9, steps=1 << 40, clock=clock)
    budget.share(3)
    clock.now = 3.5
    with pytest.raises(Exhausted):
        budget.spend(EVERY)
    budget.share(2)  # of the 5.5 s that are left
    budget.spend(EVERY)
    clock.now = 6.3
    with pytest.raises(Exhausted):
        budget.spend(EVERY)
    budget.share(1)
    budget.spend(EVERY)
    clock.now = 9.0
    with pytest.raises(Exhausted):
        budget.spend(EVERY)


def test_memory_is_held_up_to_the_bound_and_can_be_given_back() -> None:
    budget = Budget(memory=5 << 20)
    budget.hold(5 << 20)
    with pytest.raises(Exhausted, match=r"it takes over 5 MiB of memory \(limits.memory\)"):
        budget.hold(1)
    budget.held = 0
    budget.hold(1)


LARGE = [
    b"[" + b",".join([b"{}"] * 200_000) + b"]",
    b"[" + b",".join([b"[]"] * 200_000) + b"]",
    b"[" + b",".join([b'{"":{}}'] * 100_000) + b"]",
    b"[" + b",".join([b'"ab"'] * 100_000) + b"]",
    b"[" + b",".join([b"%d.5" % at for at in range(100_000)]) + b"]",
    b"[" + b",".join([b"%d" % at for at in range(1000, 100_000)]) + b"]",
    b'{"text":"' + "ü😀".encode() + b"a" * 500_000 + b'"}',
    b"{" + b",".join([b'"%d":1' % at for at in range(50_000)]) + b"}",
    b"[" + b",".join([b"[" * 200 + b"]" * 200] * 500) + b"]",
]


@pytest.mark.parametrize("raw", LARGE, ids=range(len(LARGE)))
def test_what_json_holds_in_memory_is_not_underestimated(raw: bytes) -> None:
    import tracemalloc

    import orjson

    budget, of_text = Budget(), Budget()
    read_json(budget, raw)
    text = raw.decode()
    read_json_text(of_text, text)
    tracemalloc.start()
    value = json.loads(raw)  # tracemalloc sees what orjson makes by Python's own allocators only in part
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value == orjson.loads(raw)
    assert 0.9 * held < budget.held < 100 * len(raw)
    assert 0.9 * held < of_text.held


# --- every kind of answer that costs more than others


def many_events(count: int) -> str:
    return "".join(f"data:{at}\n\n" for at in range(count))


def calls(count: int, own_index: bool) -> str:
    pieces = (
        {"choices": [{"delta": {"tool_calls": [{"index": at if own_index else 0, "function": {"name": "x" * 9}}]}}]}
        for at in range(count)
    )
    return "".join(f"data: {json.dumps(each)}\n\n" for each in pieces)


def parts(count: int) -> str:
    added = {"type": "response.output_item.added", "item": {"type": "message", "status": "in_progress"}}
    pieces = (
        {"type": "response.output_text.delta", "delta": "a", "content_index": at, "output_index": 0}
        for at in range(count)
    )
    return "".join(f"data: {json.dumps(each)}\n\n" for each in (added, *pieces))


EVENTS = "text/event-stream"
TEXTS: list[tuple[str, Callable[[int], str], str]] = [
    ("events", many_events, EVENTS),
    ("lines", lambda count: "1\nx\n" * count, "application/x-ndjson"),
    ("blank lines", lambda count: "data:1\n" + "\r" * count, EVENTS),
    ("values", lambda count: f"[{'NaN,' * count}1]", "application/json"),
    ("calls", lambda count: calls(count, own_index=True), EVENTS),
    ("a call's names", lambda count: calls(count, own_index=False), EVENTS),
    ("parts", parts, EVENTS),
]


@pytest.mark.parametrize(("text", "named"), [each[1:] for each in TEXTS], ids=[each[0] for each in TEXTS])
def test_a_text_twice_as_long_takes_twice_the_steps(text: Callable[[int], str], named: str) -> None:
    small, large = (steps_of_text(text(count), named) for count in (5000, 10_000))
    assert 1.5 * small < large < 2.5 * small


def steps_of_text(text: str, named: str) -> int:
    return steps_of(lambda budget: content_of(leg(text, "text", named), budget))


@pytest.mark.parametrize(("text", "named"), [each[1:] for each in TEXTS], ids=[each[0] for each in TEXTS])
def test_a_text_that_costs_too_much_is_unknown_and_says_why(text: Callable[[int], str], named: str) -> None:
    answer = leg(text(5000), "text", named)
    for budget, why in (
        (Budget(steps=1000), "not read, as it takes too many steps"),
        (Budget(1, clock=Clock(2)), "not read, as it takes longer than 1 s"),
        (Budget(memory=1000), "not read, as it takes over 0 MiB of memory (limits.memory)"),
    ):
        content = content_of(answer, budget)
        assert (content.kind, content.value, content.why) == ("unknown", None, why)
        compared = compare(answer, leg("{}", "text"), Rules(), budget=budget)
        assert (compared.verdict, compared.why) == (Verdict.INCOMPARABLE, f"live: {why}")


def test_calls_of_one_stream_are_told_apart_in_linear_time() -> None:
    """Looked for in a list of all calls, these would take minutes."""
    for own_index in (True, False):
        content = content_of(leg(calls(40_000, own_index), "text", EVENTS), UNBOUNDED)
        [choice] = content.value["choices"]
        assert len(choice["message"]["tool_calls"]) == (40_000 if own_index else 1)


def test_parts_of_one_item_are_put_together_in_linear_time() -> None:
    [item] = content_of(leg(parts(50_000), "text", EVENTS), UNBOUNDED).value["output"]
    assert len(item["content"]) == 50_000


def test_an_index_is_no_number_whose_hash_many_have() -> None:
    """All multiples of this have one hash: as keys of a dict a stream of them would take minutes."""
    pieces = ({"choices": [{"index": at * (2**61 - 1), "delta": {"content": "a"}}]} for at in range(1, 20_000))
    content = content_of(leg("".join(f"data: {json.dumps(each)}\n\n" for each in pieces), "text", EVENTS))
    assert len(content.value["choices"]) == 1


# Each of these took minutes, or for ever, with a pattern that tries one character in two ways.


def test_line_ends_are_read_in_one_way_only() -> None:
    assert not looks_like_events(":" + "\r\n" * 5000 + "x")
    assert not looks_like_events("data: " + "a" * 1_000_000)
    assert looks_like_events(":\r\n\r\nid: 4\r\ndata: {}\r\n")


def test_a_string_that_never_ends_is_read_once() -> None:
    assert names_constants('NaN "' + '\\"' * 200_000)
    assert not names_constants('"NaN ' + '\\"' * 200_000)
    assert not names_constants('"NaN ' + '\\"' * 200_000 + "\\")


@pytest.mark.parametrize(
    "within", [lambda value: {"error": value}, lambda value: {"errors": value}, lambda value: value]
)
def test_lists_within_lists_say_no_error(within: Callable[[Any], Any]) -> None:
    value: Any = ["boom"]
    for _ in range(1010):
        value = [value]
    assert error_in(within(value)) is None
    assert not says_error(value)
    text = "data: " + "[" * 1010 + "]" * 1010 + "\n\n"
    assert compare(leg(text, "text", EVENTS), leg(text, "text", EVENTS), Rules()).verdict is Verdict.MATCH


# --- comparing


def nested(depth: int, value: Any) -> Any:
    for at in range(depth):
        value = {"a": value} if at % 2 else [value]
    return value


def rows(count: int, more: int = 0) -> list[Any]:
    return [{"id": at, "scores": [at + more, 0.5], "name": f"n{at}"} for at in range(count)]


def keyed(count: int, value: int) -> dict[str, int]:
    return {"k" * 300 + str(at): value for at in range(count)}


def texts(count: int, sign: int) -> list[str]:
    return ["x" * 100 + str(sign * at) for at in range(count)]


def of_one_hash(start: int, count: int) -> list[int]:
    return [at * (2**61 - 1) for at in range(start, start + count)]


UNORDERED = Rules(unordered=("",))
PAIRS: list[tuple[str, Callable[[int], Any], Callable[[int], Any], Rules]] = [
    ("equal", rows, rows, Rules()),
    ("differing", rows, lambda n: rows(n, 1), Rules()),
    ("extra members", lambda n: {}, lambda n: {str(at): at for at in range(n)}, Rules()),
    ("missing members", lambda n: {str(at): [at] for at in range(n)}, lambda n: {"x": 1}, Rules()),
    ("ignored", rows, lambda n: rows(n, 1), Rules(ignore=("/**",))),
    ("deep", lambda n: [nested(400, 1)] * (n // 100), lambda n: [nested(400, 2)] * (n // 100), Rules()),
    ("long keys", lambda n: keyed(n, 1), lambda n: keyed(n, 2), Rules()),
    ("unordered", rows, lambda n: rows(n)[::-1], UNORDERED),
    ("unordered rows that differ", rows, lambda n: rows(n, n)[::-1], UNORDERED),
    ("unordered texts", lambda n: texts(n, 1), lambda n: texts(n, -1), UNORDERED),
    (
        "unordered within",
        lambda n: [rows(10)] * (n // 10),
        lambda n: [rows(10, 3)] * (n // 10),
        Rules(unordered=("/*",)),
    ),
    ("one hash", lambda n: of_one_hash(2, n), lambda n: of_one_hash(n + 2, n), UNORDERED),
]


@pytest.mark.parametrize(("live", "shadow", "rules"), [each[1:] for each in PAIRS], ids=[each[0] for each in PAIRS])
def test_a_pair_twice_as_large_takes_about_twice_the_steps(
    live: Callable[[int], Any], shadow: Callable[[int], Any], rules: Rules
) -> None:
    small, large = (steps_of_pair(live(count), shadow(count), rules) for count in (2000, 4000))
    assert 1.5 * small < large < 2.7 * small


def steps_of_pair(live: Any, shadow: Any, rules: Rules) -> int:
    return steps_of(lambda budget: diff(live, shadow, rules, budget))


@pytest.mark.parametrize(("live", "shadow", "rules"), [each[1:] for each in PAIRS], ids=[each[0] for each in PAIRS])
def test_a_pair_that_costs_too_much_is_incomparable_and_says_why(
    live: Callable[[int], Any], shadow: Callable[[int], Any], rules: Rules
) -> None:
    one, other = leg(live(2000)), leg(shadow(2000))
    clock = Clock(0.6)
    compared = compare(one, other, rules, budget=Budget(0.5, clock=clock))
    assert (compared.verdict, compared.diff) == (Verdict.INCOMPARABLE, None)
    assert compared.why == "not compared, as it takes longer than 0.5 s"
    assert clock.reads <= 2
    compared = compare(one, other, rules, budget=Budget(steps=1000))
    assert (compared.verdict, compared.why) == (Verdict.INCOMPARABLE, "not compared, as it takes too many steps")


def test_elements_that_are_compared_with_each_other_by_the_rules_spend_steps() -> None:
    """400 rows of 50 numbers, none of which is like another's: up to 20,000 pairs of them are tried."""
    live = [[at * 100 + each for each in range(50)] for at in range(400)]
    shadow = [[-at * 100 - each for each in range(50)] for at in range(400)]
    rules = Rules(unordered=("",))
    assert steps_of_pair(live, shadow, rules) > 20_000 * 50
    compared = compare(leg(live), leg(shadow), rules, budget=Budget(steps=500_000))
    assert compared.verdict is Verdict.INCOMPARABLE


def test_the_keys_of_an_unordered_array_are_held_in_memory_and_given_back() -> None:
    rules = Rules(unordered=("",))
    budget = Budget(memory=1 << 20)
    compared = compare(leg(rows(5000)), leg(rows(5000)), rules, budget=budget)
    assert compared.why == "not compared, as it takes over 1 MiB of memory (limits.memory)"
    assert budget.held == 0
    assert compare(leg(rows(50)), leg(rows(50)), rules, budget=budget).verdict is Verdict.MATCH
    assert budget.held == 0


def test_ever_more_free_elements_are_passed_over_in_linear_time() -> None:
    """Each pair is found at once, at the front of what is left: to delete it there would move all the rest."""
    live = [{"a": at, "b": 0.0} for at in range(15_000)]
    shadow = [{"a": at, "b": 1e-12} for at in range(15_000)]
    assert diff(live, shadow, Rules(unordered=("",))).count == 0


def test_numbers_beyond_the_hashes_are_equal_in_any_spelling() -> None:
    live = [2**70, -(2**70), 1, 2**61 - 1, float("inf"), float("-inf"), 1e300]
    shadow = [1e300, float("-inf"), 1.0, float(2**70), float("inf"), -float(2**70), 2**61 - 1]
    assert diff(live, shadow, Rules(unordered=("",))).count == 0


def test_the_log_is_compared_without_a_clock() -> None:
    """The same log gives the same report, however slow the machine."""
    one, other = leg(rows(20_000)), leg(rows(20_000))
    assert compare(one, other, Rules()).verdict is Verdict.MATCH


@pytest.mark.source
def test_only_differences_that_are_kept_are_put_into_words(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = 0

    def shorten_both(live: Any, shadow: Any) -> tuple[Any, Any]:
        nonlocal shown
        shown += 1
        return live, shadow

    monkeypatch.setattr("shadowproxy.compare.judge.differences.shorten_both", shorten_both)
    found = diff(["a"] * 5000, ["b"] * 5000, Rules())
    assert (found.count, len(found.found), shown) == (5000, KEPT, KEPT)


def test_the_first_difference_of_long_texts_is_found_by_reading_each_once() -> None:
    class Counting(str):
        read = 0

        def __getitem__(self, at: Any) -> Any:
            part = super().__getitem__(at)
            Counting.read += len(part)
            return part

    size = 1 << 20
    shown = shorten_both(Counting("a" * size + "x"), Counting("a" * size + "y"))
    assert shown == ("…" + "a" * 40 + "x", "…" + "a" * 40 + "y")
    assert Counting.read < 3 * (2 * size)
