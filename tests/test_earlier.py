"""Summaries that an earlier version saved: what it counted stands, and what it did not count is never READY."""

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from logs import chosen, mixed, report_json
from rich.console import Console

from shadowproxy.compare.fold.summary import FORMAT, Summary, SummaryError, load, merge, save, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import exit_code
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.junit import to_junit
from shadowproxy.compare.report.markdown import to_markdown
from shadowproxy.compare.report.text import print_figures

SAVED = (Path(__file__).parent / "data" / "summary_1.json").read_bytes()
"""What the first version with saved summaries made of `mixed(120)`."""


def results(figures: dict[str, Any], shadow: str = "challenger") -> dict[str, str]:
    return {check["name"]: check["result"] for check in figures["shadows"][shadow]["checks"]}


def test_what_an_earlier_version_counted_stands() -> None:
    old = report_json(load(SAVED))["shadows"]["challenger"]
    new = report_json(summarise(mixed(120), Rules()))["shadows"]["challenger"]
    for name in ("coverage", "statuses", "latency", "streams", "agreement", "fields_cut", "near", "repeated_keys"):
        assert old[name] == new[name], name
    assert [(row["path"], row["exchanges"]) for row in old["fields"]] == [
        (row["path"], row["exchanges"]) for row in new["fields"]
    ]
    assert old["pairs"] == new["pairs"]
    assert "earlier version" in old["legacy"]
    assert new["legacy"] is None


@pytest.mark.parametrize("check", ["answered", "structure", "errors", "flips", "slices"])
def test_what_it_did_not_count_has_no_data_and_says_why(check: str) -> None:
    figures = report_json(load(SAVED))
    (found,) = (each for each in figures["shadows"]["challenger"]["checks"] if each["name"] == check)
    assert found["result"] == "no data"
    assert "earlier version" in found["said"]


def test_one_old_part_keeps_the_whole_from_being_ready() -> None:
    def twin(source: Any, number: int) -> tuple[Any, Any]:
        said = {"class": source.choice("abc")}
        return said, said

    new = summarise(
        [each._replace(shadows={"challenger": each.shadows["s"]}) for each in chosen(6000, 1, twin)], Rules()
    )
    assert report_json(new)["shadows"]["challenger"]["verdict"]["headline"] == "READY"
    mixed_up = merge(new, load(SAVED))
    shadow = report_json(mixed_up)["shadows"]["challenger"]
    assert shadow["pairs"]["n"] == 6000 + 117
    assert shadow["verdict"]["headline"] != "READY"
    assert [(route["route"], route["gated"]) for route in shadow["routes"]] == [("POST /predict", False), ("*", False)]
    assert {name: results(report_json(mixed_up))[name] for name in ("answered", "errors", "flips", "slices")} == {
        "answered": "no data",
        "errors": "no data",
        "flips": "no data",
        "slices": "no data",
    }


def test_it_is_saved_in_the_new_format_and_adds_up_in_any_order() -> None:
    old, new = load(SAVED), summarise(mixed(90, seed=2), Rules())
    assert orjson.loads(save(old))["shadowproxy_summary"] == FORMAT == 2
    assert save(load(save(old))) == save(old)
    assert save(merge(old, new)) == save(merge(new, old))
    total = Summary()
    for part in (new, load(SAVED)):
        total.absorb(load(save(part)))
    assert save(total) == save(merge(old, new))


def test_every_form_shows_it() -> None:
    figures = report_json(load(SAVED))
    out = io.StringIO()
    print_figures(figures, Console(file=out, width=100))
    for text in (out.getvalue(), to_html(figures), to_markdown(figures), to_junit(figures)):
        assert "earlier version" in text
    assert exit_code(figures) != 0


def test_a_broken_one_is_refused_in_one_line() -> None:
    raw = orjson.loads(SAVED)
    raw["shadows"]["challenger"]["chosen"] = 7
    with pytest.raises(SummaryError) as refused:
        load(orjson.dumps(raw))
    assert "\n" not in str(refused.value)
    del raw["digest"]
    with pytest.raises(SummaryError) as refused:
        Summary.from_json(raw)
    assert "\n" not in str(refused.value)
