"""A companion takes an application's exchanges as the sidecar takes its callers', whatever the application does."""

import asyncio
import json
import math
import os
import pickle
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import candidates
import pytest
from fakes import Origin, Peer, answer
from inprocess import Sidecar
from test_unusable import told

from shadowproxy import intake_frames as frames
from shadowproxy.config import ConfigError, load_companion
from shadowproxy.exchange import Failure, LiveLeg, Outcome, Reply
from shadowproxy.intake_frames import Begin, Candidate, Decoder, Frame, Hello, Result
from shadowproxy.serve.intake import connection, server
from shadowproxy.serve.intake.exchange import sendable_fields, sendable_target
from shadowproxy.serve.sidecar.reading import read_specs

JSON = ((b"Content-Type", b"application/json"),)
PATIENCE = 20.0


def described(directory: Path, config: str | None = None, **keys: Any) -> Path:
    """A description as an application writes it."""
    file = directory / "companion.json"
    team = None
    if config is not None:
        team = directory / "shadow.yaml"
        team.write_text(config)
    keys = {"log": {"path": str(directory / "log"), "compress": "none"}, **keys}
    said = {"socket": str(directory / "intake"), "config": None if team is None else str(team), "keys": keys}
    file.write_text(json.dumps(said))
    return file


class Application:
    """One connection of an application. Use as `async with`."""

    def __init__(self, path: Path, hello: bytes | None = None) -> None:
        self._path = path
        self._hello = frames.hello_frame(Hello(1, os.getpid(), "test")) if hello is None else hello
        self._decoder = Decoder()
        self._frames: list[Frame] = []
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_unix_connection(self._path)
        self._writer.write(self._hello)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def send(self, *each: bytes) -> None:
        for data in each:
            self._writer.write(data)

    async def next(self) -> Frame | None:
        """The next frame; None where the connection has ended."""
        async with asyncio.timeout(PATIENCE):
            while not self._frames:
                try:
                    data = await self._reader.read(65536)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def flush(self, key: int = 99) -> None:
        self.send(frames.frame(frames.FLUSH, key))
        while (got := await self.next()) is not None and got.kind != frames.FLUSHED:
            pass
        assert got is not None
        assert got.key == key


def begin(key: int = 1, **changed: Any) -> bytes:
    body = changed.pop("body", b'{"x":1}')
    fields = changed.pop("fields", (*JSON, (b"Content-Length", b"%d" % len(body))))
    begun = Begin(key, None, None, time.time_ns(), 0.0, "POST", b"/predict?a=1", fields, body, len(body))
    return frames.begin_frame(begun._replace(**changed))


def call(key: int, *arguments: object, shadows: tuple[str, ...] = ("f",), **named: object) -> bytes:
    body = json.dumps({"args": arguments, "kwargs": named}).encode()
    pickled = pickle.dumps((arguments, named))
    return begin(key, method="CALL", target=b"/model.f", fields=JSON, body=body, shadows=shadows, pickle=pickled)


def end(key: int = 1, live: LiveLeg | None = None, body: bytes = b'{"y":2}') -> bytes:
    return frames.end_frame(key, live or Reply(200, JSON, body, len(body), 1.0, 2.0))


def given(function: object, name: str = "f", *, thread: bool = False) -> bytes:
    pickled = b"" if thread else pickle.dumps(function)
    return frames.candidate_frame(Candidate(name, thread, sys.executable, tuple(sys.path), os.getcwd(), "", pickled))


@asynccontextmanager
async def companion(directory: Path, **keys: Any) -> AsyncIterator[tuple[Sidecar, Application]]:
    specs = read_specs(described(directory, **keys), is_companion=True)
    async with Sidecar(specs) as running, Application(directory / "intake") as application:
        assert await application.next() is not None  # its HELLO
        yield running, application


def records(directory: Path) -> list[dict[str, Any]]:
    lines = [
        line for segment in sorted((directory / "log").glob("[!.]*")) for line in segment.read_bytes().splitlines()
    ]
    return [json.loads(line) for line in lines]


