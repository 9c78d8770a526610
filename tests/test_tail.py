"""A log followed as it grows."""

import io
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from logs import answer, failed, record, said
from rich.console import Console

from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.tail import follow, print_line
from shadowproxy.exchange import Exchange, Outcome, Reply, Request
from shadowproxy.record import Record
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy


def line(number: int) -> bytes:
    request = Request(f"id-{number}", f"r-{number}", number * 10**9, "GET", b"/", (), b"", 0)
    return encode(Exchange(request, Reply(200, (), b"", 0, 1.0, 2.0), {}), proxy="h", policy=Policy(), judge=None)


def add(file: Path, *pieces: bytes) -> Callable[[], None]:
    def write() -> None:
        with file.open("ab") as log:
            log.write(b"".join(pieces))

    return write


def followed(path: Path, count: int, *then: Callable[[], None], last: int = 10) -> list[str]:
    """The IDs of the first `count` records; at each pause the next of `then` happens."""
    steps = iter(then)

    def pause() -> None:
        step = next(steps, None)
        assert step is not None, "nothing more is written, and not everything was told"
        step()

    return [each.id for each in islice(follow(path, last=last, pause=pause), count)]


def test_the_last_records_come_first_and_then_each_as_it_is_added(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    add(file, *(line(n) for n in range(5)))()
    assert followed(tmp_path, 4, add(file, line(5)), add(file, line(6)), last=2) == ["id-3", "id-4", "id-5", "id-6"]


def test_a_line_is_told_when_it_is_whole_and_once(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    whole = line(1)
    add(file, line(0), whole[:20])()
    assert followed(tmp_path, 3, add(file, whole[20:40]), add(file, whole[40:], line(2))) == ["id-0", "id-1", "id-2"]


def test_the_next_segment_is_followed_and_a_closed_one_may_go(tmp_path: Path) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    add(first, line(0))()
    assert followed(tmp_path, 3, add(second, line(1)), first.unlink, add(second, line(2))) == ["id-0", "id-1", "id-2"]


def test_lines_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    add(file, b"nonsense\n", line(0), b"{}\n")()
    assert followed(file, 2, add(file, b"\x00\n", line(1))) == ["id-0", "id-1"]


def test_none_of_the_past_is_shown_when_none_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    add(file, line(0))()
    assert followed(file, 1, add(file, line(1)), last=0) == ["id-1"]


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(follow(tmp_path / "nowhere"))


def told(one: Record, *, shadow: str | None = None, mismatches: bool = False) -> str:
    out = io.StringIO()
    print_line(one, Console(file=out, width=300), rules=Rules(), shadow=shadow, mismatches=mismatches)
    return out.getvalue()


def test_a_line_has_the_time_the_answers_and_the_verdicts() -> None:
    text = told(record(7, answer({"a": 1}), 1.5, gbm=answer({"a": 2}), dead=failed(Outcome.TIMEOUT, 30_000.0)))
    assert text == (
        "12:00:01.500 POST /predict  200 5.0 ms  gbm 200 5.0 ms mismatch (/a: live 1, gbm 2)"
        "  dead timeout 30000.0 ms  id-7\n"
    )


def test_a_line_has_what_answers_say_where_they_differ_first() -> None:
    events = [
        "".join(
            f"data: {json.dumps({'id': id, 'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n"
            for text in ("It is late by ", minutes, " minutes.")
        )
        + "data: [DONE]\n\n"
        for id, minutes in (("a", "25"), ("b", "40"))
    ]
    live, other = (said(each, "text/event-stream") for each in events)
    assert 'mismatch (/choices/0/message/content: live "It is late by 25 minutes.", gbm "It is late by 40' in told(
        record(1, live, gbm=other)
    )
    assert " match  id-1" in told(record(1, live, gbm=said(events[0].replace('"a"', '"z"'), "text/event-stream")))
    assert "mismatch (/a: live 1, gbm 2 and 1 more)" in told(record(1, answer({"a": 1, "b": 1}), gbm=answer({"a": 2})))
    assert "mismatch (status: live 200, gbm 500)" in told(record(1, answer(1), gbm=answer(1, status=500)))
    hostile = told(record(1, answer({"\x1b[2J": "\x1b[2J"}), gbm=answer({"\x1b[2J": "\u202e"})))
    assert not {"\x1b", "\u202e"} & set(hostile)


def test_only_the_named_shadow_and_only_mismatches_are_told_when_asked() -> None:
    same, other = answer({"a": 1}), answer({"a": 2})
    assert "dead" not in told(record(1, same, gbm=other, dead=other), shadow="gbm")
    assert told(record(1, same, gbm=same), mismatches=True) == ""
    assert told(record(1, same, gbm=other), mismatches=True) != ""
    assert told(record(1, same, gbm=same, dead=other), shadow="gbm", mismatches=True) == ""
    assert told(record(1, same, gbm=failed(Outcome.LANE_FULL)), mismatches=True) != ""


def test_what_a_caller_sent_cannot_act_on_the_terminal() -> None:
    one = record(1, answer(1))
    text = told(one._replace(request=one.request._replace(path="/\x1b[2J", method="\x9b1m"), id="\x07"))
    assert not {"\x1b", "\x9b", "\x07"} & set(text)
