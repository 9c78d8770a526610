"""Answers in formats other than JSON and its streams: what real bytes are read into, and what broken ones are."""

import base64
import contextlib
import importlib.util
import io
import json
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import format_samples as samples
import pytest

from shadowproxy.answers import answer_value, content_of, failed_reason
from shadowproxy.answers.binary import names_format
from shadowproxy.answers.body import Content, content_in
from shadowproxy.answers.formats import columns, comma_separated, event_frames, message_pack, npy
from shadowproxy.answers.leaves import Blob, Vector, without_leaves
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import compare
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, BodyKind, RecordedLeg

FLOAT32_TENTH = 0.10000000149011612
NEEDS_PYARROW = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
NAN = math.nan


def sent(raw: bytes, content_type: str = "", status: int = 200, **fields: Any) -> RecordedLeg:
    """An answer as the record has it: bytes that are UTF-8 are a text there."""
    kind: BodyKind = "bytes"
    value: Any = raw
    with contextlib.suppress(UnicodeDecodeError):
        kind, value = "text", raw.decode()
    headers = {name.replace("_", "-"): str(each) for name, each in fields.items()}
    if content_type:
        headers["content-type"] = content_type
    return RecordedLeg(Outcome.OK, status, headers, Body(kind, value, len(raw)), 1.0, 2.0)


def read(raw: bytes, content_type: str = "", **fields: Any) -> Content:
    return content_of(sent(raw, content_type, **fields))


def plain(content: Content) -> Any:
    assert content.broken is None
    return without_leaves(content.value)


def npy_of(header: str, data: bytes = b"", version: int = 1) -> bytes:
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", len(header))
        + header.encode()
        + data
    )


def tensors(head: Any, *data: bytes) -> tuple[bytes, int]:
    raw = json.dumps(head).encode()
    return raw + b"".join(data), len(raw)


