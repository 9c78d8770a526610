"""A mirrored ASGI application: its callers and it itself see what they would see without, and the exchange is noted.

uvicorn serves each application of the table, bare and mirrored. Compared is every byte that a caller receives, and
every message and exception that the application gets.
"""

import asyncio
import contextlib
import gzip
import inspect
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from fakes import Caller
from noted import Noted, Unnoting, served

from shadowproxy.exchange import Outcome, Reply
from shadowproxy.incode.asgi import SHUTDOWN, MirroredApplication

Events = list[str]
App = Callable[[Any, Any, Any, Events], Awaitable[Any]]

GET = b"GET /a%2Fb;c/%C3%A4?q=%20&&x HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nx-one: \xff\r\n\r\n"
POST = b'POST /p HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'
CHUNKED = (
    b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 1\r\n\r\n"
)
HEAD = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
TWO = GET + POST
EXPECTS = b"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"


def start(status: int = 200, *fields: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(fields), **more}


def body(data: Any = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def sends(*messages: dict[str, Any]) -> App:
    async def app(scope: Any, receive: Any, send: Any, events: Events) -> None:
        for message in messages:
            await send(dict(message))

    return app


async def read_all(receive: Any, events: Events) -> bytes:
    data = b""
    while True:
        message = await receive()
        events.append(repr(sorted(message.items())))
        data += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return data


async def echo(scope: Any, receive: Any, send: Any, events: Events) -> None:
    data = await read_all(receive, events)
    await send(start(201, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))))
    await send(body(data))


async def answers_before_it_reads(scope: Any, receive: Any, send: Any, events: Events) -> None:
    await send(start(401, (b"content-length", b"2")))
    await send(body(b"no"))
    events.append(repr(await receive()))


async def streams(scope: Any, receive: Any, send: Any, events: Events) -> None:
    await send(start(200, (b"content-type", b"text/event-stream")))
    for number in range(5):
        await send(body(b"data: %d\n\n" % number, True))
        await asyncio.sleep(0)
    await send({"type": "http.response.body"})


async def has_a_background_task(scope: Any, receive: Any, send: Any, events: Events) -> None:
    await send(start(200, (b"content-length", b"2")))
    await send(body(b"ok"))
    events.append("in the background")
    await asyncio.sleep(0)
    events.append("done")


async def fails_in_the_background(scope: Any, receive: Any, send: Any, events: Events) -> None:
    await send(start(200, (b"content-length", b"2")))
    await send(body(b"ok"))
    raise ValueError("too late to matter")


async def fails_at_once(scope: Any, receive: Any, send: Any, events: Events) -> None:
    raise ValueError("at once")


async def fails_midway(scope: Any, receive: Any, send: Any, events: Events) -> None:
    await send(start(200))
    await send(body(b"half", True))
    raise ValueError("midway")


async def returns_early(scope: Any, receive: Any, send: Any, events: Events) -> None:
    await send(start(200, (b"content-length", b"9")))
    await send(body(b"half", True))


async def returns_a_value(scope: Any, receive: Any, send: Any, events: Events) -> str:
    await send(start(200, (b"content-length", b"2")))
    await send(body(b"ok"))
    return "which it must not"


async def catches(send: Any, message: Any, events: Events) -> None:
    try:
        await send(message)
    except Exception as error:  # noqa: BLE001 (servers raise what they like)
        events.append(f"{type(error).__name__}: {error}")


async def says_nonsense(scope: Any, receive: Any, send: Any, events: Events) -> None:
    for message in ({}, {"type": "nonsense"}, body(b"early"), None, start("200"), start()):  # type: ignore[arg-type]
        await catches(send, message, events)
    for message in (start(), {"type": "http.response.push"}, body("text"), body(b"ok"), body(b"more")):
        await catches(send, message, events)


async def hands_over_other_types(scope: Any, receive: Any, send: Any, events: Events) -> None:
    buffer = bytearray(b"first")
    await send({"type": "http.response.start", "status": 200, "headers": iter([(b"x-a", b"1"), [b"X-B", b"2"]])})
    await send(body(buffer, True))
    buffer[:] = b"third"
    await send(body(memoryview(b"second"), True))
    await send(body(buffer))


async def shows_its_scope(scope: Any, receive: Any, send: Any, events: Events) -> None:
    state = {key: value for key, value in scope.items() if key not in ("client", "server")}
    events.append(repr(sorted(state.items())))
    await echo(scope, receive, send, events)


