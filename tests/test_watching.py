"""`shadowproxy watch`: what is new is counted once, labels as they come, and a changed word is told once."""

import gzip
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import THOROUGH
from watched import DAY, START, Watched, line, september

from shadowproxy import cli
from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.labels import LabelError, read_labels
from shadowproxy.compare.fold.summary import resealed
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.history import History, Look, history_of, read_history
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.judged import labels_of
from shadowproxy.watch.follow import Position, new_in
from shadowproxy.watch.history import HistoryError, HistoryFile
from shadowproxy.watch.labelled import Windows
from shadowproxy.watch.labels import Files, kept, query_of, restored, written_for
from shadowproxy.watch.look import Looking
from shadowproxy.watch.run import Outputs, Stopping
from shadowproxy.watch.run import run as run_watch
from shadowproxy.watch.sidecars import is_sidecar, shown
from shadowproxy.watch.state import State, StateError
from shadowproxy.watch.webhook import Webhook, form_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shadowproxy", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return command


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def records(count: int, first: int = 0, *, differ: int = 0, weight: int = 1) -> bytes:
    """Records ten seconds apart, alternately a and b, of which the first `differ` differ; the others have a weight."""
    return b"".join(
        line(
            n,
            START + timedelta(seconds=10 * n),
            "ab"[n % 2],
            "ab"[(n + (n - first < differ)) % 2],
            weight=1 if n - first < differ else weight,
        )
        for n in range(first, first + count)
    )


# --- what is new -----------------------------------------------------------------------------------------------------


def test_each_look_reads_only_what_is_new_and_counts_every_record_once(watched: Watched) -> None:
    one, two = watched.log / "a.jsonl", watched.log / "b.jsonl"
    one.write_bytes(records(10))
    assert watched.look()["records"] == 10
    torn = records(5, 10)[:-30]
    one.write_bytes(records(10) + torn)
    assert watched.look()["records"] == 14, "the torn one is not whole yet"
    one.write_bytes(records(15))
    assert watched.look()["records"] == 15
    one.write_bytes(records(18))
    one.with_name("a.jsonl.zst").write_bytes(zstandard.compress(records(18)))
    one.unlink()
    two.write_bytes(records(3, 18))
    assert watched.look()["records"] == 21, "compressed since: the rest of it is read"
    with gzip.open(two.with_name("b.jsonl.gz"), "wb") as file:
        file.write(records(3, 18))
    assert watched.look()["records"] == 21, "it is there twice while it is compressed"
    two.unlink()
    assert watched.look()["records"] == 21
    assert watched.look()["records"] == 21


def test_a_file_that_was_replaced_is_read_from_its_beginning(watched: Watched) -> None:
    file = watched.log / "a.jsonl"
    file.write_bytes(records(10))
    watched.look()
    file.write_bytes(records(4, 10))
    assert watched.look()["records"] == 14, "shorter than it was"
    file.unlink()
    (watched.log / "other").write_bytes(b"holds the inode")
    file.write_bytes(records(9, 14))
    assert watched.look()["records"] == 23


def test_what_a_runtime_has_cut_waits_for_its_rest(watched: Watched) -> None:
    whole = records(3).splitlines()
    cri = b"2026-09-01T00:00:00.000000000Z stdout "
    first = b"".join(cri + b"F " + each + b"\n" for each in whole[:2]) + cri + b"P " + whole[2][:50] + b"\n"
    file = watched.log / "pod.jsonl"
    file.write_bytes(first)
    assert watched.look()["records"] == 2
    file.write_bytes(first + cri + b"F " + whole[2][50:] + b"\n")
    look = watched.look()
    assert look["records"] == 3
    assert look["faults"] == []


def test_a_file_in_a_store_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from shadowproxy.sources import Source
    from shadowproxy.watch import follow

    stored = Source("s3://logs/a.jsonl.zst", "s3://logs/a.jsonl.zst", 10)
    monkeypatch.setattr(follow, "sources_of", lambda path: [stored])
    (new,) = new_in(["s3://logs/"], {})
    assert new.source == stored
    assert not new_in(["s3://logs/"], {new.name: new.after})


