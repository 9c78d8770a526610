"""Different answers that were read into equal ones: each pair here is no match."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from shadowproxy.answers import chat_stream, converse_stream, responses_stream
from shadowproxy.answers.sse import Event
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import judge
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Body, RecordedLeg


def answer(said: Any, type: str = "application/json") -> RecordedLeg:
    body = Body("text", said, len(said)) if isinstance(said, str) else Body("json", said, 100)
    return RecordedLeg(Outcome.OK, 200, {"content-type": type}, body)


def differ(one: Any, other: Any, type: str = "application/json") -> list[str]:
    """The places where two answers differ; fails unless that is a mismatch, and each matches itself."""
    legs = answer(one, type), answer(other, type)
    for each in legs:
        assert judge(each, each, Rules()).verdict is Verdict.MATCH
    found = judge(*legs, Rules())
    assert found.verdict is Verdict.MISMATCH
    return [each.path for each in found.differences]


def chunks(*deltas: Any, reason: str = "stop", before: str = "") -> str:
    events = [{"choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    return "".join(f"data: {json.dumps(each)}\n\n" for each in events) + before + "data: [DONE]\n\n"


def test_a_longer_row_keeps_its_last_cell_below_a_row_of_names() -> None:
    assert differ("name,score\nx,1,0.9\n", "name,score\nx,1,0.1\n", "text/csv") == ["/1/2"]


def test_what_a_model_says_aloud_counts_piece_by_piece() -> None:
    def spoken(words: str) -> str:
        pieces = [{"audio": {"id": "a", "transcript": f"{word} ", "data": word}} for word in words.split()]
        return chunks({"role": "assistant", "content": None}, *pieces, {"audio": {"expires_at": 5}})

    places = differ(spoken("yes yes you may"), spoken("yes you may"), "text/event-stream")
    assert places == [f"/choices/0/message/audio/{name}" for name in ("transcript", "data")]


@pytest.mark.parametrize(
    "pieces",
    [
        lambda words: [{"reasoning_details": [{"type": "reasoning.text", "text": each}]} for each in words],
        lambda words: [{"thought": each} for each in words],
    ],
)
def test_members_in_pieces_count_whole(pieces: Any) -> None:
    one, other = (chunks({"role": "assistant", "content": "3"}, *pieces(said)) for said in (["a", "c"], ["b", "c"]))
    assert len(differ(one, other, "text/event-stream")) == 1


def test_a_member_that_each_chunk_repeats_is_one() -> None:
    stream = chunks(*({"role": "assistant", "content": each, "name": "n", "x": 1} for each in "ab"))
    message = {"role": "assistant", "content": "ab", "name": "n", "x": 1}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    assert judge(answer(stream, "text/event-stream"), answer(whole), Rules()).verdict is Verdict.MATCH


def test_a_text_between_the_events_of_a_stream_is_a_difference() -> None:
    said = {"content": "yes"}
    places = differ(chunks(said), chunks(said, before="data: CUDA out of memory\n\n"), "text/event-stream")
    assert places == ["/texts"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"embedding": [0.3]}, {"embedding": [0.9]}),
        ({"embeddings": [[0.3], [0.1]]}, {"embeddings": [[0.9], [0.5]]}),
        ({"embedding": [1e-200, 0.0, 0.0]}, {"embedding": [0.0, 1e-200, 0.0]}),
        ({"id": "Q7", "choices": [{"text": "A"}]}, {"id": "Q8", "choices": [{"text": "A"}]}),
    ],
    ids=["one number", "one number each", "tiny", "choices of a question"],
)
def test_values_that_only_look_like_another_form_differ(one: Any, other: Any) -> None:
    assert differ(one, other)


def test_two_answers_without_a_word_in_two_envelopes_are_compared_whole() -> None:
    message = {"role": "assistant", "content": None, "audio": {"data": "AAAA"}}
    chat = answer({"choices": [{"message": message, "finish_reason": "stop"}]})
    other = answer({"type": "message", "content": [], "stop_reason": "end_turn"})
    assert judge(chat, other, Rules()).verdict is Verdict.MISMATCH


# --- streams whose pieces look back at all that came before


def test_the_parts_of_a_name_that_are_empty_are_not_kept() -> None:
    """Some servers repeat the whole name in each piece: then it is compared with all of its parts."""
    call = chat_stream._Call(0)
    for name in ("a", "", "", "", "a", "a"):
        call.add({"function": {"name": name}})
    assert call._names == ["a"]
    assert call.whole()["function"]["name"] == "a"


class Looked(list[Any]):
    """A list that counts how often all of it is looked at."""

    times = 0

    def __iter__(self) -> Iterator[Any]:
        self.times += 1
        return super().__iter__()


def test_the_parts_of_an_item_are_looked_at_once_whatever_number_of_pieces_follows() -> None:
    content = Looked([{"type": "output_text", "text": "a"}])
    pieces = [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": at, "delta": "b"} for at in range(50)
    ]
    item = {"type": "message", "content": content}
    made = responses_stream.assembled(
        [{"type": "response.output_item.added", "output_index": 0, "item": item}, *pieces]
    )
    assert made.value["output"] == [item]
    assert content.times <= 3


def test_a_piece_without_a_block_of_its_own_belongs_to_the_highest() -> None:
    indices: list[dict[str, Any]] = [{"contentBlockIndex": 2}, {"contentBlockIndex": 0}, {}]
    events = [Event("contentBlockDelta", {**each, "delta": {"text": "a"}}) for each in indices]
    made = converse_stream.assembled(events)
    assert made.value["output"]["message"]["content"] == [{"text": "a"}, {"text": "aa"}]