async def test_a_request_is_mirrored_before_live_has_answered_and_recorded_once(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def note(peer: Peer) -> None:
        assert await peer.request() is not None
        asked.set()
        await peer.send(answer(b'{"y":2}', *JSON))

    async with (
        Origin(note) as shadow,
        companion(tmp_path, shadows={"b": {"url": shadow.url}}) as (_, application),
    ):
        application.send(begin(7, id="caller-1"))
        await asyncio.wait_for(asked.wait(), PATIENCE)
        application.send(end(7))
        await application.flush()
        [record] = records(tmp_path)
        [sent] = shadow.requests
    assert (sent.method, sent.target, sent.body) == (b"POST", b"/predict?a=1", b'{"x":1}')
    assert sent.all(b"x-request-id") == [b"caller-1"]
    assert sent.all(b"x-shadow-request") == [b"b"]
    assert record["id"] == "caller-1"
    assert record["request"]["body"] == {"x": 1}
    assert record["live"]["body"] == {"y": 2}
    assert record["shadows"]["b"]["verdict"] == "match"


async def test_what_ends_without_an_answer_is_recorded_with_its_reason(tmp_path: Path) -> None:
    async with companion(tmp_path) as (running, application):
        application.send(begin(1), begin(2), begin(3))
        application.send(end(1, Failure(Outcome.TIMEOUT, "live was silent", 30.0)))
        application.send(end(2, Failure(Outcome.INCOMPLETE, "broken off", 3.0, Reply(200, JSON, b"{", 1, 1.0, 3.0))))
        async with Application(tmp_path / "intake") as other:
            other.send(begin(1))  # keys belong to a connection
            assert await other.next() is not None
        application.send(end(3))
        await application.flush()
        async with asyncio.timeout(PATIENCE):
            while sum(running.live.census().outcomes.values()) < 4:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.001)
        await application.flush()
        found = {each["live"]["outcome"]: each["live"] for each in records(tmp_path)}
        counted = running.live.census()
    assert found.keys() == {"timeout", "incomplete", "ok"}
    assert len(records(tmp_path)) == 4
    assert counted.outcomes == {Outcome.TIMEOUT: 1, Outcome.INCOMPLETE: 2, Outcome.OK: 1}
    assert counted.in_flight == 0
    errors = {each["live"].get("error") for each in records(tmp_path)}
    assert errors == {
        None,
        "live was silent",
        "broken off",
        "the application's process ended, or could not send how this one did",
    }


async def test_what_the_application_lost_is_in_the_books(tmp_path: Path) -> None:
    async with companion(tmp_path, admin="127.0.0.1:0") as (running, application):
        application.send(begin(), end(), frames.lost_frame({"client_full": 3, "no_companion": 1, "what": 2, "none": 0}))
        await application.flush()
        await running.report()
        assert running.admin_address is not None
        metrics = await told(running.admin_address, "/metrics")
        census = running.census()
    assert census.journal.lost == {"client_full": 3, "no_companion": 1, "not_sent": 2}
    assert sum(census.outcomes.values()) == census.journal.written + sum(census.journal.lost.values()) == 7
    assert 'shadowproxy_records_lost_total{reason="client_full"} 3.0' in metrics


async def test_what_is_too_long_is_not_mirrored_and_says_so(tmp_path: Path) -> None:
    limits = {"capture": "1KiB", "buffer": "1KiB", "memory": "1MiB"}
    async with companion(tmp_path, limits=limits, shadows={"b": {"url": "http://127.0.0.1:9"}}) as (_, application):
        application.send(begin(1, body=b"x" * 1024, body_bytes=5000), end(1))
        application.send(begin(2, unfit=Outcome.OVERSIZE), end(2))
        application.send(begin(3, fields=(*JSON, (b"X-Shadow-Request", b"a"))), end(3))
        long = Reply(200, JSON, b"y" * 1024, 90_000, 1.0, 2.0)
        application.send(begin(4), end(4, long))
        await application.flush()
        found = {each["request"]["body_bytes"]: each for each in records(tmp_path)}
        four = records(tmp_path)
    assert found[5000]["shadows"]["b"]["outcome"] == "oversize"
    assert [each["shadows"].get("b", {}).get("outcome") for each in four].count("oversize") == 2
    assert [each["shadows"] for each in four].count({}) == 1, "the one that another proxy has mirrored already"
    assert any(each["live"]["body_bytes"] == 90_000 and each["live"]["body_truncated"] for each in four)


