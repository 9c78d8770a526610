"""The recipes of reference/log.md and how-to/export.md, run by analysts' readers, on a log that breaks guesses.

The log has whole numbers for 21,000 lines and others then, a number beside an object, a shadow that comes late,
integers of 20 digits, IDs of digits, a torn line, and zst beside plain.
"""

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from parties import installed

soak = pytest.mark.soak

ROOT = Path(__file__).parent.parent
EARLY = 21_000  # more lines than DuckDB looks at
DIGITS = 12345678901234567890
PYARROW = {
    "PYTHONPATH": str(installed.PARTIES / "analysts" / "lib" / f"python3.{sys.version_info[1]}" / "site-packages")
}
"""What `export` needs for Parquet."""


def leg(body: Any, **more: Any) -> dict[str, Any]:
    head = {"outcome": "ok", "status": 200, "headers": {"content-type": "application/json"}}
    return {**head, "body": body, "body_bytes": 20, "first_byte_ms": 1.5, "total_ms": 2.5, **more}


def line(number: int, live: Any, **shadows: dict[str, Any]) -> bytes:
    request = {"method": "POST", "path": "/predict", "query": "", "headers": {}, "body": {"n": number}, "body_bytes": 9}
    at = f"2026-01-31T12:{number // 60 % 60:02}:{number % 60:02}.000123Z"
    head = {"schema": 1, "id": f"{number:06}", "record": f"r-{number}", "at": at, "proxy": "pod/0"}
    whole = {**head, "request": request, "live": leg(live), "shadows": shadows, "control": None}
    return json.dumps(whole).encode() + b"\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analysts")
    log = folder / "shadow-log"
    log.mkdir()
    early = b"".join(line(n, {"score": 1}, challenger=leg({"score": 1}, verdict="match")) for n in range(EARLY))
    (log / "20260131T120000.000001Z-pod-0-7-0001.jsonl.zst").write_bytes(zstandard.compress(early))
    differs = [{"path": "/score", "kind": "type", "live": {"a": 0.5}, "shadow": 0.7}]
    timeout = {"outcome": "timeout", "error": "no whole answer within 30 s", "total_ms": 30000.0}
    late = [
        line(EARLY, {"score": 0.6}, challenger=leg({"score": 0.6}, verdict="match")),
        line(
            EARLY + 1,
            {"score": {"a": 0.5}},
            challenger=leg({"score": 0.7}, verdict="mismatch", differences=differs),
        ),
        line(EARLY + 2, {"score": DIGITS}, challenger=leg({"score": DIGITS}, verdict="match"), late=timeout),
        line(EARLY + 3, "text", late=leg([1, 2], verdict="mismatch")),
        b'{"schema":1,"id":"0',
    ]
    (log / "20260131T130000.000001Z-pod-0-7-0002.jsonl").write_bytes(b"".join(late))
    (folder / "segment.jsonl").write_bytes(b"".join(late[:-1]))
    return folder


def block(page: str, words: str) -> str:
    """The one block of a page that has these words."""
    text = (ROOT / "docs" / "how-to" / page).read_text()
    (found,) = [each for each in re.findall(r"```(?:sql|python|sh)\n(.*?)```", text, re.DOTALL) if words in each]
    return str(found)


def ran(folder: Path, code: str, python: str | Path | None = None) -> Any:
    """What a program prints as JSON on its last line."""
    words = [python or installed.python("analysts"), "-c", code]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@soak
def test_duckdb(folder: Path) -> None:
    query = block("read-the-log.md", "read_json")
    rows = ran(folder, f"import duckdb, json\nprint(json.dumps(duckdb.sql({query!r}).fetchall()))")
    assert rows == [
        ["challenger", "ok", "match", EARLY + 2],
        ["challenger", "ok", "mismatch", 1],
        ["late", "ok", "mismatch", 1],
        ["late", "timeout", None, 1],
    ]


@soak
def test_polars(folder: Path) -> None:
    code = (
        block("read-the-log.md", "import polars")
        + "\nimport json\nprint(json.dumps(frame.tail(4).rows(), default=str))"
    )
    rows = ran(folder, code)
    assert [row[0] for row in rows] == ["021000", "021001", "021002", "021003"]
    assert json.loads(rows[2][2]) == {"score": DIGITS}
    assert rows[3][2:] == ["text", None]
    assert rows[0][1].endswith("+00:00")


@soak
def test_pandas(folder: Path) -> None:
    code = block("read-the-log.md", "subprocess.run") + (
        "\nassert str(frame['at'].dtype).startswith('datetime64'), frame.dtypes"
        "\nprint(json.dumps([len(frame), frame['id'].iloc[0], frame['live'].iloc[-2]]))"
    )
    assert ran(folder, code) == [EARLY + 5, "000000", {"score": DIGITS}]


@soak
def test_jq(folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", block("read-the-log.md", "jq -cR")], cwd=folder, capture_output=True, check=True
    )
    (found,) = map(json.loads, done.stdout.splitlines())
    assert (found["id"], found["differences"][0]["live"]) == ("021001", {"a": 0.5})


