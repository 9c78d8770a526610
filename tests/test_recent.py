"""The latest records: bounded by number and by bytes, and what is rare is not pushed out by what is not."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.exchange import Verdict
from shadowproxy.serve.admin.recent import Recent

MATCH, MISMATCH = Verdict.MATCH, Verdict.MISMATCH
IDS = [f"0192f3a0-0000-7000-8000-{number:012d}" for number in range(10)]


def test_the_latest_come_first() -> None:
    recent = Recent()
    for line in (b"1\n", b"2\n", b"3\n"):
        recent.add(line, {"a": MATCH})
    assert recent.latest(2) == [b"3\n", b"2\n"]


def test_a_rare_mismatch_is_not_pushed_out_by_matches() -> None:
    recent = Recent(most=10)
    recent.add(b"rare", {"a": MISMATCH})
    for number in range(1000):
        recent.add(b"%d" % number, {"a": MATCH})
    assert recent.latest(10, verdict=MISMATCH) == [b"rare"]
    assert len(recent) == 10
    assert recent.latest(2) == [b"999", b"998"]


def test_a_shadows_rare_mismatch_is_not_pushed_out_by_another_shadows() -> None:
    recent = Recent(most=10)
    recent.add(b"rare", {"bad": MISMATCH, "good": MISMATCH})
    for number in range(1000):
        recent.add(b"%d" % number, {"bad": MISMATCH, "good": MATCH})
    assert recent.latest(10, verdict=MISMATCH, shadow="good") == [b"rare"]


def test_a_shadow_that_failed_is_found_by_its_name() -> None:
    recent = Recent(most=4)
    recent.add(b"failed", {"a": None})
    for number in range(20):
        recent.add(b"%d" % number, {"a": MATCH})
    recent.add(b"other", {"b": MATCH})
    assert recent.latest(9, shadow="a") == [b"19", b"18", b"failed"]
    assert recent.latest(9, shadow="a", verdict=MISMATCH) == []


def test_verdict_and_shadow_together_are_asked_of_one_shadow() -> None:
    recent = Recent()
    recent.add(b"a", {"a": MISMATCH, "b": MATCH})
    recent.add(b"b", {"a": MATCH, "b": MISMATCH})
    assert recent.latest(9, verdict=MISMATCH) == [b"b", b"a"]
    assert recent.latest(9, verdict=MISMATCH, shadow="a") == [b"a"]


def test_a_record_without_shadows_is_kept() -> None:
    recent = Recent()
    recent.add(b"none", {})
    assert recent.latest(1) == [b"none"]


def test_a_record_over_the_whole_bound_is_not_kept_and_pushes_nothing_out() -> None:
    recent = Recent(most_bytes=10)
    recent.add(b"small", {})
    recent.add(b"x" * 11, {"a": MISMATCH})
    assert recent.latest(9) == [b"small"]


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.dictionaries(st.sampled_from("abc"), st.none() | st.sampled_from(Verdict)))
    ),
    st.integers(1, 8),
    st.integers(1, 100),
)
def test_it_never_holds_more_than_it_may(
    records: list[tuple[int, dict[str, Verdict | None]]], most: int, most_bytes: int
) -> None:
    recent = Recent(most, most_bytes)
    for size, verdicts in records:
        recent.add(b"x" * size, verdicts)
        held = recent.latest(1000)
        assert len(held) == len(recent) <= most
        assert sum(map(len, held)) <= most_bytes


def line(request_id: str, record: str) -> bytes:
    escaped = request_id.replace("\\", "\\\\").replace('"', '\\"')
    return f'{{"schema":1,"id":"{escaped}","record":"{record}","at":"2026-01-31T12:00:00.123456Z"}}\n'.encode()


def test_a_record_is_found_by_its_id() -> None:
    recent = Recent()
    for record in IDS:
        recent.add(line("the same", record), {"a": MATCH})
    assert recent.find(IDS[3]) == line("the same", IDS[3])


@pytest.mark.parametrize("wanted", ["", "%", '","record":"', IDS[0].upper().replace("0", "F"), IDS[9][:-1]])
def test_an_invalid_record_id_finds_nothing(wanted: str) -> None:
    recent = Recent()
    recent.add(line("x", IDS[9]), {})
    assert recent.find(wanted) is None


def test_a_request_id_cannot_pass_for_a_record_id() -> None:
    recent = Recent()
    recent.add(line(f'","record":"{IDS[1]}",', IDS[2]), {})
    assert recent.find(IDS[1]) is None
    assert recent.find(IDS[2]) is not None


def test_the_longest_request_id_there_can_be_does_not_hide_the_record_id() -> None:
    recent = Recent()
    recent.add(line('"' * 128, IDS[1]), {})
    assert recent.find(IDS[1]) is not None


def test_threads_that_add_and_look_at_once_do_not_disturb_each_other() -> None:
    recent = Recent(most=20)

    def add() -> None:
        for number in range(3000):
            recent.add(b"%d" % number, {"a": MATCH if number % 7 else MISMATCH})

    adding = [threading.Thread(target=add) for _ in range(2)]
    for thread in adding:
        thread.start()
    while any(thread.is_alive() for thread in adding):
        assert len(recent.latest(50)) <= 20
    for thread in adding:
        thread.join()
    assert len(recent.latest(50)) == len(recent) == 20
