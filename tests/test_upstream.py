"""One endpoint: every transport error has an outcome, and the only retry is the safe one."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from fakes import Origin, Peer, Script, answer, chunked, deaf_port, refusing_port, silent, then_close, then_reset

from shadowproxy.exchange import Field, Outcome
from shadowproxy.serve.upstreams import errors
from shadowproxy.serve.upstreams.endpoint import (
    Endpoint,
    UpstreamError,
    UpstreamResponse,
    as_upstream_error,
)
from shadowproxy.serve.upstreams.pool import Statistics
from shadowproxy.serve.upstreams.retry import IDLE_CLOSE, RESET_CLOSE, was_closed_while_idle
from shadowproxy.serve.upstreams.tls import tls_context

FIELDS: list[Field] = [(b"Host", b"caller")]


ERRORS = [each for each in vars(errors).values() if isinstance(each, type) and each is not errors.TransportError]
EXPECTED = {
    errors.ConnectError: (Outcome.CONNECT_ERROR, "connection_refused"),
    errors.NameFailed: (Outcome.CONNECT_ERROR, "dns_error"),
    errors.ConnectTimeout: (Outcome.CONNECT_ERROR, "connection_timeout"),
    errors.NoRoom: (Outcome.OVERLOAD, "connection_limit_reached"),
    errors.TLSError: (Outcome.TLS_ERROR, "tls_protocol_error"),
    errors.ReadError: (Outcome.INCOMPLETE, "http_response_incomplete"),
    errors.ClosedWhileIdle: (Outcome.INCOMPLETE, "http_response_incomplete"),
    errors.ReadTimeout: (Outcome.TIMEOUT, "http_response_timeout"),
    errors.ProtocolError: (Outcome.PROTOCOL_ERROR, "http_protocol_error"),
}


@pytest.mark.parametrize("words", ["why", "", "two\nlines"])
@pytest.mark.parametrize("kind", ERRORS)
def test_every_transport_error_has_its_outcome_and_one_line(kind: type[Exception], words: str) -> None:
    assert issubclass(kind, errors.TransportError)
    error = as_upstream_error(kind(words))
    assert error is not None
    assert (error.outcome, error.proxy_error) == EXPECTED[kind]
    assert str(error) == {"why": "why", "": kind.__name__, "two\nlines": "two"}[words]


def test_any_other_error_has_no_outcome() -> None:
    assert as_upstream_error(RuntimeError("a defect")) is None


# Asked over real sockets.


async def outcome(endpoint: Endpoint, within: float = 1.0) -> Outcome:
    """What became of a GET that is read to its end; everything else that may be raised fails the test."""
    async with endpoint, asyncio.timeout(within):
        try:
            answering = await endpoint.request("GET", b"/", FIELDS, b"")
            await whole(answering)
        except UpstreamError as error:
            assert endpoint.statistics() == Statistics(open=0, idle=0, uploads=0)
            return error.outcome
    return Outcome.OK


async def whole(answering: UpstreamResponse) -> bytes:
    return b"".join([chunk async for chunk in answering])


async def begun_and_cut(peer: Peer) -> None:
    await peer.request()
    await peer.send(chunked(b"hello")[:-5])


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (answer(), Outcome.OK),
        (silent, Outcome.TIMEOUT),
        (then_close(b""), Outcome.INCOMPLETE),
        (then_reset(b""), Outcome.INCOMPLETE),
        (begun_and_cut, Outcome.INCOMPLETE),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Outcome.PROTOCOL_ERROR),
        (answer().replace(b"200", b"999"), Outcome.PROTOCOL_ERROR),
        (chunked(b"x").replace(b"1\r\n", b"zz\r\n"), Outcome.PROTOCOL_ERROR),
    ],
)
async def test_what_a_server_does_has_its_outcome(script: Script | bytes, expected: Outcome) -> None:
    async with Origin(script) as origin:
        assert await outcome(Endpoint(origin.url, silence=0.05)) == expected


async def test_an_endpoint_out_of_reach_is_a_connect_error_with_the_reason() -> None:
    with refusing_port() as port:
        assert await outcome(Endpoint(f"http://127.0.0.1:{port}")) == Outcome.CONNECT_ERROR
    with deaf_port() as port:
        assert await outcome(Endpoint(f"http://127.0.0.1:{port}", connect_timeout=0.05)) == Outcome.CONNECT_ERROR
    for host in ("no-such-host.invalid", "a" * 64 + ".invalid", "xn--a.invalid"):
        assert await outcome(Endpoint(f"http://{host}"), within=5) == Outcome.CONNECT_ERROR


async def test_an_answer_has_ended_once_its_last_piece_is_taken_and_not_before() -> None:
    gate = asyncio.Event()

    async def halves(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"one two")[:-4])
        await gate.wait()
        await peer.send(b" two")

    async with Origin(halves) as origin, Endpoint(origin.url) as endpoint:
        answering = await endpoint.request("GET", b"/", FIELDS, b"")
        assert (await anext(answering), answering.ended) == (b"one", False)
        gate.set()
        assert (await anext(answering), answering.ended) == (b" two", True)
    async with Origin(begun_and_cut) as origin, Endpoint(origin.url) as endpoint:
        answering = await endpoint.request("GET", b"/", FIELDS, b"")
        with pytest.raises(UpstreamError):
            await whole(answering)
        assert not answering.ended


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, str]:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made, str(tmp_path / "ca.pem")


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(ca: str | None = None, *, cert: str | None = None, verify: bool = True) -> ssl.SSLContext:
    return tls_context(ca=ca, cert=cert, key=None, verify=verify)


async def test_a_certificate_is_checked_against_authority_and_name(authority: tuple[trustme.CA, str]) -> None:
    issuer, ca = authority
    async with Origin(tls=serving(issuer, "127.0.0.1")) as origin:
        assert await outcome(Endpoint(origin.url, tls=trusting(ca))) == Outcome.OK
        assert await outcome(Endpoint(origin.url, tls=trusting())) == Outcome.TLS_ERROR
        assert await outcome(Endpoint(origin.url)) == Outcome.TLS_ERROR
        assert await outcome(Endpoint(origin.url, tls=trusting(verify=False))) == Outcome.OK
    async with Origin(tls=serving(issuer, "another.example")) as origin:
        assert await outcome(Endpoint(origin.url, tls=trusting(ca))) == Outcome.TLS_ERROR


async def test_a_client_certificate_is_shown_where_one_is_asked_for(
    authority: tuple[trustme.CA, str], tmp_path: Path
) -> None:
    issuer, ca = authority
    asking = serving(issuer, "127.0.0.1")
    asking.verify_mode = ssl.CERT_REQUIRED
    issuer.configure_trust(asking)
    own = str(tmp_path / "own.pem")
    issuer.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(own)
    async with Origin(tls=asking) as origin:
        assert await outcome(Endpoint(origin.url, tls=trusting(ca, cert=own))) == Outcome.OK
        # TLS 1.3 lets a client believe that it is connected before the server has refused its missing certificate.
        refused = await outcome(Endpoint(origin.url, tls=trusting(ca)))
        assert refused in (Outcome.TLS_ERROR, Outcome.INCOMPLETE)


def test_a_file_that_is_no_certificate_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        trusting(str(tmp_path / "no.pem"))
    with pytest.raises(FileNotFoundError):
        trusting(str(tmp_path / "missing.pem"))


# Stale connections.


def closing_when_asked_again() -> Script:
    """The first connection ends on its second request; the others stay."""
    first = True

    async def script(peer: Peer) -> None:
        nonlocal first
        ends, first = first, False
        await peer.request()
        await peer.send(answer(b"1"))
        await peer.request()
        if not ends:
            await peer.send(answer(b"2"))

    return script


async def test_a_whole_body_that_met_a_closed_connection_is_sent_once_more() -> None:
    async with Origin(closing_when_asked_again()) as origin, Endpoint(origin.url, retry=True) as endpoint:
        for _ in range(2):
            answering = await endpoint.request("GET", b"/", [*FIELDS, (b"Content-Length", b"2")], b"hi")
            assert await whole(answering) == b"1"
        assert [message.body for message in origin.requests] == [b"hi"] * 3


async def streamed() -> AsyncIterator[bytes]:
    yield b"hi"


@pytest.mark.parametrize("retry", [True, False])
async def test_a_streamed_body_is_never_retried_and_no_body_is_unless_allowed(retry: bool) -> None:
    body = streamed() if retry else b"hi"
    async with Origin(closing_when_asked_again()) as origin, Endpoint(origin.url, retry=retry) as endpoint:
        await whole(await endpoint.request("GET", b"/", FIELDS, b""))
        with pytest.raises(UpstreamError) as raised:
            await endpoint.request("POST", b"/", [*FIELDS, (b"Content-Length", b"2")], body)
        assert raised.value.outcome == Outcome.INCOMPLETE
        assert len(origin.connections) == 1


async def test_a_retry_that_fails_is_not_tried_again() -> None:
    served = 0

    async def script(peer: Peer) -> None:
        nonlocal served
        served += 1
        if served == 1:
            await peer.request()
            await peer.send(answer())
        await peer.request()

    async with Origin(script) as origin, Endpoint(origin.url, retry=True) as endpoint:
        await whole(await endpoint.request("GET", b"/", FIELDS, b""))
        with pytest.raises(UpstreamError):
            await endpoint.request("GET", b"/", FIELDS, b"")
        assert served == 2


# What is sent.


@pytest.mark.parametrize(
    ("url", "host", "sent"),
    [
        ("http://127.0.0.1:{port}", "upstream", b"127.0.0.1:{port}"),
        ("http://127.0.0.1:{port}/base/", "upstream", b"127.0.0.1:{port}"),
        ("http://127.0.0.1:{port}", "preserve", b"caller"),
        ("http://127.0.0.1:{port}", "models.example", b"models.example"),
    ],
)
async def test_the_host_is_the_urls_the_callers_or_a_literal(url: str, host: str, sent: bytes) -> None:
    async with Origin() as origin:
        async with Endpoint(url.format(port=origin.port), host=host) as endpoint:
            await whole(await endpoint.request("GET", b"/", FIELDS, b""))
        assert origin.requests[0].all(b"host") == [sent.replace(b"{port}", b"%d" % origin.port)]


@pytest.mark.parametrize(
    ("base", "target", "sent"),
    [
        ("", b"/a?b", b"/a?b"),
        ("/", b"/a", b"/a"),
        ("/v1", b"/a", b"/v1/a"),
        ("/v1/", b"//a", b"/v1//a"),
        ("/v1", b"*", b"*"),
    ],
)
async def test_a_base_path_goes_before_the_target(base: str, target: bytes, sent: bytes) -> None:
    async with Origin() as origin:
        async with Endpoint(origin.url + base) as endpoint:
            await whole(await endpoint.request("OPTIONS", target, FIELDS, b""))
        assert origin.requests[0].target == sent


# When a retry is safe.


@pytest.mark.parametrize(
    ("method", "since", "reset", "unacknowledged", "expected"),
    [
        ("GET", IDLE_CLOSE, False, False, True),
        ("GET", IDLE_CLOSE, True, False, True),
        ("GET", IDLE_CLOSE * 1.01, True, True, False),
        ("POST", IDLE_CLOSE, False, True, True),
        ("POST", IDLE_CLOSE, False, False, False),
        ("POST", RESET_CLOSE, True, False, True),
        ("POST", RESET_CLOSE * 1.01, True, True, False),
        ("POST", IDLE_CLOSE * 1.01, False, True, False),
    ],
)
def test_a_connection_counts_as_closed_while_idle_only_if_the_server_cannot_have_worked(
    method: str, since: float, reset: bool, unacknowledged: bool, expected: bool
) -> None:
    assert was_closed_while_idle(method, since, reset=reset, unacknowledged=unacknowledged) is expected