async def test_what_live_did_not_read_is_not_mirrored_and_says_so(tmp_path: Path) -> None:
    async with companion(tmp_path, shadows={"s": {"url": "http://127.0.0.1:9"}}) as (_, application):
        application.send(begin(1, body=b"{", body_bytes=1, unfit=Outcome.OVERLOAD), end(1))
        application.send(begin(2, body=b"{", body_bytes=2, unfit=Outcome.OVERLOAD), end(2))
        await application.flush()
    legs = [each["shadows"]["s"] for each in sorted(records(tmp_path), key=lambda each: each["request"]["body_bytes"])]
    assert [each["outcome"] for each in legs] == ["overload"] * 2
    assert [each["error"] for each in legs] == [
        "live did not read the whole request",
        "mirroring is shed while the proxy is short of time or memory",
    ]


async def test_a_caller_that_leaves_after_the_answers_own_end_has_got_it(tmp_path: Path) -> None:
    events = ((b"Content-Type", b"text/event-stream"),)
    ended, cut = b"data: {}\n\ndata: [DONE]\n\n", b"data: {}\n\n"
    packed = (*events, (b"Content-Encoding", b"gzip"))
    async with companion(tmp_path) as (_, application):
        for key, (body, fields, size) in enumerate(
            [(ended, events, 0), (cut, events, 0), (ended, packed, 0), (ended, events, 1)]
        ):
            reply = Reply(200, fields, body, len(body) + size, 1.0, 2.0)
            application.send(begin(key + 1), end(key + 1, Failure(Outcome.CALLER_LEFT, "it left", 2.0, reply)))
            await application.flush()
    legs = [each["live"] for each in records(tmp_path)]
    assert [each["outcome"] for each in legs] == ["ok"] + ["caller_left"] * 3
    assert legs[0]["caller_left"] is True


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "no frame begins with"),
        (frames.frame(frames.FLUSH, 1), "its first frame is no HELLO"),
        (frames.hello_frame(Hello(9, 1, "8.0")), "version 8.0 speaks protocol 9"),
        (frames.frame(frames.HELLO, 0, []), "HELLO: its head is no object"),
    ],
)
async def test_a_stranger_is_refused_with_a_reason(tmp_path: Path, sent: bytes, why: str) -> None:
    async with companion(tmp_path) as (_, application):
        async with Application(tmp_path / "intake", sent) as stranger:
            refusal = await stranger.next()
            assert refusal is not None
            welcome = frames.welcome_of(refusal)
            assert isinstance(welcome, frames.Welcome)
            assert why in (welcome.refused or "")
            assert await stranger.next() is None
        application.send(begin(), end())
        await application.flush()


@pytest.mark.parametrize(
    "sent",
    [
        end(5),
        begin(1) + begin(1),
        frames.frame(frames.BEGIN, 4, {"id": 3}),
        frames.frame(frames.FLUSHED, 1),
        frames.frame(frames.LOST, 0, {"full": -1}),
    ],
)
async def test_frames_that_make_no_sense_end_their_connection_alone(tmp_path: Path, sent: bytes) -> None:
    async with companion(tmp_path) as (running, application):
        async with Application(tmp_path / "intake") as odd:
            assert await odd.next() is not None
            odd.send(begin(11), sent)
            assert await odd.next() is None
        application.send(begin(), end())
        await application.flush()
        assert running.mirror.unsettled == 0
        assert {each["live"]["outcome"] for each in records(tmp_path)} == {"ok", "incomplete"}


