"""A mirrored WSGI application: its server and it itself see what they would see without, and the exchange is noted.

The standard library's server code serves each application of the table, bare and mirrored. Compared is every byte that
it writes, and all that the application gets. Its validator stands on both sides of what is tested.
"""

import gc
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from noted import Noted, Unnoting

from shadowproxy.exchange import Outcome
from shadowproxy.incode.wsgi import MirroredApplication

Events = list[str]
App = Callable[[dict[str, Any], Callable[..., Any], Events], Iterable[bytes]]

JSON = [("Content-Type", "application/json"), ("Set-Cookie", "a=1"), ("set-cookie", "b=\xff"), ("X-A", "")]


def environ(body: bytes = b"", **changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "REQUEST_METHOD": "POST" if body else "GET",
        "QUERY_STRING": "q=%20&x",
        "HTTP_X_ONE": "1",
        "HTTP_X_REQUEST_ID": "mine",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "PATH_INFO": "/a b/\xc3\xa4",
        "SCRIPT_NAME": "",
    }
    found |= changed
    setup_testing_defaults(found)
    found["wsgi.input"] = io.BytesIO(body)
    return found


class Closing:
    """An answer that says when it is closed."""

    def __init__(self, items: Iterable[bytes], events: Events) -> None:
        self.items = items
        self.events = events

    def __iter__(self) -> Iterator[bytes]:
        for item in self.items:
            self.events.append(f"gives {item!r}")
            yield item

    def close(self) -> None:
        self.events.append("closed")


class Sized(Closing):
    def __len__(self) -> int:
        return len(list(self.items))


def answers(result: Callable[[Events], Iterable[bytes]], status: str = "200 OK") -> App:
    def app(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterable[bytes]:
        start_response(status, list(JSON))
        return result(events)

    return app


def echo(how: Callable[[Any], bytes]) -> App:
    def app(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterable[bytes]:
        data = how(environ["wsgi.input"])
        events.append(repr(data))
        start_response("201 Created", [*JSON, ("Content-Length", str(len(data)))])
        return [data]

    return app


def read_by_piece(stream: Any) -> bytes:
    data = b""
    while piece := stream.read(3):
        data += piece
    return data


def read_into(stream: Any) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: stream.readinto(buffer)])


def generator(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterator[bytes]:
    events.append("begun")
    start_response("200 OK", list(JSON))
    yield b"one"
    yield b""
    yield b"two"


def writes(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterable[bytes]:
    write = start_response("200 OK", list(JSON))
    events.append(repr(write(b"written")))
    return [b" and ", b"returned"]


def changes_its_mind(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterable[bytes]:
    start_response("200 OK", list(JSON))
    try:
        raise ValueError("no")
    except ValueError:
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"sorry"]


def changes_its_mind_too_late(
    environ: dict[str, Any], start_response: Callable[..., Any], events: Events
) -> Iterator[bytes]:
    start_response("200 OK", list(JSON))
    yield b"half"
    try:
        raise ValueError("no")
    except ValueError:
        start_response("500 Internal Server Error", [], sys.exc_info())


def fails_at_once(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterable[bytes]:
    raise ValueError("at once")


def fails_midway(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterator[bytes]:
    start_response("200 OK", list(JSON))
    yield b"half"
    raise ValueError("midway")


def sends_a_file(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "9")])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"of a file"), 4)
    return wrapped


