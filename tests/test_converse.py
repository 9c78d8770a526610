"""Bedrock's ConverseStream, in frames with the padding of the real service, put together to Converse's answer."""

import json
from typing import Any

import pytest
from test_alike import chat, converse, judged, places, said
from test_formats import FRAMES, frame

from shadowproxy.answers import answer_value, failed_reason
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, RecordedLeg

Events = list[tuple[str, dict[str, Any]]]


def framed(events: Events, padding: str = "abcdefg") -> bytes:
    return b"".join(
        frame(json.dumps(data | {"p": padding}).encode(), event_type=name, message_type="event")
        for name, data in events
    )


def sent(raw: bytes) -> RecordedLeg:
    return RecordedLeg(Outcome.OK, 200, {"content-type": FRAMES}, Body("bytes", raw, len(raw)))


def block(at: int, **delta: Any) -> tuple[str, dict[str, Any]]:
    return "contentBlockDelta", {"contentBlockIndex": at, "delta": delta}


def ended(at: int = 1, reason: str = "end_turn") -> Events:
    whole = converse("", at)
    metadata = {"metrics": whole["metrics"], "usage": whole["usage"]}
    return [("messageStop", {"stopReason": reason}), ("metadata", metadata)]


def text(*pieces: str, at: int = 1) -> RecordedLeg:
    deltas = [block(0, text=each) for each in pieces]
    begun: Events = [("messageStart", {"role": "assistant"})]
    stop: Events = [("contentBlockStop", {"contentBlockIndex": 0})]
    return sent(framed([*begun, *deltas, *stop, *ended(at)], "abcdefghijklmnop"[: 3 * at]))


def test_other_pieces_and_other_padding_are_the_same_answer() -> None:
    judgement = judged(text("Hel", "lo"), text("H", "el", "lo", at=2))
    assert judgement.verdict == "match"
    assert "/metrics/latencyMs" in judgement.set_aside
    assert places(judged(text("Hel", "lo"), text("Help", at=2))) == [("/output/message/content/0/text", "value", None)]


def test_a_stream_matches_the_whole_answer_and_that_of_another_api() -> None:
    assert judged(text("Hel", "lo"), said(converse("Hello", 2))).verdict == "match"
    assert judged(text("Hel", "lo"), said(chat("Hello", 2))).verdict == "match"
    judgement = judged(text("Hel", "p"), said(chat("Hello", 2)))
    assert places(judgement) == [("/answer", "value", "/choices/0/answer")]


def called(arguments: str, identity: str = "t1") -> Events:
    start = {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": identity, "name": "delay_of"}}}
    half = len(arguments) // 2
    pieces = [block(1, toolUse={"input": arguments[:half]}), block(1, toolUse={"input": arguments[half:]})]
    begun: Events = [("messageStart", {"role": "assistant"}), block(0, text="I look."), ("contentBlockStart", start)]
    return [*begun, *pieces, *ended(reason="tool_use")]


def test_the_arguments_of_a_call_are_a_value_as_in_a_whole_answer() -> None:
    streamed = sent(framed(called('{"day": 3}')))
    use = {"toolUseId": "t2", "name": "delay_of", "input": {"day": 3}}
    message = {"role": "assistant", "content": [{"text": "I look."}, {"toolUse": use}]}
    whole = converse("", 2, output={"message": message}, stopReason="tool_use")
    assert judged(streamed, said(whole)).verdict == "match"
    assert answer_value(streamed)["answer"] == 'I look.\ndelay_of({"day":3})'
    other = judged(streamed, sent(framed(called('{"day": 4}', "t2"))))
    assert places(other) == [("/output/message/content/1/toolUse/input/day", "value", None)]


def test_thoughts_are_where_a_whole_answer_has_them_and_no_part_of_the_answer() -> None:
    thoughts = [block(0, reasoningContent={"text": each}) for each in ("Hm", "m.")]
    events: Events = [*thoughts, block(0, reasoningContent={"signature": "s1"}), block(1, text="Late."), *ended()]
    streamed = sent(framed([("messageStart", {"role": "assistant"}), *events]))
    thought = {"reasoningContent": {"reasoningText": {"text": "Hmm.", "signature": "s2"}}}
    message = {"role": "assistant", "content": [thought, {"text": "Late."}]}
    judgement = judged(streamed, said(converse("", 1, output={"message": message})))
    assert judgement.verdict == "match"
    assert "/output/message/content/*/reasoningContent/reasoningText/signature" in judgement.set_aside
    assert answer_value(streamed)["answer"] == "Late."


def test_a_stream_without_its_last_event_has_failed() -> None:
    raw = framed([("messageStart", {"role": "assistant"}), block(0, text="Hel")])
    assert failed_reason(sent(raw)) is not None
    assert failed_reason(text("Hel")) is None


@pytest.mark.parametrize(
    "delta",
    [
        None,
        1,
        [],
        "text",
        {"text": 1},
        {"toolUse": 1},
        {"toolUse": {"input": 5}},
        {"toolUse": {"input": "{"}},
        {"text": None},
    ],
)
@pytest.mark.parametrize("index", [None, -1, "0", 1 << 80, [], True])
def test_events_of_any_content_are_read(delta: Any, index: Any) -> None:
    for name, member in (("contentBlockDelta", "delta"), ("contentBlockStart", "start")):
        events: Events = [(name, {"contentBlockIndex": index, member: delta}), *ended()]
        value = answer_value(sent(framed([*events, ("messageStop", {"stopReason": None}), ("metadata", {"usage": 5})])))
        assert isinstance(value["output"]["message"]["content"], list)