FIELDS = (
    (b"x-One", b"1"),
    (b"set-cookie", b"a=1; Path=/"),
    (b"x-two", b"\x80\xff \xc3\xa4"),
    (b"set-cookie", b"b=2, c; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
    (b"x-one", b""),
    (b"set-cookie", b"a=1; Path=/"),
    (b"content-type", b"application/json"),
    (b"Content-Length", b"7"),
)
CODED = {
    b"gzip": gzip.compress(b"hello" * 100),
    b"br": brotli.compress(b"hello" * 100),
    b"zstd": zstandard.compress(b"hello" * 100),
    b"unheard-of": b"\x00\xff\r\n\r\n",
}

APPS: dict[str, App] = {
    "fields in order, twice and in any letter case": sends(start(200, *FIELDS), body(b'{"a":1}')),
    **{
        f"status {status}": sends(start(status, (b"content-length", b"1"), (b"location", b"/?%zz")), body(b"x"))
        for status in (200, 201, 206, 301, 307, 400, 401, 404, 418, 429, 451, 500, 503, 599)
    },
    "204": sends(start(204), body()),
    "304 with a length": sends(start(304, (b"etag", b'"x"')), body()),
    **{
        f"{coding.decode()} is not decoded": sends(
            start(200, (b"content-encoding", coding), (b"content-length", b"%d" % len(data))), body(data)
        )
        for coding, data in CODED.items()
    },
    "no length": sends(start(200), body(b"chunk", True), body(b"", True), body(b"other", True), body()),
    "a long answer": sends(start(200), *[body(b"%d" % at * 4096, True) for at in range(40)], body()),
    "more than its length": sends(start(200, (b"content-length", b"2")), body(b"three")),
    "trailers that are not served": sends(start(200, trailers=True), body(b"x"), {"type": "http.response.trailers"}),
    "echo": echo,
    "answers before it reads": answers_before_it_reads,
    "streams": streams,
    "a background task": has_a_background_task,
    "fails in the background": fails_in_the_background,
    "fails at once": fails_at_once,
    "fails midway": fails_midway,
    "returns early": returns_early,
    "returns a value": returns_a_value,
    "says nonsense": says_nonsense,
    "other types": hands_over_other_types,
    "the scope": shows_its_scope,
    "sends nothing": sends(),
}
REQUESTS = {"GET": GET, "POST": POST, "chunked": CHUNKED, "HEAD": HEAD, "1.0": OLD, "two": TWO, "expects": EXPECTS}


def bound(app: App, events: Events) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> Any:
        events.append("called")
        try:
            return await app(scope, receive, send, events)
        except BaseException as error:
            events.append(f"ended by {type(error).__name__}: {error}")
            raise

    return application


async def received(app: Any, raw: bytes, http: str) -> bytes:
    """All bytes of the answers to these requests."""
    async with served(app, http) as address, await Caller.to(address) as caller:
        await caller.send(raw)
        caller.half_close()
        return await caller.rest()


@pytest.mark.parametrize("name", APPS)
async def test_a_caller_gets_the_same_bytes_and_the_application_the_same_messages(name: str) -> None:
    for http in ("httptools", "h11"):
        for raw in REQUESTS.values():
            bare: Events = []
            mirrored: Events = []
            noted = Noted()
            expected = await received(bound(APPS[name], bare), raw, http)
            application = MirroredApplication(bound(APPS[name], mirrored), noted.sender)
            assert await received(application, raw, http) == expected
            assert mirrored == bare
            assert len(noted.exchanges) == mirrored.count("called") >= 1


async def test_our_own_defects_reach_nobody(caplog: pytest.LogCaptureFixture) -> None:
    for app in (echo, streams, fails_midway, hands_over_other_types):
        bare: Events = []
        mirrored: Events = []
        expected = await received(bound(app, bare), POST, "httptools")
        application = MirroredApplication(bound(app, mirrored), Unnoting())  # type: ignore[arg-type]
        assert await received(application, POST, "httptools") == expected
        assert mirrored == bare


async def noted_of(app: App, raw: bytes = POST) -> Noted:
    noted = Noted()
    await received(MirroredApplication(bound(app, []), noted.sender), raw, "httptools")
    return noted


async def test_the_exchange_is_what_was_received_and_answered() -> None:
    exchange = (await noted_of(echo, GET.replace(b"x-one", b"x-request-id").replace(b"\xff", b"mine"))).one
    request = exchange.request
    assert (request.method, request.target, request.id) == ("GET", b"/a%2Fb;c/%C3%A4?q=%20&&x", "mine")
    assert request.fields == ((b"host", b"h"), (b"x-one", b"1"), (b"x-request-id", b"mine"))
    exchange = (await noted_of(echo)).one
    assert (exchange.request.body, exchange.request.unfit) == (b'{"a":1}', None)
    assert (exchange.reply.status, exchange.reply.body, exchange.reply.body_bytes) == (201, b'{"a":1}', 7)
    assert exchange.reply.fields == ((b"content-type", b"application/json"), (b"content-length", b"7"))
    assert (await noted_of(echo, CHUNKED)).one.request.body == b"abcdefg"


async def test_pieces_are_noted_as_they_were_when_they_passed() -> None:
    reply = (await noted_of(hands_over_other_types)).one.reply
    assert (reply.body, reply.fields) == (b"firstsecondthird", ((b"x-a", b"1"), (b"X-B", b"2")))
    reply = (await noted_of(streams)).one.reply
    assert reply.body == b"".join(b"data: %d\n\n" % number for number in range(5))
    assert reply.arrivals != b""


async def test_the_body_that_a_server_leaves_out_is_not_noted() -> None:
    answer = sends(start(200, (b"content-length", b"3")), body(b"abc"))
    assert (await noted_of(answer, HEAD)).one.reply.body_bytes == 0
    assert (await noted_of(answer, GET)).one.reply.body_bytes == 3


@pytest.mark.parametrize(
    ("app", "outcome", "error"),
    [
        (fails_at_once, Outcome.INCOMPLETE, "the application raised ValueError"),
        (fails_midway, Outcome.INCOMPLETE, "the application raised ValueError"),
        (returns_early, Outcome.INCOMPLETE, "the application returned before its answer was complete"),
        (sends(), Outcome.INCOMPLETE, "the application returned before its answer was complete"),
        (fails_in_the_background, Outcome.OK, ""),
        (has_a_background_task, Outcome.OK, ""),
    ],
)
async def test_how_an_answer_ended_is_noted(app: App, outcome: Outcome, error: str) -> None:
    exchange = (await noted_of(app)).one
    assert (exchange.outcome, getattr(exchange.end, "error", "")) == (outcome, error)


async def test_a_request_is_sent_once_the_application_waits_and_no_later_than_its_answer() -> None:
    noted = Noted()
    begun: list[list[int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "PUT":
            await receive()
        counts = [len(noted.kept.begun)]
        await asyncio.sleep(0)
        begun.append([*counts, len(noted.kept.begun)])
        await sends(start(), body(b"ok"))(scope, receive, send, [])

    for raw in (GET, OLD, HEAD, POST.replace(b"7", b"0")[:-7], POST.replace(b"POST", b"PUT")):
        await received(MirroredApplication(app, noted.sender), raw, "httptools")
    assert begun == [[count, count + 1] for count in range(5)]
    assert all(each.request.unfit is None for each in noted.exchanges)
    noted = await noted_of(sends(start(), body(b"ok")), GET)
    assert noted.one.request.unfit is None
    noted = await noted_of(echo, CHUNKED)
    assert noted.one.request.unfit is None, "it answers in the turn in which it has read the body"


async def test_a_body_that_the_application_does_not_read_is_not_awaited_and_goes_to_no_shadow() -> None:
    noted = Noted()
    application = MirroredApplication(bound(sends(start(401), body(b"no")), []), noted.sender)
    async with served(application) as address, await Caller.to(address) as caller:
        await caller.send(POST[:-3])  # the rest never comes
        assert (await caller.answer()).status == 401
        assert (noted.one.request.unfit, noted.one.reply.status) == (Outcome.OVERLOAD, 401)


async def test_a_stream_passes_piece_by_piece() -> None:
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200))
        await send(body(b"one", True))
        await gate.wait()
        await send(body(b"two"))

    noted = Noted()
    async with served(MirroredApplication(app, noted.sender)) as address, await Caller.to(address) as caller:
        await caller.send(GET)
        while b"one" not in caller.received:
            await caller.wait_received(len(caller.received) + 1)
        assert noted.kept.ended == []
        gate.set()
        assert (await caller.answer()).body == b"onetwo"
    assert noted.one.reply.body == b"onetwo"


async def test_an_upload_reaches_the_application_piece_by_piece() -> None:
    pieces: list[bytes] = []
    came = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            pieces.append(message["body"])
            came.set()
        await sends(start(), body(b"ok"))(scope, receive, send, [])

    noted = Noted()
    async with served(MirroredApplication(app, noted.sender)) as address, await Caller.to(address) as caller:
        await caller.send(POST[:-4])
        await asyncio.wait_for(came.wait(), 5)
        assert (pieces, noted.kept.begun) == ([b'{"a'], [])
        await caller.send(POST[-4:])
        assert (await caller.answer()).status == 200
    assert noted.one.request.body == b'{"a":1}'


async def test_a_caller_that_leaves_is_seen_by_the_application_and_noted() -> None:
    seen: list[str] = []
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start(200))
        await send(body(b"one", True))
        seen.append((await receive())["type"])
        left.set()

    noted = Noted()
    async with served(MirroredApplication(app, noted.sender)) as address:
        async with await Caller.to(address) as caller:
            await caller.send(POST)
            await caller.wait_received(20)
        await asyncio.wait_for(left.wait(), 5)
    assert seen == ["http.disconnect"]
    assert noted.one.outcome is Outcome.CALLER_LEFT
    assert not isinstance(noted.one.end, Reply)
    assert noted.one.end.reply is not None
    assert noted.one.end.reply.body == b"one"


