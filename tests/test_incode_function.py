"""`Shadow.function`: live's function is what it was, and each call arrives at the companion, which is a fake."""

import asyncio
import contextvars
import functools
import gc
import inspect
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from companions import PATIENCE, FakeCompanion

import shadowproxy
from shadowproxy import Mismatch, Shadow, ShadowError
from shadowproxy.exchange import Failure, Outcome, Reply
from shadowproxy.incode import candidates, shadow
from shadowproxy.incode.connection import Connection
from shadowproxy.incode.process import CompanionProcess, command
from shadowproxy.intake_frames import (
    CANDIDATE,
    RELOAD,
    RESULT,
    Call,
    Candidate,
    Result,
    call_frame,
    candidate_of,
    result_of,
)

MakeShadow = Callable[..., Shadow]


class Running(FakeCompanion):
    """A fake companion that a Shadow starts in place of a real one."""


@pytest.fixture
def companion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with Running(tmp_path) as fake:

        class Process(CompanionProcess):
            def start(self) -> None:
                self.prepare()
                fake.path = self.socket
                fake.start()

        monkeypatch.setattr(shadow, "CompanionProcess", Process)
        monkeypatch.chdir(tmp_path)
        yield fake


@pytest.fixture
def make(companion: Running) -> Iterator[MakeShadow]:
    made: list[Shadow] = []

    def making(*given: Any, **keys: Any) -> Shadow:
        made.append(Shadow(*given, **keys))
        return made[-1]

    yield making
    for each in made:
        each.close(PATIENCE)


def add(a: Any, b: Any = 1) -> Any:
    return a + b


def add_two(a: Any, b: Any = 2) -> Any:
    return a + b


async def add_async(a: Any, b: Any = 1) -> Any:
    await asyncio.sleep(0)
    return a + b


def bodies(companion: FakeCompanion) -> list[tuple[Any, Any]]:
    answers = [end.live for end in companion.ended()]
    return [
        (orjson.loads(begin.body), orjson.loads(live.body) if isinstance(live, Reply) else live)
        for begin, live in zip(companion.begun(), answers, strict=True)
    ]


def test_a_call_is_an_exchange(companion: Running, make: MakeShadow) -> None:
    running = make(shadows={"b": "http://127.0.0.1:1"})
    live = running.function(add)
    assert live(1) == 2
    assert live(a=[1], b=[2]) == [1, 2]
    assert running.flush(PATIENCE)
    assert bodies(companion) == [
        ({"args": [1], "kwargs": {}}, 2),
        ({"args": [], "kwargs": {"a": [1], "b": [2]}}, [1, 2]),
    ]
    [begin, _] = companion.begun()
    assert (begin.method, begin.target, begin.shadows, begin.pickle) == (
        "CALL", b"/test_incode_function.add", None, b""
    )  # fmt: skip
    assert inspect.unwrap(live) is add
    assert inspect.signature(live) == inspect.signature(add)


def test_the_very_object_is_returned_and_the_very_exception_raised(companion: Running, make: MakeShadow) -> None:
    running = make(shadows={"b": "http://127.0.0.1:1"})
    error = KeyError("gone")

    def give(value: Any) -> Any:
        if value is error:
            raise value
        return value

    live = running.function(give)
    result = [object()]
    assert live(result) is result  # which JSON does not show, so it is not compared
    with pytest.raises(KeyError) as caught:
        live(error)
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    with pytest.raises(KeyboardInterrupt):
        running.function(interrupted)()
    assert running.flush(PATIENCE)
    _, (_, failed), (_, left) = bodies(companion)
    cut = companion.ended()[0].live
    assert isinstance(cut, Reply)
    assert cut.body_bytes == len(cut.body) + 1
    assert failed == {"error": "KeyError: 'gone'"}
    assert isinstance(left, Failure)
    assert left.outcome is Outcome.CALLER_LEFT


def interrupted() -> None:
    raise KeyboardInterrupt


async def test_async_functions_and_what_returns_a_coroutine(companion: Running, make: MakeShadow) -> None:
    running = make(shadows={"b": "http://127.0.0.1:1"})
    live = running.function(add_async)
    assert inspect.iscoroutinefunction(live)
    assert await live(1) == 2
    assert await running.function(lambda: add_async(3))() == 4
    assert await running.function(functools.partial(add_async, 5))() == 6

    async def hang() -> None:
        await asyncio.sleep(60)

    task = asyncio.ensure_future(running.function(hang)())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(running.flush, PATIENCE)
    *answered, (_, cancelled) = bodies(companion)
    assert [answer for _, answer in answered] == [2, 4, 6]
    assert isinstance(cancelled, Failure)
    assert cancelled[:2] == (Outcome.CALLER_LEFT, "the call was ended by CancelledError")


