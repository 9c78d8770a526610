"""Each code block of each page says how it is tested; those that other tests do not cover are run or checked here."""

import ast
import contextlib
import csv
import io
import json
import logging
import os
import re
import shlex
import shutil
import textwrap
from math import comb
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
import yaml
from page_blocks import CONFIGURATION, ON_A_LOG, PAGES, ROOT, Block, blocks, exists, fault, runners
from test_export import entry
from test_operator_log import lines_of, log_record
from test_schema import VALIDATOR

from shadowproxy import Shadow, cli, config
from shadowproxy.record import decode
from shadowproxy.serve.telemetry.access import AccessLine

TOP = {key.partition(".")[0] for key in config.keys()}  # noqa: SIM118 (a function)
ALL = [block for page in PAGES for block in blocks(page)]


def marked(marker: str) -> list[Any]:
    return [pytest.param(block, id=str(block)) for block in ALL if block.marker == marker]


def the_block(page: str, words: str) -> str:
    (found,) = [block.text for block in blocks(ROOT / page) if words in block.text]
    return found


def test_the_tests_that_run_pages_exist() -> None:
    for page, tests in runners().items():
        assert (ROOT / page).is_file(), page
        assert [test for test in tests if not exists(test)] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```sh\nls\n```\n", "has no marker"),
        (
            "<!-- tested by test_pages.py::test_nowhere -->\n```sh\nls\n```\n",
            "do not exist: test_pages.py::test_nowhere",
        ),
        ("<!-- run -->\n```sh\nls\n```\n", "names no test for its page"),
        ("*Not run by the tests: x.*\n# A section\n<!-- not run -->\n```sh\nls\n```\n", "has no sentence"),
        ("<!-- never run -->\n```sh\nls\n```\n", "not one of CONTRIBUTING.md's"),
        ("```\nshadowproxy report shadow-log\n```\n", "has commands but no language"),
        ("<!-- not run -->\n```sh\nls\n```\n*Not run by the tests: it is slow.*\n# A section\n", ""),
        ("```\na line of output\n```\n", ""),
    ],
)
def test_a_block_with_a_wrong_marker_is_found(text: str, says: str, tmp_path: Path, monkeypatch: Any) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    monkeypatch.setattr("page_blocks.ROOT", tmp_path)
    (block,) = blocks(page)
    assert says in (fault(block) or "")
    assert bool(says) == bool(fault(block))


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what a command about a log names, which is the working directory."""
    (tmp_path / "shadow-log").mkdir()
    lines = [json.dumps(entry(n, {"p": n % 7}, challenger={"p": n % 7 if n % 9 else 6})) for n in range(60)]
    (tmp_path / "shadow-log" / "20260131T120000Z-pod-0-1.jsonl").write_text("\n".join(lines) + "\n")
    with (tmp_path / "labels.csv").open("w") as file:
        csv.writer(file).writerows([("id", "label"), *((f"{n:06}", n % 7) for n in range(60))])
    (tmp_path / "gates.yaml").write_text("latency_ratio: 2\n")
    (tmp_path / "ids.txt").write_text("000001\n000002\n")
    (tmp_path / "config.yaml").write_text("live: {url: 'http://127.0.0.1:1'}\ncompare: {tolerance: {'/p': 1}}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", marked(ON_A_LOG))
def test_a_command_about_a_log_works(block: Block, a_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADOWPROXY_JOBS", "1")
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "shadowproxy", f"{block}: only commands of shadowproxy can be run on a log"
        monkeypatch.setattr("sys.argv", words)
        said = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main()
        assert ended.value.code in (0, None, 1, 3), (
            f"{block}: {line}\n{said.buffer.getvalue().decode()}"
        )  # 1 and 3 are verdicts
        for made in a_log.glob("pod-1.*"):  # what another pod would have made
            shutil.copy(made, made.with_name(made.name.replace("1", "2")))
        for name in ("-o", "--html", "--junit"):
            if name in words:
                assert (a_log / words[words.index(name) + 1]).exists()


# --- configurations --------------------------------------------------------------------------------------------------


def within(values: Any, given: Any) -> Any:
    """Two configurations as one; what is given comes first."""
    if not (isinstance(values, dict) and isinstance(given, dict)):
        return given
    return {key: within(values.get(key), given[key]) if key in given else values[key] for key in values | given}


@pytest.mark.parametrize("block", marked(CONFIGURATION))
def test_a_part_of_a_configuration_is_accepted(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    given = yaml.safe_load(textwrap.dedent(block.text))
    shadow = {"url": "http://127.0.0.1:9002"}
    if not given.keys() <= TOP:
        given = {"shadows": {"challenger": given}}  # a part from within a shadow
    whole = within({"live": {"url": "http://127.0.0.1:9001"}, "shadows": {"challenger": shadow}}, given)
    assert [error.message for error in VALIDATOR.iter_errors(whole)] == []
    if "listen_tls" not in given:  # whose files have to be there
        text = yaml.safe_dump(whole)
        for name in re.findall(r"\$\{(\w+)\}", text):
            text = text.replace(f"${{{name}}}", "given-by-the-environment")
        config.from_values(yaml.safe_load(text))


@pytest.mark.source
def test_the_two_ways_to_configure_a_shadow_in_the_code_are_calls_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shadow.yaml").write_text("shadows: {challenger: {url: 'http://127.0.0.1:9002'}}\n")
    for line in the_block("docs/how-to/in-code.md", 'Shadow("shadow.yaml")').splitlines():
        names: dict[str, Any] = {"Shadow": Shadow}
        exec(line, names)
        names["shadow"].close()


def test_the_component_in_ones_own_kustomization_is_the_examples() -> None:
    shown = yaml.safe_load(the_block("deploy/README.md", "components:"))
    example = yaml.safe_load((ROOT / "deploy/kubernetes/behind/example/kustomization.yaml").read_text())
    assert shown["configMapGenerator"] == example["configMapGenerator"]
    (there,) = shown["components"]
    assert (ROOT / there.removeprefix("../shadowproxy/")).is_dir()
    assert os.path.normpath(f"deploy/kubernetes/behind/example/{example['components'][0]}") in there


# --- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [pytest.param(b, id=str(b)) for b in ALL if b.text.startswith('{"schema": 1')])
def test_a_record_that_a_page_shows_is_one(block: Block) -> None:
    told = decode(block.text.encode())
    assert told.live.outcome == "ok"
    assert told.shadows["challenger"].judgement is not None


def test_the_events_that_the_log_page_shows_are_read() -> None:
    shown = json.loads(the_block("docs/reference/log.md", '"gaps_ms"'))
    values = entry(1, {"p": 1})
    values["live"]["events"] = shown
    events = decode(json.dumps(values).encode()).live.events
    assert events is not None
    assert (events.first_ms, events.first_token_ms, events.last_token_ms) == (20.113, 1801.2, 2204.75)
    assert (events.tokens, events.counted) == (shown["tokens"], shown["counted"])
    assert events.gaps == (12.402, 19.8, 21.006)


def test_a_line_of_the_operators_log_is_of_its_form() -> None:
    failed, accessed = [
        json.loads(block.text) for block in blocks(ROOT / "docs/reference/logging.md") if block.language == "json"
    ]
    extra = {key: value for key, value in failed.items() if key not in ("time", "level", "logger", "message")}
    event = log_record(failed["message"], name=failed["logger"], **extra)
    event.levelno, event.levelname = logging.ERROR, "ERROR"
    ended = [accessed[name] for name in ("status", "outcome", "ms", "bytes")]
    access = AccessLine(accessed["request_id"], accessed["method"], accessed["path"].encode(), *ended)
    made = [json.loads(line) for line in (*lines_of("json", event), *lines_of("json", access))]
    for line, shown in zip(made, (failed, accessed), strict=True):
        assert line | {"time": shown["time"]} == shown
        assert list(line) == list(shown)


def test_the_examples_of_the_python_page_are_python() -> None:
    code = [block for block in blocks(ROOT / "docs/reference/python.md") if block.language == "python"]
    assert len(code) >= 3
    for block in code:
        ast.parse(block.text)


def test_the_figures_about_an_ab_test_are_what_comes_out() -> None:
    """By the normal approximation, two-sided at 5 %; the counts are those of docs/tutorials/demo.md."""
    page = " ".join((ROOT / "docs/explanation/why-not-ab.md").read_text().split())
    flights, only_live, only_shadow = 5000, 73, 126
    live, shadow = 4626 / flights, 4679 / flights
    differ = only_live + only_shadow
    tail = 2 * sum(comb(differ, n) for n in range(only_shadow, differ + 1)) / 2**differ
    assert 1 / tail == pytest.approx(5000, rel=0.1)
    spread = live * (1 - live) + shadow * (1 - shadow)
    assert (live * (1 - live) / (flights / 2)) ** 0.5 == pytest.approx(0.005, abs=0.0005)
    beyond = NormalDist().cdf(1.96 - (shadow - live) / (spread / (flights / 2)) ** 0.5)
    assert beyond == pytest.approx(2 / 3, abs=0.03)
    needed = 2 * (1.96 + 0.8416) ** 2 * spread / (shadow - live) ** 2
    share = differ / flights
    paired = (1.96 * share**0.5 + 0.8416 * (share - (shadow - live) ** 2) ** 0.5) ** 2 / (shadow - live) ** 2
    assert (round(needed, -3), round(paired, -2)) == (18000, 2800)
    for words in ("199 flights", "73 of them", "126", "half a point", "two of three", "about 18,000", "about 2,800"):
        assert words in page


def test_the_page_of_exit_statuses_has_every_command_that_says_a_status() -> None:
    page = (ROOT / "docs/reference/exit-statuses.md").read_text()
    says = {
        name
        for name, command in cli.commands.commands.items()
        if "xit status" in " ".join((command.help or "").split())
    }
    assert len(says) > 8
    rows = re.findall(r"^\| `([\w -]+)` \|", page, re.MULTILINE)
    assert says - {row.split()[0] for row in rows} == set()
    assert len(set(rows)) == len(rows)
