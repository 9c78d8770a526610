"""Logs of models that nobody has: every kind of answer, and what a shadow may do to it, each from a seed.

The rows are what the proxy writes, one JSON object a line, so that all of the way from the log to the verdict is tried.
"""

import json
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
WORDS = [
    "a",
    "model",
    "says",
    "that",
    "the",
    "small",
    "red",
    "house",
    "by",
    "river",
    "is",
    "far",
    "and",
    "blue",
    "train",
    "runs",
]

Leg = dict[str, Any]
Row = dict[str, Any]
Value = Any


def leg(source: random.Random, body: Any = None, status: int = 200, *, ms: float | None = None, **more: Any) -> Leg:
    """An answer as the log has it: JSON, or `text` with the type `type`."""
    ms = source.lognormvariate(1.5, 0.4) if ms is None else ms
    text = more.get("text", _no_json(body))
    kept = {"body": body} if text is None else {"body_text": text}
    headers = {"content-type": more.get("type", "application/json")}
    return {
        "outcome": "ok",
        "status": status,
        "headers": headers,
        "body_bytes": 90,
        **kept,
        "first_byte_ms": ms / 2,
        "total_ms": ms,
    }


def _no_json(body: Any) -> str | None:
    """What servers in Python write for NaN is no JSON, and is kept as text."""
    text = json.dumps(body)
    return text if "NaN" in text or "Infinity" in text else None


def failed(outcome: str, ms: float = 2000.0) -> Leg:
    return {"outcome": outcome, "error": outcome, "total_ms": ms}


def sse(events: Iterable[tuple[str, Any]], done: bool = True) -> str:
    said = "".join(
        f"event: {name}\ndata: {json.dumps(data)}\n\n" if name else f"data: {json.dumps(data)}\n\n"
        for name, data in events
    )
    return said + ("data: [DONE]\n\n" if done else "")


@dataclass(frozen=True)
class Kind:
    """`value` is what the model says to a request, the same each time; `answer` is how its API says it."""

    value: Callable[[Row], Value]
    answer: Callable[[random.Random, Value], Leg]
    path: str = "/predict"


def _json(shape: Callable[[random.Random, Value], Any]) -> Callable[[random.Random, Value], Leg]:
    return lambda source, value: leg(source, shape(source, value))


def _hex(source: random.Random) -> str:
    return f"{source.getrandbits(64):016x}"


def _seeded(asked: Row) -> random.Random:
    return random.Random(asked["n"] * 1000 + asked["m"])


def _vector(asked: Row) -> Value:
    weights = [math.exp(2 * math.sin(asked["x"] * 9 + at * 2 + asked["n"])) for at in range(4)]
    return [each / sum(weights) for each in weights]


def _text(asked: Row) -> Value:
    return " ".join(_seeded(asked).choices(WORDS, k=14))


def _number(asked: Row) -> Value:
    return round(asked["x"] * 3 + asked["n"], 6)


def _ranking(asked: Row) -> Value:
    return [f"p{each}" for each in _seeded(asked).sample(range(200), 8)]


def _embedding(asked: Row) -> Value:
    source = _seeded(asked)
    values = [source.gauss(0, 1) for _ in range(48)]
    norm = math.sqrt(sum(each * each for each in values))
    return [each / norm for each in values]


def _tool(asked: Row) -> Value:
    return {
        "name": ("weather", "search", "book")[asked["n"] % 3],
        "arguments": json.dumps({"city": WORDS[asked["m"] % 7]}),
    }


