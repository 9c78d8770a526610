"""The pages about other projects' servers, followed from their first block to their last, with the real servers."""

import contextlib
import re
import signal
import sysconfig
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from page_blocks import blocks
from page_steps import Reader
from parties import installed, programs
from test_parties_predictive import TRITON, wait_loaded

from shadowproxy import record
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Record


def bin_of(environment: str) -> Path:
    return installed.python(environment).parent


def records(log: Path) -> list[Record]:
    return [entry for entry in record.read([log]) if isinstance(entry, Record)]


def judged_ok(log: Path, shadow: str = "candidate") -> list[Verdict]:
    """The verdicts of a log in which live and the shadow answered everything, and both were compared."""
    verdicts = []
    for entry in records(log):
        if entry.request.method != "POST":
            continue  # a client's request for the schema, or this test's own look whether a server is there
        leg = entry.shadows[shadow]
        assert (entry.live.outcome, entry.live.status, leg.outcome, leg.status) == (Outcome.OK, 200, Outcome.OK, 200)
        assert leg.judgement is not None
        verdicts.append(leg.judgement.verdict)
    return verdicts


@pytest.mark.parties_all("trackers")
def test_the_page_on_mlflow(tmp_path: Path) -> None:
    ready = {"9001": "/ping", "9002": "/ping"}
    with Reader(
        "docs/how-to/mlflow.md",
        tmp_path,
        programs=[bin_of("trackers")],
        ready=ready,
        environment={"MLFLOW_DISABLE_TELEMETRY": "true"},
    ) as page:
        *_, reported = page.follow()
    assert "/predictions/* (class)" in reported
    verdicts = judged_ok(tmp_path / "shadow-log")
    assert (len(verdicts), {*verdicts}) == (100, {Verdict.MATCH, Verdict.MISMATCH})


@pytest.mark.parties_all("kserve")
def test_the_page_on_kserve(tmp_path: Path) -> None:
    ready = {"9001": "/v2/models/late/ready", "9002": "/v2/models/late/ready"}
    with Reader("docs/how-to/kserve.md", tmp_path, programs=[bin_of("kserve")], ready=ready) as page:
        _, reported = page.follow()
    assert "/predictions/*" in reported
    assert "/outputs/0/data" in reported
    assert judged_ok(tmp_path / "shadow-log") == [Verdict.MISMATCH] * 200


@pytest.mark.parties_all("bentoml")
def test_the_page_on_bentoml(tmp_path: Path) -> None:
    with Reader(
        "docs/how-to/bentoml.md", tmp_path, programs=[bin_of("bentoml")], ready={"9001": "/readyz", "9002": "/readyz"},
        environment={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(tmp_path / "bentoml")},
    ) as page:  # fmt: skip
        _, reported = page.follow()
    assert "/scores/*" in reported
    assert len(judged_ok(tmp_path / "shadow-log")) == 100


@pytest.mark.parties_all("triton")
def test_the_page_on_triton(tmp_path: Path) -> None:
    python = installed.python("triton")
    with Reader("docs/how-to/triton.md", tmp_path, programs=[python.parent]) as page:
        environment = {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or ""}
        for name, planted in (("9001", "0"), ("9002", "0.5")):
            port = int(page.ports[name])
            output, url = tmp_path / f"triton-{name}.txt", f"http://127.0.0.1:{port}"
            page.beside(programs.started(TRITON.command(python, port), output, url=url, PLANTED=planted, **environment))
            wait_loaded(url + TRITON.ready, output)
        _, whole, scores = page.follow()
    assert "/outputs/" in whole
    assert "/outputs/2/data/*" in scores
    assert len(judged_ok(tmp_path / "shadow-log")) == 100


@pytest.mark.parties_all("llamacpp", "callers")
def test_the_page_on_openai_compatible_servers(tmp_path: Path) -> None:
    python = installed.python("llamacpp")
    with Reader("docs/how-to/openai-compatible.md", tmp_path, programs=[bin_of("callers")]) as page:
        for name in ("9001", "9002"):
            port = page.ports[name]
            output, url = tmp_path / f"llama-{name}.txt", f"http://127.0.0.1:{port}"
            command = [str(python), str(installed.SOURCE / "llama_server.py"), port, "1", "chat"]
            page.beside(programs.started(command, output, url=url))
            wait_loaded(f"{url}/health", output)
        asked, reported = page.follow()
    assert len(asked.splitlines()) >= 2
    assert "candidate" in reported
    assert judged_ok(tmp_path / "shadow-log") == [Verdict.IGNORED] * 2  # the names of the models


class Model(BaseHTTPRequestHandler):
    """Answers every request with one score."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "14")
        self.end_headers()
        self.wfile.write(b'{"score": 0.5}')

    def log_message(self, format: str, *args: object) -> None:
        """Standard error is the test runner's."""