async def test_a_candidate_gets_its_own_calls_and_no_requests(tmp_path: Path) -> None:
    """Those of other functions neither. Shadows over HTTP get all, also one that the application does not know of."""
    shadows = {"f": {"candidate": True}, "g": {"candidate": True}, "h": {"url": "http://127.0.0.1:9"}}
    async with companion(tmp_path, shadows=shadows) as (_, application):
        application.send(given(math.sqrt), call(1, 4.0), end(1, body=b"2.0"))
        application.send(call(2, -1.0), end(2, body=b'{"error":"ValueError: expected a nonnegative input, got -1.0"}'))
        application.send(begin(3), end(3))
        application.send(call(4, 4.0, shadows=("g",)), end(4, body=b"2.0"))
        unpicklable = begin(5, method="CALL", target=b"/model.f", body=b'{"args":["no"]}', shadows=("f",))
        application.send(unpicklable, end(5, body=b"2.0"))
        await application.flush()
        found = records(tmp_path)
    by_id = {json.dumps(each["request"].get("body")) + ",".join(sorted(each["shadows"])): each for each in found}
    assert len(by_id) == 5
    left = by_id['{"args": ["no"]}f,h']["shadows"]["f"]
    assert (left["outcome"], left["error"]) == ("unusable", "the call's arguments could not be pickled")
    right = by_id['{"args": [4.0], "kwargs": {}}f,h']
    assert (right["request"]["method"], right["request"]["path"]) == ("CALL", "model.f")
    assert (right["shadows"]["f"]["body"], right["shadows"]["f"]["verdict"]) == (2.0, "match")
    raised = by_id['{"args": [-1.0], "kwargs": {}}f,h']["shadows"]["f"]
    assert raised["outcome"] == "ok"
    assert raised["failed"].startswith("ValueError: ")
    assert by_id['{"x": 1}h']["shadows"]["h"]["outcome"] == "connect_error"
    missing = by_id['{"args": [4.0], "kwargs": {}}g,h']["shadows"]["g"]
    assert missing["outcome"] == "connect_error"
    assert "has not given this callable" in missing["error"]


@pytest.mark.slow
@pytest.mark.timing
async def test_the_deadline_of_a_call_stands_still_while_its_candidate_is_started(tmp_path: Path) -> None:
    """A model may take a minute to load: the first calls have not failed because of that."""
    shadows = {"f": {"candidate": True, "timeout": 0.4, "breaker": {"failures": 1}}}
    async with companion(tmp_path, shadows=shadows) as (_, application):
        application.send(given(candidates.Slow(0.5)))
        for key in range(3):
            application.send(call(key, float(key)), end(key, body=b"%d.0" % key))
        await application.flush()
        application.send(call(3, "hang"), end(3, body=b"0"))
        await application.flush()
    assert [each["shadows"]["f"]["outcome"] for each in records(tmp_path)] == ["ok", "ok", "ok", "timeout"]


async def test_long_callables_are_received_one_after_the_other(tmp_path: Path) -> None:
    """Each process of an application sends its own. One that leaves in the midst of it keeps nobody waiting."""
    limits = {"capture": "1KiB", "buffer": "1KiB"}
    async with companion(tmp_path, shadows={"f": {"candidate": True}}, limits=limits) as (running, application):
        long = given(bytes(12 << 20))
        intake = running.live.intake
        assert intake is not None
        async with (
            Application(tmp_path / "intake") as first,
            Application(tmp_path / "intake") as second,
            Application(tmp_path / "intake") as third,
        ):
            first.send(long[: 6 << 20])
            async with asyncio.timeout(PATIENCE):
                while len(intake._turns) != 1:  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0.001)
            second.send(long, frames.frame(frames.FLUSH, 5))
            third.send(long, frames.frame(frames.FLUSH, 5))
            async with asyncio.timeout(PATIENCE):
                while len(intake._turns) != 3:  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0.001)
            held = running.mirror.memory.callers
            assert held <= 3 * (2048 + connection.SLACK), "a callable is not in the account of requests"
            await application.flush()
            first._writer.transport.abort()
            await second.flush(5)
            await third.flush(5)
        assert intake._turns == []
        async with asyncio.timeout(PATIENCE):
            while running.mirror.memory.callers:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.001)


