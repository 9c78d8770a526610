"""Whatever a server sends, reading it raises nothing, ends soon, and gives what JSON can hold."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import record, report_json

from shadowproxy.answers import answer_value, failed_reason, reason_of
from shadowproxy.answers.masking import LONGEST
from shadowproxy.compare.fold.streams import times_of
from shadowproxy.compare.fold.summary import load, save, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import compare
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.markdown import to_markdown
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, RecordedLeg

WORDS = """
choices delta message content text index finish_reason tool_calls function_call function name arguments refusal
role id object usage completion_tokens type message_start message_stop content_block content_block_start
content_block_delta message_delta input_json_delta partial_json text_delta thinking response response.completed
response.failed response.output_text.delta response.output_item.done response.created output output_index item
content_index done error errors detail loc msg status info reason code success outputs data shape tensor values
embedding chat.completion.chunk logprobs result isError eval_count prediction
predictions candidates content parts finishReason functionCall args thought usageMetadata datatype ndarray event_id
msg process_completed process_starts output usage"""
NAMES = st.sampled_from([*WORDS.split(), "*", "*a", "a*", "a/*b"])
TYPES = ["text/event-stream", "application/x-ndjson", "application/jsonlines", "application/json", "", "text/html"]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | NAMES
    | st.sampled_from(["0", "7", "-1", "²", "9" * 400, "[DONE]", "stop", "error", "chat.completion.chunk", "list"])
    | st.sampled_from([10**30, -(10**400), 1e308, -1])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(NAMES | st.text(max_size=4), below, max_size=5),
    max_leaves=25,
)


def said(body: Body, content_type: str, status: int | None = 200) -> RecordedLeg:
    return RecordedLeg(Outcome.OK, status, {"content-type": content_type} if content_type else {}, body, 1.0, 9.0)


def text_of(form: str, events: list[Any]) -> str:
    lines = [json.dumps(each) for each in events]
    if form == "events":
        return "".join(f"data: {line}\n\n" for line in lines)
    if form == "named":
        return "".join(f"event: {line[:12]}\r\ndata: {line}\r\n\r\n" for line in lines)
    return "\n".join(lines)


def read_all(answer: RecordedLeg) -> None:
    value = answer_value(answer)
    repr(value)
    json.dumps(value)
    for line in (failed_reason(answer), reason_of(answer)):
        assert line is None or (0 < len(line) <= LONGEST and line.isprintable())
    times_of(answer)
    assert compare(answer, answer, Rules()).verdict != "mismatch"


@given(values, st.sampled_from([200, 422, 500, None]))
def test_any_json(value: Any, status: int | None) -> None:
    answer = said(Body("json", value, 9), "application/json")._replace(status=status)
    read_all(answer)


@given(
    st.lists(values, max_size=6),
    st.sampled_from(["events", "named", "lines"]),
    st.sampled_from(TYPES),
)
def test_any_stream(events: list[Any], form: str, content_type: str) -> None:
    text = text_of(form, events)
    read_all(said(Body("text", text, len(text)), content_type))


chunks = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({"index": scalars, "delta": values, "finish_reason": scalars}) | values
        )
    },
    optional={"usage": values, "error": values, "id": scalars},
)
message_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error"]
        )
    },
    optional={"index": scalars, "message": values, "delta": values, "content_block": values, "usage": values},
)
response_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                *("response.created", "response.output_item.added", "response.output_item.done", "response.completed"),
                *("response.output_text.delta", "response.function_call_arguments.delta", "response.failed"),
            ]
        )
    },
    optional={"response": values, "item": values, "output_index": scalars, "delta": scalars, "content_index": scalars},
)
ollama_lines = st.fixed_dictionaries(
    {"done": st.booleans()}, optional={"message": values, "response": values, "error": values, "eval_count": scalars}
)


@pytest.mark.parametrize("events", [chunks, message_events, response_events], ids=["chat", "messages", "responses"])
def test_any_stream_of_a_known_api(events: st.SearchStrategy[Any]) -> None:
    @given(st.lists(events | values, max_size=6))
    def holds(drawn: list[Any]) -> None:
        text = text_of("events", drawn)
        read_all(said(Body("text", text, len(text)), "text/event-stream"))

    holds()


@given(st.lists(ollama_lines | values, max_size=6))
def test_any_lines_of_ollama(lines: list[Any]) -> None:
    text = text_of("lines", lines)
    read_all(said(Body("text", text, len(text)), "application/x-ndjson"))


@given(
    st.text(alphabet=st.sampled_from("data:event id\n\r\ufeff\u2028\x85{}[]\",0:é\x00\\\x1e<>'`=@"), max_size=60)
    | st.text(),
    st.sampled_from(TYPES),
    st.sampled_from([200, 500]),
)
def test_any_text(text: str, content_type: str, status: int) -> None:
    read_all(said(Body("text", text, len(text)), content_type, status))


@given(st.sampled_from(list(Outcome)), st.text() | st.none())
def test_any_error_of_a_leg(outcome: Outcome, error: str | None) -> None:
    line = reason_of(RecordedLeg(outcome, error=error))
    assert 0 < len(line) <= LONGEST


@given(
    st.lists(
        st.tuples(values, st.sampled_from(["json", "events", "lines", "text"]), st.sampled_from([200, 200, 400, 500])),
        min_size=2,
        max_size=12,
    )
)
@settings(max_examples=60)
def test_any_answers_make_a_report(drawn: list[tuple[Any, str, int]]) -> None:
    made = []
    for value, form, status in drawn:
        text = text_of(form, value if isinstance(value, list) else [value])
        body = Body("json", value, 9) if form == "json" else Body("text", text, len(text))
        kind = {"events": "text/event-stream", "lines": "application/x-ndjson", "text": "text/plain"}.get(form, "")
        made.append(said(body, kind, status))
    records = [record(n, one, n, s=other) for n, (one, other) in enumerate(zip(made, reversed(made), strict=True))]
    summary = summarise(records, Rules())
    figures = report_json(summary)
    assert report_json(load(save(summary))) == figures
    json.dumps(figures, allow_nan=False)
    to_markdown(figures)
    to_html(figures)