class Quiet(ThreadingHTTPServer):
    """Says nothing of connections that a killed proxy has reset."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def answering(port: int) -> Iterator[None]:
    with Quiet(("127.0.0.1", port), Model) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield
        server.shutdown()


def ask(port: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/predict", b"{}", timeout=30) as answer:
        status: int = answer.status
        return status


@pytest.mark.soak
def test_the_page_on_envoy_and_a_proxy_that_is_killed(tmp_path: Path) -> None:
    with Reader(
        "docs/how-to/envoy.md", tmp_path, programs=[bin_of("envoy")],
        changes={"envoy -c envoy.yaml": "envoy -c envoy.yaml --concurrency 1 --disable-hot-restart"},
    ) as page:  # fmt: skip
        for name in ("9001", "9002"):
            page.beside(answering(int(page.ports[name])))
        _, asked, reported = page.follow()
        assert "x-request-id" in asked
        assert "shadow candidate" in reported
        page.stop("shadowproxy serve", signal.SIGKILL)
        statuses = [ask(page.ports["10000"]) for _ in range(100)]
    assert statuses == [200] * 100
    assert {*judged_ok(tmp_path / "shadow-log")} == {Verdict.MATCH}


SIGNED_FOR = "runtime.sagemaker.eu-west-1.amazonaws.com"


@pytest.mark.soak
def test_the_page_on_sagemaker(tmp_path: Path) -> None:
    far = [str(installed.CALLERS), str(installed.SOURCE / "sagemaker.py"), "serve"]
    with programs.started(far, tmp_path / "far.txt") as runtime:
        port = runtime.url.rpartition(":")[2]
        text = (installed.ROOT / "docs/how-to/sagemaker.md").read_text()
        tls = text[text.index("      transport_socket:") : text.index("```\n\n<!-- run in the background -->")]
        changes = {
            f'live: {{url: "https://{SIGNED_FOR}"}}': f'live: {{url: "{runtime.url}", host: {SIGNED_FOR}}}',
            f"address: {SIGNED_FOR}, port_value: 443": f"address: 127.0.0.1, port_value: {port}",
            "envoy -c signing.yaml": "envoy -c signing.yaml --concurrency 1 --disable-hot-restart",
            tls: "",
        }
        signing = {
            "AWS_ACCESS_KEY_ID": "AKIAOFTHETEST0000000",
            "AWS_SECRET_ACCESS_KEY": "the-test's-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        with Reader(
            "docs/how-to/sagemaker.md", tmp_path, programs=[bin_of("callers"), bin_of("envoy")], changes=changes,
            environment=signing,
        ) as page:  # fmt: skip
            asked, _ = page.follow()
    assert asked == '{"predictions": [0.5]}\n'
    assert {*judged_ok(tmp_path / "shadow-log")} == {Verdict.MATCH}
    assert "AKIAOFTHETEST" not in "".join(each.read_text() for each in (tmp_path / "shadow-log").glob("[!.]*"))


@pytest.mark.soak
def test_the_tutorial_on_fastapi(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(installed.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    changes = {"uvicorn service": "python -m uvicorn service", "uvicorn mirrored": "python -m uvicorn mirrored"}
    with Reader(
        "docs/tutorials/fastapi.md", tmp_path, programs=[bin_of("incode")], changes=changes, environment=environment
    ) as page:
        _, in_front, _, behind, _, in_code = page.follow()
    for reported in (in_front, behind, in_code):
        assert "/minutes (number)" in reported
    _, _, furthest = (tmp_path / "report.html").read_text().partition("numbers furthest apart</h3>")
    hours = [int(hour) for hour in re.findall(r"&quot;hour&quot;:\s*(\d+)", furthest)]
    assert hours
    assert min(hours) > 17
    assert len(judged_ok(tmp_path / "behind-log")) == 100
    said = "".join(file.read_text() for file in tmp_path.glob("said-*.txt"))
    assert '127.0.0.1:0 - "POST /predict' in said  # uvicorn's client where X-Forwarded-For says it


@pytest.mark.soak
def test_the_tutorial_on_a_first_shadow(tmp_path: Path) -> None:
    with Reader("docs/tutorials/first-shadow.md", tmp_path) as page:
        for block in blocks(page.page):
            if "X-Request-ID: second" in block.text:
                page.stop("shadowproxy demo shadow")
            page.do(block)
    asked, first, sent, reported, again, second = page.outputs
    assert "X-Request-ID: first" in asked
    assert asked.endswith(again)  # live's answer, whatever became of the candidate
    assert "on time" in first
    assert "late" in first
    assert "2,000" in sent + reported
    assert "/instances/*/dep_delay" in reported
    assert "connect_error" in second
