"""A judge that obeys a script, over a real socket: an OpenAI-compatible chat endpoint with a bias of its own."""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

PROMPT = re.compile(
    r"<<<request (\w+)\n(.*)\nrequest \1>>>\n\n"
    r"<<<answer A \1\n(.*)\nanswer A \1>>>\n\n<<<answer B \1\n(.*)\nanswer B \1>>>",
    re.DOTALL,
)


@dataclass(frozen=True)
class Asked:
    """One call as it came: the texts between the markers, the whole JSON, and the header fields."""

    code: str
    request: str
    a: str
    b: str
    body: dict[str, Any]
    headers: dict[str, str]


Said = str | bytes | Iterator[bytes] | tuple[int, dict[str, str], bytes] | None
"""A text that it says, bytes that it sends instead of a response, a response; None hangs up."""

Script = Callable[[Asked], Said]


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


def better(a: float, b: float) -> str:
    """The decision for the answer of higher worth."""
    return json.dumps({"better": "tie" if a == b else "A" if a > b else "B"})


@dataclass
class FakeJudge:
    """Use as `with`; `url` is its base URL, `asked` all calls so far."""

    script: Script
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                found = PROMPT.search(body["messages"][-1]["content"])
                assert found is not None
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(found[1], found[2], found[3], found[4], body, headers)
                judge.asked.append(asked)
                self.answer(judge.script(asked))

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # the asker has left
                    super().handle()

            def finish(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().finish()

            def answer(self, said: Said) -> None:
                if said is None or isinstance(said, bytes | Iterator):
                    self.close_connection = True
                    for piece in (said or b"",) if said is None or isinstance(said, bytes) else said:
                        self.wfile.write(piece)
                    return
                status, fields, raw = (200, {}, completion(said)) if isinstance(said, str) else said
                self.send_response_only(status)
                for name, value in {"Content-Length": str(len(raw)), **fields}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                """Standard error is the test runner's."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
