"""Whole logs of answers in every format, as the recorder writes them: what the report, selftest and show make of them.

In each log the shadow is a twin whose numbers are off by what another runtime makes of them, but for a planted fault.
"""

import base64
import io
import json
import math
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from invented import WORDS
from logs import report_json
from test_cli import run
from test_formats import FORM, FRAMES, MSGPACK, NEEDS_PYARROW, NPY, PNG, npy_of, part, tensors
from test_formats_recorded import by_no_rules, fields

from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.summary import load, merge, save
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.gates import Gates
from shadowproxy.exchange import Exchange, Fields, Reply, Request
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.selftest.plants import FAULTS
from shadowproxy.selftest.run import selftest
from shadowproxy.selftest.sample import draw_sample

START = 1_769_860_800
COUNT = 200

Sent = tuple[bytes, Fields]


@dataclass(frozen=True)
class Kind:
    """`value` is what a model says to a request, `answer` how it is written; `wrong` is what another says.

    place: where the report judges it, None where only whole answers can be compared; differs: where the first
    difference of a wrong answer is.
    """

    value: Callable[[random.Random], Any]
    answer: Callable[[Any], Sent]
    wrong: Callable[[Any], Any]
    place: str | None
    differs: str
    broken: str | None
    near: bool = True


def shares(source: random.Random) -> list[float]:
    weights = [math.exp(source.gauss(0, 2)) for _ in range(3)]
    return [each / sum(weights) for each in weights]


def turned(value: list[float]) -> list[float]:
    return value[1:] + value[:1]


def number(source: random.Random) -> float:
    return source.gauss(50, 20)


def off(value: float) -> float:
    return value * 1.5 + 3


