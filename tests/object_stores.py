"""A store in this process that speaks as much of S3 as the tests need, and breaks as a script says."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

import pytest

BUCKET = "bucket"
SECRET = "TOPSECRETKEY"


@dataclass
class ObjectStore:
    """What is in the store by key, and what it does wrong.

    Attributes:
        requests: method and target of each request, in order.
        status: answers each request with this instead.
        cut: how many of the next bodies end after `cut_after` bytes, in the middle.
        ranges: whether it can begin in the middle of an object.
    """

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int | None = None
    cut: int = 0
    cut_after: int = 0
    ranges: bool = True


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    store = ObjectStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def begin(self) -> str | None:
            """The key that is asked for; None if the script has answered."""
            store.requests.append((self.command, self.path))
            store.headers.append({name.lower(): value for name, value in self.headers.items()})
            if store.status is not None:
                self.answer(
                    store.status, b"<Error><Code>AccessDenied</Code><Key>" + SECRET.encode() + b"</Key></Error>"
                )
                return None
            return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").removeprefix("/")

        def answer(self, status: int, body: bytes = b"", **fields: str) -> None:
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            key = self.begin()
            query = parse_qs(urlsplit(self.path).query)
            if key is None:
                return
            if "list-type" in query:
                self.answer(200, listing(query), Content_Type="application/xml")
                return
            content = store.objects.get(key)
            if content is None:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                return
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            if self.headers.get("If-Match", tag) != tag:
                self.answer(412)
                return
            start = 0
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            fields = {"ETag": tag, "Last_Modified": "Sun, 29 Nov 2026 00:00:00 GMT"}
            if asked is not None and store.ranges:
                start = int(asked[1])
                fields["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if self.command == "GET" and store.cut:
                store.cut -= 1
                self.send_response(206 if "Content_Range" in fields else 200)
                for name, value in fields.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start : start + store.cut_after])
                self.close_connection = True
                return
            self.answer(206 if "Content_Range" in fields else 200, content[start:], **fields)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            key = self.begin()
            if key is not None:
                store.objects[key] = body
                self.answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')

        def do_POST(self) -> None:
            """Removes what the body names, as S3 does for several at once."""
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.begin() is None:
                return
            keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
            for key in keys:
                store.objects.pop(unescape(key), None)
            gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self.answer(200, f'<?xml version="1.0"?><DeleteResult>{gone}</DeleteResult>'.encode())

    def listing(query: dict[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        objects, folders = [], set()
        for key, content in sorted(store.objects.items()):
            if not key.startswith(prefix):
                continue
            name, slash, _ = key[len(prefix) :].partition("/")
            if slash and "delimiter" in query:
                folders.add(f"{prefix}{name}/")
            else:
                objects.append((key, len(content)))
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>&quot;x&quot;</ETag>"
            "<LastModified>2026-11-29T00:00:00.000Z</LastModified></Contents>"
            for key, size in objects
        )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders)
        )
        return (
            f'<?xml version="1.0"?><ListBucketResult><Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix>'
            f"<IsTruncated>false</IsTruncated>{contents}{common}</ListBucketResult>"
        ).encode()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, args=(0.02,))
    serving.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def use(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `s3://bucket/` mean this store, and a store that fails be given up at once."""
    from shadowproxy.stores import opening

    for name, value in {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(opening, "_opened", {})
    monkeypatch.setattr(opening, "READING", opening.Patience(1.0, 2.0, 10.0, 1, 5.0, 0.01))
