"""One exchange side by side."""

import base64
import io
import json
import subprocess

import pytest
from logs import answer, failed, record
from rich.console import Console

from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.show import curl_command, print_exchange
from shadowproxy.exchange import Outcome, Tunnel, TunnelEnd
from shadowproxy.record import Body, Record, RecordedRequest


def shown(record: Record, rules: Rules | None = None, shadow: str | None = None) -> str:
    out = io.StringIO()
    print_exchange(record, Console(file=out, width=100), rules=rules, shadow=shadow)
    return out.getvalue()


def test_lines_that_differ_are_marked_and_lines_that_do_not_are_not() -> None:
    text = shown(record(1, answer({"a": 1, "b": 2}), gbm=answer({"a": 1, "b": 3})))
    rows = {row.split(":")[0].strip(): row for row in text.splitlines() if row.lstrip().startswith('"')}
    assert "!" in rows['"b"']
    assert "!" not in rows['"a"']
    assert "verdict: mismatch" in text
    assert "/b  value: live 2, gbm 3" in text


def test_members_line_up_where_one_side_has_more() -> None:
    text = shown(record(1, answer({"a": 1, "c": 3}), gbm=answer({"b": 2, "c": 3})))
    row = next(row for row in text.splitlines() if '"c"' in row)
    assert row.count('"c": 3') == 2
    assert "!" not in row


def test_the_rules_decide_what_is_marked() -> None:
    both = record(1, answer({"id": 1}), gbm=answer({"id": 2}))
    assert "verdict: ignored" in shown(both, Rules(ignore=("/id",)))
    assert "!" not in shown(both, Rules(ignore=("/id",)))


def test_every_shadow_and_the_control_are_shown_unless_one_is_named() -> None:
    both = record(1, answer(1), a=answer(1), b=answer(2))._replace(control=answer(3))
    assert "control (live again)" in shown(both)
    assert "a — " not in shown(both, shadow="b")
    assert "control" not in shown(both, shadow="b")


def test_a_websocket_is_shown_by_its_sizes_and_who_ended_it() -> None:
    text = shown(record(1, answer(1))._replace(tunnel=Tunnel(1234, 5, TunnelEnd.IDLE)))
    assert "WebSocket: 1,234 bytes from the caller, 5 from live; ended by limits.tunnel_timeout" in text


def test_a_leg_without_an_answer_says_why() -> None:
    text = shown(record(1, answer(1), gbm=failed(Outcome.TIMEOUT, 30_000.0)))
    assert "timeout, 30,000.0 ms" in text
    assert "incomparable (shadow: timeout)" in text


def test_bodies_cannot_act_on_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x9b31m\u202e"
    asked = record(1, answer({evil: evil}), gbm=answer(evil))._replace(id="x")
    text_body = answer(1)._replace(body=Body("text", f"one{evil}\ntwo", 20))
    for text in (shown(asked), shown(asked._replace(live=text_body, shadows={"gbm": answer(1)}))):
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)
        assert "]0;owned" in text


def test_bodies_that_are_not_json_are_shown_as_what_they_are() -> None:
    live = answer(1)._replace(body=Body("text", "one\ntwo", 7))
    shadow = answer(1)._replace(body=Body("text", "one\nthree", 9))
    rows = shown(record(1, live, gbm=shadow)).splitlines()
    assert any("two" in row and "!" in row and "three" in row for row in rows)
    assert not any("!" in row for row in rows if row.split() == ["one", "one"])
    blob = answer(1)._replace(body=Body("bytes", b"\x00\xff", 2))
    assert "(2 bytes) 00 ff" in shown(record(1, blob, gbm=blob))
    hashed = answer(1)._replace(body=Body("none", None, 5, truncated=True, sha256="00"))
    assert "(5 bytes, not in the log)" in shown(record(1, hashed, gbm=blob))


def test_long_and_deep_bodies_are_cut() -> None:
    text = shown(record(1, answer(list(range(100_000))), gbm=answer(list(range(100_000)))))
    assert "more lines" in text
    assert len(text.splitlines()) < 300
    deep: object = 1
    for _ in range(900):
        deep = {"d": deep}
    assert "verdict: match" in shown(record(1, answer(deep), gbm=answer(deep)))


def test_a_request_without_shadows_shows_lives_answer() -> None:
    assert '"a": 1' in shown(record(1, answer({"a": 1})))


# --- curl ----------------------------------------------------------------------------------------------------------