async def test_a_send_that_says_that_the_caller_left_raises_in_the_application() -> None:
    noted, raised = Noted(), OSError("gone")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(OSError) as found:
            await send(start())
        assert found.value is raised
        raise found.value

    async def send(message: Any) -> None:
        raise raised

    with pytest.raises(OSError) as found:
        await MirroredApplication(app, noted.sender)(scope_of(), nothing_comes, send)
    assert found.value is raised
    assert noted.one.outcome is Outcome.CALLER_LEFT


async def test_cancelling_cancels_the_application_and_ends_the_exchange() -> None:
    noted, ended = Noted(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    task = asyncio.get_running_loop().create_task(call(MirroredApplication(app, noted.sender), nothing_comes))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]
    assert noted.one.end.error == "the application was ended by CancelledError"  # type: ignore[union-attr]


def scope_of(**changed: Any) -> dict[str, Any]:
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": "/ä b", "raw_path": b"/%C3%A4%20b",
        "query_string": b"", "headers": [],
    }  # fmt: skip
    return {key: value for key, value in (scope | changed).items() if value is not None}


async def nothing_comes() -> Any:
    await asyncio.Event().wait()


async def call(application: Any, receive: Any = nothing_comes, scope: dict[str, Any] | None = None) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope_of() if scope is None else scope, receive, send)
    return sent


