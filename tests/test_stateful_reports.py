"""What a report says of stateful APIs: what was translated, what was unknown, and where `state` should be turned on."""

import random
from io import StringIO
from typing import Any

import pytest
from logs import answer, failed, pair_of, record, report_json
from rich.console import Console

from shadowproxy.compare.fold.summary import Summary, load, merge, save, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.markdown import to_markdown
from shadowproxy.compare.report.text import print_figures
from shadowproxy.exchange import Learnt, Outcome, Translated
from shadowproxy.record import Body, Record, RecordedLeg, RecordedRequest

ADVICE = "the shadow refuses IDs it was never given: turn on `state`"


def sessions(count: int, *, refused: bool = True, path: bool = True) -> list[Record]:
    """Each makes an item, and asks for it by live's ID."""
    source = random.Random(3)
    made: list[Record] = []
    for number in range(count):
        one, other = (f"{source.getrandbits(64):016x}" for _ in range(2))
        made.append(record(2 * number, answer({"id": one}, 201), number, s=answer({"id": other}, 201)))
        found = answer({"detail": "not found"}, 404) if refused else answer({"id": one})
        follow = record(2 * number + 1, answer({"id": one, "n": 1}), number + 0.5, s=found)
        where = f"/items/{one}" if path else "/items"
        body = Body("none", None, 0) if path else Body("json", {"previous": one}, 30)
        made.append(follow._replace(request=RecordedRequest("GET", where, "", {}, body)))
    return made


def texts_of(figures: Any) -> tuple[str, str, str]:
    shown = StringIO()
    print_figures(figures, Console(file=shown, width=400))
    return shown.getvalue(), to_markdown(figures).replace("\\", ""), to_html(figures)


@pytest.mark.parametrize("path", [True, False])
def test_a_report_says_that_state_would_help(path: bool) -> None:
    figures = report_json(summarise(sessions(80, path=path), Rules()))
    shadow = figures["shadows"]["s"]
    assert shadow["state"] == {"translated": 0, "unknown": 0, "gone": 0, "learnt": 0, "refused": 80}
    assert ADVICE in shadow["advice"]["next"]["said"]
    assert shadow["advice"]["in_short"][0]["about"] == "state"
    assert all(ADVICE in text for text in texts_of(figures))


def test_a_log_in_parts_says_the_same_in_any_order() -> None:
    """Also where there are more IDs than are kept, and an ID is issued in one part and carried in another."""
    records = sessions(1300)
    makers, askers = records[::2], records[1::2]
    parts = [summarise(makers, Rules()), summarise(askers, Rules())]
    whole = summarise(records, Rules())
    assert save(merge(*parts)) == save(merge(*reversed(parts))) == save(whole)
    assert pair_of(load(save(whole))).state.refused() == pytest.approx(1300, rel=0.15)


@pytest.mark.parametrize(
    "change",
    [
        lambda each: each,  # the shadow knows them
        lambda each: each._replace(request=each.request._replace(path="/items/0123456789abcdef")),  # nobody issued it
    ],
)
def test_nothing_is_advised_where_no_issued_id_is_refused(change: Any) -> None:
    refused = change(sessions(1)[1]).request.path == "/items/0123456789abcdef"
    records = [change(each) if number % 2 else each for number, each in enumerate(sessions(60, refused=refused))]
    shadow = report_json(summarise(records, Rules()))["shadows"]["s"]
    assert shadow["state"] is None
    assert ADVICE not in str(shadow)


def test_a_session_that_the_log_hides_is_known_by_its_field() -> None:
    hidden = {"mcp-session-id": "[redacted]"}
    records = []
    for number in range(60):
        opened = answer({}, 200)._replace(headers=hidden)
        records.append(record(2 * number, opened, number, s=opened))
        asked = record(2 * number + 1, answer({}), number + 0.5, s=answer({"error": "no session"}, 400))
        records.append(asked._replace(request=asked.request._replace(headers=hidden)))
    assert report_json(summarise(records, Rules()))["shadows"]["s"]["state"]["refused"] == 60


def translated(number: int, leg: RecordedLeg, live: RecordedLeg | None = None) -> Record:
    return record(number, live or answer({"n": number % 3}), number, s=leg)


def test_a_report_counts_what_was_translated_and_what_was_unknown() -> None:
    put = (Translated("path", "record-0", "live-1234", "own-12345"),)
    good = answer({"n": 1})._replace(translated=put, learnt=(Learnt("json:/id", "live-2345", "own-23456"),))
    gone = answer({"detail": "not found"}, 404)._replace(translated=put)
    legs = [good] * 300 + [gone] * 4 + [failed(Outcome.STATE_UNKNOWN)] * 12
    figures = report_json(summarise([translated(n, leg) for n, leg in enumerate(legs)], Rules()))
    shadow = figures["shadows"]["s"]
    assert shadow["state"] == {"translated": 304, "unknown": 12, "gone": 4, "learnt": 300, "refused": 0}
    assert shadow["pairs"]["n"] == 316
    assert shadow["flips"]["to_4xx"]["count"] == 4
    assert shadow["coverage"]["share"] == 304 / 316
    assert shadow["answered"]["lost"] == 16  # the unknown ones are missing, and no rejections
    reasons = {each["reason"]: each["count"] for each in shadow["errors"]["reasons"]["shadow"]}
    assert reasons["state_unknown"] == 12
    words = "304 requests translated, 12 unknown; 4 of the shadow's own IDs were gone: it answered 404 or 410"
    assert all(words in text for text in (each.replace("&#x27;", "'") for each in texts_of(figures)))


def test_summaries_without_these_counts_are_read() -> None:
    summary = summarise(sessions(2), Rules())
    raw = summary.to_json()
    for pair in raw["shadows"]["s"]["kept"].values():
        del pair["state"]
    assert pair_of(Summary.from_json(raw)).state.refused() == 0
