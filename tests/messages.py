"""HTTP messages with a fault each, as hypothesis makes them, and how h11 and llhttp read them."""

from dataclasses import dataclass

import h11
import httptools
from hypothesis import strategies as st

from shadowproxy.exchange import Fields


@dataclass(frozen=True)
class Read:
    """One message, as a parser read it. `end` is the offset of the first byte after it, None where it has not come."""

    start: tuple[bytes, ...]
    fields: Fields
    body: bytes
    end: int | None


def read_by_h11(raw: bytes, *, request: bool, to: str = "GET") -> Read:
    """Read one message; an answer is one to the method `to`. Raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.SERVER if request else h11.CLIENT, max_incomplete_event_size=10**6)
    if not request:
        connection.send(h11.Request(method=to, target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    if not request:
        connection.receive_data(b"")  # what an answer that ends with its connection ends by
    head = connection.next_event()
    if head is h11.NEED_DATA:
        return Read((), (), b"", None)
    if isinstance(head, h11.Request):
        start: tuple[bytes, ...] = (head.method, head.target, head.http_version)
    else:
        assert isinstance(head, h11.Response | h11.InformationalResponse)
        start = (b"%d" % head.status_code,)
    fields = tuple((bytes(name), bytes(value)) for name, value in head.headers.raw_items())
    body = b""
    if isinstance(head, h11.InformationalResponse):  # no message of its own to h11, and so without an end
        return Read(start, fields, body, len(raw) - len(connection.trailing_data[0]))
    try:
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError as error:
        if "peer closed connection without" not in str(error) and "peer unexpectedly closed" not in str(error):
            raise
        return Read(start, fields, body, None)
    end = len(raw) - len(connection.trailing_data[0]) if isinstance(event, h11.EndOfMessage) else None
    return Read(start, fields, body, end)


UPGRADE = (b"upgrade",)
"""llhttp gives up on the body of a request that wants an upgrade (httptools issue 124): there is nothing to compare."""


class _Heard:
    """What llhttp calls. It says that a message is complete, never where: hence the bisection in `read_by_llhttp`."""

    def __init__(self) -> None:
        self.target = b""
        self.body = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.in_head = True
        self.complete = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head and not self.complete:
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def read_by_llhttp(raw: bytes, *, request: bool) -> Read:
    """Raises httptools.HttpParserError. `end` is found by feeding byte by byte, which llhttp must cope with anyway."""
    heard = _Heard()
    parser = httptools.HttpRequestParser(heard) if request else httptools.HttpResponseParser(heard)
    for at in range(len(raw)):
        try:
            parser.feed_data(raw[at : at + 1])
        except httptools.HttpParserUpgrade:
            return Read(UPGRADE, (), b"", None)
        if heard.complete:
            if isinstance(parser, httptools.HttpRequestParser):
                start: tuple[bytes, ...] = (parser.get_method(), heard.target, parser.get_http_version().encode())
            else:
                start = (b"%d" % parser.get_status_code(),)
            return Read(start, tuple(heard.fields), heard.body, at + 1)
    return Read((), (), b"", None)


# Messages: mostly right, with everything in them that parsers are known to disagree about.

METHODS = [
    b"GET",
    b"POST",
    b"HEAD",
    b"OPTIONS",
    b"PUT",
    b"DELETE",
    b"M-SEARCH",
    b"PATCHY",
    b"get",
    b"!",
    b"CONNECT",
    b"",
]
TARGETS = [
    *(
        b"/",
        b"/a/../b//c%2F%zz;p=1|q?x=1&x=2??",
        b"/?",
        b"*",
        b"http://h",
        b"http://h:1/p?q",
        b"HTTP://h?q",
        b"https://[::1]/",
    ),
    *(
        b"/\xff",
        b"a",
        b"//h/p",
        b"http://u@h/",
        b"/#f",
        b"http:/x",
        b"",
        b"/a b",
        b"/\x7f",
        b"/\t",
        b"/" + b"a" * 17000,
    ),
]
VERSIONS = [b"HTTP/1.1"] * 8 + [
    b"HTTP/1.0",
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"HTTP/01.1",
    b"",
]
EVIL_FIELDS = [
    *(b"Content-Length: 0", b"Content-Length: 5", b"content-length:5", b"Content-Length: 05", b"Content-Length:\t5 \t"),
    *(
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 0x5",
        b"Content-Length: -1",
        b"Content-Length:",
    ),
    *(
        b"Content-Length: 18446744073709551617",
        b"Content-Length: 5 5",
        b"Content-Length: 1_0",
        b"Content-Length\x00: 5",
    ),
    *(b"Content-Length : 5", b" Content-Length: 5", b"Content-Length: \xb25", b"X: a\r Content-Length: 5"),
    *(
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding:CHUNKED",
        b"Transfer-Encoding: xchunked",
    ),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: \x0bchunked"),
    *(
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: chunked,",
        b"Transfer_Encoding: chunked",
    ),
    *(b"Transfer-Encoding\t: chunked", b"Transfer-Encoding: chu\r\n nked", b'Transfer-Encoding: "chunked"'),
    *(b"Connection: close", b"Connection: keep-alive", b"Connection:", b"Connection: upgrade", b"Upgrade: h2c"),
    *(
        b"Expect: 100-continue",
        b"Host: b",
        b"Host: a/b",
        b"Trailer: x",
        b"TE: trailers",
        b"X: \xff\x80",
        b"X: a\tb",
        b"X:",
    ),
    *(b"X: \x00", b"X: \x7f", b": x", b"X", b"X: a\nY: b", b"X: a\rY: b", b"X\xff: a", b"\x00", b""),
]
HARMLESS_FIELDS = [b"X: 1", b"x: 2", b"Accept: */*", b"Content-Type: text/plain", b"X-Blank:   "]
SIZES = [
    b"5",
    b"5",
    b"5",
    b"05",
    b"5;x",
    b"5;x=y",
    b'5 ;x="a\\"b"',
    b"5;\xff",
    b"0x5",
    b" 5",
    b"5 ",
    b"+5",
    b"5\n",
    b"5\r",
    b"",
    b"g",
]
SIZES += [b"-5", b"5;\x00", b"5;a\nb", b"fffffffffffffffff", b"10000000000000005", b"5" + b";" * 5000]
TRAILERS = [
    b"",
    b"",
    b"",
    b"T: 1\r\n",
    b"Content-Length: 5\r\n",
    b"T : 1\r\n",
    b" T: 1\r\n",
    b"T\r\n",
    b"T: 1\n",
    b"\n",
    b"T: \x00\r\n",
]
EOLS = [b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\n\r"]
BYTES = [b"", b"\x00", b"\r", b"\n", b" ", b":", b"\xff", b"0", b",", b";"]


@st.composite
def chunked_bodies(draw: st.DrawFn) -> bytes:
    body = b""
    for _ in range(draw(st.integers(0, 3))):
        body += draw(st.sampled_from([b"5"] * 10 + SIZES)) + b"\r\n"
        body += draw(st.sampled_from([b"hello"] * 8 + [b"hell", b"hello!"])) + b"\r\n"
    last = draw(st.sampled_from([b"0"] * 8 + [b"000", b"0;x", b"", b"0x0", b" 0"])) + b"\r\n"
    return body + last + draw(st.sampled_from([b""] * 8 + TRAILERS)) + b"\r\n"


@st.composite
def messages(draw: st.DrawFn, start_lines: st.SearchStrategy[bytes], first_field: list[bytes]) -> bytes:
    framed = draw(st.sampled_from([b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X-Frame: none"]))
    fields = [*first_field, framed, *draw(st.lists(st.sampled_from(HARMLESS_FIELDS), max_size=2))]
    if draw(st.booleans()):
        fields.append(draw(st.sampled_from(EVIL_FIELDS)))
    head = b"\r\n".join([draw(start_lines), *draw(st.permutations(fields)), b"", b""])
    plain = st.sampled_from([b"hello", b"hello", b"hell", b""])
    body = draw(
        chunked_bodies() if framed.endswith(b"chunked") == draw(st.sampled_from([True] * 5 + [False])) else plain
    )
    raw = head + body
    # At most one more fault, wherever: what a parser repairs shows best where all the rest is right.
    match draw(st.sampled_from(["none", "none", "end of line", "byte"])):
        case "end of line":
            lines = raw.split(b"\r\n")
            at = draw(st.integers(0, len(lines) - 2))
            lines[at : at + 2] = [lines[at] + draw(st.sampled_from(EOLS)) + lines[at + 1]]
            raw = b"\r\n".join(lines)
        case "byte":
            at = draw(st.integers(0, len(raw) - 1))
            raw = raw[:at] + draw(st.sampled_from(BYTES)) + raw[at + draw(st.integers(0, 1)) :]
    return raw


@st.composite
def request_lines(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"GET", b"POST"] * 20 + METHODS))
    target = draw(st.sampled_from(TARGETS[:2] * 20 + TARGETS))
    blank = draw(st.sampled_from([b" "] * 40 + [b"  ", b"\t"]))
    return method + b" " + target + blank + draw(st.sampled_from([b"HTTP/1.1"] * 40 + VERSIONS))


STATUS_LINES = [b"HTTP/1.1 200 OK"] * 30 + [
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 200",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 404 N\xc3\xb6",
]
STATUS_LINES += [
    b"HTTP/1.1 204 No",
    b"HTTP/1.1 304 Not",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Up",
    b"HTTP/1.1 600 X",
]
STATUS_LINES += [
    b"HTTP/1.1 99 X",
    b"HTTP/1.1 2000 X",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.1  200 OK",
    b"200 OK",
    b"HTTP/1.1 200\tOK",
    b"",
]

requests = messages(request_lines(), [b"Host: a"])
replies = messages(st.sampled_from(STATUS_LINES), [])