@pytest.mark.parametrize(
    ("changed", "target"),
    [
        ({}, b"/%C3%A4%20b"),
        ({"query_string": b"a=%20&b"}, b"/%C3%A4%20b?a=%20&b"),
        ({"raw_path": None}, b"/%C3%A4%20b"),
        ({"raw_path": b"/x%2F?a", "query_string": b"a"}, b"/x%2F?a"),
        ({"root_path": "/v1", "path": "/v1/p", "raw_path": b"/v1/p"}, b"/v1/p"),
    ],
)
async def test_the_target_is_the_one_that_was_sent(changed: dict[str, Any], target: bytes) -> None:
    noted = Noted()
    await call(MirroredApplication(bound(sends(start(), body()), []), noted.sender), scope=scope_of(**changed))
    assert noted.one.request.target == target


async def test_a_request_in_http_2_has_a_body_where_the_application_finds_one() -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"abc", "more_body": False}

    noted = Noted()
    scope = scope_of(http_version="2", method="POST")
    await call(MirroredApplication(bound(echo, []), noted.sender), receive, scope)
    assert (noted.one.request.body, noted.one.request.unfit) == (b"abc", None)
    noted = Noted()
    await call(
        MirroredApplication(bound(sends(start(), body()), []), noted.sender), receive, scope_of(http_version="2")
    )
    assert (noted.one.request.body, noted.one.request.unfit) == (b"", None)


EXTENSIONS = [
    {"type": "http.response.early_hint", "links": [b"</x>"]},
    {"type": "http.response.push", "path": "/x", "headers": []},
    {"type": "http.response.debug", "info": {"template": object()}},
]


