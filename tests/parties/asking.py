"""What each real caller is asked to ask, and how it tells what it was answered.

A plan is lines of `METHOD TARGET FRAMING SIZE`; FRAMING is none, length or chunked, and a body is a JSON string of SIZE
bytes. The callers' own programs (ask.py, ask.mjs, Ask.java, go/ask) send one request after the other over connections
that they keep as they please, and print for each answer `= STATUS`, its fields as `Name: value`, and `. BODY` in
base64; or `! why` where there was none.
"""

import base64
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parties.installed import CALLERS, GO, JAVA, SOURCE, environment


@dataclass(frozen=True, slots=True)
class Ask:
    method: str
    target: str
    framing: str = "none"
    size: int = 0

    @property
    def body(self) -> bytes:
        return b"" if self.framing == "none" else b'"' + b"x" * (self.size - 2) + b'"'

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.framing} {self.size}"


PLAN = (
    Ask("POST", "/echo?first=1", "length", 523),  # a POST first: this is where a client that wants HTTP/2 asks for it
    Ask("POST", "/echo", "chunked", 70_000),
    Ask("GET", "/json?a=1&a=2;b=%2F&&c"),
    Ask("HEAD", "/json"),
    Ask("GET", "/gzip"),
    Ask("GET", "/stream"),
    Ask("GET", "/missing//a/b%20c"),
    Ask("GET", "/moved"),
    Ask("GET", "/nothing"),
    Ask("PUT", "/echo", "length", 1_048_576),
    Ask("DELETE", "/json"),
    Ask("GET", "/until-close"),
    Ask("POST", "/echo?last", "length", 2),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """As the caller told it; `error` is set where it got none."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    error: str = ""


Caller = Callable[[str, tuple[Ask, ...]], list[Answer]]
"""Asks a base URL all of a plan, and says what came back."""


def program(*command: str | Path) -> Caller:
    def ask(url: str, plan: tuple[Ask, ...]) -> list[Answer]:
        lines = "".join(f"{asked}\n" for asked in plan)
        told = subprocess.run(
            [*command, url],
            input=lines,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=300,
            check=False,
        )
        assert told.returncode == 0, told.stderr[-4000:]
        return heard(told.stdout)

    return ask


def heard(told: str) -> list[Answer]:
    answers: list[Answer] = []
    status, fields = 0, list[tuple[str, str]]()
    for line in told.split("\n"):
        if line.startswith("= "):
            status, fields = int(line[2:]), []
        elif line.startswith("."):
            answers.append(Answer(status, tuple(fields), base64.b64decode(line[1:])))
        elif line.startswith("! "):
            answers.append(Answer(0, (), b"", line[2:]))
        elif line:
            name, _, value = line.partition(": ")
            fields.append((name, value))
    return answers


def curl(*options: str) -> Caller:
    """One curl for all of the plan, so that it uses its connections again."""

    def ask(url: str, plan: tuple[Ask, ...]) -> list[Answer]:
        with tempfile.TemporaryDirectory() as directory:
            into = Path(directory)
            command = ["curl", "--disable", "--silent", "--show-error", "--parallel-max", "1"]
            for number, asked in enumerate(plan):
                command += ["--next"] if number else []
                command += [*options, "--path-as-is", "--max-time", "30", "--output", str(into / f"{number}.body")]
                command += ["--dump-header", str(into / f"{number}.head")]
                if asked.framing != "none":
                    (into / f"{number}.sent").write_bytes(asked.body)
                    command += ["--header", "Content-Type: application/json"]
                    command += ["--data-binary", f"@{into / f'{number}.sent'}"]
                if asked.framing == "chunked":
                    command += ["--header", "Transfer-Encoding: chunked"]
                command += ["--head"] if asked.method == "HEAD" else ["--request", asked.method]
                command += [url + asked.target]
            told = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
            assert told.returncode == 0, told.stderr
            return [_from_files(into, number, asked.method) for number, asked in enumerate(plan)]

    return ask


def _from_files(into: Path, number: int, method: str) -> Answer:
    """The last head is the answer's: those before it are interim ones. Asked for a head, curl gives it as content."""
    head = (into / f"{number}.head").read_bytes().decode("latin-1").removesuffix("\r\n\r\n").split("\r\n\r\n")[-1]
    line, *lines = head.split("\r\n")
    body = into / f"{number}.body"
    content = body.read_bytes() if body.exists() and method != "HEAD" else b""
    pairs = [field.partition(": ") for field in lines]
    return Answer(int(line.split(" ")[1]), tuple((name, value) for name, _, value in pairs), content)


def python(library: str) -> Caller:
    return program(CALLERS, SOURCE / "ask.py", library)


def node(library: str) -> Caller:
    return program("node", SOURCE / "ask.mjs", library)


CALLERS_BY_NAME: dict[str, Caller] = {
    "curl": curl(),
    "curl --http2": curl("--http2"),
    "curl --http1.0": curl("--http1.0"),
    "curl with Expect": curl("--header", "Expect: 100-continue"),
    "requests": python("requests"),
    "urllib3": python("urllib3"),
    "aiohttp": python("aiohttp"),
    "httpx": python("httpx"),
    "http.client": python("http.client"),
    "Node's fetch": node("fetch"),
    "node:http": node("http"),
    "undici": node("undici"),
    "JDK": program("java", "-cp", JAVA, "Ask"),
    "Go": program(GO / "ask"),
}
