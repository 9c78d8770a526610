"""What answers say, line by line and beside each other, as `show`, the page and the report have it."""

import json
from typing import Any

import pytest
from format_samples import NPY_FLOAT32
from hypothesis import given
from hypothesis import strategies as st
from logs import answer, record, said

from shadowproxy.answers import about
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.beside import Row, parts_of, raw_rows, rows_of, whole_line
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.html.elements import marked
from shadowproxy.compare.report.shown_lines import lines_of, raw_lines
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, RecordedLeg

PNG = b"\x89PNG\r\n\x1a\n" + bytes(30)


def events(*data: Any, last: str = "data: [DONE]\n\n") -> RecordedLeg:
    return said("".join(f"data: {json.dumps(each)}\n\n" for each in data) + last, "text/event-stream")


def chunk(id: str, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": id, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def chat(id: str, *texts: str) -> RecordedLeg:
    pieces = [chunk(id, {"content": text}) for text in texts]
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return events(chunk(id, {"role": "assistant", "content": ""}), *pieces, chunk(id, {}, "stop", usage=usage))


def in_bytes(raw: bytes, content_type: str) -> RecordedLeg:
    return RecordedLeg(Outcome.OK, 200, {"content-type": content_type}, Body("bytes", raw, len(raw)), 1.0, 2.0)


def shown(leg: RecordedLeg) -> list[str]:
    return [whole_line(line) for line in lines_of(leg)]


def beside(live: RecordedLeg, other: RecordedLeg) -> list[str]:
    """The rows, as text: `=` or `!` between the two."""
    rows = rows_of(lines_of(live), lines_of(other), differences(live, other))
    return [f"{row.live} {'!' if row.differs else '='} {row.other}" for row in rows]


def differences(live: RecordedLeg, other: RecordedLeg) -> Any:
    compared = recompared(live, other, Rules(), about(record(1, live, s=other), "s"))
    return compared.diff.listed() if compared.diff is not None else []


def test_a_stream_is_its_text_and_what_else_it_says() -> None:
    assert shown(chat("a", "Hello", " there\nand", " again")) == [
        "text: Hello there",
        "  and again",
        'stopped: "stop"',
        "usage: completion_tokens 2, prompt_tokens 5, total_tokens 7",
        "created: 1",
        'id: "a"',
        'model: "m"',
        'object: "chat.completion"',
    ]


def test_reasoning_calls_and_several_choices_are_told_apart() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "get", "arguments": '{"city":"Paris","n":1}'}}
    first = {"role": "assistant", "content": None, "reasoning_content": "It asks\nfor Paris.", "tool_calls": [call]}
    second = {"role": "assistant", "content": "No.", "refusal": "I will not."}
    choices = [
        {"index": 0, "message": first, "finish_reason": "tool_calls"},
        {"index": 1, "message": second, "finish_reason": "stop"},
    ]
    assert shown(said({"choices": choices})) == [
        "0: reasoning: It asks",
        "  for Paris.",
        '0: call get: {"city": "Paris", "n": 1}',
        "1: text: No.",
        "1: refusal: I will not.",
        '0: stopped: "tool_calls"',
        '1: stopped: "stop"',
        'choices/0/message/tool_calls/0/id: "c"',
    ]


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (
            {
                "type": "message",
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "Hello"},
                    {"type": "tool_use", "name": "get", "input": {"n": 1}},
                ],
                "stop_reason": "tool_use",
                "usage": {"input_tokens": 4, "cache_creation": {"five": 0}},
            },
            [
                "reasoning: hm",
                "text: Hello",
                'call get: {"n": 1}',
                'stopped: "tool_use"',
                "usage: cache_creation/five 0, input_tokens 4",
                'role: "assistant"',
                'type: "message"',
            ],
        ),
        (
            {
                "object": "response",
                "status": "completed",
                "output": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": "Hello", "annotations": []}]},
                    {"type": "function_call", "name": "get", "arguments": "{"},
                ],
            },
            ["reasoning: hm", "text: Hello", 'call get: "{"', 'object: "response"', 'status: "completed"'],
        ),
        (
            {"model": "m", "message": {"role": "assistant", "content": "Hello", "thinking": "hm"}, "done": True}
            | {"done_reason": "stop", "eval_count": 3},
            ["text: Hello", "reasoning: hm", 'stopped: "stop"', "done: true", "eval_count: 3", 'model: "m"'],
        ),
        (
            {
                "candidates": [
                    {
                        "content": {
                            "parts": [
                                {"text": "hm", "thought": True},
                                {"text": "Hello"},
                                {"functionCall": {"name": "get", "args": {"n": 1}}},
                            ]
                        },
                        "finishReason": "STOP",
                    }
                ],
                "usageMetadata": {"totalTokenCount": 9},
            },
            ["reasoning: hm", "text: Hello", 'call get: {"n": 1}', 'stopped: "STOP"', "usage: totalTokenCount 9"],
        ),
    ],
    ids=["messages", "responses", "ollama", "gemini"],
)
def test_every_api_of_language_models_is_shown_alike(value: Any, lines: list[str]) -> None:
    assert shown(said(value)) == lines


