"""One report, however the logs were cut and merged, and on whatever engine."""

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import pytest
import zstandard
from parties import installed
from test_engines import log

from shadowproxy.fleet import FleetError, Fold

ROOT = Path(__file__).parent.parent
CONFIG = """
live: {url: "http://127.0.0.1:1"}
shadows: {s: {url: "http://127.0.0.1:2"}}
compare: {tolerance: {/label: 0.5}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of two pods, plain and compressed."""
    folder = tmp_path_factory.mktemp("fleet")
    for day, pod in itertools.product(range(3), range(2)):
        part = folder / "logs" / f"dt=2026-11-0{day + 1}"
        part.mkdir(parents=True, exist_ok=True)
        content = log((2 * day + pod) * 120, 120)
        name = f"2026110{day + 1}T120000.000001Z-pod-{pod}-7-0001.jsonl"
        if pod:
            (part / f"{name}.zst").write_bytes(zstandard.compress(content))
        else:
            (part / name).write_bytes(content)
    (folder / "config.yaml").write_text(CONFIG)
    return folder


def expected(folder: Path) -> bytes:
    """What `shadowproxy report --json` prints."""
    words = [sys.executable, "-m", "shadowproxy", "report", "--json", "logs", "-c", "config.yaml"]
    return subprocess.run(words, cwd=folder, capture_output=True, check=False).stdout.rstrip(b"\n")


def test_a_fold_is_the_one_report_in_any_order_and_grouping(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowproxy.sources.PART", 9000)
    fold = Fold(folder / "config.yaml")
    tasks = fold.tasks(folder / "logs")
    assert len(tasks) > 12
    summaries = [fold.summarise(task) for task in tasks]
    wanted = expected(folder)
    for seed in range(3):
        source = random.Random(seed)
        left = list(summaries)
        source.shuffle(left)
        while len(left) > 1:
            left.append(fold.merge(left.pop(source.randrange(len(left))), left.pop(source.randrange(len(left)))))
        assert fold.report(left[0]).json() == wanted


def test_a_report_has_every_form(folder: Path) -> None:
    fold = Fold(folder / "config.yaml")
    found = fold.report(reduce(fold.merge, map(fold.summarise, fold.tasks(folder / "logs"))))
    assert found.result == json.loads(found.json())["result"]
    assert "shadow s" in found.text() or "s" in found.text()
    assert "<html" in found.html()
    assert found.markdown().startswith("#")
    assert fold.report(None).result == "no data"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: Fold(folder / "missing.yaml"), "missing.yaml"),
        (lambda folder: Fold(where=["age"]), "is not a condition"),
        (lambda folder: Fold(since="yesterday"), "yesterday"),
        (lambda folder: Fold(gates=folder / "config.yaml"), "config.yaml"),
        (lambda folder: Fold().merge(b"{}", b"{}"), "summary"),
        (lambda folder: Fold().report(b"no summary"), "summary"),
    ],
)
def test_what_is_wrong_is_one_line(folder: Path, make: Callable[[Path], object], said: str) -> None:
    with pytest.raises(FleetError, match=said) as raised:
        make(folder)
    assert "\n" not in str(raised.value)


# --- engines: run by the long tests -----------------------------------------------------------------------------------


def block(words: str) -> str:
    """The one block of docs/how-to/fleet.md with these words, about the folder's logs, that prints JSON."""
    parts = (ROOT / "docs" / "how-to" / "fleet.md").read_text().split("```python\n")[1:]
    (found,) = [each for each in (part.partition("```")[0] for part in parts) if words in each]
    return found.replace("s3://logs/shadow/dt=2026-11-*/", "logs/dt=2026-11-*/").replace(".text()", ".json().decode()")


def ran(folder: Path, code: str, engine: str) -> bytes:
    packages = installed.python(engine).parent.parent / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    (folder / "program.py").write_text(code)
    environment = installed.environment() | {"PYTHONPATH": f"{ROOT}:{packages}", "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, env=environment, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.rstrip(b"\n")


@pytest.mark.soak
def test_spark(folder: Path) -> None:
    local = 'SparkSession.builder.master("local[2]").config("spark.ui.enabled", False).getOrCreate()'
    code = block("shadowproxy.spark").replace("SparkSession.builder.getOrCreate()", local)
    assert ran(folder, code, "spark") == expected(folder)


@pytest.mark.soak
def test_the_script_for_spark_submit(folder: Path) -> None:
    submit = installed.python("spark").with_name("spark-submit")
    script = ROOT / "deploy" / "spark" / "report.py"
    words: list[str | Path] = [submit, "--master", "local[2]", script, "logs", "--rules", "config.yaml"]
    packages = submit.parent.parent / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    environment = installed.environment() | {"PYTHONPATH": f"{ROOT}:{packages}", "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        [*words, "--json", "out.json"], cwd=folder, capture_output=True, env=environment, timeout=240, check=False
    )
    wanted = expected(folder)
    assert done.returncode == {"pass": 0, "fail": 1}.get(json.loads(wanted)["result"], 3), done.stderr.decode()
    assert (folder / "out.json").read_bytes() == wanted


@pytest.mark.soak
def test_dask(folder: Path) -> None:
    assert ran(folder, block("from dask"), "spark") == expected(folder)


@pytest.mark.parties_all("ray")
def test_ray(folder: Path) -> None:
    assert expected(folder) in ran(folder, block("import ray"), "ray")  # Ray says more on standard output