def test_a_missing_log_is_an_error_and_an_empty_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        new_in([str(tmp_path / "nowhere.jsonl")], {})
    assert new_in([str(tmp_path)], {}) == []
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"no newline yet")
    assert new_in([str(tmp_path)], {str(file): Position(0)}) == []


def test_a_history_in_the_log_and_a_saved_summary_as_a_log_are_refused(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    assert "as a part of the log" in run("watch", log, "--history", log / "h.jsonl", "--once")[2]
    (log / "a.jsonl").write_bytes(records(10))
    run("summarise", log, "-o", tmp_path / "pod.json")
    status, _, err = run("watch", tmp_path / "pod.json", "--history", tmp_path / "h.jsonl", "--once")
    assert (status, "saved summary" in err) == (2, True)


def test_another_setting_is_refused_and_the_state_says_which(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.look()
    watched.plan = type(watched.plan)(**{**fields_of(watched.plan), "windows": Windows((DAY, 2 * DAY))})
    with pytest.raises(StateError, match=r"another setting \(windows\)"):
        watched.look()


# --- the history -----------------------------------------------------------------------------------------------------


def test_a_torn_line_is_skipped_and_the_next_one_stands_alone(watched: Watched) -> None:
    watched.look()
    with watched.history.open("ab") as file:
        file.write(b'{"shadowproxy_watch":1,"at":"2026')
    watched.look()
    found = read_history(watched.history)
    assert len(found.looks) == 2
    assert found.unreadable == 1


def test_a_second_watcher_of_one_history_is_refused(tmp_path: Path) -> None:
    with HistoryFile(tmp_path / "h"), pytest.raises(HistoryError, match="another watcher writes"):
        HistoryFile(tmp_path / "h")
    HistoryFile(tmp_path / "h").__exit__()


def test_a_look_that_could_not_be_written_counts_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    (watched.log / "a.jsonl").write_bytes(records(10))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            watched.look()
    assert watched.look()["records"] == 10


def test_sigterm_ends_it_after_the_look_under_way(watched: Watched) -> None:
    (watched.log / "a.jsonl").write_bytes(records(100))
    stopping = Stopping()
    with (
        stopping.on_sigterm(),
        State(watched.history.with_name("state")) as state,
        HistoryFile(watched.history) as history,
    ):
        outputs = Outputs(lambda _: os.kill(os.getpid(), signal.SIGTERM))
        run_watch(Looking(watched.plan, state), history, outputs, 3600, stopping)
    assert len(read_history(watched.history).looks) == 1


def test_a_log_that_cannot_be_read_for_once_is_told_and_read_later(watched: Watched) -> None:
    (watched.log / "a.jsonl").write_bytes(records(100))
    said: list[str] = []
    stopping = Stopping()
    away = watched.log.with_name("away")
    looks = 0

    def say(line: str) -> None:
        nonlocal looks
        said.append(line)
        looks += "challenger" in line
        if looks == 1 and watched.log.exists():
            watched.log.rename(away)
        elif "cannot read" in line:
            away.rename(watched.log)
        elif looks == 3:
            stopping.stop()

    with State(watched.history.with_name("state")) as state, HistoryFile(watched.history) as history:
        run_watch(Looking(watched.plan, state), history, Outputs(say), 0.001, stopping)
    assert sum("cannot read" in each for each in said) == 1
    assert read_history(watched.history).looks[-1]["records"] == 100


@given(st.lists(st.sampled_from([b"", b"{}", b"null", b"\xff", b'{"shadowproxy_watch":2}', b"[1"])))
def test_any_lines_are_a_history(raw: list[bytes]) -> None:
    assert history_of(raw).looks == []


# --- words and posts -------------------------------------------------------------------------------------------------


class Receiver:
    """What a webhook is sent, and the statuses that it answers, the last one again and again."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.keys: list[str] = []
        self.statuses: list[int] = [200]
        self.url = ""
        self.came = threading.Event()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = received.statuses.pop(0) if len(received.statuses) > 1 else received.statuses[0]
            if status == 200:
                received.got.append(json.loads(body))
                received.keys.append(self.headers["Idempotency-Key"])
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            received.came.set()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_port}/services/SECRET"
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def posting(watched: Watched, receiver: Receiver, pauses: list[float] | None = None) -> Callable[[], Look]:
    def pause(seconds: float) -> bool:
        (pauses if pauses is not None else []).append(seconds)
        return False

    watched.plan = type(watched.plan)(**{**fields_of(watched.plan), "posts": True})
    return lambda: watched.look(webhook=Webhook(receiver.url, "json", pause))


def fields_of(plan: Any) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}


def test_a_word_is_posted_when_it_changes_and_once(watched: Watched, receiver: Receiver) -> None:
    look = posting(watched, receiver)
    look()
    assert receiver.got == [], "there is no word before the first request"
    (watched.log / "a.jsonl").write_bytes(records(100))
    look()
    look()
    (said,) = receiver.got
    assert (said["shadow"], said["was"], said["verdict"]) == ("challenger", "no_data", "inconclusive")
    assert said["id"] == receiver.keys[0]
    assert said["n"] == 100
    (watched.log / "b.jsonl").write_bytes(
        b"".join(line(n, START + timedelta(seconds=10 * n), "ab"[n % 2], None) for n in range(100, 900))
    )
    look()
    look()
    assert [each["verdict"] for each in receiver.got] == ["inconclusive", "fail"]
    assert len(set(receiver.keys)) == 2


def test_a_watcher_that_is_killed_between_its_two_writes_repeats_no_word(watched: Watched, receiver: Receiver) -> None:
    look = posting(watched, receiver)
    (watched.log / "a.jsonl").write_bytes(records(100))
    with State(watched.history.with_name("state")) as state, HistoryFile(watched.history) as history:
        looking = Looking(watched.plan, state, lambda: watched.now)

        def killed(written: Look) -> None:
            history.add(written)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            looking.look(history.held.words, killed)
    again = look()
    assert again["records"] == 100, "nothing is counted twice"
    assert again["changes"] == []
    assert [each["verdict"] for each in receiver.got] == ["inconclusive"], "nor is the word lost"


def test_a_failed_post_is_told_and_tried_at_the_next_look_in_order(watched: Watched, receiver: Receiver) -> None:
    pauses: list[float] = []
    look = posting(watched, receiver, pauses)
    receiver.statuses = [500]
    (watched.log / "a.jsonl").write_bytes(records(100))
    look()
    assert pauses == [1.0, 2.0, 4.0]
    assert any("did not accept that challenger is NOT SURE YET: it answers 500" in each for each in watched.said)
    (watched.log / "b.jsonl").write_bytes(
        b"".join(line(n, START + timedelta(seconds=10 * n), "ab"[n % 2], None) for n in range(100, 900))
    )
    receiver.statuses = [403]
    look()
    assert len(pauses) == 3, "it is refused: the same post at once would be too"
    receiver.statuses = [429, 200]
    look()
    assert [each["verdict"] for each in receiver.got] == ["inconclusive", "fail"], "none is lost, none comes twice"
    look()
    assert len(receiver.got) == 2
    assert not any("SECRET" in each for each in watched.said)
    assert read_history(watched.history).pending == {}


def test_without_a_webhook_no_change_waits_for_one(watched: Watched, receiver: Receiver) -> None:
    (watched.log / "a.jsonl").write_bytes(records(100))
    watched.look()
    posting(watched, receiver)()
    assert receiver.got == []


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://discord.com/api/webhooks/1/x/slack", "slack"),
        ("https://example.com/hook", "json"),
        ("https://example.com/hooks.slack.com", "json"),
    ],
)
def test_slack_is_known_by_its_host(url: str, form: str) -> None:
    assert form_of(url) == form


def test_slack_gets_one_text_with_its_three_characters_escaped(watched: Watched, receiver: Receiver) -> None:
    posting(watched, receiver)
    (watched.log / "a.jsonl").write_bytes(records(900, differ=300))
    watched.look(webhook=Webhook(receiver.url, "slack", lambda _: False))
    (said,) = receiver.got
    assert list(said) == ["text"]
    assert said["text"].startswith("challenger is NOT SURE YET (was NO DATA): ")
    assert "<" not in said["text"]


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [1, 3])
def test_labels_that_come_look_by_look_count_as_if_they_had_been_there(tmp_path: Path, weight: int) -> None:
    watched = Watched(tmp_path, windows=(3600.0, 9 * DAY))
    source = random.Random(3)
    for step in range(4):
        first = 150 * step
        (watched.log / f"{step}.jsonl").write_bytes(records(150, first, differ=40, weight=weight))
        for number in source.sample(range(first + 150), 120):
            watched.label(number, source.choice("ab"), START + timedelta(seconds=10 * number + source.uniform(0, 9000)))
        watched.now = START + timedelta(seconds=10 * (first + 150))
        watched.look()
    watched.now += timedelta(hours=2)
    look = watched.look()
    truths = read_labels(watched.labels)
    whole = to_json(summarise_files([watched.log], Rules(), truths=truths))
    known = labels_of(whole["shadows"]["challenger"])
    seen = look["shadows"]["challenger"]["labels"]
    assert known is not None
    assert seen is not None
    assert known["live"] is not None
    assert (seen["labelled"], seen["live"]) == (known["labelled"], known["live"]["value"])
    assert seen["difference"]["low"] == known["anytime"][0], "a label that was corrected counts as it is now"  # type: ignore[index]


def test_a_window_has_what_was_known_in_time_of_what_is_old_enough(tmp_path: Path) -> None:
    watched = Watched(tmp_path, windows=(DAY, 3 * DAY))
    (watched.log / "a.jsonl").write_bytes(records(400, differ=100))
    for number in range(200):
        # The first hundred within a day, the others after two: only these differ from live.
        at = START + timedelta(seconds=10 * number) + timedelta(days=0.5 if number < 100 else 2)
        watched.label(number, "ab"[number % 2], at)
    for days, due in ((0.9, (0, 0)), (1.5, (400, 0)), (3.5, (400, 400)), (9, (400, 400))):
        watched.now = START + timedelta(days=days)
        look = watched.look()
        one, other = look["shadows"]["challenger"]["windows"]
        assert (one["due"], other["due"]) == due
    assert (one["labelled"], other["labelled"]) == (100, 200)
    assert one["found"] is not None
    assert other["found"] is not None
    assert (one["found"]["live"], one["found"]["shadow"]) == (1.0, 0.0)
    assert (other["found"]["live"], other["found"]["shadow"]) == (1.0, 0.5)
    assert one["differ"]
    assert "the two agree on 0 % of them and on 100 % of the rest" in (one["rest"] or "")
    with sqlite3.connect(watched.history.with_name("state")) as base:
        assert base.execute("SELECT count(*) FROM pairs").fetchone() == (0,), "nothing waits any more"
    base.close()


def test_labels_of_no_request_are_told(watched: Watched) -> None:
    (watched.log / "a.jsonl").write_bytes(records(100))
    watched.label(1000, "a")
    assert watched.look()["faults"] == ["1 labels have come, and none belongs to a request by the request's ID"]


@pytest.mark.parametrize(
    ("style", "text", "parameters"),
    [
        ("qmark", "x > ? AND y > ? AND z = ':since' AND a::date % 2 = 0 -- :since", [7, 7]),
        ("numeric", "x > :1 AND y > :1 AND z = ':since' AND a::date % 2 = 0 -- :since", [7]),
        ("named", "x > :since AND y > :since AND z = ':since' AND a::date % 2 = 0 -- :since", {"since": 7}),
        ("format", "x > %s AND y > %s AND z = ':since' AND a::date %% 2 = 0 -- :since", [7, 7]),
        ("pyformat", "x > %(since)s AND y > %(since)s AND z = ':since' AND a::date %% 2 = 0 -- :since", {"since": 7}),
    ],
)
def test_a_query_is_written_as_the_driver_takes_it(style: str, text: str, parameters: Any) -> None:
    sql = "x > :since AND y > :since AND z = ':since' AND a::date % 2 = 0 -- :since"
    assert written_for(style, sql, 7) == (text, parameters)
    assert written_for(style, "SELECT '%' , 1 % 2", 7) == ("SELECT '%' , 1 % 2", None), "without parameters as it is"


def test_a_paramstyle_of_no_standard_is_an_error() -> None:
    with pytest.raises(LabelError, match="PEP 249"):
        written_for("dollar", "SELECT :since", 0)


@settings(max_examples=50)
@given(
    st.one_of(
        st.text(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.dates(),
        st.datetimes(timezones=st.just(UTC)),
        st.datetimes(),
        st.decimals(allow_nan=False, allow_infinity=False),
    )
)
def test_what_since_stands_for_is_kept(value: str | float | date | datetime | Decimal) -> None:
    try:
        raw = orjson.dumps(kept(value))
    except TypeError:  # half a pair of surrogates
        return
    assert restored(orjson.loads(raw)) == value


def test_a_query_gives_only_what_is_new_and_a_restart_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "labels.db"
    base = sqlite3.connect(file)
    base.execute("CREATE TABLE labels (id TEXT, label TEXT, at INTEGER)")
    query = query_of(f"sqlite3:{file}", "SELECT id, label, at FROM labels WHERE at > :since", "0", None)
    watched = Watched(tmp_path, labels=query, windows=(60.0, 30 * DAY))
    (watched.log / "a.jsonl").write_bytes(records(100))
    watched.now = START + timedelta(hours=1)
    asked = int(START.timestamp())
    seen = []
    for number in range(3):
        base.execute("INSERT INTO labels VALUES (?, 'a', ?)", (f"id-{2 * number}", asked + 100 + number))
        base.commit()
        labels = watched.look()["shadows"]["challenger"]["labels"]
        seen.append(None if labels is None else labels["labelled"])
    assert seen == [1, 2, 3]
    with State(watched.history.with_name("state")) as state:
        assert state.get("since") == asked + 102
    base.close()


def test_what_connecting_needs_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = types.ModuleType("a_driver")

    class OperationalError(Exception):
        pass

    asked: list[Any] = []

    def connect(*text: str, **keywords: Any) -> None:
        asked.append(text or keywords)
        raise OperationalError(f"cannot connect with {text or keywords}")

    driver.__dict__.update(connect=connect, paramstyle="pyformat")
    monkeypatch.setitem(sys.modules, "a_driver", driver)
    monkeypatch.setenv("LABELS_PASSWORD", "hunter22")
    for target in (
        "a_driver:postgresql://me:${LABELS_PASSWORD}@db/labels",
        "a_driver:postgresql://me:hunter22@db/labels",
        "a_driver:host=db password=hunter22",
        'a_driver:{"host": "db", "password": "${LABELS_PASSWORD}"}',
    ):
        query = query_of(target, "SELECT id, label, at FROM labels WHERE at > :since", None, None)
        assert "hunter22" not in repr(query)
        with pytest.raises(LabelError, match="a_driver's OperationalError") as error:
            query.labels(None)
        assert "hunter22" not in str(error.value)
    assert asked[-1] == {"host": "db", "password": "hunter22"}
    with pytest.raises(ValueError, match="NOT_THERE is not set"):
        query_of("a_driver:${NOT_THERE}", "SELECT 1", None, None)
    with pytest.raises(ValueError, match="DRIVER:CONNECTION"):
        query_of("labels.db", "SELECT 1", None, None)


def test_a_query_must_give_the_columns(tmp_path: Path) -> None:
    for sql, why in (("SELECT 1 AS id", "must give"), ("SELECT 1 AS", "OperationalError"), ("PRAGMA x", "must give")):
        with pytest.raises(LabelError, match=why):
            query_of(f"sqlite3:{tmp_path / 'x.db'}", sql, None, None).labels(None)
    with pytest.raises(LabelError, match="not installed"):
        query_of("no_such_driver:x", "SELECT 1", None, None).labels(None)


# --- known answers ---------------------------------------------------------------------------------------------------


def words(tmp_path: Path, days: Any, seed: int, *, swapped: bool, hours: int) -> list[str]:
    """The word at each look at the flights, by their arrivals."""
    tmp_path.mkdir()
    said: list[str] = []

    def on_look(look: Look) -> None:
        said.extend(each["verdict"] for each in look["shadows"].values())

    Watched(tmp_path).month(days, seed, on_look, swapped=swapped, hours=hours)
    return said


@pytest.mark.slow
def test_on_the_flights_the_better_model_is_never_failed_and_the_worse_never_passed(tmp_path: Path) -> None:
    days = [day[::2] for day in september()[:2]]
    assert "fail" not in words(tmp_path / "one", days, 1, swapped=False, hours=24)
    assert "pass" not in words(tmp_path / "other", days, 1, swapped=True, hours=24)


@pytest.mark.slow
def test_the_first_morning_alone_decides_nothing(tmp_path: Path) -> None:
    """On its 255 flights the better model was worse by 6 points, beyond what an interval allows for."""
    morning = [flight for flight in september()[0] if flight[0] < 720]
    said = words(tmp_path / "one", [morning, morning[:1]], 1, swapped=False, hours=12)
    assert said == ["inconclusive", "inconclusive", "inconclusive", "inconclusive"]


@pytest.mark.soak
def test_look_by_look_over_seeds_it_is_wrong_in_at_most_one_of_twenty(tmp_path: Path) -> None:
    """Days drawn from the month, so that every seed is another month of the same model: it is better by 1 point."""
    month = september()
    wrong = right = 0
    seeds = 40 if THOROUGH else 3
    for seed in range(seeds):
        days = random.Random(seed).choices(month, k=6)
        better = words(tmp_path / f"{seed}", days, seed, swapped=False, hours=12)
        worse = words(tmp_path / f"{seed}-swapped", days, seed, swapped=True, hours=12)
        wrong += ("fail" in better) + ("pass" in worse)
        right += ("pass" in better) + ("fail" in worse)
    assert wrong <= 0.05 * 2 * seeds
    assert right >= seeds / 2, "it does decide"


# --- the command and the page ----------------------------------------------------------------------------------------


def test_once_has_the_exit_status_of_the_report(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    history = tmp_path / "h.jsonl"
    assert run("watch", log, "--history", history, "--once")[0] == 3
    (log / "a.jsonl").write_bytes(records(1800))
    page = tmp_path / "page.html"
    status, out, err = run("watch", log, "--history", history, "--once", "--html", page)
    assert status == 0, err
    assert out == ""
    assert "challenger: READY" in err
    (log / "b.jsonl").write_bytes(
        b"".join(line(n, START + timedelta(seconds=10 * n), "ab"[n % 2], None) for n in range(1800, 2400))
    )
    assert run("watch", log, "--history", history, "--once")[0] == 1
    assert "NOT READY" in run("report", log, "--history", history, "--html", page)[1]
    text = page.read_text()
    assert "<svg" in text
    assert "id='history'" in text
    assert "<script" not in text
    assert "READY → <b class='fail'>NOT READY</b>" in text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("-",), "standard input"),
        (("nowhere.jsonl",), "No such file"),
        (("x", "--every", "soon"), "is not a duration"),
        (("x", "--every", "0s"), "longer than nothing"),
        (("x", "--labels", "l.csv", "--labels-query", "sqlite3:x", "SELECT 1"), "not both"),
        (("x", "--label-key", "/id"), "needs --labels"),
        (("x", "--labels-since", "0"), "needs --labels-query"),
        (("x", "--webhook", "hooks.example.com/x"), "no http or https URL"),
        (("http://127.0.0.1:9", "--labels", "l.csv"), "give a LOG"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(run: Run, tmp_path: Path, words: Any, why: str) -> None:
    status, out, err = run("watch", *words, "--once", "--history", tmp_path / "h.jsonl")
    assert status == 2
    assert why in err
    assert err.count("\n") == 1
    assert out == ""


def test_a_page_with_thousands_of_looks_stays_small(watched: Watched) -> None:
    (watched.log / "a.jsonl").write_bytes(records(200))
    look = watched.look()
    figures = to_json(summarise_files([watched.log], Rules()))
    looks = []
    for hour in range(3000):
        at = (START + timedelta(hours=hour)).isoformat()
        looks.append(
            {**look, "at": at, "changes": [{"id": str(hour), "shadow": "challenger", "from": "pass", "to": "fail"}]}
        )
    page = to_html(figures, looks=looks)  # type: ignore[arg-type]
    assert len(page.encode()) < 300_000
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_sidecar_is_known_by_its_address() -> None:
    assert is_sidecar("http://10.0.0.7:9901")
    assert is_sidecar("https://user:secret@admin.example/pod/")
    assert not is_sidecar("https://logs.example/a.jsonl.zst")
    assert not is_sidecar("s3://logs/")
    for wrong in ("http://", "http://h:99999", "http://h:-5", "http://h:abc", "http://[::1", "http://h:0"):
        with pytest.raises(ValueError, match="is no address, such as"):
            is_sidecar(wrong)
    with pytest.raises(ValueError, match=r"^h:x is no address"):
        is_sidecar("http://user:secret@h:x")
    assert shown("https://user:secret@admin.example:99/pod?x=y") == "https://admin.example:99"


@contextmanager
def sidecar(raw: bytes, token: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers.get("Authorization") == f"Bearer {token}" and self.path == "/summary"
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(raw) if allowed else 0))
            self.end_headers()
            if allowed:
                self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


OTHERS = {"long": 0, "lost": 0, "gaps": 0, "seconds": 0}


def told(directory: Path, count: int, first: int = 0, **about: Any) -> bytes:
    """What a sidecar says that has counted so many records."""
    file = directory / f"{first}.jsonl"
    file.write_bytes(records(count, first))
    said = {
        "instance": f"sidecar {first}",
        "key": {"rules": Rules().digest, "fields": []},
        "gates": {},
        "since": {"challenger": "2026-09-01T00:00:00Z"},
        "shadows": {"challenger": "http://10.0.0.8"},
        "counted": {"records": count, "folded": count, "shed": 0} | OTHERS,
        "last": {"challenger": datetime.now(UTC).isoformat()},
    }
    return resealed(summarise_files([file], Rules()), {"standing": said | about})


def test_sidecars_counts_are_added_and_one_that_is_gone_keeps_its_last(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = tmp_path / "h.jsonl"
    with sidecar(told(tmp_path, 900), "t0ken") as one:
        with sidecar(told(tmp_path, 900, 900), "t0ken") as other:
            assert "wants the admin token" in run("watch", one, "--history", history, "--once")[2]
            monkeypatch.setenv("SHADOWPROXY_ADMIN_TOKEN", "t0ken")
            status, _, err = run("watch", one, other, "--history", history, "--once")
            assert status == 0, err
        status, _, err = run("watch", one, other, "--history", history, "--once")
        assert status == 3
        assert "cannot be asked" in err
        assert "1 of 2 sidecars did not answer" in err
        assert read_history(history).looks[-1]["records"] == 1800
        status, _, err = run("watch", one, other, "--history", tmp_path / "new.jsonl", "--once")
        assert status == 3, "what it has counted was never known"


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"instance": "sidecar 0"}, "are the same sidecar, and would count twice; it is not counted"),
        ({"key": {"rules": "others", "fields": []}}, "compares by other rules"),
        ({"shadows": {"challenger": "http://10.0.0.9"}}, "different candidates by this name"),
        ({"counted": {"records": 900, "folded": 0, "shed": 900} | OTHERS}, "there was no time to count"),
        ({"counted": None}, "another version"),
        ({"gates": {"errors": 0.001}}, "different gates"),
        ({"gates": {"unknown": 1}, "instance": "sidecar 0"}, "are the same sidecar"),
    ],
)
def test_sidecars_that_cannot_be_added_up_withhold_ready(
    about: Any, said: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHADOWPROXY_ADMIN_TOKEN", "t0ken")
    first, second = told(tmp_path, 1800), told(tmp_path, 900, 1800, **about)
    with sidecar(first, "t0ken") as one, sidecar(second, "t0ken") as other:
        status, _, err = run("watch", one, other, "--history", tmp_path / "h.jsonl", "--once")
    assert status == 3, err
    assert said in err
    assert read_history(tmp_path / "h.jsonl").looks[-1]["verdict"] == "inconclusive"


def test_sidecars_are_judged_by_their_own_gates(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADOWPROXY_ADMIN_TOKEN", "t0ken")
    (tmp_path / "gates.yaml").write_text("drift: null\n")
    strict = told(tmp_path, 1800, gates={"errors": 0.0001})
    with sidecar(strict, "t0ken") as url:
        status, _, err = run("watch", url, "--history", tmp_path / "h.jsonl", "--once")
        assert (status, "errors needs about" in err) == (3, True), err
        gates = ("--gates", tmp_path / "gates.yaml")
        assert run("watch", url, "--history", tmp_path / "g.jsonl", "--once", *gates)[0] == 0
    with sidecar(told(tmp_path, 1800, gates={"unknown": 1}), "t0ken") as url:
        status, _, err = run("watch", url, "--history", tmp_path / "u.jsonl", "--once")
        assert (status, "unknown" in err) == (3, True), err


def test_a_history_is_read_up_to_its_most_looks() -> None:
    found = History()
    look: Any = {"shadows": {}, "changes": [], "webhook": False}
    for _ in range(5001):
        found.add(look)
    assert len(found.looks) == 5000


def test_files_of_labels_are_read_together(tmp_path: Path) -> None:
    for name, label in (("a", "x"), ("b", "y")):
        (tmp_path / name).write_text(f"id,label\nid-1,{label}\nid-{name},z\n")
    found, since = Files((str(tmp_path / "a"), str(tmp_path / "b"))).labels(None)
    assert since is None
    assert found["id-1"][None][1] == "y"
    assert len(found) == 3


@pytest.mark.slow
def test_the_command_watches_until_it_is_ended(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "shadow-log").mkdir()
    (tmp_path / "shadow-log" / "a.jsonl").write_bytes(records(100))
    words = ["shadow-log", "--every", "1h", "--history", "verdicts.jsonl"]
    process = subprocess.Popen(
        [sys.executable, "-m", "shadowproxy", "watch", *words],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "SHADOWPROXY_WEBHOOK": receiver.url, "NO_PROXY": "*"},
    )  # fmt: skip
    assert process.stderr is not None
    with process:
        first = process.stderr.readline()
        receiver.came.wait(20)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert "challenger: NOT SURE YET" in first
    assert (process.returncode, rest) == (0, "")
    assert [each["verdict"] for each in receiver.got] == ["inconclusive"]


def test_the_command_asks_a_database(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shadow-log").mkdir()
    (tmp_path / "shadow-log" / "a.jsonl").write_bytes(records(100))
    base = sqlite3.connect("labels.db")
    base.execute("CREATE TABLE labels (id TEXT, label TEXT, at TEXT)")
    base.executemany(
        "INSERT INTO labels VALUES (?, 'a', ?)",
        [(f"id-{n}", (START + timedelta(seconds=10 * n + 60)).isoformat()) for n in range(60)],
    )
    base.commit()
    base.close()
    sql = "SELECT id, label, at FROM labels WHERE at > :since"
    run("watch", "shadow-log", "--history", "verdicts.jsonl", "--once", "--labels-query", "sqlite3:labels.db", sql)
    labels = read_history("verdicts.jsonl").looks[-1]["shadows"]["challenger"]["labels"]
    assert labels is not None
    assert labels["labelled"] == 60
