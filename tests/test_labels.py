"""Labels from files of every form, and the requests that they belong to."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import zstandard
from logs import answer, record

from shadowproxy.compare.fold.labels import LabelError, read_labels
from shadowproxy.compare.fold.truths import Truth, Truths, by_request
from shadowproxy.record import Body, Record, RecordedRequest


def one(label: Any, at: int | None = None) -> Truth:
    return Truth((label,), at)


def read(path: Path, text: str | bytes, key: str | None = None) -> Truths:
    file = path / "labels"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_labels(file, key)


@pytest.mark.parametrize(
    ("text", "truths"),
    [
        ("id,label\na,x\nb,2\n", {"a": one("x"), "b": one("2")}),
        ("label,id,more\nx,a,3\n", {"a": one("x")}),
        ("\ufeffID, Label \na,x\n", {"a": one("x")}),
        ("id,label\na,\nb,x\n", {"b": one("x")}),
        ("id,label\na,x\na,y\n", {"a": one("y")}),
        ("id;label\na;x,y\n", {"a": one("x,y")}),
        ("id\tlabel\na\tx y\n", {"a": one("x y")}),
        ("\n\nid,label\na,x\n", {"a": one("x")}),
        ("id,label,at\na,x,1970-01-01T00:00:01Z\n", {"a": one("x", 1_000_000)}),
        ("id,label,at\na,x,1970-01-01 00:00:01\n", {"a": one("x", 1_000_000)}),
        ("id,label,at\na,new,1970-01-01T00:00:02Z\na,old,1970-01-01T00:00:01Z\n", {"a": one("new", 2_000_000)}),
        ("id,label,at\na,new,1970-01-01T00:00:02Z\na,undated,\n", {"a": one("new", 2_000_000)}),
        ("id,row,label\na,1,y\na,0,x\nb,2,z\n", {"a": Truth(("x", "y")), "b": Truth((None, None, "z"))}),
        ('id,label\na,"[1, 0, null]"\n', {"a": Truth((1, 0))}),
        ("id,label\na,[draft\n", {"a": one("[draft")}),
        ('{"id": "a", "label": true}\n\n{"id": "b", "label": 2.5}\n', {"a": one(True), "b": one(2.5)}),
        ('{"id": 17, "label": ["x", null, "z"]}\n', {"17": Truth(("x", None, "z"))}),
        ('{"id": "a", "row": 1, "label": "y"}\n', {"a": Truth((None, "y"))}),
    ],
)
def test_labels_come_from_csv_tsv_and_json_lines_plain_and_compressed(
    tmp_path: Path, text: str, truths: dict[str, Truth]
) -> None:
    for raw in (text.encode(), gzip.compress(text.encode()), zstandard.compress(text.encode())):
        assert read(tmp_path, raw).by_key == truths


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the first line must name the columns id and label"),
        ("request_id;label\n", "the file has no labels"),
        ("name,value\na,x\n", "the first line must name the columns id and label"),
        ("id,label,at\na,x,soon\n", "labels:2: a time is written as in 2026-01-31T12:00:00Z"),
        ("id,label,row\na,x,-1\n", "labels:2: a row is a whole number from 0 to 99,999, the first is 0"),
        ("id,label,row\na,x,1.5\n", "labels:2: a row is a whole number"),
        ("id,label\n,x\n", "labels:2: this row has no id"),
        ('{"id": "a", "label": []}\n', "the file has no labels"),
        ('{"id": "a", "label": {}}\n', "labels:1: a label is a text, a number, a boolean, or a list of them"),
        ('{"id": "a", "label": ["x"], "row": 1}\n', "labels:1: a list of labels is for all rows"),
        ('{"id": "a", "label": "x"}\n[1]\n', "labels:2: not a JSON object"),
        ('{"id": "a", "label"\n', "labels:1: not JSON"),
        ('{"id": true, "label": 1}\n', "labels:1: this row has no id"),
        (b"\xff\xfe", "cannot read"),
        (gzip.compress(b"id,label\na,x\n" * 9)[:-9], "cannot read"),
        (b"PAR1 but not Parquet", "labels"),
    ],
)
def test_what_is_no_file_of_labels_is_one_line_that_says_where(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(LabelError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_labels_that_cannot_be_opened_say_so(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="cannot read"):
        read_labels(tmp_path / "nowhere")


def asking(number: int, body: Any) -> Record:
    made = record(number, answer(1))
    return made._replace(request=RecordedRequest("POST", "/p", "", {}, Body("json", body, 9)))


def test_labels_are_joined_by_a_field_of_the_request(tmp_path: Path) -> None:
    truths = read(tmp_path, "order_id,label\n17,x\nA-1,y\n", "/order/order_id")
    assert truths.supplied == 2
    assert truths.of(asking(1, {"order": {"order_id": 17}})) == one("x")
    assert truths.of(asking(1, {"order": {"order_id": 17.0}})) == one("x")
    assert truths.of(asking(1, {"order": {"order_id": "A-1"}})) == one("y")
    others: list[Any] = [{"order": {"order_id": True}}, {"order": [1]}, {"order": {}}, None, 17, []]
    for other in others:
        assert truths.of(asking(1, other)) is None
    assert read(tmp_path, "id,label\n9,x\n", "/rows/1/n").of(asking(1, {"rows": [{}, {"n": 9}]})) == one("x")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", Body("text", '{"order": 17}', 13)),
        ("application/msgpack", Body("bytes", b"\x81\xa5order\x11", 8)),
    ],
)
def test_labels_are_joined_by_a_field_of_a_request_in_any_format(tmp_path: Path, kind: str, body: Body) -> None:
    request = RecordedRequest("POST", "/p", "", {"content-type": kind}, body)
    truths = read(tmp_path, "order,label\n17,x\n", "/order")
    assert truths.of(record(1, answer(1))._replace(request=request)) == one("x")


def test_labels_are_joined_by_the_request_id() -> None:
    truths = by_request({"id-1": "x"})
    assert truths.of(asking(1, {})) == one("x")
    assert truths.of(asking(2, {})) is None
    assert Truths().of(asking(1, {})) is None


def test_labels_come_from_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"id": ["a", "b", "c"], "label": [1.5, None, float("nan")], "more": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "labels.parquet")
    assert read_labels(tmp_path / "labels.parquet").by_key == {"a": one(1.5)}
    parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "labels.parquet")
    with pytest.raises(LabelError, match="it needs the columns id and label"):
        read_labels(tmp_path / "labels.parquet")