def test_a_failure_and_a_warning_come_first() -> None:
    cut = in_bytes(NPY_FLOAT32[:-4], "application/x-npy")
    assert shown(cut)[0].startswith("(failed: not npy: ")
    broken = events(chunk("a", {"content": "Hel"}), {"error": {"message": "boom"}})
    assert shown(broken)[:2] == ["(failed: boom)", "text: Hel"]
    assert shown(said("a,b\n1\n", "text/csv"))[0].startswith("(")


def test_where_one_answer_has_failed_all_of_it_is_marked() -> None:
    failed = events({"error": {"message": "boom"}}, last="")
    assert beside(chat("a", "Hello"), failed)[:2] == ["text: Hello ! (failed: boom)", 'stopped: "stop" ! [']


def test_a_table_has_aligned_columns() -> None:
    live = said("name,price\nshort,1\na longer name,22.5\n", "text/csv")
    other = said("name,price\nshort,1\na longer name,21.5\n", "text/csv")
    assert beside(live, other) == [
        "name           price = name           price",
        "short          1 = short          1",
        "a longer name  22.5 ! a longer name  21.5",
    ]
    wide = said("\n".join([",".join(map(str, range(50)))] * 2), "text/csv")
    assert shown(wide)[0].endswith("38  39  … 10 more")


def test_an_array_is_its_type_shape_and_first_numbers_and_how_far_the_other_is() -> None:
    live, other = (in_bytes(raw, "application/x-npy") for raw in (NPY_FLOAT32, NPY_FLOAT32[:-4] + b"\0\0\x40\x3f"))
    assert beside(live, live) == [
        "float32 [2, 2]: 0.1, 0.9, 0.25, 0.75 = float32 [2, 2]: 0.1, 0.9, 0.25, 0.75 (the same numbers)"
    ]
    other = in_bytes(NPY_FLOAT32[:-4] + b"\0\0\0\x3f", "application/x-npy")
    assert beside(live, other) == [
        "float32 [2, 2]: 0.1, 0.9, 0.25, 0.75 ! float32 [2, 2]: 0.1, 0.9, 0.25, 0.5 "
        "(1 of 4 numbers are not the same, by up to 0.25)"
    ]