def _chat(source: random.Random, value: Value) -> Any:
    message = {"role": "assistant", "content": value}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 14, "total_tokens": 23}
    return {
        "id": f"chatcmpl-{_hex(source)}",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def _chunk(source: random.Random, delta: Any, finish: str | None = None) -> tuple[str, Any]:
    return "", {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def _streamed(source: random.Random, value: Value) -> Leg:
    words = [_chunk(source, {"content": f"{word} "}) for word in (value or "").split()]
    events = [_chunk(source, {"role": "assistant", "content": ""}), *words, _chunk(source, {}, "stop")]
    return leg(source, text=sse(events), type="text/event-stream")


def _tool_streamed(source: random.Random, value: Value) -> Leg:
    name, said = value["name"], value["arguments"]
    call = {"index": 0, "id": f"call_{_hex(source)}", "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = [{"tool_calls": [{"index": 0, "function": {"arguments": each}}]} for each in (said[:5], said[5:])]
    deltas = [{"role": "assistant", "content": None, "tool_calls": [call]}, *pieces]
    events = [*(_chunk(source, each) for each in deltas), _chunk(source, {}, "tool_calls")]
    return leg(source, text=sse(events), type="text/event-stream")


def _anthropic(source: random.Random, value: Value) -> Leg:
    message = {
        "id": f"msg_{_hex(source)}",
        "role": "assistant",
        "content": [],
        "model": "c",
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    deltas = [{"type": "text_delta", "text": f"{word} "} for word in (value or "").split()]
    told: list[Any] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": each} for each in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 14}},
        {"type": "message_stop"},
    ]
    return leg(source, text=sse(((each["type"], each) for each in told), done=False), type="text/event-stream")


def _inference(source: random.Random, value: Value) -> Any:
    outputs = [{"name": "y", "datatype": "FP32", "shape": [len(value), 1], "data": value}] if value else []
    return {"model_name": "m", "id": _hex(source), "outputs": outputs}


def _ranked(_: random.Random, value: Value) -> Any:
    return {"results": [{"id": name, "score": 1 - at / 10} for at, name in enumerate(value)]}


def _embedded(_: random.Random, value: Value) -> Any:
    return {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": value}], "model": "e"}


CHAT = "/v1/chat/completions"
BOOM = {"error": "boom"}
KINDS: dict[str, Kind] = {
    "class": Kind(lambda asked: "abc"[(asked["n"] * 7 + asked["m"]) % 3], _json(lambda _, value: {"label": value})),
    "number": Kind(_number, _json(lambda _, value: {"prediction": value})),
    "probability": Kind(
        lambda asked: 1 / (1 + math.exp(2 - asked["x"] * 4)), _json(lambda _, value: {"predictions": [value]})
    ),
    "batch": Kind(
        lambda asked: [_number(asked) + at for at in range(3)], _json(lambda _, value: {"predictions": value})
    ),
    "vector": Kind(_vector, _json(lambda _, value: {"predictions": [value]})),
    "seldon": Kind(
        _vector,
        _json(
            lambda source, value: {"data": {"names": list("abcd"), "ndarray": [value]}, "meta": {"puid": _hex(source)}}
        ),
    ),
    "inference": Kind(lambda asked: [_number(asked)], _json(_inference), "/v2/models/m/infer"),
    "ranking": Kind(_ranking, _json(_ranked), "/search"),
    "text": Kind(_text, _json(lambda _, value: {"answer": value}), "/ask"),
    "chat": Kind(_text, _json(_chat), CHAT),
    "chat streamed": Kind(_text, _streamed, CHAT),
    "anthropic streamed": Kind(_text, _anthropic, "/v1/messages"),
    "tool streamed": Kind(_tool, _tool_streamed, CHAT),
    "embedding": Kind(_embedding, _json(_embedded), "/v1/embeddings"),
}

Fault = Callable[[random.Random, Row, Value, Kind, Value], Leg | tuple[Leg, Leg]]
"""What the shadow answers in place of a right answer, from (source, request, value, kind, the value before); two
answers are live's and the shadow's."""


def body(said: Any, status: int = 200) -> Fault:
    return lambda source, asked, value, kind, before: leg(source, said, status)


def text(said: str, type: str = "application/json") -> Fault:
    return lambda source, asked, value, kind, before: leg(source, text=said, type=type)


def changed(change: Callable[[Value], Value]) -> Fault:
    return lambda source, asked, value, kind, before: kind.answer(source, change(value))


def both(live: Fault, shadow: Fault) -> Fault:
    def made(source: random.Random, asked: Row, value: Value, kind: Kind, before: Value) -> tuple[Leg, Leg]:
        one, other = (each(source, asked, value, kind, before) for each in (live, shadow))
        assert isinstance(one, dict)
        assert isinstance(other, dict)
        return one, other

    return made


def outcome(name: str, ms: float = 2000.0) -> Fault:
    return lambda source, asked, value, kind, before: failed(name, ms)


right: Fault = changed(lambda value: value)


def asked_for(source: random.Random) -> Row:
    return {
        "n": source.randrange(40),
        "m": source.randrange(900),
        "x": round(source.random(), 5),
        "carrier": source.choice(("UA", "AA", "DL", "WN", "B6")),
    }


def row(
    number: int,
    seed: int,
    asked: Any,
    live: Leg,
    shadow: Leg,
    *,
    path: str = "/predict",
    method: str = "POST",
    seconds: float = 1.0,
) -> Row:
    at = (START + timedelta(seconds=number * seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    request = {
        "method": method,
        "path": path,
        "query": "",
        "headers": {"content-type": "application/json"},
        "body": asked,
        "body_bytes": 60,
    }
    return {
        "schema": 1,
        "id": f"id-{seed}-{number}",
        "record": f"record-{seed}-{number}",
        "at": at,
        "proxy": "host/1",
        "request": request,
        "live": live,
        "shadows": {"s": shadow},
        "control": None,
    }


def invented(
    kind: str,
    count: int,
    fault: Fault | None = None,
    share: float = 0.3,
    seed: int = 1,
    where: Callable[[Row], bool] | None = None,
) -> list[Row]:
    """A log of a twin, but for the fault in a share of the requests, or in those of `where`."""
    source = random.Random(seed)
    of = KINDS[kind]
    made = []
    before: Value = None
    for number in range(count):
        asked = asked_for(source)
        value = of.value(asked)
        live, shadow = of.answer(source, value), of.answer(source, value)
        hit = source.random() < share if where is None else where(asked)
        if fault is not None and hit:
            found = fault(source, asked, value, of, value if before is None else before)
            live, shadow = found if isinstance(found, tuple) else (live, found)
        before = value
        made.append(row(number, seed, asked, live, shadow, path=of.path))
    return made


def write(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path
