"""Each promise of guarantees.md under fault, over real sockets, in seconds. tests/chaos.py takes minutes."""

import asyncio
import contextlib
import errno
import itertools
import json
import logging
import os
import random
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from conftest import Proxy, StartProxy
from fakes import (
    Caller,
    CutOff,
    Message,
    Origin,
    Peer,
    Script,
    always,
    answer,
    chunk_of,
    chunked,
    close_idle,
    refusing_port,
    silent,
    then_close,
    then_reset,
)
from program import Program
from test_metrics import samples

from shadowproxy import record
from shadowproxy.exchange import Outcome
from shadowproxy.record import Record
from shadowproxy.serve.admin import metrics
from shadowproxy.serve.journal.root import Journal

ASKED = b"POST /v1/predict HTTP/1.1\r\nHost: h\r\nX-Request-ID: %s\r\nContent-Length: 4\r\n\r\nbody"
LIVES = answer(b'{"late": true}', (b"Content-Type", b"application/json"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"))


def asked(number: int | str = "r") -> bytes:
    return ASKED % str(number).encode()


def seen(message: Message) -> tuple[bytes, tuple[tuple[bytes, bytes], ...], bytes]:
    return message.start, message.fields, message.body


# What a shadow may do.


def forever(piece: bytes, head: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head)
        await peer.flood(piece, limit=1 << 30)

    return script


async def refuse_to_read(peer: Peer) -> None:
    peer.stop_reading()
    await peer.gone.wait()


async def drip(peer: Peer) -> None:
    await peer.request()
    await peer.drip(answer(bytes(10_000)), every=0.02)


async def hang_midway(peer: Peer) -> None:
    await peer.request()
    await peer.send(chunked(b"begun")[:-5])
    await peer.wait_ended(60)


async def speak_first(peer: Peer) -> None:
    await peer.send(answer(b"unasked"))
    await peer.wait_ended(60)


def crash_and_come_back() -> Script:
    """Resets each connection in the middle of an answer: every second connection in its first answer, the others
    in their eleventh."""
    turn = itertools.count()

    async def script(peer: Peer) -> None:
        well = 10 * (next(turn) % 2)
        while await peer.request() is not None:
            if not well:
                await peer.send(LIVES[:-3])
                peer.reset()
                return
            await peer.send(LIVES)
            well -= 1

    return script


INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
FAULTS: dict[str, tuple[Script, set[Outcome]]] = {
    "answers": (always(LIVES), {Outcome.OK}),
    "answers 500": (always(answer(b"no", status=500)), {Outcome.OK}),
    "redirects": (always(answer(b"", (b"Location", b"http://192.0.2.1/"), status=307)), {Outcome.OK}),
    "redirects to itself": (always(answer(b"", (b"Location", b"/"), status=301)), {Outcome.OK}),
    "hangs": (silent, {Outcome.TIMEOUT}),
    "hangs midway": (hang_midway, {Outcome.TIMEOUT}),
    "drips": (drip, {Outcome.TIMEOUT}),
    "does not read": (refuse_to_read, {Outcome.TIMEOUT}),
    "hangs up": (then_close(b""), {Outcome.INCOMPLETE}),
    "resets": (then_reset(b""), {Outcome.INCOMPLETE}),
    "resets midway": (then_reset(LIVES[:-3]), {Outcome.INCOMPLETE}),
    "closes when idle": (close_idle(LIVES, after=0.001), {Outcome.OK}),
    "closes each time": (then_close(LIVES), {Outcome.OK}),
    "speaks first": (speak_first, {Outcome.OK, Outcome.INCOMPLETE, Outcome.TIMEOUT}),
    "answers garbage": (always(b"\x00\xff" * 500), {Outcome.PROTOCOL_ERROR}),
    "answers another protocol": (always(b"SSH-2.0-OpenSSH_9.2\r\n"), {Outcome.PROTOCOL_ERROR}),
    "answers twice": (always(LIVES + answer(b"unasked", status=500)), {Outcome.OK}),
    "sends 100 KB of headers": (
        always(answer(b"x", *[(b"X-%d" % n, b"y" * 1000) for n in range(100)])),
        {Outcome.PROTOCOL_ERROR},
    ),
    "sends headers for ever": (forever(b"X-A: b\r\n" * 1000, b"HTTP/1.1 200 OK\r\n"), {Outcome.PROTOCOL_ERROR}),
    "sends interim answers for ever": (forever(INTERIM * 1000, b""), {Outcome.TIMEOUT, Outcome.PROTOCOL_ERROR}),
    "floods by length": (
        forever(bytes(65536), b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"),
        {Outcome.ANSWER_OVERSIZE},
    ),
    "floods in chunks": (
        forever(chunk_of(bytes(65536)), chunked()[:-5]),
        {Outcome.ANSWER_OVERSIZE},
    ),
    "floods in tiny chunks": (
        forever(chunk_of(b"x") * 4000, chunked()[:-5]),
        {Outcome.ANSWER_OVERSIZE, Outcome.TIMEOUT},
    ),
    "crashes and comes back": (crash_and_come_back(), {Outcome.OK, Outcome.INCOMPLETE}),
}
STATUS = {"answers 500": 500, "redirects": 307, "redirects to itself": 301}
OPTIONS = {"timeout": "150ms", "breaker": {"failures": 1000}}
LIMITS = {"capture": "256KiB"}


class Books:
    """Compares the counts of the records, the lanes, the metrics and the shadow."""

    def __init__(self, running: Proxy, shadow: str = "s") -> None:
        self._running = running
        self._name = shadow

    async def balance(self, sent: int) -> Counter[Outcome]:
        """Stop the proxy, check that every request is one record and every chosen one has one outcome; return these."""
        records = await self._running.records()
        lane = next(lane for lane in self._running.sidecar.mirror.lanes if lane.shadow.name == self._name)
        journal = self._running.sidecar.journal.statistics()
        assert len(records) == len({each.record for each in records}) == sent
        assert (journal.written, journal.queued, dict(journal.lost)) == (sent, 0, {})
        totals = Counter(each.shadows[self._name].outcome for each in records if self._name in each.shadows)
        statistics = lane.statistics()
        assert Counter(statistics.outcomes) == totals
        assert statistics.chosen == totals.total()
        assert (statistics.in_flight, statistics.waiting) == (0, 0)
        begun = sum(each.shadows[self._name].total_ms is not None for each in records if self._name in each.shadows)
        assert statistics.begun == begun
        assert self._running.sidecar.mirror.memory.used == 0
        exported = samples(metrics.text(self._running.sidecar.census()).decode())
        shadow = self._name
        for outcome in Outcome:
            counted = exported.get(("shadowproxy_shadow_outcomes_total", (outcome.value, shadow)), 0)
            assert counted == totals[outcome], outcome
        assert exported["shadowproxy_shadow_chosen_total", (shadow,)] == totals.total()
        assert exported["shadowproxy_records_written_total", ()] == sent
        return totals


@pytest.mark.parametrize("fault", FAULTS)
async def test_1_2_3_whatever_the_shadow_does_the_caller_gets_lives_answer_and_the_books_balance(
    proxy: StartProxy, fault: str
) -> None:
    script, outcomes = FAULTS[fault]
    options = OPTIONS if Outcome.TIMEOUT in outcomes else OPTIONS | {"timeout": "5s"}  # on a busy machine too
    async with proxy(LIVES, {"s": script}, shadow_options=options, limits=LIMITS) as running:
        async with await Caller.to(running.live.address) as directly:
            expected = await directly.ask(asked())
        async with contextlib.AsyncExitStack() as stack:
            callers = [await stack.enter_async_context(await running.caller()) for _ in range(5)]
            for _ in range(4):
                for reply in await asyncio.gather(*(caller.ask(asked()) for caller in callers)):
                    assert reply.start == expected.start
                    assert reply.fields == (*expected.fields, (b"X-Request-ID", b"r"))
                    assert reply.body == expected.body
        lanes = running.sidecar.mirror.lanes
        async with asyncio.timeout(10):
            while sum(lanes[0].statistics().outcomes.values()) < 20:  # noqa: ASYNC110  # that drain cuts nothing off
                await asyncio.sleep(0.005)
        totals = await Books(running).balance(sent=20)
        assert set(totals) <= outcomes
        legs = [each.shadows["s"] for each in await running.records()]
        # What it answers, and no redirect followed, nor bytes left over taken for another's answer.
        assert {leg.status for leg in legs if leg.outcome == Outcome.OK} <= {STATUS.get(fault, 200)}
        if fault.startswith(("answers", "closes", "redirects")):
            assert len(running.shadows["s"].requests) == 20  # begun, and seen by it once each


async def test_2_a_shadow_that_is_down_gets_nothing_after_some_failures(proxy: StartProxy) -> None:
    with refusing_port() as port:
        options = {"url": f"http://127.0.0.1:{port}", "breaker": {"failures": 5, "pause": "1h"}}
        async with proxy(LIVES, {"s": answer()}, shadow_options=options) as running:
            for number in range(10):
                assert (await running.ask(asked(number))).body == b'{"late": true}'
                async with asyncio.timeout(5):
                    while running.sidecar.mirror.lanes[0].statistics().in_flight:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
            totals = await Books(running).balance(sent=10)
            assert totals == {Outcome.CONNECT_ERROR: 5, Outcome.BREAKER_OPEN: 5}


async def test_2_live_is_never_awaiting_a_shadow(proxy: StartProxy) -> None:
    """Not even slowly: a silent shadow with a timeout of an hour delays no caller and no stop."""
    options = {"timeout": "1h", "in_flight": 2, "lane": 3}
    async with proxy(LIVES, {"s": silent}, shadow_options=options, drain="50ms") as running:
        async with await running.caller() as caller, asyncio.timeout(5):
            for number in range(20):
                assert (await caller.ask(asked(number))).body == b'{"late": true}'
        totals = await Books(running).balance(sent=20)
        assert totals == {Outcome.SHUTDOWN: 5, Outcome.LANE_FULL: 15}


async def test_5_what_is_held_for_shadows_and_log_stays_within_the_limit(proxy: StartProxy) -> None:
    """Bodies of 60 KiB for two hung shadows, and room for sixteen of them."""
    body = bytes(60 << 10)
    request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    limits = {"memory": 1 << 20, "capture": 1 << 20, "buffer": 1 << 10}
    options = {"timeout": "1h", "in_flight": 50}
    async with proxy(
        answer(body), {"a": silent, "s": silent}, shadow_options=options, limits=limits, drain=0
    ) as running:
        memory, journal = running.sidecar.mirror.memory, running.sidecar.journal
        async with await running.caller() as caller:
            for _ in range(30):
                assert (await caller.ask(request)).body == body
                # What waits for the disk counts with its header fields, which were no copies before.
                assert memory.used + journal.statistics().queued_bytes <= (1 << 20) + 30 * 2000
        records = await running.records()
        totals = Counter(each.shadows["s"].outcome for each in records)
        assert totals.total() == 30
        assert totals[Outcome.OVERLOAD] >= 20
        assert totals[Outcome.SHUTDOWN] >= 1
        assert memory.used == 0


# What the disk may do.


class Disk:
    """A fake os.write: in turn well, full, broken, read-only or stuck."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails: int | None = None
        self.takes: float = 0.0  # seconds
        monkeypatch.setattr("shadowproxy.serve.sidecar.recorder.Journal", partial(Journal, write=self.write))

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.takes:
            time.sleep(self.takes)
        if self.fails is not None:
            if self.fails == errno.ENOSPC and len(data) > 10:
                self.fails, keep = errno.EDQUOT, data[:10]  # a disk fills up in the middle of a line
                return os.write(descriptor, keep)
            raise OSError(self.fails, os.strerror(self.fails))
        return os.write(descriptor, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def whole_and_torn(log: Path) -> tuple[list[Record], int]:
    entries = list(record.read([log]))
    records = [entry for entry in entries if isinstance(entry, Record)]
    return records, len(entries) - len(records)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EROFS, "write_error"),
        (errno.EIO, "write_error"),
    ],
    ids=errno.errorcode.get,
)
async def test_2_3_6_while_the_log_cannot_be_written_live_goes_on_and_every_loss_is_counted(
    proxy: StartProxy, disk: Disk, caplog: pytest.LogCaptureFixture, error: int, reason: str
) -> None:
    async with proxy(LIVES, {"s": LIVES}) as running, await running.caller() as caller:
        journal = running.sidecar.journal

        async def ask(count: int, state: int | None) -> None:
            disk.fails = state
            for _ in range(count):
                assert (await caller.ask(asked())).body == b'{"late": true}'
            async with asyncio.timeout(5):
                while journal.statistics().queued or running.sidecar.mirror.unsettled:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)

        await ask(5, None)
        await ask(20, error)
        lost_by_then = sum(journal.statistics().lost.values())
        async with asyncio.timeout(5):
            while journal.statistics().written < 6:  # it is tried again within a second
                await ask(1, None)
        await ask(5, None)
        await running._closing.aclose()
        counted = journal.statistics()
        lanes = running.sidecar.mirror.lanes[0].statistics()
    assert lost_by_then == 20
    assert set(counted.lost) == {reason}
    assert counted.written + counted.lost[reason] == lanes.chosen
    records, torn = whole_and_torn(running.log)
    assert len(records) == counted.written
    assert torn == (error == errno.ENOSPC)
    lines = [line.getMessage() for line in caplog.records if "lost" in line.getMessage()]
    counts = [int(line.split(" lost ")[1].split()[0]) for line in lines]
    doublings = [count.bit_length() for count in counts]
    assert doublings == sorted(
        set(doublings)
    )  # at most once between one power of two and the next; a busy teller skips some
    assert doublings[-1] >= 5  # 20 were lost
    assert os.strerror(errno.EDQUOT if error == errno.ENOSPC else error) in lines[0]


@pytest.mark.timing
async def test_2_3_a_stuck_disk_fills_the_queue_and_delays_no_caller(proxy: StartProxy, disk: Disk) -> None:
    disk.takes = 0.3
    limits = {"memory": 64 << 10, "capture": 16 << 10, "buffer": 1 << 10}
    async with proxy(LIVES, {"s": LIVES}, limits=limits) as running, await running.caller() as caller:
        began = time.monotonic()
        for _ in range(100):
            assert (await caller.ask(asked())).body == b'{"late": true}'
        took = time.monotonic() - began
        disk.takes = 0.0
        await running._closing.aclose()
        counted = running.sidecar.journal.statistics()
    assert took < 5  # a hundred waits for the disk would be thirty seconds
    assert counted.lost["journal_full"] > 0
    assert counted.written + sum(counted.lost.values()) == 100
    records, torn = whole_and_torn(running.log)
    assert (len(records), torn) == (counted.written, 0)


async def test_7_stopping_waits_for_a_slow_disk_and_loses_nothing(proxy: StartProxy, disk: Disk) -> None:
    disk.takes = 0.1
    async with proxy(LIVES, {"s": LIVES}) as running, await running.caller() as caller:
        for number in range(100):
            await caller.ask(asked(number))
        assert running.sidecar.journal.statistics().written < 100
        assert len(await running.records()) == 100
        assert running.sidecar.journal.statistics().lost == {}


async def test_2_3_a_log_that_is_removed_is_created_again(proxy: StartProxy) -> None:
    async with proxy(LIVES, {"s": LIVES}) as running, await running.caller() as caller:
        journal = running.sidecar.journal

        async def ask(number: int) -> None:
            assert (await caller.ask(asked(number))).body == b'{"late": true}'
            async with asyncio.timeout(5):
                while journal.statistics().queued or running.sidecar.mirror.unsettled:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)

        await ask(1)
        for segment in running.log.glob("[!.]*"):
            segment.unlink()
        running.log.rmdir()
        await ask(2)
        await ask(3)
        records = await running.records()
        counted = journal.statistics()
    assert records[-1].id == "3"
    assert counted.written + sum(counted.lost.values()) == 3


# What callers may do.


async def test_3_callers_that_leave_at_random_leave_nothing_behind_and_the_books_balance(proxy: StartProxy) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")

    async def slowly(peer: Peer) -> None:
        while await peer.request() is not None:
            await asyncio.sleep(chance.random() * 0.01)
            await peer.send(LIVES)

    async with proxy(slowly, {"s": slowly}, shadow_options={"in_flight": 5, "lane": 5}) as running:

        async def ask_and_leave(number: int) -> bool:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with await running.caller() as caller, asyncio.timeout(chance.random() * 0.02):
                    raw = asked(number)
                    await caller.send(raw if chance.random() < 0.8 else raw[: chance.randrange(len(raw))])
                    return (await caller.answer()).status == 200
            return False

        answered = 0
        for turn in range(10):
            answered += sum(await asyncio.gather(*(ask_and_leave(50 * turn + n) for n in range(50))))
        assert (await running.ask(asked("last"))).body == b'{"late": true}'
        sidecar = running.sidecar
        async with asyncio.timeout(10):
            while sidecar.mirror.unsettled or sidecar.journal.statistics().queued:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert sidecar.proxy.in_flight == 0
        sent = sidecar.journal.statistics().written
        totals = await Books(running).balance(sent=sent)
        by_live = Counter(each.live.outcome for each in await running.records())
    assert by_live[Outcome.OK] >= answered + 1
    assert set(by_live) <= {Outcome.OK, Outcome.CALLER_LEFT}
    assert set(totals) <= {Outcome.OK, Outcome.LANE_FULL}


async def test_3_callers_that_repeat_a_request_id_have_a_record_each(proxy: StartProxy) -> None:
    async with proxy(LIVES, {"s": LIVES}) as running:
        await asyncio.gather(*(running.ask(asked("same")) for _ in range(20)))
        records = await running.records()
    assert {each.id for each in records} == {"same"}
    assert len({each.record for each in records}) == 20


# Secrets.


SECRETS = {
    "header": b"s3cret-header",
    "cookie": b"s3cret-cookie",
    "key": b"s3cret-key",
    "referer": b"s3cret-referer",
    "original": b"s3cret-original",
    "query": b"s3cret-query",
    "body": b"s3cret-body",
    "set-cookie": b"s3cret-set-cookie",
}


async def test_4_secrets_reach_live_and_neither_shadow_nor_log_nor_the_operators_log(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    body = b'{"user": {"password": "%s"}, "n": 1}' % SECRETS["body"]
    request = b"\r\n".join(
        (
            b"POST /p?api_key=%s&n=1 HTTP/1.1" % SECRETS["query"],
            b"Host: h",
            b"Authorization: Bearer %s" % SECRETS["header"],
            b"Cookie: session=%s" % SECRETS["cookie"],
            b"X-Api-Key: %s" % SECRETS["key"],
            b"Referer: https://root.example/p#access_token=%s" % SECRETS["referer"],
            b"X-Original-URL: /p?api_key=%s" % SECRETS["original"],
            b"Content-Type: application/json",
            b"Content-Length: %d" % len(body),
            b"",
            body,
        )
    )
    lives = answer(body, (b"Content-Type", b"application/json"), (b"Set-Cookie", b"id=%s" % SECRETS["set-cookie"]))
    log = tmp_path / "log"
    options = {"path": str(log), "redact": {"json": ["/user/password"]}}
    # One shadow wants the credentials and one breaks, so that both are logged.
    shadows = {"a": answer(b"no", status=401), "b": then_reset(b"")}
    caplog.set_level(logging.INFO)
    async with proxy(lives, shadows, log=options) as running:
        reply = await running.ask(request)
        assert seen(reply)[2] == body
        assert reply.all(b"set-cookie") == [b"id=" + SECRETS["set-cookie"]]
        await running._closing.aclose()
        to_live = running.live.received
        to_shadow = running.shadows["a"].received
    lines = b"".join(path.read_bytes() for path in log.glob("[!.]*"))
    operators_log = "\n".join(line.getMessage() for line in caplog.records).encode()
    assert lines.count(b"\n") == 1
    assert b"forward_credentials" in operators_log
    for name, secret in SECRETS.items():
        assert secret not in lines, name
        assert secret not in operators_log, name
        assert (secret in to_live) is (name != "set-cookie")
        assert (secret in to_shadow) is (name == "body")  # of this only the config can know


# No key here was ever one. They are put together, so that scanners of repositories do not stop at them.
RUN = b"a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
KEY = b"sk-" + RUN
JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + RUN

BY_VALUE = [
    (b"Helicone-Auth", b"Bearer %s" % KEY, None),
    (b"X-Litellm-Key", b"sk-1234", None),
    (b"X-Upstream", b"Basic dXNlcjpwYXNz", None),
    (b"X-User", JWT, None),
    (b"x_user", b"bearer s3cret-of-the-user", None),
    (b"X-Config", b'{"api_key": "%s", "n": 1.10}' % RUN, b'{"api_key": "[redacted]", "n": 1.10}'),
    (b"X-Chain", b"a, Bearer %s, Token %s" % (RUN, RUN), b"a, Bearer [redacted], Token [redacted]"),
    (b"X-Database", b"postgres://u:%s@h/db" % RUN, b"postgres://[redacted]@h/db"),
    (b"X-State", b"sid=%s; theme=dark" % RUN, b"sid=[redacted]; theme=dark"),
    (b"baggage", b"a=1,cfg=%%7B%%22api_key%%22%%3A%%22%s%%22%%7D" % RUN, b"a=1,cfg=[redacted]"),
]
"""A field, and the rest of its value for shadows and the log; None if the shadow does not get the field."""


async def test_4_what_looks_like_a_credential_reaches_live_and_neither_shadow_nor_log(proxy: StartProxy) -> None:
    sent = b"".join(b"%b: %b\r\n" % (name, value) for name, value, _ in BY_VALUE)
    request = b"GET /p HTTP/1.1\r\nHost: h\r\n%b\r\n" % sent
    given = [(b"Location", b"https://u:%s@h/p?sig=%s" % (RUN, RUN)), (b"X-Issued", JWT), (b"X-Kind", b"Token")]
    lives = answer(b"ok", *given)
    async with proxy(lives, {"s": answer(b"ok", *given)}) as running:
        for _ in range(3):  # what is worked out of a head is remembered when it comes again
            reply = await running.ask(request)
            assert [reply.all(name.lower()) for name, _ in given] == [[value] for _, value in given]
        records = await running.records()
        to_live, to_shadow = running.live.received, running.shadows["s"].received
    assert to_live.count(sent) == 3
    left = [b"%b: %b\r\n" % (name, value) for name, _, value in BY_VALUE if value is not None]
    assert all(to_shadow.count(line) == 3 for line in left)
    for secret in (RUN, b"sk-1234", b"dXNlcjpwYXNz", b"s3cret"):
        assert secret not in to_shadow
    for each in records:
        for name, _, value in BY_VALUE:
            assert each.request.headers[name.decode().lower()] == (value or b"[redacted]").decode()
        for leg in (each.live, each.shadows["s"]):
            assert leg.headers["location"] == "https://[redacted]@h/p?sig=[redacted]"
            assert (leg.headers["x-issued"], leg.headers["x-kind"]) == ("[redacted]", "Token")


RESEMBLES = [
    (b"X-Plan", b"Basic"),
    (b"X-Note", b"bearer of news"),
    (b"X-Kind", b"Token"),
    (b"X-Model", b"sk-learn"),
    (b"X-Version", b"1.2.3"),
    (b"X-Task", b"token classification"),
    (b"X-Trace", b"3b241101-e2bb-4255-8caf-4136c566a962"),
    (b"If-None-Match", b'W/"33a64df551425fcc55e4d42a148795d9f25f89d4"'),
    (b"Content-Digest", b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
    (
        b"User-Agent",
        b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
    ),
    (b"Content-Type", b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW"),
    (b"If-Modified-Since", b"Sat, 28 Nov 2026 08:27:33 GMT"),
    (b"tracestate", b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
]


async def test_4_what_resembles_a_credential_passes_as_it_is(proxy: StartProxy) -> None:
    target = b"/p?key=user:42&code=LHR&max_tokens=5&q=bearer+of+news&v=1.2.3&&x=%zz"
    sent = b"".join(b"%b: %b\r\n" % field for field in RESEMBLES)
    async with proxy(LIVES, {"s": LIVES}) as running:
        await running.ask(b"GET %b HTTP/1.1\r\nHost: h\r\n%b\r\n" % (target, sent))
        (record,) = await running.records()
        to_shadow = running.shadows["s"].received
    assert b"GET %b HTTP/1.1\r\n" % target in to_shadow
    assert sent in to_shadow
    assert record.request.query == target.decode().partition("?")[2]
    assert {
        name.decode().lower(): value.decode() for name, value in RESEMBLES
    }.items() <= record.request.headers.items()


GOOGLE = b"AI" + b"za" + RUN
SIGNED = (
    b"/p;jsessionid=%s/q?a=1&access_token=%s&b=%%20;sig=%s&api%%5Fkey=%s&X-Amz-Signature=%s&key=%s&key=user:42"
    b"&x=%s&access_token=%s" % (RUN, RUN, RUN, RUN, RUN, GOOGLE, JWT, RUN)
)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, b"/p/q?a=1&b=%20&key=user:42"),
        ({"forward_credentials": True}, SIGNED),
        (
            {"query": {"set": {"access_token": "the shadow's"}, "remove": ["a"]}},
            b"/p/q?b=%20&key=user:42&access_token=the%20shadow%27s",
        ),
        ({"rewrite": {"path": {"/p/q": "/r"}}}, b"/r?a=1&b=%20&key=user:42"),
    ],
)
async def test_4_credentials_in_the_query_reach_live_and_neither_shadow_nor_log(
    proxy: StartProxy, options: dict[str, object], target: bytes
) -> None:
    live = {"query": {"set": {"v": "2"}, "remove": ["b"]}}
    async with proxy(LIVES, {"s": LIVES}, live_options=live, shadow_options=options) as running:
        await running.ask(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % SIGNED)
        (record,) = await running.records()
        to_live, to_shadow = running.live.received, running.shadows["s"].received
    assert b"GET %b&v=2 HTTP/1.1\r\n" % SIGNED.replace(b"&b=%20", b"") in to_live
    assert b"GET %b HTTP/1.1\r\n" % target in to_shadow
    assert record.request.path == "/p;jsessionid=[redacted]/q"
    assert record.request.query == (
        "a=1&access_token=[redacted]&b=%20;sig=[redacted]&api%5Fkey=[redacted]&X-Amz-Signature=[redacted]"
        "&key=[redacted]&key=user:42&x=[redacted]&access_token=[redacted]"
    )


async def test_4_what_an_answer_repeats_of_a_redacted_request_reaches_the_caller_and_not_the_log(
    proxy: StartProxy, tmp_path: Path
) -> None:
    email, tenant, name = b"alice@example.com", b"acme-corporation", b"Alice Liddell"
    body = b'{"people": [{"email": "%s", "age": "x"}]}' % email
    request = b"\r\n".join(
        (
            b"POST /p?ename=%s HTTP/1.1" % name.replace(b" ", b"%20"),
            b"Host: h",
            b"X_Acme_Tenant: %s" % tenant,
            b"Content-Type: application/json",
            b"Content-Length: %d" % len(body),
            b"",
            body,
        )
    )
    kind = (b"Content-Type", b"application/json")
    # As FastAPI and MLflow say it; the shadow in a field too.
    lives = answer(b'{"detail": [{"input": %s, "ctx": ["%s", "%s"]}]}' % (body, tenant, name), kind, status=422)
    body = b'{"message": "Failed to predict data \'  email\\n0  %s\' for %s"}' % (email, tenant)
    shadows = {"a": answer(body, kind, (b"X-Echo", name), status=400)}
    redact = {"json": ["/**/email"], "headers": ["X-Acme-*"], "query": ["e*"]}
    log = tmp_path / "log"
    async with proxy(lives, shadows, log={"path": str(log), "redact": redact}) as running:
        reply = await running.ask(request)
        assert seen(reply)[2].count(email) == 1
        assert seen(reply)[2].count(tenant) == 1
        await running._closing.aclose()
        assert running.live.received.count(email) == 1
    (line,) = b"".join(path.read_bytes() for path in log.glob("[!.]*")).splitlines()
    assert not [secret for secret in (email, tenant, name) if secret in line]
    record = json.loads(line)
    blank = "[redacted]"
    assert record["request"]["body"] == {"people": [{"email": blank, "age": "x"}]}
    assert record["request"]["headers"]["x_acme_tenant"] == blank
    assert record["request"]["query"] == f"ename={blank}"
    assert record["live"]["body"] == {
        "detail": [{"input": {"people": [{"email": blank, "age": "x"}]}, "ctx": [blank, blank]}]
    }
    shadow = record["shadows"]["a"]
    assert shadow["body"] == {"message": f"Failed to predict data '  email\n0  {blank}' for {blank}"}
    assert shadow["headers"]["x-echo"] == blank
    assert shadow["differences"] == [{"path": "", "kind": "status", "live": 422, "shadow": 400}]


# The real program, ended in the middle of its work.


async def under_load(live: Origin, requests: int) -> None:
    """Wait until live has seen so many requests."""
    async with asyncio.timeout(30):
        while len(live.requests) < requests:  # noqa: ASYNC110  # an origin signals connections, not requests
            await asyncio.sleep(0.01)


async def traffic(program: Program, callers: int, stop: asyncio.Event) -> tuple[list[str], list[str]]:
    """Send requests over kept connections until stopped; return the answered ones and the sent but unanswered ones."""
    answered: list[str] = []
    unanswered: list[str] = []
    numbers = itertools.count()

    async def ask() -> None:
        async with await program.caller() as caller:
            while not stop.is_set():
                name = f"n-{next(numbers)}"
                try:
                    reply = await caller.ask(asked(name))
                except (ConnectionError, CutOff):
                    unanswered.append(name)
                    return
                assert reply.body == b'{"late": true}'
                answered.append(name)
                if reply.all(b"connection") == [b"close"]:
                    return

    await asyncio.gather(*(ask() for _ in range(callers)))
    return answered, unanswered


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["answers", "hangs", "resets", "floods in chunks", "crashes and comes back"])
async def test_3_7_sigterm_under_load_drops_no_request_and_every_one_is_in_the_log(tmp_path: Path, fault: str) -> None:
    async with Origin(LIVES) as live, Origin(FAULTS[fault][0]) as shadow:
        timeout = "200ms" if Outcome.TIMEOUT in FAULTS[fault][1] else "4s"  # on a busy machine too
        shadows = {"s": {"url": shadow.url, "timeout": timeout, "in_flight": 8, "lane": 16}}
        values = {"live": {"url": live.url}, "shadows": shadows, "limits": LIMITS, "drain": "5s"}
        async with Program(tmp_path, values) as program:
            asking = asyncio.create_task(traffic(program, 20, asyncio.Event()))
            await under_load(live, 200)
            assert await program.stop() == 0
            answered, unanswered = await asking
        records = program.records()
    assert len(answered) > 20
    assert unanswered == []
    assert Counter(each.id for each in records) == Counter(answered)
    assert {each.live.outcome for each in records} == {Outcome.OK}
    totals = Counter(each.shadows["s"].outcome for each in records)
    assert totals.total() == len(answered)
    assert set(totals) <= FAULTS[fault][1] | {
        Outcome.LANE_FULL,
        Outcome.BREAKER_OPEN,
        Outcome.TIMEOUT,
        Outcome.OVERLOAD,
        Outcome.SHUTDOWN,
    }
    if fault == "answers":
        assert totals[Outcome.OK] == len(shadow.requests)


def is_last_line(torn: record.Unreadable) -> bool:
    return torn.line == Path(torn.file).read_bytes().count(b"\n") + 1


@pytest.mark.slow
async def test_6_kill_9_under_load_tears_at_most_the_last_line_and_the_next_start_goes_on(tmp_path: Path) -> None:
    async with Origin(LIVES) as live, Origin(LIVES) as shadow:
        values = {"live": {"url": live.url}, "shadows": {"s": {"url": shadow.url}}}
        logged = 0
        for life in range(2):
            async with Program(tmp_path, values) as program:
                asking = asyncio.create_task(traffic(program, 10, asyncio.Event()))
                await under_load(live, len(live.requests) + 100)
                program.kill_all()
                assert await program.ended() == -signal.SIGKILL
                await asking
            records, torn = program.read()
            assert len(records) > logged
            assert len(torn) <= life + 1
            assert len(list(program.log.glob("*.jsonl"))) == life + 1
            assert all(map(is_last_line, torn))
            logged = len(records)
        assert len({each.record for each in records}) == len(records)