def test_an_embedding_has_the_angle_to_the_other() -> None:
    legs = [
        said({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": numbers}]})
        for numbers in ([1, 0, 0, 0, 0], [0, 1, 0, 0, 0])
    ]
    (row,) = [each for each in beside(*legs) if "!" in each]
    assert row.split(" ! ")[1] == '      "embedding": float64 [5]: 0, 1, 0, 0, … (1 - cosine = 1)'


def test_an_image_is_its_type_size_and_hash() -> None:
    assert beside(in_bytes(PNG, "image/png"), in_bytes(PNG + b"\0", "image/png")) == [
        "image/png, 38 bytes, SHA-256 fe1a90a4889dcec0… ! image/png, 39 bytes, SHA-256 c19461e3f4230715…"
    ]


def test_a_new_line_in_a_text_marks_only_itself() -> None:
    live, other = chat("a", "one\ntwo\nthree"), chat("b", "one\nnew\ntwo\nthree!")
    assert beside(live, other)[:5] == [
        "text: one = text: one",
        " !   new",
        "  two =   two",
        "  three !   three!",
        'stopped: "stop" = stopped: "stop"',
    ]
    assert [each for each in beside(live, chat("b", "one\ntwo\nthree")) if " ! " in each] == []


def test_answers_in_two_envelopes_are_lined_up_by_what_they_say() -> None:
    other = said({"type": "message", "content": [{"type": "text", "text": "Hello, you"}], "stop_reason": "end_turn"})
    assert beside(chat("a", "Hello"), other)[:2] == [
        "text: Hello ! text: Hello, you",
        'stopped: "stop" = stopped: "end_turn"',
    ]


def test_what_differs_within_a_line_is_between_what_is_equal() -> None:
    assert parts_of(Row("a big cat", True, "a small cat")) == (("a ", "big", " cat"), ("a ", "small", " cat"))
    assert parts_of(Row("aa", True, "aaa")) == (("aa", "", ""), ("aa", "a", ""))
    assert parts_of(Row("", True, "new")) == (("", "", ""), ("", "new", ""))


def test_the_html_report_marks_what_differs_and_nothing_in_it_is_markup() -> None:
    assert marked("a <b> 1", "a <b> 2\u202e") == (
        "<code>a &lt;b&gt; <mark>1</mark></code>",
        "<code>a &lt;b&gt; <mark>2\\u202e</mark></code>",
    )
    assert marked("same", "same") == ("<code>same</code>", "<code>same</code>")


def test_the_examples_of_a_report_are_marked() -> None:
    value, other = (said({"text": f"The flight is {word}."}) for word in ("late", "early"))
    records = [record(number, value, s=other) for number in range(30)]
    page = to_html(to_json(summarise(records, Rules())))
    assert "<code>&quot;The flight is <mark>late</mark>.&quot;</code>" in page
    assert "<code>&quot;The flight is <mark>early</mark>.&quot;</code>" in page


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_the_parts_of_a_line_are_all_of_it(one: str, other: str) -> None:
    live, shadow = parts_of(Row(one, True, other))
    assert ("".join(live), "".join(shadow)) == (one, other)
    assert (live[0], live[2]) == (shadow[0], shadow[2])
    assert one == other or live[1] != shadow[1]


def test_as_sent_a_stream_is_its_events_and_bytes_are_bytes() -> None:
    live, other = chat("a", "Hello"), chat("b", "Hello!")
    rows = raw_rows(raw_lines(live), raw_lines(other), differences(live, other))
    assert '"content": "Hello"' in rows[2].live
    assert rows[2].differs
    assert [row.live for row in rows if row.live.startswith("data: [DONE]") and not row.differs]
    same = raw_rows(raw_lines(live), raw_lines(chat("b", "Hello")), ())
    assert not any(row.differs for row in same)
    assert [whole_line(line) for line in raw_lines(in_bytes(PNG[:18], "image/png"))] == [
        "00000000  89 50 4e 47 0d 0a 1a 0a 00 00 00 00 00 00 00 00  .PNG............",
        "00000010  00 00                                            ..",
    ]


EVIL = "\x1b]0;owned\x07\x9b31m\u202e\r"


@pytest.mark.parametrize(
    "leg",
    [
        chat(EVIL, EVIL),
        said({"choices": [{"message": {"content": EVIL, EVIL: EVIL, "tool_calls": [{"name": EVIL, "args": EVIL}]}}]}),
        said(
            {"choices": [{"message": {"content": "x"}, "finish_reason": {EVIL: EVIL}}], "usage": {EVIL: {EVIL: EVIL}}}
        ),
        said(f"{EVIL},b\n{EVIL},2\n", "text/csv"),
        events({EVIL: EVIL}),
        said({EVIL: [EVIL]}),
    ],
)
def test_nothing_in_an_answer_can_act_on_who_reads_it(leg: RecordedLeg) -> None:
    for row in rows_of(lines_of(leg), lines_of(answer(1)), differences(leg, answer(1))):
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r", "\n"} & set(row.live)
    for line in raw_lines(leg):
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(whole_line(line))


def test_long_answers_are_cut() -> None:
    for leg in (
        chat("a", "word " * 100_000),
        chat("a", "line\n" * 100_000),
        said("a,b\n" * 50_000, "text/csv"),
        said({"choices": [{"message": {"content": "x", **{f"k{n}": n for n in range(50_000)}}}]}),
    ):
        rows = rows_of(lines_of(leg), lines_of(leg), ())
        assert len(rows) <= 401
        assert max(len(row.live) for row in rows) <= 2_100


def test_deep_answers_of_models_are_shown() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = {"content": [deep]}
    assert len(shown(answer({"choices": [{"message": {"content": [deep]}}]}))) == 1