@soak
def test_python_alone(folder: Path) -> None:
    code = block("read-the-log.md", 'open("segment.jsonl"')
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "021003 late ok mismatch"


@soak
def test_the_exported_table(folder: Path) -> None:
    """The same cells in Parquet by all four readers, and in Python by `read_log`."""
    shadowproxy = [sys.executable, "-m", "shadowproxy", "export", "shadow-log"]
    for to in ("answers.parquet", "answers/"):
        subprocess.run([*shadowproxy, "-o", to], cwd=folder, check=True, capture_output=True, env=PYARROW)
    rows = EARLY + 5
    code = """
import json, duckdb, pandas, polars, pyarrow.parquet
file = "answers.parquet"
one = pyarrow.parquet.read_table(file)
other = pandas.read_parquet(file)
third = polars.read_parquet(file)
query = "SELECT id, live_text FROM 'answers/*/*.parquet' WHERE id = '021002' AND shadow = 'challenger'"
last = duckdb.sql(query).fetchall()
print(json.dumps([len(one), len(other), len(third), other["id"].iloc[0], third["live_number"][-5], last]))
"""
    expected = [rows, rows, rows, "000000", 0.6, [["021002", str(DIGITS)]]]
    assert ran(folder, code) == expected
    code = block("export.md", "read_log") + "\nimport json\nprint(json.dumps([table.num_rows, frame.height]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=PYARROW)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [rows + 1, rows]  # with a row for each of [1, 2]


@soak
def test_spark(folder: Path) -> None:
    """Both programs in one session, as a session takes ten seconds to start."""
    local = 'SparkSession.builder.master("local[1]").config("spark.ui.enabled", False).getOrCreate()'
    table, records = (
        block("read-the-log.md", words).replace("SparkSession.builder.getOrCreate()", local)
        for words in ('spark.read.parquet("answers")', "get_json_object")
    )
    words = [sys.executable, "-m", "shadowproxy", "export", "shadow-log", "-o", "answers/"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, env=PYARROW)
    code = f"""{table}
print(frame.count())
{records}
import json
print(json.dumps([frame.count(), [[row["id"], row["live"], row["outcome"]] for row in frame.orderBy("id").tail(4)]]))
"""
    count, rows = ran(folder, code, installed.python("spark"))
    assert count == EARLY + 4
    assert rows[2] == ["021002", f'{{"score":{DIGITS}}}', "ok"]
    assert rows[3][1:] == ["text", None]


@soak
def test_the_table_answers_questions(exported: Path) -> None:
    code = block("read-the-log.md", '.nlargest(10, "apart")') + "\nimport json\nprint(json.dumps(apart.max()))"
    assert 2 < ran(exported, code) < 4
    query = block("read-the-log.md", "quantile_cont")
    code = f"import duckdb, json\nprint(json.dumps(duckdb.sql({query!r}).fetchall(), default=str))"
    hours = ran(exported, code)
    assert sum(hour[2] for hour in hours) == 400
    assert {tuple(hour[4:]) for hour in hours} == {(2.5, 2.5)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table of a regression, `answers.parquet`."""
    folder = tmp_path_factory.mktemp("exported")
    source = random.Random(3)
    lines = []
    for number in range(400):
        score = source.gauss(10, 2)
        near = leg({"score": score * 1.1 + source.gauss(0, 0.5)})
        lines.append(line(number, {"score": score}, challenger=near))
    (folder / "log.jsonl").write_bytes(b"".join(lines))
    words = [sys.executable, "-m", "shadowproxy", "export", "log.jsonl", "-o", "answers.parquet"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, env=PYARROW)
    return folder


@pytest.mark.parties_all("analysts", "evidently")
def test_evidently(exported: Path) -> None:
    code = block("export.md", "from evidently") + (
        "\nimport json\nmetrics = drift.dict()['metrics'] + apart.dict()['metrics']"
        "\nfound = {each['metric_name'].partition('(')[0]: each['value'] for each in metrics}"
        "\nprint(json.dumps([found['DriftedColumnsCount']['count'], found['MAE']['mean']]))"
    )
    drifted, apart = ran(exported, code, installed.python("evidently"))
    assert drifted == 1
    assert 0.8 < apart < 1.2
    assert {"drift.html", "apart.html"} <= {each.name for each in exported.iterdir()}


@pytest.mark.parties_all("analysts", "trackers")
def test_mlflow(exported: Path) -> None:
    code = block("export.md", "import mlflow") + "\nprint(json.dumps(float(found.metrics['mean_absolute_error'])))"
    assert 0.8 < ran(exported, "import json\n" + code, installed.python("trackers")) < 1.2


@pytest.mark.parties_all("analysts", "trackers")
def test_weights_and_biases(exported: Path) -> None:
    code = block("export.md", "import wandb") + "\nimport json\nprint(json.dumps(len(frame)))"
    assert ran(exported, code, installed.python("trackers")) == 400
    assert [each.name[:11] for each in (exported / "wandb").glob("offline-run-*")] == ["offline-run"]