def test_candidates_get_a_snapshot_that_was_taken_before_the_call(companion: Running, make: MakeShadow) -> None:
    running = make(shadows={"b": "http://127.0.0.1:1", "all": add})

    @running.function(candidate=add_two, timeout="1s")
    def emptied(a: list[int]) -> int:
        a.clear()
        return 0

    @running.function
    def plain(a: int) -> int:
        return a

    emptied([1, 2])
    plain(3)
    assert running.flush(PATIENCE)
    first, second = companion.begun()
    assert orjson.loads(first.body)["args"] == [[1, 2]]
    assert pickle.loads(first.pickle) == (([1, 2],), {})
    assert (first.shadows, second.shadows) == (("add_two",), ("all",))
    given = [candidate_of(each) for each in companion.of_kind(CANDIDATE)]
    assert all(isinstance(each, Candidate) for each in given)
    assert [(each.name, pickle.loads(each.pickle)) for each in given if isinstance(each, Candidate)] == [
        ("all", add), ("add_two", add_two)
    ]  # fmt: skip


def test_what_cannot_be_copied_is_recorded_and_not_sent_to_the_candidate(companion: Running, make: MakeShadow) -> None:
    running = make(limits={"capture": "1KiB", "buffer": "1KiB"})
    live: Any = running.function(candidate=add_two)(lambda a: 0)
    lock = threading.Lock()
    assert live(lock) == 0
    assert live(bytes(2000)) == 0
    assert running.flush(PATIENCE)
    assert [begin.pickle for begin in companion.begun()] == [b"", b""]
    assert orjson.loads(companion.begun()[0].body)["args"] == [{"unwritable": "_thread.lock"}]
    assert [begin.unfit for begin in companion.begun()] == [None, Outcome.OVERSIZE]


def test_methods_are_mirrored_without_self(companion: Running, make: MakeShadow) -> None:
    running = make(shadows={"b": "http://127.0.0.1:1"})
    assert Model(running).check() == ([6, 7, 8], [b"/test_incode_function.Model.Mirrored." + name for name in (
        b"method", b"of_class", b"static"
    )])  # fmt: skip
    assert running.flush(PATIENCE)
    assert [each["args"] for each, _ in bodies(companion)] == [[1], [2], [3]]


class Model:
    def __init__(self, running: Shadow) -> None:
        class Mirrored:
            @running.function
            def method(self, x: int) -> int:
                return x + 5

            @classmethod
            @running.function
            def of_class(cls, x: int) -> int:
                return x + 5

            @staticmethod
            @running.function
            def static(x: int) -> int:
                return x + 5

        Mirrored.__qualname__ = "Model.Mirrored"
        self.mirrored = Mirrored

    def check(self) -> tuple[list[int], list[bytes]]:
        names = ("method", "of_class", "static")
        results = [self.mirrored().method(1), self.mirrored.of_class(2), self.mirrored.static(3)]
        return results, [f"/test_incode_function.Model.Mirrored.{name}".encode() for name in names]


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_is_refused(make: MakeShadow, function: Any) -> None:
    with pytest.raises(ShadowError, match=r"generator: is a generator, whose values nobody has yet"):
        make(shadows={"b": "http://127.0.0.1:1"}).function(function)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"shadows": {"b": "nonsense"}}, "shadows.b.url: "),
        ({"shadow": {}}, 'shadow: unknown key (did you mean "shadows"?)'),
        ({"live": {"url": "http://a"}}, "live: is the application itself"),
        ({"shadows": {"b": 5}}, "shadows.b.url: "),
        (
            {"shadows": {"b": {"candidate": len, "percnt": 5}}},
            'shadows.b.percnt: unknown key (did you mean "percent"?)',
        ),
        ({"shadows": {"b": lambda: 0}}, "b: the candidate cannot go to a process of its own: "),
        ({"config": "none.yaml"}, "none.yaml: cannot be read"),
        ({"shadows": ["http://a"]}, "shadows: must be a mapping"),
        ({"log": 5}, "log.path: "),
    ],
)
def test_what_cannot_be_used_is_one_line(make: MakeShadow, keys: dict[str, Any], line: str) -> None:
    if (
        "shadows" in keys
        and isinstance(keys["shadows"], dict)
        and callable(keys["shadows"].get("b"))
        and "cloudpickle" in sys.modules
    ):
        pytest.skip("it can")
    with pytest.raises(ShadowError) as caught:
        make(keys.pop("config", None), **keys)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [each for each in shadow.every if not each._closed]