def tensor(raw: bytes, datatype: str = "FP32", shape: Any = None, size: Any = None, **more: Any) -> tuple[bytes, int]:
    parameters = {"binary_data_size": len(raw) if size is None else size}
    one = {"name": "y", "datatype": datatype, "shape": shape or [len(raw) // 4], "parameters": parameters, **more}
    return tensors({"outputs": [one]}, raw)


def frame(payload: bytes, **headers: str) -> bytes:
    """A frame of Amazon's event stream; botocore reads the same (format_samples)."""
    written = b"".join(
        bytes([len(name) + 1])
        + b":"
        + name.replace("_", "-").encode()
        + b"\x07"
        + struct.pack(">H", len(text))
        + text.encode()
        for name, text in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(written) + len(payload), len(written))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + written + payload
    return body + struct.pack(">I", zlib.crc32(body))


def part(payload: bytes) -> bytes:
    return frame(payload, event_type="PayloadPart", message_type="event")


FRAMES = "application/vnd.amazon.eventstream"
NPY = "application/x-npy"
MSGPACK = "application/msgpack"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff"
FORM = "multipart/form-data; boundary=b"
FORM_BODY = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n0.5\r\n'
    b'--b\r\nContent-Disposition: form-data; name="j"; filename="j.json"\r\n'
    b'Content-Type: application/json\r\n\r\n{"x": [1]}\r\n'
    b'--b\r\nContent-Disposition: form-data; name="i"\r\nContent-Type: image/png\r\n\r\n' + PNG + b"\r\n--b--\r\n"
)


# --- what real bytes are read into


@pytest.mark.parametrize(
    ("raw", "value", "dtype"),
    [
        (samples.NPY_FLOAT32, [[FLOAT32_TENTH, 0.8999999761581421], [0.25, 0.75]], "float32"),
        (samples.NPY_COLUMNS, [[0, 1, 2], [3, 4, 5]], "int64"),
        (
            samples.NPY_CUBE_COLUMNS,
            [[list(range(row, row + 4)) for row in range(first, first + 12, 4)] for first in (0, 12)],
            "int16",
        ),
        (samples.NPY_BIG, [1, -2, 3], "int32"),
        (samples.NPY_HALF, [0.0999755859375, 65504.0, -2.0], "float16"),
        (samples.NPY_BOOL, [True, False], "bool"),
        (samples.NPY_COMPLEX, [[1.0, 2.0]], "float32"),
        (samples.NPY_DATE, [1769817600], "int64"),
        (samples.NPY_EMPTY, [], "float32"),
        (samples.NPY_V2, [1.5], "float64"),
    ],
)
@pytest.mark.parametrize("content_type", [NPY, "", "application/octet-stream", "text/html"])
def test_an_array_of_numpy_is_a_vector(raw: bytes, value: Any, dtype: str, content_type: str) -> None:
    found = read(raw, content_type)
    assert isinstance(found.value, Vector)
    assert (found.kind, found.format, found.value.dtype, plain(found)) == ("json", "npy", dtype, value)


def test_an_array_of_one_number_or_of_texts_is_that() -> None:
    assert plain(read(samples.NPY_SCALAR, NPY)) == 0.5
    assert plain(read(samples.NPY_TEXT, NPY)) == ["late", "früh"]
    assert plain(read(samples.NPY_BYTES, NPY)) == ["a", "bcd"]


def test_what_could_run_code_is_not_read() -> None:
    found = read(samples.NPY_OBJECT, NPY)
    assert (found.kind, found.broken) == ("bytes", None)
    assert found.warnings == ("npy: it holds Python objects, which are never unpickled",)
    assert read(samples.NPY_FIELDS, NPY).warnings == ("npy: its elements have several fields",)


def npz_of(compression: int = zipfile.ZIP_DEFLATED, year: int = 2026, **arrays: bytes) -> bytes:
    return npz(arrays, compression, year)


def npz(arrays: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED, year: int = 2026) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as files:
        for name, raw in arrays.items():
            files.writestr(zipfile.ZipInfo(f"{name}.npy", (year, 1, 1, 0, 0, 0)), raw, compression)
    return out.getvalue()


NPZ = "application/x-npz"


def test_arrays_in_a_zip_are_members() -> None:
    found = read(samples.NPZ, NPZ)
    assert (found.format, plain(found)) == ("npz", {"p": [0.25, 0.75], "arr_0": [[1, 2], [3, 4]]})
    assert read(samples.NPZ).format == "npz"
    one, other = npz_of(a=samples.NPY_BIG), npz_of(zipfile.ZIP_STORED, 2027, a=samples.NPY_BIG)
    assert compare(sent(one, NPZ), sent(other, NPZ), Rules()).verdict == "match"
    different = compare(sent(one, NPZ), sent(npz_of(a=samples.NPY_V2), NPZ), Rules())
    assert different.diff is not None
    assert [(each.path, each.kind) for each in different.diff.listed()] == [("/a", "length")]


@pytest.mark.parametrize(
    ("raw", "wrong"),
    [
        (samples.NPZ[:-30], "not npz: its ZIP is broken: File is not a zip file"),
        (b"\xff\xff", "not npz: it does not begin as one"),
        (npz_of(a=b"hello"), "not npz: its array 'a.npy' is cut"),
        (npz_of(a=samples.NPY_BIG[:-1]), "not npz: its shape [3] takes 12 bytes and 11 came"),
        (npz_of(a=samples.NPY_OBJECT), "npz: it holds Python objects, which are never unpickled"),
        (npz_of(zipfile.ZIP_BZIP2, a=samples.NPY_BIG), "npz: its ZIP has a compression that is not read"),
        (npz_of(a=samples.NPY_BIG).replace(b"a.npy", b"a.txt"), "not npz: it holds a file that is no array"),
        (npz({f"a{at}": b"" for at in range(1001)}), "npz: it has more than 1000 arrays"),
    ],
)
def test_a_zip_that_is_no_arrays_is_told(raw: bytes, wrong: str) -> None:
    found = read(raw, NPZ)
    assert [found.broken or "", *found.warnings] in ([wrong], ["", wrong])


def test_a_zip_of_anything_else_is_a_file() -> None:
    assert read(npz_of(a=samples.NPY_BIG).replace(b"a.npy", b"a.txt")).format == "application/zip"


def test_tensors_of_the_open_inference_protocol_are_vectors_in_their_json() -> None:
    found = read(
        samples.OIP_ANSWER, "application/octet-stream", inference_header_content_length=samples.OIP_ANSWER_LENGTH
    )
    assert (found.format, found.value["model_name"]) == ("open inference", "m")
    outputs = {each["name"]: each for each in found.value["outputs"]}
    assert {name: without_leaves(each["data"]) for name, each in outputs.items() if name != "label"} == {
        "y": [FLOAT32_TENTH, 0.8999999761581421, 0.25, 0.75],
        "h": [0.5, 2.0],
        "b": [True, False],
        "w": [1.5],
        "i": [7],
    }
    assert outputs["label"]["data"][0] == "cat"
    assert isinstance(outputs["label"]["data"][1], Blob)  # which is no UTF-8
    assert all("parameters" not in each for each in outputs.values())


def test_a_request_of_the_open_inference_protocol_is_read_as_answers_are() -> None:
    body = Body("bytes", samples.OIP_REQUEST, len(samples.OIP_REQUEST))
    found = content_in(body, {"inference-header-content-length": str(samples.OIP_REQUEST_LENGTH)})
    assert [without_leaves(each["data"]) for each in found.value["inputs"]] == [[1.0, 2.0, 3.0, 4.0], ["a", "früh"]]
    assert found.value["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]


def test_tensors_that_are_valid_utf_8_by_chance_are_tensors() -> None:
    raw, length = tensor(struct.pack("<2i", 7, 8), "INT32", [2])
    assert raw.decode()
    assert plain(read(raw, inference_header_content_length=length))["outputs"][0]["data"] == [7, 8]


def test_an_answer_has_outputs_by_name_and_shape() -> None:
    answer = sent(samples.OIP_ANSWER, inference_header_content_length=samples.OIP_ANSWER_LENGTH)
    outputs = answer_value(answer)["outputs"]
    assert outputs["y"] == [[FLOAT32_TENTH, 0.8999999761581421], [0.25, 0.75]]
    json.dumps(outputs)


def test_messagepack_is_a_tree() -> None:
    found = plain(read(samples.MSGPACK, MSGPACK))
    assert found.pop("raw").startswith("bytes, 2 bytes, SHA-256 ")
    assert found == {
        "prediction": [0.1, 1, -5, None, True, "früh"],
        "n": 2**63,
        "at": "2026-01-31T12:00:00+00:00",
        "7": -(2**40),
        "deep": [[], {}, [1.5] * 20],
    }
    assert plain(read(samples.MSGPACK_SINGLE, MSGPACK)) == {"p": FLOAT32_TENTH}
    assert plain(read(samples.MSGPACK_EXTENSION, MSGPACK))["e"].startswith("extension 5, 3 bytes")
    arrays = read(samples.MSGPACK_NUMPY, MSGPACK)
    assert isinstance(arrays.value["p"], Vector)
    assert arrays.value["p"].shape == (1, 2)


def test_messagepack_is_found_without_a_type() -> None:
    assert read(samples.MSGPACK_SINGLE, "application/octet-stream").format == "msgpack"
    assert read(samples.MSGPACK_SINGLE).format == "msgpack"
    assert read(samples.MSGPACK_SINGLE + b"x").kind == "bytes"  # which only begins so
    assert read(b"\xff\xfe\xfd", MSGPACK).broken == "not msgpack: 2 bytes follow its value"


@pytest.mark.parametrize(
    ("text", "content_type", "value"),
    [
        ("0.1,0.2", "text/csv; charset=utf-8", [0.1, 0.2]),  # SageMaker's XGBoost
        ("0.1\n0.2\n", "text/csv", [0.1, 0.2]),  # its toolkit
        ("0.1,0.9\r\n0.2,0.8\r\n", "text/csv", [[0.1, 0.9], [0.2, 0.8]]),
        ("0.5", "text/csv", 0.5),
        ("late\nontime\n", "text/csv", ["late", "ontime"]),
        ("a,b\n1,x\n2,\n", "text/csv", [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ("a,b\nc,d\n", "text/csv; header=present", [{"a": "c", "b": "d"}]),
        ("a,b\n1,2\n", "text/csv; header=absent", [["a", "b"], [1, 2]]),
        ("a,a\n1,2\n", "text/csv", [["a", "a"], [1, 2]]),
        ('"x, y",1\n"say ""hi""",2\n', "text/csv", [["x, y", 1], ['say "hi"', 2]]),
        ("1;2\n3;4\n", "text/csv", [[1, 2], [3, 4]]),
        ("1\t2\n3\t4\n", "text/tab-separated-values", [[1, 2], [3, 4]]),
        ("a\u2028b,1\nc,2\n", "text/csv", [["a\u2028b", 1], ["c", 2]]),
        ("\ufeff1,2\n3,4", "text/csv", [[1, 2], [3, 4]]),
        ("0.1,0.2", "text/html", [0.1, 0.2]),
        ("0.1\n0.2\n", "", [0.1, 0.2]),
        ("1e-7,nan,-inf", "text/plain", None),
        ("0.1,0.2\n0.3", "text/plain", "0.1,0.2\n0.3"),
        ("1,234", "text/plain", "1,234"),
        ("1 2", "text/plain", "1 2"),
        ('[{"a": 1}]', "text/csv", [{"a": 1}]),  # JSON all the same
        ("42", "text/plain", 42),
        ("007", "text/plain", "007"),
    ],
)
def test_rows_of_cells(text: str, content_type: str, value: Any) -> None:
    found = read(text.encode(), content_type)
    if value is None:
        assert found.value[0] == 1e-7
        assert math.isnan(found.value[1])
    else:
        assert (found.value, found.broken, found.warnings) == (value, None, ())
        assert type(found.value) is type(value)


def test_rows_of_unequal_length_are_told() -> None:
    found = read(b"1,2\n3\n4,5\n", "text/csv")
    assert (found.value, found.warnings) == ([[1, 2], [3], [4, 5]], ("row 2 has 1 cells, and the first has 2",))


def test_parts_of_a_form_are_members() -> None:
    found = read(FORM_BODY, FORM)
    assert found.value["a"] == 0.5
    assert found.value["j"] == {"x": [1]}
    assert found.value["i"].media == "image/png"
    assert read(FORM_BODY).value["a"] == 0.5  # without its type
    twice = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 2 + b"--b--"
    assert read(twice, FORM).value == {"a": [1, 1]}


def test_parts_without_names_are_a_list() -> None:
    raw = b"preamble\r\n--x y\r\nContent-Type: text/csv\r\n\r\n1,2\r\n--x y\r\n\r\n\r\n--x y--"
    assert read(raw, 'multipart/mixed; boundary="x y"').value == [[1, 2], ""]
    assert read(b"--b\r\n\r\nhi\r\n--b--\r\n", "multipart/mixed; boundary=b").value == ["hi"]


def test_frames_whose_borders_are_no_lines_are_one_body() -> None:
    found = read(samples.FRAMES_SAGEMAKER, FRAMES, x_amzn_sagemaker_content_type="text/event-stream")
    assert (found.kind, found.value, found.format) == ("json", [{"a": 1}, {"b": 2}], "event frames")
    assert found.stream is not None
    assert found.stream.ended
    assert failed_reason(sent(samples.FRAMES_SAGEMAKER, FRAMES)) is None
    assert read(part(b"0.1,") + part(b"0.2"), FRAMES, x_amzn_sagemaker_content_type="text/csv").value == [0.1, 0.2]
    assert read(part(b"hello ") + part(b"you"), "").value == "hello you"


def test_bedrocks_chunks_are_put_together_as_their_api_does() -> None:
    found = read(samples.FRAMES_BEDROCK, FRAMES)
    assert found.stream is not None
    assert (found.stream.api, found.stream.ended) == ("messages", True)
    assert found.value["content"] == [{"type": "text", "text": "Hi"}]
    assert answer_value(sent(samples.FRAMES_BEDROCK, FRAMES))["answer"] == "Hi"


def test_the_events_of_bedrocks_converse_are_put_together() -> None:
    found = read(samples.FRAMES_CONVERSE, FRAMES)
    assert found.stream is not None
    assert (found.stream.api, found.stream.ended) == ("converse", True)
    message = {"role": "assistant", "content": [{"text": "Hi"}]}
    assert found.value == {"output": {"message": message}, "stopReason": "end_turn"}
    assert answer_value(sent(samples.FRAMES_CONVERSE, FRAMES))["answer"] == "Hi"


def test_other_frames_are_a_list_of_what_they_say() -> None:
    said = frame(b'{"a": 1}', event_type="one", message_type="event") + frame(b"two", message_type="event")
    assert read(said, FRAMES).value == [{"a": 1}, "two"]


def test_a_frame_that_reports_a_failure_is_a_failed_answer() -> None:
    assert failed_reason(sent(samples.FRAMES_ERROR, FRAMES)) == "ModelStreamError: too long"
    after = samples.FRAMES_SAGEMAKER + samples.FRAMES_ERROR
    assert failed_reason(sent(after, FRAMES)) == "ModelStreamError: too long"
    unmodelled = frame(b"", message_type="error", error_code="500", error_message="no luck")
    assert failed_reason(sent(unmodelled, FRAMES)) == "no luck"


def test_parts_that_make_no_whole_body_are_a_failed_answer() -> None:
    cut = sent(part(samples.NPY_FLOAT32[:-1]), FRAMES)
    assert failed_reason(cut) is not None
    assert failed_reason(cut) == failed_reason(sent(samples.NPY_FLOAT32[:-1], NPY))


@pytest.mark.parametrize("end", [1, 3, 5, 13, 40, 100])
def test_a_stream_cut_within_a_frame_is_a_failed_answer(end: int) -> None:
    cut = samples.FRAMES_SAGEMAKER[:-end]
    assert failed_reason(sent(cut, FRAMES)) == "its last frame is cut"


def test_a_frame_with_a_wrong_checksum_is_a_failed_answer() -> None:
    raw = bytearray(samples.FRAMES_SAGEMAKER)
    raw[-6] ^= 1
    assert failed_reason(sent(bytes(raw), FRAMES)) == "a frame has a wrong checksum"
    raw = bytearray(samples.FRAMES_SAGEMAKER)
    raw[len(part(b'data: {"a"')) + 1] ^= 1
    assert failed_reason(sent(bytes(raw), FRAMES)) == "a frame has a wrong checksum"


def embeddings(*given: Any) -> RecordedLeg:
    value = {
        "object": "list",
        "data": [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(given)],
    }
    return RecordedLeg(Outcome.OK, 200, {"content-type": "application/json"}, Body("json", value, 99), 1.0, 2.0)


def test_embeddings_are_vectors_in_base64_and_in_numbers() -> None:
    coded = base64.b64encode(samples.EMBEDDING_BASE64).decode()
    one, other = embeddings(coded), embeddings([0.1, -0.2, 0.3])
    assert content_of(one).value["data"][0]["embedding"].embedding
    assert compare(one, other, Rules()).verdict == "match"
    assert answer_value(other)["data"][0]["embedding"] == [0.1, -0.2, 0.3]
    found = compare(one, embeddings([0.3, -0.2, 0.1]), Rules())
    assert found.diff is not None
    assert [each.path for each in found.diff.listed()] == ["/data/0/embedding"]
    assert compare(one, embeddings([0.1, -0.2]), Rules()).verdict == "mismatch"


@pytest.mark.parametrize(
    "value",
    [
        {"embeddings": [[0.1, 0.2]]},
        {"embedding": [0.1, 0.2]},
        {"embedding": {"values": [0.1, 0.2]}},
        {"embeddings": [{"values": [0.1, 0.2]}]},
        {"embeddings": {"float": [[0.1, 0.2]]}},
        {"predictions": [{"embeddings": {"values": [0.1, 0.2]}}]},
    ],
)
def test_embeddings_of_other_apis_are_vectors(value: Any) -> None:
    text = json.dumps(value)
    found = content_of(sent(text.encode(), "application/json"))
    assert "<Vector float64 [2]: 0.1, 0.2>" in repr(found.value)
    assert without_leaves(found.value) == value
    near = text.replace("0.2", "0.200001")
    assert compare(sent(text.encode()), sent(near.encode()), Rules()).verdict == "match"


@pytest.mark.parametrize("text", ["", "no base64!", "abcd", "YWJj", None, 7, [], ["a"], [True], {}])
def test_what_is_no_embedding_stays_as_it_is(text: Any) -> None:
    found = content_of(embeddings(text))
    assert found.value["data"][0]["embedding"] == text


def test_an_image_in_json_is_compared_by_its_hash() -> None:
    value = {"created": 1, "data": [{"b64_json": base64.b64encode(PNG).decode()}]}
    found = content_of(sent(json.dumps(value).encode(), "application/json"))
    assert found.value["data"][0]["b64_json"].size == len(PNG)


@pytest.mark.parametrize(
    ("raw", "content_type", "name", "warning"),
    [
        (PNG, "image/png", "image/png", None),
        (PNG, "", "image/png", None),
        (PNG, "image/jpeg", "image/jpeg", "named image/jpeg, and is image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpg", "image/jpeg", None),
        (b"RIFF\xff\0\0\0WAVE", "audio/x-wav", "audio/wav", None),
        (b"RIFF\xff\0\0\0WEBP", "image/webp", "image/webp", None),
        (b"BM\xff\0", "image/bmp", "image/bmp", None),
        (b"BM\xff\0", "", "bytes", None),  # two bytes say nothing by themselves
        (b"\xff\0\1", "audio/L16", "audio/l16", None),
        (b"\xff\0\1", "application/json", "bytes", "named JSON, and is no text"),
    ],
)
def test_images_and_sounds_are_bytes_of_their_type(
    raw: bytes, content_type: str, name: str, warning: str | None
) -> None:
    found = read(raw, content_type)
    assert (found.kind, found.value, found.broken) == ("bytes", raw, None)
    assert found.warnings == (() if warning is None else (warning,))
    assert found.format == (name if warning is None or name == "bytes" else "image/png")


@pytest.mark.parametrize(
    ("raw", "content_type", "value"),
    [
        ('{"a": "é"}'.encode("latin-1"), "application/json; charset=ISO-8859-1", {"a": "é"}),
        ('{"a": "é"}'.encode("utf-16"), "application/json", {"a": "é"}),
        ('{"a": "é"}'.encode("utf-16-le"), "application/json; charset=utf-16le", {"a": "é"}),
        ('{"a": "é"}'.encode("utf-32"), "text/html", {"a": "é"}),
        ("é".encode("cp1252"), 'text/plain; charset="windows-1252"', "é"),
        ("é,1\n".encode("latin-1"), "text/csv; charset=latin1", ["é", 1]),
    ],
)
def test_a_charset_is_used(raw: bytes, content_type: str, value: Any) -> None:
    assert read(raw, content_type).value == value


@pytest.mark.parametrize("charset", ["nonsense", "rot13", "hex", "zip", "utf-8", "idna", "unicode_escape", "undefined"])
def test_what_is_no_charset_of_the_body_leaves_bytes(charset: str) -> None:
    raw = b"\xff\xfe\xfd\\u00e9"
    found = read(raw, f"text/plain; charset={charset}")
    assert found.kind in ("bytes", "text")
    assert found.kind == "bytes" or charset == "unicode_escape"


# --- tables of columns


@NEEDS_PYARROW
@pytest.mark.parametrize(
    ("raw", "content_type", "name"),
    [
        (samples.ARROW_FILE, "application/vnd.apache.arrow.file", "arrow"),
        (samples.ARROW_FILE, "", "arrow"),
        (samples.ARROW_SMALL_STREAM, "application/vnd.apache.arrow.stream", "arrow"),
        (samples.PARQUET, "application/vnd.apache.parquet", "parquet"),
        (samples.PARQUET, "application/octet-stream", "parquet"),
    ],
)
def test_columns_are_rows(raw: bytes, content_type: str, name: str) -> None:
    found = read(raw, content_type)
    assert (found.format, plain(found)) == (name, [{"p": FLOAT32_TENTH}, {"p": 0.8999999761581421}])


@NEEDS_PYARROW
def test_columns_of_every_sort_are_as_json_has_them() -> None:
    first, second = plain(read(samples.ARROW_STREAM, "application/vnd.apache.arrow.stream"))
    assert first.pop("raw").startswith("bytes, 1 bytes")
    assert first == {"id": 1, "p": 0.1, "name": "a", "v": [1.0, 2.0], "d": "2026-01-31", "dec": 1.5}
    assert second == {"id": 2, "p": None, "name": "b", "raw": None, "v": None, "d": None, "dec": None}


@NEEDS_PYARROW
def test_broken_columns_are_told() -> None:
    for raw, named in ((samples.ARROW_FILE, "arrow.file"), (samples.ARROW_SMALL_STREAM, "arrow.stream")):
        found = read(raw[:150] + raw[170:], f"application/vnd.apache.{named}")
        assert (found.broken or "").startswith("not arrow: ")
    broken = samples.PARQUET[:50] + b"\xff" * 40 + samples.PARQUET[90:]
    assert (read(broken, "application/vnd.apache.parquet").broken or "").startswith("not parquet: ")


def test_without_pyarrow_columns_stay_bytes_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = read(samples.PARQUET, "application/vnd.apache.parquet")
    assert (found.kind, found.broken, found.warnings) == ("bytes", None, (f"parquet: {columns.NEEDED}",))


# --- what is broken


@pytest.mark.parametrize(
    ("raw", "content_type", "broken"),
    [
        (samples.NPY_FLOAT32[:-1], NPY, "not npy: its shape [2, 2] takes 16 bytes and 15 came"),
        (samples.NPY_FLOAT32 + b"\xff", NPY, "not npy: its shape [2, 2] takes 16 bytes and 17 came"),
        (samples.NPY_FLOAT32[:9], NPY, "not npy: it is cut within its header"),
        (samples.NPY_FLOAT32[:60], NPY, "not npy: it is cut within its header"),
        (npy_of("{}"), NPY, "not npy: its header does not name a type, an order and a shape"),
        (npy_of("x" * 20_000, version=3), NPY, "not npy: its header is too long"),
        (
            npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (1 2,)}"),
            NPY,
            "not npy: its shape is not one of whole numbers",
        ),
        (b"\xff\xff", NPY, "not npy: it does not begin as one"),
        (samples.MSGPACK[:-1], MSGPACK, "not msgpack: it is cut within a value"),
        (samples.MSGPACK + b"\0", MSGPACK, "not msgpack: 1 bytes follow its value"),
        (b"\xdd\xff\xff\xff\xff", MSGPACK, "not msgpack: it is cut within an array"),
        (b"\xdf\xff\xff\xff\xff", MSGPACK, "not msgpack: it is cut within a map"),
        (b"\xc1", MSGPACK, "not msgpack: the byte c1 begins no value"),
        (b"\x91" * 200 + b"\xc0", MSGPACK, "not msgpack: it is nested more than 100 levels deep"),
        (b"\x81\x91\x01\x01", MSGPACK, "not msgpack: a key of a map is neither a text nor a number"),
        (b"\xff\xff", FRAMES, "not event frames: it does not begin as one"),
        (b"\xff\xff", "application/vnd.apache.parquet", "not parquet: it does not begin as one"),
        (FORM_BODY[:-8], FORM, "not multipart: its last boundary did not come"),
        (FORM_BODY, "multipart/form-data; boundary=other", "not multipart: its boundary does not occur"),
        (FORM_BODY[:10], FORM, "not multipart: its last boundary did not come"),
        (b"\xff\xff", "multipart/form-data", "not multipart: it does not begin as one"),
        (b"\n", "text/csv", "not CSV: it has no rows"),
        (
            b'a,"' + b"x" * 140_000,
            "text/csv",
            "not CSV: its cells cannot be told apart: field larger than field limit (131072)",
        ),
    ],
)
def test_what_is_broken_is_told_and_is_a_failed_answer(raw: bytes, content_type: str, broken: str) -> None:
    assert read(raw, content_type).broken == broken
    assert failed_reason(sent(raw, content_type)) is not None
    assert failed_reason(sent(raw, content_type, status=500)) is None  # which its status says


@pytest.mark.parametrize(
    ("made", "broken"),
    [
        (tensor(b"\0\0\x80\x3f\xff", shape=[1]), 'tensor "y" has 5 bytes, which does not fit its shape and type'),
        (tensor(b"\0\0\x80\x3f", shape=[2]), 'tensor "y" has 4 bytes, which does not fit its shape and type'),
        (tensor(b"\0\0\x80\x3f", size=8), 'tensor "y" is cut: 4 of its 8 bytes came'),
        (tensor(b"\0\0\x80\x3f", "INT8", [3], size=3), '1 bytes follow its last tensor'),
        (tensor(b"\0\0\x80\x3f", size=-1), 'the size of tensor "y" is not a number of bytes'),
        (tensor(b"\0\0\x80\x3f", size="4"), 'the size of tensor "y" is not a number of bytes'),
        (tensor(b"\x03\0\0\0ab", "BYTES", [1]), 'element 0 of tensor "y" is cut'),
        (tensor(b"\x01\0\0\0a\x01", "BYTES", [2]), 'element 1 of tensor "y" is cut'),
        (tensor(b"\x01\0\0\0a", "BYTES", [2]), 'tensor "y" has 1 elements, and its shape asks for 2'),
        ((b"[1]", 3), "the beginning that Inference-Header-Content-Length names is not a JSON object"),
        ((b"\xff{}", 3), "the beginning that Inference-Header-Content-Length names is not a JSON object"),
        ((b"{}", 3), "Inference-Header-Content-Length is 3, and 2 bytes came"),
        ((b"{}\xff", "x"), "Inference-Header-Content-Length is not a number"),
        ((b"{}\xff", "²"), "Inference-Header-Content-Length is not a number"),
        ((b"{}\xff", -1), "Inference-Header-Content-Length is not a number"),
    ],
)  # fmt: skip
def test_broken_tensors_are_told(made: tuple[bytes, Any], broken: str) -> None:
    found = read(made[0], "application/octet-stream", inference_header_content_length=made[1])
    assert found.broken in (f"not open inference: {broken}",)


def test_a_type_of_tensor_that_nobody_knows_is_a_blob() -> None:
    raw, length = tensor(b"\0\1", "FP4", [4])
    assert isinstance(read(raw, inference_header_content_length=length).value["outputs"][0]["data"], Blob)


def test_a_type_that_lies_is_told() -> None:
    assert read(b"Internal error", NPY).warnings == ("named application/x-npy, and is a text",)
    assert read(b"Internal error", NPY).broken is None
    assert read(b'{"error": "no"}', MSGPACK).value == {"error": "no"}
    assert read(b"<html>", MSGPACK).value == "<html>"
    assert read(b'{"a": ', "application/json").warnings == ("named JSON, and is not",)
    assert read(b'{"a": 1}', FRAMES).value == {"a": 1}


# --- equal, different, broken


def oip(raw: bytes, **more: Any) -> RecordedLeg:
    body, length = tensor(raw, **more)
    return sent(body, "application/octet-stream", inference_header_content_length=length)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def texts(*values: bytes) -> RecordedLeg:
    raw = b"".join(len(each).to_bytes(4, "little") + each for each in values)
    return oip(raw, datatype="BYTES", shape=[len(values)])


def json_answer(value: Any) -> RecordedLeg:
    return RecordedLeg(Outcome.OK, 200, {"content-type": "application/json"}, Body("json", value, 9), 1.0, 2.0)


DOUBLES = npy_of("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)}", struct.pack("<4d", 0.1, 0.9, 0.25, 0.75))
OTHER_FORM = FORM_BODY.replace(b"--b", b"--c").replace(b"0.5", b"0.50000001")
OIP_JSON = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [0.1, 0.9]}]}
EQUAL: dict[str, tuple[RecordedLeg, RecordedLeg]] = {
    "npy": (sent(samples.NPY_FLOAT32, NPY), sent(DOUBLES, NPY)),
    "npy and JSON": (sent(samples.NPY_FLOAT32, NPY), json_answer([[0.1, 0.9], [0.25, 0.75]])),
    "tensors": (oip(floats(0.1, 0.9)), oip(floats(0.1000001, 0.9))),
    "tensors and JSON": (oip(floats(0.1, 0.9)), json_answer(OIP_JSON)),
    "CSV": (sent(b"0.1,0.2", "text/csv"), sent(b"0.10000000149011612\n0.2\n", "text/csv")),
    "CSV and JSON": (sent(b"0.1,0.2", "text/csv"), json_answer([0.1, 0.2])),
    "numbers": (sent(b"0.1", "text/plain"), sent(b"0.10000000149011612\n", "text/plain")),
    "msgpack": (sent(samples.MSGPACK_SINGLE, MSGPACK), sent(b"\x81\xa1p\xcb" + struct.pack(">d", 0.1), MSGPACK)),
    "msgpack and JSON": (sent(samples.MSGPACK_SINGLE, MSGPACK), json_answer({"p": 0.1})),
    "multipart": (sent(FORM_BODY, FORM), sent(OTHER_FORM, FORM[:-1] + "c")),
    "frames": (sent(part(b"0.1,") + part(b"0.2"), FRAMES), sent(part(b"0.10000001,0.2"), FRAMES)),
    "images": (sent(PNG, "image/png"), sent(PNG, "application/octet-stream")),
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_equal_within_noise_is_a_match(name: str) -> None:
    for one, other in (EQUAL[name], EQUAL[name][::-1]):
        found = compare(one, other, Rules())
        assert (found.verdict, found.why) == ("match", None)


DIFFERENT: dict[str, tuple[RecordedLeg, RecordedLeg, list[tuple[str, str]]]] = {
    "npy": (sent(samples.NPY_V2, NPY), sent(samples.NPY_LIKE, NPY), [("", "length")]),
    "npy and JSON": (sent(samples.NPY_FLOAT32, NPY), json_answer([[0.1, 0.9], [0.2, 0.75]]), [("/1/0", "value")]),
    "tensors": (oip(floats(0.1, 0.9)), oip(floats(0.1, 0.8)), [("/outputs/0/data/1", "value")]),
    "tensors and JSON": (oip(floats(0.1, 0.8)), json_answer(OIP_JSON), [("/outputs/0/data/1", "value")]),
    "texts": (texts(b"a"), texts(b"b"), [("/outputs/0/data/0", "value")]),
    "CSV": (sent(b"a,b\n1,2\n3,4\n", "text/csv"), sent(b"a,b\n1,2\n3,5\n", "text/csv"), [("/1/b", "value")]),
    "numbers": (sent(b"0.1", "text/plain"), sent(b"0.2", "text/plain"), [("", "value")]),
    "msgpack": (sent(samples.MSGPACK_SINGLE, MSGPACK), sent(b"\x81\xa1p\x01", MSGPACK), [("/p", "value")]),
    "multipart": (sent(FORM_BODY, FORM), sent(FORM_BODY.replace(b"IHDR\xff", b"IHDR\xfe"), FORM), [("/i", "value")]),
    "frames": (sent(part(b"0.1,0.2"), FRAMES), sent(part(b"0.1,0.3"), FRAMES), [("/1", "value")]),
    "images": (sent(PNG, "image/png"), sent(PNG + b"\0", "image/png"), [("", "bytes")]),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_is_a_mismatch_at_its_place(name: str) -> None:
    live, shadow, places = DIFFERENT[name]
    found = compare(live, shadow, Rules())
    assert found.diff is not None
    assert (found.verdict, [(each.path, each.kind) for each in found.diff.listed()]) == ("mismatch", places)


def test_the_names_of_formats() -> None:
    assert names_format("application/x-npy") == "npy"
    assert names_format("multipart/mixed") == "multipart"
    assert names_format("text/plain") is None
    assert not message_pack.opens_container(b"")
    assert not event_frames.begins_with_frame(b"")
    assert samples.NPY_V2[:6] == npy.MAGIC
    assert "text/csv" in comma_separated.MEDIA