def f32(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def npy(dtype: str, shape: tuple[int, ...], data: bytes) -> bytes:
    return npy_of(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}", data)


def _npy(value: list[float]) -> Sent:
    return npy("<f4", (1, 3), f32(*value)), fields(NPY)


def _npz(value: list[float]) -> Sent:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("proba.npy", npy("<f4", (1, 3), f32(*value)))
        archive.writestr("rows.npy", npy("<i8", (1,), struct.pack("<q", 1)))
    return held.getvalue(), fields("application/x-npz")


def _tensors(value: list[float]) -> Sent:
    label = "abc"[value.index(max(value))].encode()
    heads = [
        {"name": "proba", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}},
        {"name": "label", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
    ]
    raw, length = tensors({"model_name": "m", "outputs": heads}, f32(*value), struct.pack("<I", 1), label)
    return raw, fields("application/octet-stream", Inference_Header_Content_Length=length)


def packed(value: Any) -> bytes:
    """MessagePack of what these tests need."""
    if isinstance(value, dict):
        return bytes([0x80 + len(value)]) + b"".join(packed(key) + packed(each) for key, each in value.items())
    if isinstance(value, list):
        return bytes([0x90 + len(value)]) + b"".join(map(packed, value))
    if isinstance(value, str):
        return bytes([0xA0 + len(value)]) + value.encode()
    return b"\xcb" + struct.pack(">d", value)


def _msgpack(value: float) -> Sent:
    return packed({"prediction": value, "model": "m"}), fields(MSGPACK)


def _csv_row(value: list[float]) -> Sent:
    return ",".join(f"{each!r}" for each in value).encode(), fields("text/csv; charset=utf-8")


def _csv_table(value: float) -> Sent:
    return f"prediction,unit\r\n{value!r},min\r\n".encode(), fields("text/csv")


def _csv_number(value: float) -> Sent:
    return f"{value!r}\n".encode(), fields("text/csv")


def _plain(value: float) -> Sent:
    return f"{value!r}".encode(), fields("text/plain")


def _multipart(value: float) -> Sent:
    raw = b"--b\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n"
    return raw % (b'"score"', f"{value!r}".encode()) + raw % (b'"model"', b"m") + b"--b--\r\n", fields(FORM)


def _frames_of_csv(value: list[float]) -> Sent:
    text = ",".join(f"{each!r}" for each in value).encode()
    return part(text[:9]) + part(text[9:]), fields(FRAMES, X_Amzn_SageMaker_Content_Type="text/csv")


def _frames_of_chat(value: str) -> Sent:
    chunks = [{"choices": [{"index": 0, "delta": {"content": f"{word} "}}]} for word in value.split()]
    said: list[Any] = [*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    raw = "".join(f"data: {json.dumps({'object': 'chat.completion.chunk', **each})}\n\n" for each in said)
    text = (raw + "data: [DONE]\n\n").encode()
    frames = b"".join(part(text[at : at + 100]) for at in range(0, len(text), 100))
    return frames, fields(FRAMES, X_Amzn_SageMaker_Content_Type="text/event-stream")


def _embeddings(value: list[float]) -> Sent:
    coded = base64.b64encode(f32(*value)).decode()
    said = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": coded}], "model": "e"}
    return json.dumps(said).encode(), fields("application/json")


def _image(value: int) -> Sent:
    return PNG + value.to_bytes(4, "big"), fields("image/png")


def _image_in_json(value: int) -> Sent:
    coded = base64.b64encode(PNG + value.to_bytes(4, "big")).decode()
    return json.dumps({"created": 1, "data": [{"b64_json": coded}]}).encode(), fields("application/json")


def _table(value: float) -> Any:
    import pyarrow

    return pyarrow.table({"prediction": [value], "label": ["a"]})


def _arrow(value: float) -> Sent:
    import pyarrow

    held = io.BytesIO()
    table = _table(value)
    with pyarrow.ipc.new_stream(held, table.schema) as out:
        out.write_table(table)
    return held.getvalue(), fields("application/vnd.apache.arrow.stream")


def _parquet(value: float) -> Sent:
    import pyarrow.parquet

    held = io.BytesIO()
    pyarrow.parquet.write_table(_table(value), held)
    return held.getvalue(), fields("application/vnd.apache.parquet")


def sentence(source: random.Random) -> str:
    return " ".join(source.choices(WORDS, k=12))


def direction(source: random.Random) -> list[float]:
    return [source.gauss(0, 1) for _ in range(32)]


def whole(source: random.Random) -> int:
    return source.randrange(1 << 30)


KINDS: dict[str, Kind] = {
    "npy": Kind(shares, _npy, turned, "/*", "/0/0", "not npy"),
    "npz": Kind(shares, _npz, turned, "/proba/*", "/proba/0/0", "not npz"),
    "tensors": Kind(shares, _tensors, turned, "/outputs/proba/*", "/outputs/0/data/0", "not open inference"),
    "msgpack": Kind(number, _msgpack, off, "/prediction", "/prediction", "not msgpack"),
    "csv row": Kind(shares, _csv_row, turned, "", "/0", None),
    "csv table": Kind(number, _csv_table, off, "/*/prediction", "/0/prediction", None),
    "csv number": Kind(number, _csv_number, off, "", "", None),
    "plain number": Kind(number, _plain, off, "", "", None),
    "multipart": Kind(number, _multipart, off, "/score", "/score", "not multipart"),
    "frames of CSV": Kind(shares, _frames_of_csv, turned, "", "/0", "its last frame is cut"),
    "frames of a chat": Kind(
        sentence,
        _frames_of_chat,
        lambda value: "no no no no",
        "/choices/*/answer",
        "/choices/0/message/content",
        "its last frame is cut",
        near=False,
    ),
    "embeddings": Kind(direction, _embeddings, turned, "/data/*/embedding", "/data/0/embedding", None),
    "image": Kind(whole, _image, lambda value: value + 1, None, "", None, near=False),
    "image in JSON": Kind(
        whole,
        _image_in_json,
        lambda value: value + 1,
        "/data/*/b64_json",
        "/data/0/b64_json",
        None,
        near=False,
    ),
    "arrow": Kind(number, _arrow, off, "/*/prediction", "/0/prediction", "not arrow"),
    "parquet": Kind(number, _parquet, off, "/*/prediction", "/0/prediction", "not parquet"),
}
NAMES = [pytest.param(name, marks=NEEDS_PYARROW if name in ("arrow", "parquet") else ()) for name in KINDS]


def nearly(value: Any, source: random.Random) -> Any:
    """What another runtime makes of the same."""
    if isinstance(value, list):
        return [each * (1 + source.uniform(-2e-6, 2e-6)) for each in value]
    return value * (1 + source.uniform(-2e-6, 2e-6))


def line(number: int, source: random.Random, live: Sent, shadow: Sent) -> bytes:
    times = [source.lognormvariate(1, 0.4) for _ in range(2)]
    asked = json.dumps({"n": number, "tier": number % 7}).encode()
    request = Request(
        f"id-{number}",
        f"record-{number}",
        (START + number) * 10**9,
        "POST",
        b"/predict",
        fields("application/json"),
        asked,
        len(asked),
    )
    replies = [
        Reply(200, said, raw, len(raw), ms / 2, ms) for (raw, said), ms in zip((live, shadow), times, strict=True)
    ]
    exchange = Exchange(request, replies[0], {"s": replies[1]})
    return encode(exchange, proxy="p", policy=Policy(), judge=by_no_rules, rules=Rules().digest)


Fault = Callable[[Kind, Any, Any], Sent]
"""The shadow's answer, from the kind, live's value and that to the request before."""


def wrong(kind: Kind, value: Any, before: Any) -> Sent:
    return kind.answer(kind.wrong(value))


def shuffled(kind: Kind, value: Any, before: Any) -> Sent:
    return kind.answer(before)


def cut(kind: Kind, value: Any, before: Any) -> Sent:
    raw, said = kind.answer(value)
    return raw[:-3], said


def log_of(name: str, to: Path, fault: Fault | None = None, share: float = 1.0, count: int = COUNT) -> Path:
    kind, source = KINDS[name], random.Random(11)
    lines = []
    before = kind.value(source)
    for at in range(count):
        value = kind.value(source)
        shadow = kind.answer(nearly(value, source) if kind.near else value)
        if fault is not None and source.random() < share:
            shadow = fault(kind, value, before)
        lines.append(line(at, source, kind.answer(value), shadow))
        before = value
    path = to / "log.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def report_of(path: Path) -> Any:
    return report_json(summarise_files([path], Rules()))["shadows"]["s"]


def results(shadow: Any) -> dict[str, str]:
    return {each["name"]: each["result"] for each in shadow["checks"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_twin_never_fails(name: str, tmp_path: Path) -> None:
    shadow = report_of(log_of(name, tmp_path))
    assert shadow["agreement"]["verdicts"]["match"] == COUNT
    assert "fail" not in results(shadow).values()
    assert [each["live_path"] for each in shadow["outputs"]][:1] == [KINDS[name].place] * (
        KINDS[name].place is not None
    )
    for output in shadow["outputs"][:1]:
        assert output["agreement"]["value"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_wrong_values_show_at_their_place(name: str, tmp_path: Path) -> None:
    path = log_of(name, tmp_path, wrong, 0.1)
    found = [json.loads(each)["shadows"]["s"] for each in path.read_bytes().splitlines()]
    differing = [each for each in found if each["verdict"] == "mismatch"]
    assert 10 < len(differing) < 30
    assert {each["differences"][0]["path"] for each in differing} == {KINDS[name].differs}
    shadow = report_of(path)
    assert shadow["agreement"]["verdicts"]["mismatch"] == len(differing)
    for output in shadow["outputs"][:1]:
        assert output["agreement"]["value"] == pytest.approx(1 - len(differing) / COUNT, abs=0.02)
    assert shadow["verdict"]["headline"] != "READY"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["npy", "tensors", "msgpack", "csv row", "csv number", "frames of a chat", "embeddings"]
)
def test_answers_to_other_requests_are_unrelated(name: str, tmp_path: Path) -> None:
    shadow = report_of(log_of(name, tmp_path, shuffled, count=1000 if KINDS[name].value is shares else 400))
    assert results(shadow)["related"] == "fail"


@pytest.mark.parametrize("name", [each for each in NAMES if KINDS[str(each.values[0])].broken])
def test_broken_answers_are_lost_and_failed_ones(name: str, tmp_path: Path) -> None:
    shadow = report_of(log_of(name, tmp_path, cut, 0.3))
    assert {"answered", "errors"} <= {name for name, result in results(shadow).items() if result == "fail"}
    reasons = shadow["errors"]["reasons"]["shadow"]
    assert all(str(KINDS[name].broken) in each["reason"] for each in reasons)
    assert sum(each["count"] for each in reasons) > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_parts_of_a_log_add_up(name: str, tmp_path: Path) -> None:
    path = log_of(name, tmp_path, wrong, 0.1, count=90)
    lines = path.read_bytes().splitlines(keepends=True)
    parts = []
    for at in range(3):
        piece = tmp_path / f"part{at}.jsonl"
        piece.write_bytes(b"".join(lines[at::3]))
        parts.append(load(save(summarise_files([piece], Rules()))))
    merged = merge(merge(parts[2], parts[0]), parts[1])
    assert report_json(merged)["shadows"] == report_json(summarise_files([path], Rules()))["shadows"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_programs_forms_show_every_format(name: str, tmp_path: Path) -> None:
    path = log_of(name, tmp_path, wrong, 0.3, count=60)
    rows = [json.loads(each) for each in path.read_bytes().splitlines()]
    first = next(each for each in rows if each["shadows"]["s"]["verdict"] == "mismatch")
    shown = run("show", path, first["id"])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"{KINDS[name].differs or 'the whole answer'}  " in shown.stdout
    told = run("report", path, "--html", tmp_path / "report.html")
    assert (told.returncode, told.stderr) == (3, "")
    assert KINDS[name].place is None or (KINDS[name].place or "the answer") in told.stdout
    assert "float32" not in told.stdout
    assert "</html>" in (tmp_path / "report.html").read_text()


SEEN = ["the answer is null", "an error object with status 200", "a stream ends in an error event"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in NAMES if KINDS[str(each.values[0])].place is not None])
def test_selftest_plants_faults_in_every_format(name: str, tmp_path: Path) -> None:
    """A part of the header fields says how tensors and frames are read; the drawn records must keep it."""
    sample = draw_sample([log_of(name, tmp_path, count=120)])
    faults = [each for each in FAULTS if each.name in SEEN]
    figures = selftest(sample, Reading(Rules()), Gates(), faults=faults, shares=(1.0,))
    assert [each["place"] for each in figures["answers"]] == [KINDS[name].place]
    unseen = [row["name"] for row in figures["faults"] if row["seen"][0]["from"] is None]
    assert unseen == []
    assert ("a stream ends in an error event" in figures["not_planted"]) != name.startswith("frames")