@pytest.mark.parametrize(
    ("config", "keys", "line"),
    [
        (5, {}, "the first argument must be a file's path, not 5"),
        ({"shadows": {}}, {}, ": give keys by their names"),
        (b"shadow.yaml", {}, "the first argument must be a file's path"),
        (None, {"shadows": {1: "http://127.0.0.1:1"}}, "shadows: a name must be a text, not 1"),
        (None, {"shadows": {"b": {"candidate": "m.f"}}}, "shadows.b: a candidate is called, and 'm.f' cannot be"),
        (None, {"shadows": {"b": {"candidate": add, "thread": "yes"}}}, "shadows.b.thread: must be true or false"),
        (None, {"admin": 1 << 80}, "the keys cannot be written as JSON: Integer exceeds 64-bit range"),
        (None, {"shadows": {"b": "http://\ud800"}}, "the keys cannot be written as JSON"),
    ],
)
def test_what_is_of_the_wrong_type_is_one_line(make: MakeShadow, config: Any, keys: dict[str, Any], line: str) -> None:
    with pytest.raises(ShadowError) as caught:
        make(config, **keys)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_decorated_is_one_line_and_changes_nothing(make: MakeShadow) -> None:
    running = make()
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: running.function(candidate=add)(5), "decorates a function, not 5"),  # type: ignore[type-var]
        (lambda: running.function(candidate=add)(classmethod(add)), "put @classmethod and @property above it"),  # type: ignore[type-var]
        (lambda: running.function(candidate=add, name=5)(add), "shadows: a name must be a text"),  # type: ignore[call-overload]
        (lambda: running.function(candidate=5)(add), "a candidate is called, and 5 cannot be"),  # type: ignore[call-overload]
        (lambda: running.function(candidate=add, timeout=1 << 80)(add), "cannot be written as JSON"),
        (lambda: running.asgi(None), "shadow.asgi: takes an application, not None"),
        (lambda: running.wsgi(5), "shadow.wsgi: takes an application, not 5"),
        (lambda: running.transport(5), "shadow.transport: takes a transport of httpx, not 5"),
        (lambda: running.transport(httpx.HTTPTransport), "not <class 'httpx.HTTPTransport'>"),
        (lambda: running.async_transport(httpx.HTTPTransport()), "shadow.async_transport: takes a transport"),
    ]
    for decorate, line in cases:
        with pytest.raises(ShadowError, match=line):
            decorate()
    assert running.function(candidate=add_two, name="add")(add)(1) == 2


def test_a_file_and_what_is_given_beside_it(tmp_path: Path, companion: Running, make: MakeShadow) -> None:
    file = tmp_path / "shadow.yaml"
    file.write_text("shadows: {a: {url: 'http://127.0.0.1:1', percent: 5}}\nlog: {path: there}\n")
    running = make(file, shadows={"b": {"url": "http://127.0.0.1:2"}}, log=tmp_path / "here")
    assert repr(running) == "<Shadow a, b: <Connection not connected, 0 exchanges sent, 0 lost, 0 bytes waiting>>"
    assert not os.path.exists(running._process.directory)
    running.function(abs)(1)
    assert running.flush()
    described = orjson.loads(Path(running._process.description).read_bytes())
    assert described == {
        "socket": running._process.socket,
        "config": str(file),
        "keys": {"shadows": {"b": {"url": "http://127.0.0.1:2"}}, "log": {"path": str(tmp_path / "here")}},
        "owner": os.getpid(),
    }
    assert os.stat(running._process.directory).st_mode & 0o777 == 0o700


def test_a_candidate_that_is_added_while_it_runs_is_told_to_the_companion(companion: Running, make: MakeShadow) -> None:
    running = make(shadows={"b": "http://127.0.0.1:1"})
    running.function(add)(1)
    assert running.flush(PATIENCE)
    live = running.function(candidate=add_two, name="late")(add)
    with pytest.raises(ShadowError, match=r"shadows\.late: there is one of that name already"):
        running.function(candidate=add_two, name="late")(add_two)
    live = running.function(candidate=add_two, name="late")(add)  # as when a notebook's cell is run again
    live(1)
    assert running.flush(PATIENCE)
    kinds = [each.kind for each in companion.frames]
    assert kinds[kinds.index(RELOAD) + 1] == CANDIDATE
    with pytest.raises(ShadowError, match="perecent"):
        running.function(candidate=add_two, name="bad", perecent=5)(add)
    assert "bad" not in repr(running)