async def test_a_candidate_in_a_thread_of_the_application_is_called_there(tmp_path: Path) -> None:
    async with companion(tmp_path, shadows={"f": {"candidate": True}}) as (_, application):
        application.send(given(None, thread=True))
        for key in (1, 2, 3):
            application.send(call(key, key), end(key, body=b"2"))
            frame = await application.next()
            assert frame is not None
            asked = frames.call_of(frame)
            assert isinstance(asked, frames.Call)
            assert (asked.name, pickle.loads(asked.pickle)) == ("f", ((key,), {}))
            if key == 1:
                application.send(frames.result_frame(Result(asked.key, None, b"2")))
            elif key == 2:
                application.send(frames.result_frame(Result(asked.key, "it could not be called", b"")))
                application.send(frames.result_frame(Result(asked.key, None, b"late")))
        async with Application(tmp_path / "intake") as other:
            await other.flush()
        # The third is never answered: its connection ends.
    found = {each["request"]["body"]["args"][0]: each["shadows"]["f"] for each in records(tmp_path)}
    assert (found[1]["outcome"], found[1]["verdict"]) == ("ok", "match")
    assert (found[2]["outcome"], found[2]["error"]) == ("incomplete", "it could not be called")
    assert found[3]["outcome"] == "incomplete"


@pytest.mark.slow
async def test_a_call_of_a_function_that_was_just_defined_waits_for_its_shadow(tmp_path: Path) -> None:
    """As in a notebook: the description is written again, and the call comes at once."""
    async with companion(tmp_path) as (running, application):
        intake = running.live.intake
        assert intake is not None
        intake._on_reload = running.reload
        described(tmp_path, shadows={"f": {"candidate": True}})
        running._reloads._file = tmp_path / "companion.json"
        application.send(frames.frame(frames.RELOAD), given(math.sqrt), call(1, 4.0), end(1, body=b"2.0"))
        await application.flush()
        described(tmp_path, shadows={"f": {"candidate": 7, "timeout": "never"}})
        intake._on_reload = lambda: intake.note_adopted()
        application.send(frames.frame(frames.RELOAD), call(2, 9.0), end(2, body=b"3.0"))
        await application.flush()
    assert [each["shadows"]["f"]["verdict"] for each in records(tmp_path)] == ["match", "match"]


async def test_a_function_reaches_a_shadow_over_http_as_a_post(tmp_path: Path) -> None:
    async with (
        Origin(answer(b"2.0")) as shadow,
        companion(tmp_path, shadows={"h": {"url": shadow.url + "/v1"}}) as (_, application),
    ):
        application.send(call(1, 4.0, shadows=("h",)), end(1, body=b"2.0"))
        await application.flush()
        [sent] = shadow.requests
    assert (sent.method, sent.target) == (b"POST", b"/v1/model.f")
    assert json.loads(sent.body) == {"args": [4.0], "kwargs": {}}
    assert sent.all(b"content-length") == [b"%d" % len(sent.body)]


async def test_an_intake_that_nobody_uses_says_so_and_takes_who_comes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LINGER", 0.01)
    idle = asyncio.Event()
    async with Sidecar(read_specs(described(tmp_path), is_companion=True)) as running:
        intake = running.live.intake
        assert intake is not None
        intake._on_idle = idle.set
        async with Application(tmp_path / "intake") as first:
            await first.flush()
            assert not idle.is_set()
        await asyncio.wait_for(idle.wait(), PATIENCE)
        async with Application(tmp_path / "intake") as second:
            assert await intake.close_listening(), "it was in the queue"
            await second.flush()
            with pytest.raises(OSError, match=r"refused|reset"), socket.socket(socket.AF_UNIX) as late:
                late.connect(str(tmp_path / "intake"))
        idle.clear()
        await asyncio.wait_for(idle.wait(), PATIENCE)
        assert not await intake.close_listening()


