"""A log as a table: the same columns whatever it holds, a row for each exchange and shadow, or for each of a batch."""

import contextlib
import csv
import io
import json
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from object_stores import object_store, use

import shadowproxy
from shadowproxy import cli
from shadowproxy.export.cells import Cells, cell_of, cells_of
from shadowproxy.export.columns import COLUMNS, Kind, parse_field
from shadowproxy.export.files import ExportError, remove_parts
from shadowproxy.export.rows import microseconds
from shadowproxy.export.run import ending_of

TENS = "1" + "0" * 30


def leg(body: Any, **more: Any) -> dict[str, Any]:
    text = json.dumps(body) if not isinstance(body, str) else body
    kept = {"body_text": body} if isinstance(body, str) else {"body": body}
    head = {"outcome": "ok", "status": 200, "headers": {"content-type": "application/json"}}
    return {**head, **kept, "body_bytes": len(text), "first_byte_ms": 1.5, "total_ms": 2.5, **more}


def entry(number: int, live: Any, day: int = 31, asked: Any = None, **shadows: Any) -> dict[str, Any]:
    body = {"n": number} if asked is None else asked
    return {
        "schema": 1,
        "id": f"{number:06}",
        "record": f"r-{number}",
        "at": f"2026-01-{day:02}T12:00:00.000123Z",
        "proxy": "pod/0",
        "request": {"method": "POST", "path": "/predict", "query": "a=1", "headers": {}, "body": body, "body_bytes": 9},
        "live": live if isinstance(live, dict) and "outcome" in live else leg(live),
        "shadows": {
            name: each if isinstance(each, dict) and "outcome" in each else leg(each) for name, each in shadows.items()
        },
        "control": None,
    }


def log_of(path: Path, entries: Sequence[dict[str, Any]], torn: bytes = b"") -> Path:
    path.write_bytes(b"".join(json.dumps(each).encode() + b"\n" for each in entries) + torn)
    return path


