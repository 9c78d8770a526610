"""No connection outlives its event loop, and one that the program forgot fails the test that left it, no later one."""

import re

import left_open
import pytest
import trustme  # here too, as its C code cannot be imported by a second run

pytest_plugins = ("pytester",)
__all__ = ["trustme"]

INI = """
[pytest]
asyncio_default_fixture_loop_scope = function
asyncio_mode = auto
filterwarnings =
    error::ResourceWarning
    error::pytest.PytestUnraisableExceptionWarning
    error::pytest.PytestUnhandledThreadExceptionWarning
"""

BEGINNING = """
import asyncio, contextlib, gc, socket, ssl, threading
import pytest, trustme, uvloop

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])

class Own(asyncio.Protocol):
    pass

class OfTheProgram(asyncio.Protocol):
    __module__ = "shadowproxy.invented"

async def connect(kind):
    ours, other = socket.socketpair()
    ours.setblocking(False)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(kind, ours)
    return transport, other

async def connect_over_tls(kind):
    loop = asyncio.get_running_loop()
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    ours, other = socket.socketpair()
    ours.setblocking(False)
    other.setblocking(False)
    (transport, _), _ = await asyncio.gather(
        loop.connect_accepted_socket(kind, ours, ssl=server),
        loop.create_connection(Own, sock=other, ssl=client, server_hostname="localhost"),
    )
    return transport

def ended(other):
    with other, contextlib.suppress(ConnectionResetError):
        other.settimeout(5)
        while other.recv(1_000_000):
            pass
    gc.collect()

def test_innocent():
    gc.collect()
"""

OPEN = """
others = []

async def test_open():
    others.append((await connect({kind}))[1])

def test_after_it():
    ended(others.pop())
"""
ON_EACH_LOOP = """
@LOOPS
def test_on_each(loop):
    with asyncio.Runner(loop_factory=loop) as runner:
        _, other = runner.run(connect({kind}))
    ended(other)
"""
OVER_TLS = """
@LOOPS
def test_tls(loop):
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(connect_over_tls({kind}))
    gc.collect()
"""
BARE_LOOP_IN_A_THREAD = """
@LOOPS
def test_thread(loop):
    others = []

    def run():
        its_own = loop()
        others.append(its_own.run_until_complete(connect({kind}))[1])
        its_own.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ended(others[0])
"""
CLOSING = """
@LOOPS
@pytest.mark.parametrize("unsent", [0, 10_000_000])
def test_closing(loop, unsent):
    async def leave():
        transport, other = await connect(OfTheProgram)
        transport.write(bytes(unsent))
        transport.close()
        return other

    its_own = loop()
    other = its_own.run_until_complete(leave())
    its_own.close()
    ended(other)
"""
ENDED_LATE_BY_THE_OTHER_SIDE = """
@LOOPS
def test_late(loop):
    async def leave():
        _, other = await connect(OfTheProgram)
        asyncio.get_running_loop().call_later(0.05, other.close)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(leave())
    gc.collect()
"""
FAILS_AS_WELL = """
others = []

async def test_fails():
    others.append((await connect(OfTheProgram))[1])
    raise AssertionError("a fault of its own")

def test_after_it():
    ended(others.pop())
"""


class Run:
    """A run of pytest on these tests: how many passed, which failed in their teardown, and what it printed."""

    def __init__(self, pytester: pytest.Pytester, *tests: str) -> None:
        pytester.makeconftest('pytest_plugins = ("left_open",)')
        pytester.makeini(INI)
        pytester.makepyfile(test_invented=BEGINNING + "".join(tests))
        done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
        self.output = done.stdout.str()
        self.outcomes = done.parseoutcomes()
        self.charged = re.findall(
            r"^ERROR test_invented\.py::(\S+) - Failed: the program left", self.output, re.MULTILINE
        )


@pytest.mark.parametrize(
    ("test", "charged"),
    [
        (OPEN, ["test_open"]),
        (ON_EACH_LOOP, ["test_on_each[asyncio]", "test_on_each[uvloop]"]),
        (OVER_TLS, ["test_tls[asyncio]", "test_tls[uvloop]"]),
        (BARE_LOOP_IN_A_THREAD, ["test_thread[asyncio]", "test_thread[uvloop]"]),
    ],
    ids=["test's loop", "each loop", "TLS", "thread"],
)
def test_what_the_program_forgot_fails_the_test_that_left_it_and_nothing_else_does(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, charged: list[str]
) -> None:
    monkeypatch.setattr(left_open, "PATIENCE", 0.05)
    done = Run(pytester, test.format(kind="OfTheProgram"))
    assert done.charged == charged
    assert "OfTheProgram on <" in done.output
    passed = Run(pytester, test.format(kind="Own"))
    assert passed.charged == []
    assert done.outcomes.pop("errors") == len(charged)
    assert done.outcomes == passed.outcomes
    assert set(passed.outcomes) == {"passed"}


def test_a_connection_that_is_being_closed_is_ended_and_fails_no_test(pytester: pytest.Pytester) -> None:
    assert Run(pytester, CLOSING).outcomes == {"passed": 5}


def test_a_connection_that_the_other_side_ends_late_fails_no_test(pytester: pytest.Pytester) -> None:
    assert Run(pytester, ENDED_LATE_BY_THE_OTHER_SIDE).outcomes == {"passed": 3}


def test_a_test_that_fails_by_itself_says_so_too(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_open, "PATIENCE", 0.05)
    done = Run(pytester, FAILS_AS_WELL)
    assert (done.outcomes, done.charged) == ({"passed": 2, "failed": 1, "errors": 1}, ["test_fails"])
    assert "a fault of its own" in done.output