@pytest.mark.parametrize(
    ("target", "sent"),
    [(b"/a?b=c", b"/a?b=c"), (b"", b"/"), (b"/a b\r\nX: 1", b"/a%20b%0D%0AX:%201"), (b"/\xe9", b"/\xe9")],
)
def test_a_target_cannot_end_its_line(target: bytes, sent: bytes) -> None:
    assert sendable_target(target) == sent


ID = (b"X-Request-ID", b"i")


@pytest.mark.parametrize(
    ("fields", "size", "sent"),
    [
        ((), 0, (ID,)),
        (((b"content-length", b"3"),), 3, ((b"content-length", b"3"), ID)),
        (((b"content-length", b"4"),), 3, ((b"Content-Length", b"3"), ID)),
        (((b"content-length", b"3"), (b"Content-Length", b"3")), 3, ((b"content-length", b"3"), ID)),
        (((b"transfer-encoding", b"chunked"),), 3, ((b"Content-Length", b"3"), ID)),
        (((b"expect", b"100-continue"), (b"connection", b"x-a"), (b"x-a", b"1")), 0, (ID,)),
        (((b"x-a", b"1\r\nEvil: 1"), (b"x b", b"1"), (b"", b"1"), (b"x-c", b"\xe9")), 0, ((b"x-c", b"\xe9"), ID)),
        (((b"x-request-id", b"own"),), 0, ((b"x-request-id", b"own"),)),
    ],
)
def test_a_shadow_is_sent_one_length_and_no_field_that_ends_its_line(
    fields: Any, size: int, sent: tuple[tuple[bytes, bytes], ...]
) -> None:
    assert sendable_fields(fields, size, b"X-Request-ID", b"i") == sent


@pytest.mark.parametrize(
    ("config", "keys", "why"),
    [
        ("live: {url: http://a}", {}, "shadow.yaml:1: live: is the application itself"),
        ("drain: 1s\nworkers: 2", {}, "shadow.yaml:2: workers: has no use in an application"),
        (None, {"live": {"url": "http://a"}}, "live: is the application itself"),
        ("shadows:\n  f: {timeout: 1s}", {}, "shadow.yaml:2: shadows.f.url: is required"),
        (
            "shadows:\n  f: {url: http://a}",
            {"shadows": {"f": {"candidate": True}}},
            "shadows.f.url: this shadow is a callable",
        ),
        ("shadows:\n  f: {candidate: true, memory: much}", {}, "shadow.yaml:2: shadows.f.memory: "),
        ("shadows:\n  f: {candidate: true, timout: 1s}", {}, 'timout: unknown key (did you mean "timeout"?)'),
        ("log: {bodies: none}", {"log": {"path": "-"}}, "log.path: must be a directory"),
        ("shadow", {}, "must be a mapping of keys"),
        ("a: [", {}, "not YAML"),
    ],
)
def test_a_description_that_cannot_be_used_is_one_line(
    tmp_path: Path, config: str | None, keys: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)) as raised:
        load_companion(described(tmp_path, config, **keys))
    assert "\n" not in str(raised.value)


def test_the_code_s_keys_come_before_the_file_s(tmp_path: Path) -> None:
    config = "shadows:\n  f: {timeout: 1s, percent: 10}\n  g: {url: http://g}\nlog: {path: there, bodies: none}"
    file = described(tmp_path, config, log={"path": "here"}, shadows={"f": {"candidate": True, "percent": 50}})
    read = load_companion(file)
    shadow = read.config.shadows["f"]
    assert (shadow.timeout, shadow.percent, shadow.in_flight) == (1.0, 50.0, 1)
    assert (str(read.config.log.path), read.config.log.bodies) == ("here", "none")
    assert (read.candidates, read.config.admin) == ({"f": None}, None)
    spec = read_specs(file, is_companion=True)
    assert "CALL" in spec.live.shadows["f"].match.methods
    assert spec.live.shadows["f"].endpoint.url == "call:f"
    assert not {"live", "listen", "workers"} & spec.recorder.shown.keys()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"socket": 1', "null"])
def test_what_describes_no_companion_is_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"does not describe a companion|must be unix"):
        load_companion(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_companion(tmp_path / "none.json")