def test_what_a_candidate_needs_is_said(make: MakeShadow) -> None:
    five: Any = 5
    running = make(shadows={"b": "http://127.0.0.1:1"})
    with pytest.raises(ShadowError, match="need a candidate"):
        running.function(name="b")(add)
    with pytest.raises(ShadowError, match="raise_on_mismatch needs a candidate"):
        running.function(raise_on_mismatch=True)(add)
    with pytest.raises(ShadowError, match="5 cannot be"):
        running.function(candidate=five, name="five")(add)


def test_a_thread_of_this_process_calls_a_candidate_that_asks_for_it(companion: Running, make: MakeShadow) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("live's")
    seen: list[Any] = []

    def there(a: Any) -> Any:
        seen.append((threading.current_thread().daemon, variable.get(None)))
        if a == "raise":
            raise ValueError(a)
        return [a]

    running = make(shadows={"b": {"candidate": there, "thread": True}})
    live: Any = running.function(lambda a: a)
    live(1)
    assert running.flush(PATIENCE)
    [connection] = companion._connections
    for key, a in ((1, "x"), (2, "raise")):
        connection.sendall(call_frame(Call(key, "b", 5.0, pickle.dumps(((a,), {})))))
    connection.sendall(call_frame(Call(3, "b", 0.0, pickle.dumps(((4,), {})))))  # its time is over
    connection.sendall(call_frame(Call(4, "b", 5.0, b"nonsense")))
    connection.sendall(call_frame(Call(5, "none", 5.0, b"")))
    companion.wait(lambda: len(companion.of_kind(RESULT)) == 4)
    results = {each.key: each for each in map(result_of, companion.of_kind(RESULT)) if isinstance(each, Result)}
    assert results[1] == (1, None, b'["x"]')
    assert results[2] == (2, None, b'{"error":"ValueError: raise"}')
    assert results[4].body.startswith(b'{"error":"UnpicklingError')
    assert results[5].failed == "this process has no such candidate"
    assert seen == [(True, None), (True, None)]
    [given] = [candidate_of(each) for each in companion.of_kind(CANDIDATE)]
    assert isinstance(given, Candidate)
    assert (given.thread, given.pickle) == (True, b"")


def test_an_async_candidate_in_a_thread(companion: Running) -> None:
    found = candidates.answer(add_async, Call(1, "b", 1.0, pickle.dumps(((1,), {}))))
    assert found == Result(1, None, b"2")


def test_raise_on_mismatch_shows_what_differs(make: MakeShadow) -> None:
    running = make(compare={"tolerance": {"/score": 0.2}, "ignore": ["/at"]})

    def decorated(candidate: Any, name: str = "b") -> Any:
        return running.function(candidate=candidate, name=name, raise_on_mismatch=True)(answering)

    result = decorated(lambda kind: {"score": 0.6, "at": "later", "label": "a"})("dict")
    assert result == {"score": 0.5, "at": "now", "label": "a"}
    with pytest.raises(Mismatch) as caught:
        decorated(lambda kind: {"score": 0.9, "at": "later", "label": "b"})("dict")
    assert str(caught.value) == (
        "test_incode_function.answering: the result of b differs from live's\n"
        "  /score: live 0.5, b 0.9 (value)\n"
        "  /label: live \"a\", b \"b\" (value)"
    )  # fmt: skip
    assert len(caught.value.differences) == 2
    assert isinstance(caught.value, AssertionError)

    def raising(kind: str) -> Any:
        raise ValueError("other words")

    with pytest.raises(ValueError, match="live's words"):
        decorated(raising)("raise")
    with pytest.raises(Mismatch, match=r"live: returned\n  b: raised ValueError: other words"):
        decorated(raising)("dict")
    with pytest.raises(Mismatch, match=r"live: raised ValueError: live's words\n  b: returned"):
        decorated(lambda kind: 1)("raise")
    assert decorated(add_async_kind)("dict")["score"] == 0.5
    with pytest.raises(Mismatch, match='/label: live "a", b "NaN"'):
        decorated(lambda kind: {"score": 0.5, "label": float("nan")})("dict")
    with pytest.raises(Mismatch, match="not compared: a part of object has no JSON"):
        decorated(lambda kind: object())("dict")
    with pytest.raises(ShadowError, match="its arguments cannot be copied"):
        decorated(raising)(threading.Lock())


