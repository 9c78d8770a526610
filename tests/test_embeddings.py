"""`shadowproxy report --embeddings`, with scripted endpoints over real sockets: what is sent, and what comes of it."""

import json
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from test_engines import line
from test_judge import chat, question

from shadowproxy import cli
from shadowproxy.compare.fold.summary import save, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.judge.embeddings import TEXTS_A_CALL, Embeddings, embeddings_address
from shadowproxy.judge.meaning import LONGEST

Run = Callable[..., tuple[int, str, str]]
Script = Callable[[list[str]], tuple[int, dict[str, str], bytes]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, which does not wait before it calls again."""
    whole = Embeddings.__init__
    monkeypatch.setattr(
        Embeddings, "__init__", lambda self, url, model, key: whole(self, url, model, key, lambda seconds: None)
    )
    for name in ("SHADOWPROXY_EMBEDDINGS_KEY", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shadowproxy", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return command


class Asked:
    """An endpoint: its base URL, and all calls so far with their header fields."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[dict[str, Any], dict[str, str]]] = []

    @property
    def texts(self) -> list[str]:
        return [text for body, _ in self.calls for text in body["input"]]


@contextmanager
def serving(script: Script) -> Iterator[Asked]:
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.calls.append((body, {name.lower(): value for name, value in self.headers.items()}))
            status, fields, raw = script(body["input"])
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(raw)), **fields}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            """Standard error is the test runner's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    asked.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def by_angle(texts: list[str]) -> tuple[int, dict[str, str], bytes]:
    """Embeddings at the angle, in degrees, that a text ends with; in the reverse order, as the index says."""
    vectors = [math.radians(float(text.rpartition(" ")[2])) for text in texts]
    data = [{"index": at, "embedding": [math.cos(each), math.sin(each)]} for at, each in enumerate(vectors)]
    return 200, {}, json.dumps({"object": "list", "data": data[::-1]}).encode()


def failing(status: int, body: Any, fields: dict[str, str] | None = None) -> Script:
    return lambda texts: (status, fields or {}, json.dumps(body).encode())


def written(file: Path, pairs: list[tuple[str, str]]) -> Path:
    """A log of chats, from the texts of live's and the shadow's answers."""
    file.write_bytes(b"".join(line(n, chat(one), chat(other), question(n)) for n, (one, other) in enumerate(pairs)))
    return file


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """30 equal pairs, 20 at an angle of 60 degrees, and 10 at a right angle."""
    pairs = [("the same 0", "the same 0")] * 30 + [("one 0", "other 60")] * 20 + [("one 10", "other 100")] * 10
    return written(tmp_path / "log.jsonl", pairs)


def meaning_of(out: str) -> Any:
    (shadow,) = json.loads(out)["shadows"].values()
    return shadow["language"]["meaning"]


def test_the_cosines_of_texts_come_out_exactly(run: Run, log: Path) -> None:
    with serving(by_angle) as asked:
        _, out, err = run("report", log, "--json", "--embeddings", asked.url, "--embeddings-model", "m")
    found = meaning_of(out)
    assert (found["pairs"], found["drawn"], found["equal"], found["failed"]) == (60, 60, 30, None)
    assert found["mean"] == pytest.approx((30 + 20 * 0.5) / 60)
    assert found["quantiles"] == {
        "p1": pytest.approx(0, abs=1e-9),
        "p10": pytest.approx(0, abs=1e-9),
        "p50": pytest.approx(0.75),
        "p90": 1.0,
    }
    assert sorted(asked.texts) == sorted(["one 0", "other 60"] * 20 + ["one 10", "other 100"] * 10)
    assert all(body["model"] == "m" and len(body["input"]) <= TEXTS_A_CALL for body, _ in asked.calls)
    assert "authorization" not in asked.calls[0][1]
    assert "sending the texts of 60 pairs of answers" in err


@pytest.mark.parametrize("form", [(), ("--markdown",), ("--html", "page.html")])
def test_every_form_shows_them(run: Run, log: Path, form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(log.parent)
    with serving(by_angle) as asked:
        _, out, _ = run("report", log, *form, "--embeddings", asked.url, "--embeddings-model", "m")
    text = Path("page.html").read_text() if "--html" in form else out
    assert "cosine, mean" in text
    assert "0.667" in text
    assert "30 were equal" in text


def test_without_the_option_nothing_is_sent_and_nothing_said(run: Run, log: Path) -> None:
    _, out, err = run("report", log, "--json")
    assert meaning_of(out) is None
    assert "sending" not in err


def test_the_same_few_pairs_are_drawn_every_time_and_long_texts_are_cut(run: Run, tmp_path: Path) -> None:
    long = "x" * 20_000
    log = written(tmp_path / "log.jsonl", [(f"{n} 0", f"{n} {long} 60") for n in range(50)])
    texts = []
    for _ in range(2):
        with serving(lambda texts: by_angle(["0"] * len(texts))) as asked:
            words = ("--embeddings", asked.url, "--embeddings-model", "m", "--embeddings-pairs", 5)
            _, out, _ = run("report", log, "--json", *words)
        assert (meaning_of(out)["pairs"], meaning_of(out)["drawn"], meaning_of(out)["mean"]) == (50, 5, 1.0)
        texts.append(asked.texts)
    assert texts[0] == texts[1]
    assert len(texts[0]) == 10
    assert max(map(len, texts[0])) == LONGEST


def test_the_key_is_sent_and_never_shown(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADOWPROXY_EMBEDDINGS_KEY", "sk-secret")
    with serving(failing(401, {"error": {"message": "no such key: sk-secret\x1b[31m"}})) as asked:
        _, out, err = run("report", log, "--json", "--embeddings", asked.url, "--embeddings-model", "m")
    assert asked.calls[0][1]["authorization"] == "Bearer sk-secret"
    assert meaning_of(out)["failed"].startswith("it answers 401: no such key: [key]")
    assert "sk-secret" not in out + err
    assert "\x1b" not in out + err


@pytest.mark.parametrize(
    ("script", "why", "calls"),
    [
        (failing(404, {"error": "no such model"}), "it answers 404: no such model", 1),
        (failing(503, ["busy"]), "it answers 503", 3),
        (failing(302, {}, {"Location": "http://127.0.0.1:9/"}), "it answers 302", 1),
        (failing(200, {"data": []}), "its reply is no list of embeddings, one for each text", 1),
        (failing(200, ["a"]), "its reply is no list of embeddings, one for each text", 1),
        (failing(200, {"data": [{"embedding": "AAAA"}] * 16}), "an embedding that is no array of numbers", 1),
        (failing(200, {"data": [{"embedding": [0.0]}] * 16}), "several dimensions, or no length", 4),
        (lambda texts: (200, {}, b"\x80" * 40), "its reply is no list of embeddings, one for each text", 1),
        (lambda texts: (200, {"Content-Encoding": "gzip"}, b"a"), "its reply is compressed", 1),
        (lambda texts: (200, {"Content-Length": "900"}, b"{"), "it cannot be asked", 1),
    ],
)
def test_an_endpoint_that_fails_is_told_in_the_report_which_is_made_all_the_same(
    run: Run, log: Path, script: Script, why: str, calls: int
) -> None:
    with serving(script) as asked:
        _, out, _ = run("report", log, "--json", "--embeddings", asked.url, "--embeddings-model", "m")
        found = meaning_of(out)
        assert why in found["failed"]
        assert (found["mean"], len(asked.calls)) == (None, calls)
        _, text, _ = run("report", log, "--embeddings", asked.url, "--embeddings-model", "m")
    assert f"No cosines: m at {asked.url}/embeddings: " in text


def test_an_endpoint_that_is_not_there_is_told(run: Run, log: Path) -> None:
    with serving(by_angle) as asked:
        pass
    _, out, _ = run("report", log, "--json", "--embeddings", asked.url, "--embeddings-model", "m")
    assert meaning_of(out)["failed"].startswith("it cannot be asked: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--embeddings", "http://127.0.0.1:9/v1"), "--embeddings and --embeddings-model must be given together"),
        (("--embeddings-model", "m"), "--embeddings and --embeddings-model must be given together"),
        (("--embeddings", "ftp://x", "--embeddings-model", "m"), "it is no http or https URL"),
        (("--embeddings", "http://u:p@x/v1", "--embeddings-model", "m"), "give the key in SHADOWPROXY_EMBEDDINGS_KEY"),
        (("--embeddings", "http://127.0.0.1:9", "--embeddings-model", " "), "--embeddings-model: it is empty"),
    ],
)
def test_wrong_options_end_with_one_line(run: Run, log: Path, words: tuple[str, ...], said: str) -> None:
    status, out, err = run("report", log, *words)
    assert (status, out) == (2, "")
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_what_has_no_texts_is_refused_and_nothing_is_sent(run: Run, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    saved.write_bytes(save(summarise([], Rules())))
    with serving(by_angle) as asked:
        words = ("--embeddings", asked.url, "--embeddings-model", "m")
        status, _, err = run("report", saved, *words)
        assert status == 2
        assert "is a summary, which has no answers" in err
        status, _, err = run("report", "-", *words)
        assert status == 2
        assert "reads the log twice" in " ".join(err.split())
    assert asked.calls == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1/embeddings"),
        ("http://127.0.0.1:11434/v1/", "http://127.0.0.1:11434/v1/embeddings"),
        ("http://h/openai/v1/embeddings?api-version=1", "http://h/openai/v1/embeddings?api-version=1"),
    ],
)
def test_the_address(text: str, address: str) -> None:
    assert embeddings_address(text) == address
