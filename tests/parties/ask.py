"""Ask what standard input says, with one of Python's HTTP libraries as it comes: `python ask.py LIBRARY URL`.

Runs in the environment that callers.txt describes. Input and output are said in asking.py.
"""

import asyncio
import base64
import http.client
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import httpx
import requests
import urllib3


@dataclass(frozen=True)
class Asked:
    method: str
    url: str
    framing: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.framing == "none" else {"Content-Type": "application/json"}

    def pieces(self) -> Iterator[bytes]:
        third = len(self.body) // 3 + 1
        yield from (self.body[at : at + third] for at in range(0, len(self.body), third))

    def content(self) -> bytes | Iterator[bytes] | None:
        return {"none": None, "length": self.body, "chunked": self.pieces()}[self.framing]


Answer = tuple[int, Iterable[tuple[str, str]], bytes]


def by_requests(plan: list[Asked], tell: Callable[[Answer | Exception], None]) -> None:
    with requests.Session() as session:
        for asked in plan:
            try:
                got = session.request(
                    asked.method,
                    asked.url,
                    headers=asked.headers,
                    data=asked.content(),
                    allow_redirects=False,
                    timeout=30,
                )
                tell((got.status_code, got.raw.headers.items(), got.content))
            except requests.RequestException as error:
                tell(error)


def by_urllib3(plan: list[Asked], tell: Callable[[Answer | Exception], None]) -> None:
    with urllib3.PoolManager() as pool:
        for asked in plan:
            try:
                got = pool.request(
                    asked.method,
                    asked.url,
                    headers=asked.headers,
                    body=asked.content(),
                    redirect=False,
                    retries=False,
                    timeout=30,
                )
                tell((got.status, got.headers.items(), got.data))
            except (urllib3.exceptions.HTTPError, ValueError) as error:
                tell(error)


def by_httpx(plan: list[Asked], tell: Callable[[Answer | Exception], None]) -> None:
    with httpx.Client(timeout=30) as client:
        for asked in plan:
            try:
                got = client.request(asked.method, asked.url, headers=asked.headers, content=asked.content())
                tell((got.status_code, got.headers.multi_items(), got.content))
            except (httpx.HTTPError, ValueError) as error:
                tell(error)


def by_http_client(plan: list[Asked], tell: Callable[[Answer | Exception], None]) -> None:
    connection = http.client.HTTPConnection(urlsplit(plan[0].url).netloc, timeout=30)
    for asked in plan:
        path = asked.url.split("/", 3)[3]
        chunked = asked.framing == "chunked"
        headers = asked.headers | ({"Transfer-Encoding": "chunked"} if chunked else {})
        try:
            connection.request(asked.method, f"/{path}", asked.content(), headers, encode_chunked=chunked)
            got = connection.getresponse()
            tell((got.status, got.getheaders(), got.read()))
        except (http.client.HTTPException, OSError, ValueError) as error:
            connection.close()
            tell(error)


async def by_aiohttp(plan: list[Asked], tell: Callable[[Answer | Exception], None]) -> None:
    async def pieces(asked: Asked) -> AsyncIterator[bytes]:
        for piece in asked.pieces():
            yield piece

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        for asked in plan:
            data = pieces(asked) if asked.framing == "chunked" else asked.content()
            try:
                async with session.request(
                    asked.method, asked.url, headers=asked.headers, data=data, allow_redirects=False
                ) as got:
                    tell((got.status, got.headers.items(), await got.read()))
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                tell(error)


def tell(answer: Answer | Exception) -> None:
    if isinstance(answer, Exception):
        print("!", type(answer).__name__, str(answer).replace("\n", " ").replace("\r", " "))
        return
    status, fields, body = answer
    print("=", status)
    for name, value in fields:
        print(f"{name}: {value}")
    print(".", base64.b64encode(body).decode(), flush=True)


def main() -> None:
    library, base = sys.argv[1:]
    plan = []
    for line in sys.stdin:
        method, target, framing, size = line.split()
        body = b"" if framing == "none" else b'"' + b"x" * (int(size) - 2) + b'"'
        plan.append(Asked(method, base + target, framing, body))
    if library == "aiohttp":
        asyncio.run(by_aiohttp(plan, tell))
    else:
        {"requests": by_requests, "urllib3": by_urllib3, "httpx": by_httpx, "http.client": by_http_client}[library](
            plan, tell
        )


main()