def run(*words: str | Path) -> tuple[int, str]:
    """The exit status, and what was printed."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.setattr("sys.argv", ["shadowproxy", "export", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0), said.getvalue()


def table(log: Path, *words: str) -> list[dict[str, str]]:
    out = log.with_name("out.csv")
    status, said = run(log, "-o", out, *words)
    assert status == 0, said
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("value", "cells"),
    [
        (0.25, Cells(0.25, None, "0.25")),
        (3, Cells(3.0, "3", "3")),
        (3.0, Cells(3.0, "3", "3.0")),
        (True, Cells(None, "true", "true")),
        ("late", Cells(None, "late", "late")),
        ("x" * 101, Cells(None, None, "x" * 101)),
        ([0.25, 0.75], Cells(0.75, "1", "[0.25,0.75]")),
        ({"a": 0.9, "b": 0.1}, Cells(0.9, "a", '{"a":0.9,"b":0.1}')),
        (["b", "a"], Cells(None, "b", '["b","a"]')),
        (None, Cells()),
        ({"x": "ä"}, Cells(None, None, '{"x":"ä"}')),
    ],
)
def test_a_value_has_a_number_a_class_and_a_text_as_far_as_it_can(value: Any, cells: Cells) -> None:
    assert cells_of(value) == cells


def test_a_number_that_is_none_is_one_of_pythons() -> None:
    assert cells_of(float("nan")).text == "NaN"
    assert cells_of(float("inf")) == Cells(float("inf"), None, "Infinity")


@pytest.mark.parametrize(
    ("value", "kind", "cell"),
    [
        ("7", Kind.TEXT, "7"),
        (7, Kind.TEXT, "7"),
        ("7.5", Kind.NUMBER, 7.5),
        ("x", Kind.NUMBER, None),
        (True, Kind.WHOLE, 1),
        (7.5, Kind.WHOLE, None),
        (1 << 62, Kind.WHOLE, 1 << 62),
        (1 << 63, Kind.WHOLE, None),
        (None, Kind.TEXT, None),
    ],
)
def test_a_request_field_fits_its_kind_or_is_null(value: Any, kind: Kind, cell: Any) -> None:
    assert cell_of(value, kind) == cell


def test_each_exchange_and_shadow_is_a_row(tmp_path: Path) -> None:
    failed = {"outcome": "timeout", "error": "no whole answer within 30 s", "total_ms": 30000.0}
    log = log_of(
        tmp_path / "log.jsonl",
        [
            entry(7, {"prediction": 0.5}, a={"prediction": 0.5}, b={"prediction": 1}),
            entry(8, {"prediction": 1}, a=failed),
        ],
        torn=b'{"schema":1,"id',
    )
    rows = table(log)
    assert [(row["id"], row["shadow"], row["verdict"], row["outcome"]) for row in rows] == [
        ("000007", "a", "match", "ok"),
        ("000007", "b", "mismatch", "ok"),
        ("000008", "a", "", "timeout"),
    ]
    assert [row["live_number"] for row in rows] == ["0.5", "0.5", "1.0"]
    assert [row["shadow_class"] for row in rows] == ["", "1", ""]
    assert rows[0]["at"] == "2026-01-31T12:00:00.000123Z"
    assert rows[2]["error"] == "no whole answer within 30 s"
    assert rows[1]["differences"] == "1"
    assert rows[0]["live_place"] == rows[0]["shadow_place"] == "/prediction"


def test_a_batch_is_one_row_or_one_for_each_of_its_rows(tmp_path: Path) -> None:
    asked = {"instances": [{"age": 30, "x": "a"}, {"age": 41, "x": "b"}], "model": "m"}
    log = log_of(tmp_path / "log.jsonl", [entry(1, {"predictions": [3, 0.5]}, asked=asked, a={"predictions": [3]})])
    (whole,) = table(log, "--request", "/instances/*/age")
    assert (whole["row"], whole["live_number"], whole["live_text"]) == ("", "", "[3,0.5]")
    assert whole["request:/instances/*/age"] == "[30,41]"
    rows = table(log, "--rows", "--request", "/instances/*/age=whole", "--request", "/model")
    assert [(row["row"], row["live_number"], row["shadow_number"]) for row in rows] == [
        ("0", "3.0", "3.0"),
        ("1", "0.5", ""),
    ]
    assert [row["request:/instances/*/age"] for row in rows] == ["30", "41"]
    assert [row["request:/model"] for row in rows] == ["m", "m"]


def test_the_columns_do_not_depend_on_the_log(tmp_path: Path) -> None:
    logs = [
        log_of(tmp_path / "a.jsonl", [entry(1, {"score": 1}, s={"score": 0.5})]),
        log_of(tmp_path / "b.jsonl", [entry(2, "a text", later=leg(int(TENS)))]),
    ]
    heads = [list(table(log)[0]) for log in logs]
    assert heads[0] == heads[1] == [column.name for column in COLUMNS]


def test_long_integers_are_kept_digit_for_digit(tmp_path: Path) -> None:
    body = {"outcome": "ok", "status": 200, "headers": {}, "body": {"id": 1, "label": int(TENS)}, "body_bytes": 50}
    (row,) = table(log_of(tmp_path / "log.jsonl", [entry(1, body, a=body)]), "--field", "/label")
    assert row["live_text"] == row["live_class"] == TENS


def test_the_answer_of_a_language_model_is_its_text_with_what_it_took(tmp_path: Path) -> None:
    def chat(text: str, tokens: int) -> dict[str, Any]:
        usage = {"prompt_tokens": 5, "completion_tokens": tokens}
        return {"object": "chat.completion", "choices": [{"message": {"content": text}}], "usage": usage}

    (row,) = table(log_of(tmp_path / "log.jsonl", [entry(1, chat("Yes.", 2), a=chat("No, never.", 3))]))
    assert (row["live_text"], row["shadow_text"]) == ("Yes.", "No, never.")
    assert (row["live_tokens_out"], row["shadow_tokens_out"], row["live_tokens_in"]) == ("2", "3", "5")


def test_only_what_was_asked_for_is_written(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log.jsonl", [entry(n, {"p": n}, a={"p": 1}, b={"p": 1}) for n in range(4)])
    rows = table(log, "--shadow", "b", "--where", "/n>=2")
    assert [(row["id"], row["shadow"]) for row in rows] == [("000002", "b"), ("000003", "b")]


def test_verdicts_are_by_the_given_rules(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log.jsonl", [entry(1, {"p": 1.0}, a={"p": 1.05})])
    assert table(log)[0]["verdict"] == "mismatch"
    assert table(log, "--tolerance", "/p=0.1")[0]["verdict"] == "match"
    config = tmp_path / "config.yaml"
    config.write_text("live: {url: 'http://a'}\nshadows: {a: {url: 'http://b'}}\ncompare: {ignore: [/p]}\n")
    assert table(log, "-c", str(config))[0]["verdict"] == "ignored"


def test_json_lines_have_every_column(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log.jsonl", [entry(1, {"p": 1}, a={"p": None})])
    out = tmp_path / "out.jsonl"
    assert run(log, "-o", out)[0] == 0
    (row,) = map(json.loads, out.read_text().splitlines())
    assert list(row) == [column.name for column in COLUMNS]
    assert row["live_number"] == 1.0
    assert row["shadow_number"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "out.xlsx"], "ends with none of .parquet, .csv, .jsonl"),
        (["-o", "out.csv", "--request", "age"], '"age" is no JSON pointer'),
        (["-o", "out.csv", "--field", "age"], "age"),
        (["-o", "log.jsonl"], "is one of the files to read"),
        (["-o", "no/such/log.jsonl/out.csv", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    log_of(tmp_path / "log.jsonl", [entry(1, {"p": 1}, a={"p": 1})])
    status, output = run("log.jsonl", *words)
    assert status == 2
    assert said in output
    assert len(output.splitlines()) == 1
    assert not list(tmp_path.glob("**/.*.partial"))


def test_no_rows_write_no_file(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log.jsonl", [entry(1, {"p": 1}, a={"p": 1})])
    status, said = run(log, "-o", tmp_path / "out.csv", "--shadow", "b")
    assert status == 3
    assert "no rows: none of 1 records" in said
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("before")
    assert run(tmp_path / "missing.jsonl", "-o", out)[0] == 2
    assert out.read_text() == "before"


def test_a_field_names_its_kind_last() -> None:
    assert parse_field("/a=number") == ("/a", Kind.NUMBER)
    assert parse_field("/a=b=text") == ("/a=b", Kind.TEXT)
    with pytest.raises(ValueError, match='unknown kind "foo", not one of text, number, whole'):
        parse_field("/a=foo")
    with pytest.raises(ValueError, match="no JSON pointer"):
        parse_field("=number")


def test_a_time_that_is_none_is_null() -> None:
    assert microseconds("2026-01-31T12:00:00.000001Z") == 1769860800000001
    assert microseconds("yesterday") is None


def test_in_a_store_too_only_the_later_parts_of_a_day_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store() as store:
        use(store, monkeypatch)
        kept = ["t/date=1/part-0.parquet", "t/date=1/parts.txt", "t/date=2/part-5.parquet"]
        store.objects |= dict.fromkeys([*kept, "t/date=1/part-1.parquet", "t/date=1/part-12.parquet"], b"-")
        remove_parts("s3://bucket/t/date=1/", 1)
        assert sorted(store.objects) == kept


def test_an_ending_says_the_format() -> None:
    assert ending_of("a.b.csv") == ".csv"
    with pytest.raises(ExportError, match="none of"):
        ending_of("csv")


def test_a_log_in_python_gives_its_records(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log.jsonl", [entry(n, {"p": n}, a={"p": 1}) for n in range(3)], torn=b"{")
    read = shadowproxy.read_log(tmp_path / "log.jsonl")
    assert [record.id for record in read] == [record.id for record in read] == ["000000", "000001", "000002"]
    assert [record.id for record in shadowproxy.read_log(str(log), [str(tmp_path / "*.jsonl")])][3:] == [
        "000000",
        "000001",
        "000002",
    ]
    assert repr(read) == f"read_log('{log}')"
    with pytest.raises(ExportError, match="no JSON pointer"):
        read.to_arrow(fields=["age"])


def test_a_table_is_put_into_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(tmp_path / "log.jsonl", [entry(1, {"p": 1}, a={"p": 1})])
    assert run(log, "-o", tmp_path / "here.csv")[0] == 0
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with object_store() as store:
        use(store, monkeypatch)
        assert run(log, "-o", "s3://bucket/tables/out.csv") == (
            0,
            "1 rows from 1 records in s3://bucket/tables/out.csv\n",
        )
        assert store.objects["tables/out.csv"] == (tmp_path / "here.csv").read_bytes()
        store.status = 403
        status, said = run(log, "-o", "s3://bucket/out.csv")
        assert (status, len(said.splitlines())) == (2, 1)
        assert said.startswith("shadowproxy: cannot write s3://bucket/out.csv: the store refuses access")
    assert run(log, "-o", "https://example.invalid/out.csv") == (
        2,
        "shadowproxy: cannot write https://example.invalid/out.csv: a web server is only read\n",
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["here.csv", "log.jsonl"]


class TestParquet:
    """With pyarrow, which `make soak` installs."""

    @pytest.fixture(autouse=True)
    def _needs_pyarrow(self) -> None:
        pytest.importorskip("pyarrow")

    def test_parquet_has_the_columns_and_their_types(self, tmp_path: Path) -> None:
        from pyarrow import parquet

        log = log_of(tmp_path / "log.jsonl", [entry(n, {"p": n / 2}, a={"p": 1}) for n in range(3)])
        out = tmp_path / "out.parquet"
        assert run(log, "-o", out, "--request", "/n=whole")[0] == 0
        read = parquet.read_table(out)
        assert read.column_names == [*(column.name for column in COLUMNS), "request:/n"]
        assert str(read.schema.field("at").type) == "timestamp[us, tz=UTC]"
        assert read.column("live_number").to_pylist() == [0.0, 0.5, 1.0]
        assert read.column("id").to_pylist() == ["000000", "000001", "000002"]
        assert read == shadowproxy.read_log(log).to_arrow(fields=["/n=whole"])

    def test_a_folder_has_a_file_for_each_day(self, tmp_path: Path) -> None:
        from pyarrow import dataset

        days = [*range(1, 29), 1]  # more than are open at once, and one that comes again
        log = log_of(tmp_path / "log.jsonl", [entry(n, {"p": n}, day, a={"p": 1}) for n, day in enumerate(days)])
        assert run(log, "-o", f"{tmp_path / 'out'}/")[0] == 0
        read = dataset.dataset(tmp_path / "out", partitioning="hive").to_table()
        assert sorted(read.column("id").to_pylist()) == [f"{n:06}" for n in range(29)]
        assert len(set(read.column("date").to_pylist())) == 28

    def test_into_the_same_folder_again_a_day_is_replaced_and_others_stay(self, tmp_path: Path) -> None:
        from pyarrow import dataset

        out = f"{tmp_path / 'out'}/"
        both = log_of(tmp_path / "both.jsonl", [entry(n, {"p": n}, day, a={"p": 1}) for n, day in enumerate((1, 2))])
        assert run(both, "-o", out)[0] == 0
        older = tmp_path / "out" / "date=2026-01-02" / "part-1.parquet"
        older.write_bytes((tmp_path / "out" / "date=2026-01-02" / "part-0.parquet").read_bytes())
        again = log_of(tmp_path / "again.jsonl", [entry(7, {"p": 7}, 2, a={"p": 1})])
        assert run(again, "-o", out)[0] == 0
        read = dataset.dataset(tmp_path / "out", partitioning="hive").to_table()
        assert sorted(read.column("id").to_pylist()) == ["000000", "000007"]

    def test_an_empty_log_is_a_table_with_the_same_columns(self, tmp_path: Path) -> None:
        made = shadowproxy.read_log(log_of(tmp_path / "log.jsonl", [])).to_arrow()
        assert made.num_rows == 0
        assert made.column_names == [column.name for column in COLUMNS]


PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "export.md").read_text()
EXAMPLES = [line for line in PAGE.splitlines() if line.startswith("shadowproxy export")]


@pytest.mark.parametrize("command", EXAMPLES)
def test_a_command_of_the_page_writes_what_it_says(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command)[2:]
    to = words[words.index("-o") + 1]
    if to.endswith((".parquet", "/")):
        pytest.importorskip("pyarrow")
    (tmp_path / "shadow-log").mkdir()
    now = datetime.now(UTC)
    raw = json.dumps(entry(1, {"p": 1}, challenger={"p": 1}) | {"at": now.isoformat()}).encode() + b"\n"
    (tmp_path / "shadow-log" / "a.jsonl.zst").write_bytes(zstandard.compress(raw))
    monkeypatch.chdir(tmp_path)
    status, said = run(*words)
    assert (status, said) == (0, f"1 rows from 1 records in {'1 files in ' if to.endswith('/') else ''}{to}\n")
    assert Path(to).exists()


def test_the_page_lists_every_column() -> None:
    rows = re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    for column in COLUMNS:
        if column.name not in named:  # the page's … stands for the shadow's, and for the time beside
            assert column.name.replace("shadow_", "live_") in named