def starts_with_nonsense(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterable[Any]:
    try:
        start_response(200, None)
    except Exception as error:  # noqa: BLE001 (servers raise what they like)
        events.append(f"{type(error).__name__}: {error}")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["text", 3]


def shows_its_environ(environ: dict[str, Any], start_response: Callable[..., Any], events: Events) -> Iterable[bytes]:
    events.append(repr(sorted((key, value) for key, value in environ.items() if key[:5] != "wsgi.")))
    return answers(lambda events: [b"ok"])(environ, start_response, events)


BODY = b'{"a":1,\n"b":2}\n'
APPS: dict[str, App] = {
    "a list of one": answers(lambda events: [b"one"]),
    "a list of two": answers(lambda events: [b"one", b"two"]),
    "an empty list": answers(lambda events: []),
    "a tuple": answers(lambda events: (b"one",)),
    "closes": answers(lambda events: Closing([b"one", b"two"], events)),
    "sized": answers(lambda events: Sized([b"one"], events)),
    "not found": answers(lambda events: [b"no"], "404 Not Found"),
    "redirect": answers(lambda events: [], "302 Elsewhere"),
    "generator": generator,
    "writes": writes,
    "changes its mind": changes_its_mind,
    "changes its mind too late": changes_its_mind_too_late,
    "fails at once": fails_at_once,
    "fails midway": fails_midway,
    "sends a file": sends_a_file,
    "nonsense": starts_with_nonsense,
    "does not start": lambda environ, start_response, events: [b"x"],
    "the environ": shows_its_environ,
    "reads all": echo(lambda stream: stream.read()),
    "reads by piece": echo(read_by_piece),
    "reads its length": echo(lambda stream: stream.read(len(BODY))),
    "reads more than its length": echo(lambda stream: stream.read(1000)),
    "reads lines": echo(lambda stream: stream.readline() + stream.readline(3) + b"".join(stream.readlines())),
    "iterates": echo(lambda stream: b"".join(stream)),
    "reads into": echo(read_into),
    "reads once": echo(lambda stream: stream.read1()),
    "reads none": echo(lambda stream: stream.read(0) + stream.read(-1)),
}  # fmt: skip


def bound(app: App, events: Events) -> Any:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return app(environ, start_response, events)

    return application


def served(app: Any, given: dict[str, Any]) -> tuple[bytes, str]:
    """What the server wrote but for the time, and the last line that it logged."""
    out, log = io.BytesIO(), io.StringIO()
    handler = SimpleHandler(given["wsgi.input"], out, log, given)
    handler.run(app)
    return re.sub(rb"Date: [^\r]*\r\n", b"", out.getvalue()), log.getvalue().strip().rpartition("\n")[2]


@pytest.mark.parametrize("name", APPS)
@pytest.mark.filterwarnings("ignore:SimpleHandler")
def test_the_server_writes_the_same_bytes_and_the_application_gets_the_same(name: str) -> None:
    for body in (b"", BODY):
        for method in ("GET", "POST", "HEAD"):
            bare: Events = []
            mirrored: Events = []
            noted = Noted()
            expected = served(bound(APPS[name], bare), environ(body, REQUEST_METHOD=method))
            application = MirroredApplication(bound(APPS[name], mirrored), noted.sender)
            assert served(application, environ(body, REQUEST_METHOD=method)) == expected
            assert mirrored == bare
            assert len(noted.exchanges) == 1


READING = [name for name in APPS if "read" in name or name == "iterates"]
INVALID = {"nonsense", "does not start", "a tuple", "the environ"}
# The validator knows fewer ways to read than servers do, and asks for a size.
UNKNOWN = {"reads into", "reads once", "reads all", "reads none", "reads lines", "iterates"}


@pytest.mark.parametrize("name", [name for name in APPS if name not in INVALID | UNKNOWN])
def test_it_keeps_to_the_rules_of_servers_and_of_applications(name: str) -> None:
    application = validator(MirroredApplication(validator(bound(APPS[name], [])), Noted().sender))
    served(application, environ(BODY))


@pytest.mark.parametrize("name", READING)
def test_a_body_is_noted_however_it_is_read(name: str) -> None:
    noted = Noted()
    served(MirroredApplication(bound(APPS[name], []), noted.sender), environ(BODY))
    assert (noted.one.request.body, noted.one.request.unfit, noted.one.reply.body) == (BODY, None, BODY)


@pytest.mark.parametrize("name", ["reads all", "reads by piece", "iterates", "reads more than its length"])
def test_the_end_of_a_chunked_body_is_where_reading_finds_it(name: str) -> None:
    noted = Noted()
    given = environ(BODY, CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked")
    served(MirroredApplication(bound(APPS[name], []), noted.sender), given | {"wsgi.input_terminated": True})
    expected = Outcome.OVERLOAD if name == "reads more than its length" else None  # it did not read on to the end
    assert (noted.one.request.body, noted.one.request.unfit) == (BODY, expected)


def test_a_body_that_is_not_read_goes_to_no_shadow() -> None:
    noted = Noted()
    served(MirroredApplication(bound(APPS["a list of one"], []), noted.sender), environ(BODY))
    assert (noted.one.request.unfit, noted.one.reply.body) == (Outcome.OVERLOAD, b"one")


def test_the_exchange_is_what_was_received_and_answered() -> None:
    noted = Noted()
    served(MirroredApplication(bound(APPS["a list of two"], []), noted.sender), environ())
    request, reply = noted.one.request, noted.one.reply
    assert (request.method, request.target, request.id) == ("GET", b"/a%20b/%C3%A4?q=%20&x", "mine")
    assert {(b"x-one", b"1"), (b"content-type", b"application/json")} <= set(request.fields)
    assert (reply.status, reply.body) == (200, b"onetwo")
    assert reply.fields == tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in JSON)


@pytest.mark.parametrize(
    ("changed", "target"),
    [
        ({"RAW_URI": "/x%2Fy?a=%zz#f"}, b"/x%2Fy?a=%zz"),
        ({"REQUEST_URI": "/x?"}, b"/x?"),
        ({"RAW_URI": "http://host:80/x?a"}, b"/x?a"),
        ({"RAW_URI": "*"}, b"*"),
        ({"SCRIPT_NAME": "/v1", "PATH_INFO": "/p", "QUERY_STRING": ""}, b"/v1/p"),
        ({"PATH_INFO": "", "QUERY_STRING": ""}, b"/"),
    ],
)
def test_the_target_is_the_one_that_was_sent(changed: dict[str, str], target: bytes) -> None:
    noted = Noted()
    given = environ() | changed
    served(MirroredApplication(bound(APPS["a list of one"], []), noted.sender), given)
    assert noted.one.request.target == target


@pytest.mark.parametrize(
    ("name", "outcome", "error", "body"),
    [
        ("fails at once", Outcome.INCOMPLETE, "the application raised ValueError", None),
        ("fails midway", Outcome.INCOMPLETE, "the application raised ValueError", b"half"),
        ("does not start", Outcome.INCOMPLETE, "the application did not call start_response", None),
        ("changes its mind", Outcome.OK, None, b"sorry"),
        ("writes", Outcome.OK, None, b"written and returned"),
        ("generator", Outcome.OK, None, b"onetwo"),
        ("closes", Outcome.OK, None, b"onetwo"),
    ],
)
def test_how_an_answer_ended_is_noted(name: str, outcome: Outcome, error: str | None, body: bytes | None) -> None:
    noted = Noted()
    served(MirroredApplication(bound(APPS[name], []), noted.sender), environ())
    end = noted.one.end
    assert (noted.one.outcome, getattr(end, "error", None)) == (outcome, error)
    reply = end if noted.one.outcome is Outcome.OK else end.reply  # type: ignore[union-attr]
    assert getattr(reply, "body", None) == body
    if name == "changes its mind":
        assert getattr(reply, "status", None) == 500


def test_the_body_that_a_server_leaves_out_is_not_noted() -> None:
    for name in ("a list of two", "generator", "writes", "sends a file"):
        noted = Noted()
        application = MirroredApplication(bound(APPS[name], []), noted.sender)
        served(application, environ(REQUEST_METHOD="HEAD") | {"wsgi.file_wrapper": FileWrapper})
        assert noted.one.reply.body_bytes == 0, name


def test_a_server_that_stops_asking_has_lost_its_caller() -> None:
    noted, events = Noted(), Events()
    application = MirroredApplication(bound(APPS["closes"], events), noted.sender)
    result: Any = application(environ(), lambda *given: None)
    assert next(iter(result)) == b"one"
    result.close()
    assert noted.one.outcome is Outcome.CALLER_LEFT
    assert events == ["gives b'one'", "closed"]


def test_the_exchange_ends_after_the_server_has_sent_the_answer() -> None:
    for name in ("a list of two", "generator"):
        noted = Noted()
        result: Any = MirroredApplication(bound(APPS[name], []), noted.sender)(environ(), lambda *given: None)
        items = iter(result)
        assert next(items) == b"one"
        assert noted.kept.ended == [], name
        for _ in items:
            pass
        result.close()
        assert noted.one.reply.body == b"onetwo"


def test_a_server_that_forgets_an_answer_ends_its_exchange() -> None:
    noted = Noted()
    for name in ("closes", "a list of one"):
        MirroredApplication(bound(APPS[name], []), noted.sender)(environ(), lambda *given: None)
        gc.collect()
    assert [each.outcome for each in noted.exchanges] == [Outcome.CALLER_LEFT, Outcome.OK]


def test_a_write_that_says_that_the_caller_left_raises_in_the_application() -> None:
    noted, raised = Noted(), BrokenPipeError("gone")

    def write(data: bytes) -> None:
        raise raised

    with pytest.raises(BrokenPipeError) as found:
        MirroredApplication(bound(writes, []), noted.sender)(environ(), lambda *given: write)
    assert found.value is raised
    assert noted.one.outcome is Outcome.CALLER_LEFT


def test_what_the_server_gets_is_what_servers_look_at() -> None:
    class FromServer(FileWrapper):
        pass

    def given(name: str) -> Any:
        return MirroredApplication(bound(APPS[name], []), Noted().sender)(
            environ() | {"wsgi.file_wrapper": FromServer}, lambda *given: None
        )

    assert given("a list of two") == [b"one", b"two"]
    assert isinstance(given("a list of two"), list)
    assert type(given("sends a file")) is FromServer
    assert len(given("sized")) == 1
    assert not hasattr(given("generator"), "__len__")


def test_a_file_that_the_server_sends_is_no_part_of_the_copy() -> None:
    noted = Noted()
    served(MirroredApplication(bound(sends_a_file, []), noted.sender), environ() | {"wsgi.file_wrapper": FileWrapper})
    assert (noted.one.reply.body, noted.one.reply.body_bytes) == (b"", 9)


def test_our_own_defects_reach_nobody() -> None:
    for name, app in APPS.items():
        for body in (b"", BODY):
            bare: Events = []
            mirrored: Events = []
            expected = served(bound(app, bare), environ(body))
            application = MirroredApplication(bound(app, mirrored), Unnoting())  # type: ignore[arg-type]
            assert (served(application, environ(body)), mirrored) == (expected, bare), name


def test_a_server_whose_environ_cannot_be_read_serves_the_application() -> None:
    noted = Noted()
    given = environ(CONTENT_LENGTH="many")
    assert b"one" in served(MirroredApplication(bound(APPS["a list of one"], []), noted.sender), given)[0]
    assert noted.exchanges == []


def test_attributes_of_the_input_and_of_the_application_are_their_own() -> None:
    class Framework:
        state = "its own"

        def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
            assert environ["wsgi.input"].getvalue() == BODY
            assert not hasattr(environ["wsgi.input"], "nothing")
            start_response("200 OK", [])
            return [b""]

    application = MirroredApplication(Framework(), Noted().sender)
    assert application.state == "its own"
    assert "mirrored" in repr(application)
    assert list(application(environ(BODY), lambda *given: None)) == [b""]