def asked(body: Body, **headers: str | list[str]) -> Record:
    request = RecordedRequest(
        "POST", "/a b/../p", "q=1&r='x'", {name.replace("_", "-"): v for name, v in headers.items()}, body
    )
    return record(1, answer(1))._replace(request=request)


def sent(command: str) -> list[str]:
    """What bash would run in place of curl: its words, one a line, and its standard input."""
    script = 'curl() { printf "%s\\0" "$@"; case "$*" in *@-*) cat;; esac; }\n' + command
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=10)
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")


@pytest.mark.parametrize("text", ["plain", "it's", "a\nb", "\x1b[31m\x07", 'back\\slash $HOME `x` "q"', "é\u202e", ""])
def test_a_request_becomes_a_command_that_sends_the_same(text: str) -> None:
    command = curl_command(
        asked(Body("text", text, 9), x_note=[text, "two"], host="h", content_length="9"), "http://h:1/b/"
    )
    assert not {"\x1b", "\x07", "\u202e"} & set(command)
    assert sent(command)[:-1] == [
        *("--path-as-is", "-X", "POST", "-H", f"x-note: {text}" if text else "x-note;", "-H", "x-note: two"),
        *("--data-raw", text, "http://h:1/b/a b/../p?q=1&r='x'"),
    ]


def test_json_and_bytes_are_sent_as_they_are() -> None:
    assert json.loads(sent(curl_command(asked(Body("json", {"a": "é'"}, 9)), "http://h"))[4]) == {"a": "é'"}
    command = curl_command(asked(Body("bytes", b"\x00\xff'", 3)), "http://h")
    assert "| base64 -d | curl" in command
    assert base64.b64decode(command.split()[2]) == b"\x00\xff'"


def test_a_body_that_is_not_whole_is_said_to_be_missing() -> None:
    assert "not the whole body" in curl_command(asked(Body("text", "x", 9, truncated=True)), "http://h")


def test_a_body_is_never_taken_for_the_name_of_a_file() -> None:
    words = sent(curl_command(asked(Body("text", "@/etc/hostname", 14)), "http://h"))
    assert words[words.index("@/etc/hostname") - 1] == "--data-raw"


def long_text(end: str) -> str:
    return "the same words again and again, " * 60 + end + " and the same to the end" * 30


def test_what_differs_far_into_a_long_text_is_shown() -> None:
    live, shadow = long_text("LEFT"), long_text("RIGHT")
    text = shown(record(1, answer({"text": live}), gbm=answer({"text": shadow})))
    table, _, listed = text.partition("verdict")[2].partition("/text  value:")
    assert "LEFT" in listed
    assert "RIGHT" in listed
    assert "LEFT" in "".join(table.split())
    assert "RIGHT" in "".join(table.split())


def test_what_differs_in_the_last_of_many_lines_is_shown_with_what_stands_around_it() -> None:
    many = {"rows": list(range(3000)), "z": 1}
    text = shown(record(1, answer(many), gbm=answer({**many, "z": 2})))
    row = next(row for row in text.splitlines() if '"z": 1' in row)
    assert "!" in row
    assert '"z": 2' in row
    assert "3,000 more lines" in text
    assert len(text.splitlines()) < 40


def test_texts_of_many_lines_are_shown_where_they_part() -> None:
    lines = [f"line {number}" for number in range(1000)]
    legs = []
    for last in ("one end", "another end"):
        body = Body("text", "\n".join([*lines, last]), 9)
        legs.append(answer()._replace(body=body))
    text = shown(record(1, legs[0], gbm=legs[1]))
    row = next(row for row in text.splitlines() if row.startswith("one end"))
    assert "another end" in row
    assert "line 999" in text
    assert "line 500" not in text


def test_a_missing_member_is_missing_and_null_is_null() -> None:
    text = shown(record(1, answer({"a": None, "b": 1}), gbm=answer({"b": None, "c": None})))
    assert "/a  missing: live null, gbm missing" in text
    assert "/b  type: live 1, gbm null" in text
    assert "/c  extra: live missing, gbm null" in text


def test_numbers_say_how_far_apart_they_are() -> None:
    text = shown(record(1, answer({"p": 0.5}), gbm=answer({"p": 0.500002})))
    assert "/p  value: live 0.5, gbm 0.500002 (4.0e-06 of it apart)" in text


@pytest.mark.parametrize(("live", "other"), [(10**400, 0.5), (float("inf"), 1.0), (float("nan"), 1.0), (0, -0.5)])
def test_numbers_of_any_size_can_be_shown(live: float, other: float) -> None:
    assert "/p  value: live" in shown(record(1, answer({"p": live}), gbm=answer({"p": other})))