async def test_raise_on_mismatch_of_async_functions(make: MakeShadow) -> None:
    running = make()
    live = running.function(candidate=add_async, raise_on_mismatch=True)(add_async)
    assert await live(1) == 2
    other = running.function(candidate=add_two, raise_on_mismatch=True)(add_async)
    with pytest.raises(Mismatch, match=r"the result: live 2, add_two 3 \(value\)"):
        await other(1)
    assert await other(1, 5) == 6
    sync = running.function(candidate=add_async, name="c", raise_on_mismatch=True)(add)
    assert sync(1) == 2


def answering(kind: Any) -> Any:
    if kind == "raise":
        raise ValueError("live's words")
    return {"score": 0.5, "at": "now", "label": "a"}


async def add_async_kind(kind: Any) -> Any:
    return answering(kind)


def test_in_a_candidates_process_nothing_is_mirrored(make: MakeShadow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shadow.IN_CANDIDATE, "1")
    running = make(shadows={"b": "no URL"})
    assert running.function(add) is add
    assert running.flush()
    assert repr(running) == "<Shadow without shadows: does nothing in a candidate>"


def test_what_nobody_holds_any_more_ends_its_connection(companion: Running, tmp_path: Path) -> None:
    """As where a notebook's cell is run again. What was wrapped holds it."""

    class Heavy:
        def __call__(self, *given: Any) -> None: ...

    def wrapped() -> tuple[Connection, Callable[..., Any]]:
        running = Shadow(log=tmp_path / "log", shadows={"model": {"candidate": Heavy(), "thread": True}})
        return running._connection, running.function(add)

    connection, live = wrapped()
    assert live(1) == 2
    thread = connection._thread
    assert thread is not None
    assert live(2) == 3
    del live
    thread.join(PATIENCE)
    assert connection.closed
    assert len(companion.ended()) == 2
    connection, live = wrapped()
    del live
    assert connection.closed
    del connection
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Heavy]


def test_after_it_was_closed_functions_go_on(companion: Running, make: MakeShadow) -> None:
    with make(shadows={"b": "http://127.0.0.1:1"}) as running:
        live = running.function(add)
        live(1)
    assert live(1) == 2
    assert len(companion.begun()) == 1
    assert not os.path.exists(running._process.directory)
    assert repr(running).startswith("<Shadow b: closed")


def test_a_name_is_made_of_the_callables_own() -> None:
    def named(name: str) -> Any:
        def function() -> None: ...

        function.__qualname__ = name
        return shadow.name_of(function)

    given = ("predict", "Model.predict_v2", "f.<locals>.g", "f.<locals>.<lambda>", "live", "_")
    expected = ["predict", "model-predict_v2", "g", "lambda", "candidate", "candidate"]
    assert [named(each) for each in given] == expected


def test_importing_the_package_imports_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import shadowproxy\n"
        "assert set(sys.modules) - before == {'shadowproxy'}, set(sys.modules) - before\n"
        "from shadowproxy import Shadow, ShadowError\n"
        "heavy = {'pydantic', 'yaml', 'uvicorn', 'httpx', 'asyncio.base_events'} & set(sys.modules)\n"
        "assert not heavy - {'asyncio.base_events'}, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        shadowproxy.nothing  # noqa: B018


def test_what_the_companion_logs_is_logged_by_the_process_that_started_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process = CompanionProcess()
    try:
        lines = [
            b'{"level":"warning","message":"the disk is full"}',
            b"plain",
            b'{"level":"error","message":"gone"}',
            b"cut",
        ]
        process.prepare()
        Path(process.log).write_bytes(b"\n".join(lines))
        process.look()
        assert caplog.messages == []  # another process has started it
        monkeypatch.setattr(process, "_process", object())
        process.look()
        process.look()
        assert [(each.levelname, each.message) for each in caplog.records] == [
            ("WARNING", "companion: the disk is full"), ("WARNING", "companion: plain"), ("ERROR", "companion: gone")
        ]  # fmt: skip
    finally:
        process.remove()


def test_without_a_directory_for_it_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    with pytest.raises(ShadowError, match="no directory can be made for the companion"):
        Shadow()


def test_a_directory_that_others_can_enter_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path) if len(str(tmp_path)) < 60 else "/tmp")
    with Shadow(log=tmp_path / "log") as running:
        os.mkdir(running._process.directory)
        os.chmod(running._process.directory, 0o755)
        running.function(add)(1)
        assert not running.flush(PATIENCE)
        assert caplog.messages[0].endswith("is not this user's own")
        assert os.listdir(running._process.directory) == []


def test_the_companions_command_is_this_interpreter() -> None:
    assert command("/there")[0] == sys.executable