async def test_messages_of_extensions_pass_as_the_very_objects() -> None:
    begin, end = start(200, (b"content-length", b"9"), trailers=True), body(b"x")
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False}
    for messages in (
        [*EXTENSIONS, begin, end, trailers],
        [start(200, (b"content-length", b"9")), {"type": "http.response.pathsend", "path": "/etc/hostname"}],
        [start(200), {"type": "http.response.zerocopysend", "file": 3, "more_body": True}, body(b"x")],
    ):
        noted = Noted()

        async def app(scope: Any, receive: Any, send: Any, messages: Any = messages) -> None:
            for message in messages:
                await send(message)

        sent = await call(MirroredApplication(app, noted.sender))
        assert all(one is other for one, other in zip(sent, messages, strict=True))
        assert noted.one.outcome is Outcome.OK


async def test_an_exchange_ends_behind_the_trailers_and_has_the_first_head() -> None:
    noted = Noted()
    ended: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (start(200, trailers=True), start(500), body(b"x"), {"type": "http.response.trailers"}):
            await send(message)
            ended.append(len(noted.kept.ended))

    await call(MirroredApplication(app, noted.sender))
    assert ended == [0, 0, 0, 1]
    assert (noted.one.reply.status, noted.one.reply.body) == (200, b"x")


async def test_a_file_that_the_server_sends_is_no_part_of_the_copy() -> None:
    noted = Noted()
    file = {"type": "http.response.pathsend", "path": "/etc/hostname"}
    await call(MirroredApplication(bound(sends(start(200, (b"content-length", b"9")), file), []), noted.sender))
    assert (noted.one.reply.body, noted.one.reply.body_bytes) == (b"", 9)


async def test_lifespan_passes_and_what_waits_is_sent_before_the_application_has_shut_down() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> str:
        for each in messages:
            assert await receive() == each
            with contextlib.suppress(ValueError):
                await send(each)
        return "its value"

    async def send(message: Any) -> None:
        sent.append((message, list(noted.kept.pushed)))
        raise ValueError("passes")

    complete = {"type": "lifespan.shutdown.complete"}
    for is_used, messages in (
        (True, [{"type": "lifespan.startup.complete"}, complete]),
        (False, [complete]),
        (True, [None, {"type": "lifespan.shutdown.failed", "message": "m"}]),
    ):
        noted, sent = Noted(), list[Any]()
        noted.kept.is_used = is_used
        coming = iter(messages)

        async def receive(coming: Iterator[Any] = coming) -> Any:
            return next(coming)

        scope = {"type": "lifespan", "state": {}}
        assert await MirroredApplication(app, noted.sender)(scope, receive, send) == "its value"
        assert all(one is other for (one, _), other in zip(sent, messages, strict=True))
        assert [pushed for _, pushed in sent][-1] == ([SHUTDOWN] if is_used else [])
        assert [pushed for _, pushed in sent][:-1] == [[]] * (len(messages) - 1)


@pytest.mark.parametrize("kind", ["websocket", "of another kind", None])
async def test_other_scopes_are_passed_untouched(kind: str | None) -> None:
    noted = Noted()
    given: list[Any] = []

    async def app(*arguments: Any) -> str:
        given.extend(arguments)
        return "its value"

    arguments = ({"type": kind} if kind else {}, object(), object())
    assert await MirroredApplication(app, noted.sender)(*arguments) == "its value"  # type: ignore[arg-type]
    assert all(one is other for one, other in zip(given, arguments, strict=True))
    assert noted.exchanges == []


@types.coroutine
def turn() -> Iterator[str]:
    yield "a turn of a loop that is not asyncio's"


def test_no_event_loop_of_a_certain_kind_is_needed() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await turn()
        await sends(start(), body(b"ok"))(scope, receive, send, [])

    noted = Noted()
    running = call(MirroredApplication(app, noted.sender))
    assert running.send(None) == "a turn of a loop that is not asyncio's"
    with pytest.raises(StopIteration):
        running.send(None)
    assert noted.one.reply.body == b"ok"


def test_attributes_are_the_applications() -> None:
    class Framework:
        state = "its own"

        async def __call__(self, *given: Any) -> None: ...

    framework = Framework()
    application = MirroredApplication(framework, Noted().sender)
    assert application.state == "its own"
    with pytest.raises(AttributeError, match="nothing"):
        application.nothing  # noqa: B018
    assert inspect.iscoroutinefunction(application.__call__), "by this servers know the kind of application"
    assert "mirrored" in repr(application)
