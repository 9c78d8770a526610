"""What hands a verdict over: comments on GitHub and GitLab, an alias in MLflow, Argo Rollouts and Flagger.

tests/data/hand_over.json holds the parts of their schemas that are used here.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from parties import installed
from starlette.types import ASGIApp

from shadowproxy.serve.admin.access import Access
from shadowproxy.serve.admin.app import Sources, build
from shadowproxy.serve.standing.answer import WORDS, ShadowVerdict, StandingVerdict, Word

ROOT = Path(__file__).parent.parent
HANDOVER = ROOT / "deploy" / "handover"
PAGE = (ROOT / "docs" / "how-to" / "hand-over.md").read_text()
SCHEMAS = json.loads((ROOT / "tests" / "data" / "hand_over.json").read_text())
TOKEN = "ghs_16C7e42F292c6912E7710c838347Ae178B4a"  # in the form of one
BOT = {"id": 41898282, "login": "github-actions[bot]", "type": "Bot"}
OTHER = {"id": 7, "login": "mona", "type": "User"}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), HANDOVER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GITHUB, GITLAB, MLFLOW = script("github/comment"), script("gitlab/comment"), script("mlflow/promote")


class Fake:
    """A REST API that answers by its rules. `answer` is given a request and gives status, JSON and header fields."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.first: list[tuple[int, Any, dict[str, str]]] = []  # answers before all others
        self.url = ""

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any, dict[str, str]]:
        raise NotImplementedError


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            parts = urlsplit(self.path)
            fake.asked.append((self.command, parts.path, body))
            fake.headers.append({name.lower(): value for name, value in self.headers.items()})
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, value, more = (
                fake.first.pop(0) if fake.first else fake.answer(self.command, parts.path, query, body)
            )
            raw = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Length": str(len(raw)), "Content-Type": "application/json", **more}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = do_PUT = handle_one

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def valid(schema: str, value: Any) -> Any:
    """The value, which must be what GitHub's schema says."""
    whole = {**SCHEMAS["github"], "$ref": f"#/components/schemas/{schema}"}
    jsonschema.Draft4Validator(whole).validate(value)
    return value


class FakeGitHub(Fake):
    """The comments of a pull request. All that it answers is held to GitHub's own schema."""

    def __init__(self, *before: tuple[dict[str, Any], str]) -> None:
        super().__init__()
        self.comments = [self.comment(n, user, body) for n, (user, body) in enumerate(before, 1)]
        self.may_write = True
        self.user: dict[str, Any] | None = None  # None: a workflow's token may not ask

    def comment(self, number: int, user: dict[str, Any], body: str) -> dict[str, Any]:
        at = "https://api.github.com/repos/octo/hello"
        links = ("url html_url followers_url following_url gists_url starred_url subscriptions_url organizations_url "
                 "repos_url events_url received_events_url")  # fmt: skip
        whole = {
            **user,
            "node_id": "MDQ6VXNlcjE=",
            "avatar_url": "https://github.com/images/a.gif",
            "gravatar_id": "",
            "site_admin": False,
            **dict.fromkeys(links.split(), "https://api.github.com/users/x"),
        }
        made = {
            "id": number,
            "node_id": "MDEyOklzc3VlQ29tbWVudDE=",
            "url": f"{at}/issues/comments/{number}",
            "html_url": f"https://github.com/octo/hello/pull/12#issuecomment-{number}",
            "body": body,
            "user": whole,
            "created_at": "2026-01-14T16:00:49Z",
            "updated_at": "2026-01-14T16:00:49Z",
            "issue_url": f"{at}/issues/12",
            "author_association": "NONE",
        }
        return dict(valid("issue-comment", made))

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any, dict[str, str]]:
        refused = valid("basic-error", {"message": "Resource not accessible by integration", "status": "403"})
        if path == "/user":
            return (403, refused, {}) if self.user is None else (200, self.user, {})
        if method == "GET":
            assert path == "/repos/octo/hello/issues/12/comments"
            size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
            rows = self.comments[size * (page - 1) : size * page]
            more = len(self.comments) > size * page
            link = f'<{self.url}{path}?per_page={size}&page={page + 1}>; rel="next", <{self.url}>; rel="last"'
            return 200, rows, {"Link": link} if more else {}
        if not self.may_write:
            return 403, refused, {}
        assert list(body) == ["body"]
        if len(body["body"]) > 65_536:
            return 422, {"message": "Validation Failed"}, {}
        if method == "POST":
            self.comments.append(self.comment(len(self.comments) + 1, self.user or BOT, body["body"]))
            return 201, self.comments[-1], {}
        assert method == "PATCH"
        number = int(path.rpartition("/")[2])
        self.comments[number - 1]["body"] = body["body"]
        return 200, self.comments[number - 1], {}


class FakeGitLab(Fake):
    """The notes of a merge request, as GitLab's Notes API has them (docs.gitlab.com/api/notes)."""

    def __init__(self, *before: tuple[int, str]) -> None:
        super().__init__()
        self.notes = [self.note(n, author, body) for n, (author, body) in enumerate(before, 1)]
        self.may_write = True

    def note(self, number: int, author: int, body: str) -> dict[str, Any]:
        return {
            "id": number,
            "type": None,
            "body": body,
            "author": {"id": author, "username": "project_1_bot", "name": "bot", "state": "active"},
            "created_at": "2026-10-02T09:22:45Z",
            "updated_at": "2026-10-02T10:22:45Z",
            "system": False,
            "noteable_id": 5,
            "noteable_type": "MergeRequest",
            "project_id": 1,
            "noteable_iid": 12,
            "resolvable": False,
            "confidential": False,
            "internal": False,
        }

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any, dict[str, str]]:
        if path == "/user":
            return 200, {"id": 99, "username": "project_1_bot"}, {}
        notes = "/projects/1/merge_requests/12/notes"
        if method == "GET":
            assert path == notes
            assert query["sort"] == "asc"
            size, page = int(query.get("per_page", 20)), int(query.get("page", 1))
            following = str(page + 1) if len(self.notes) > size * page else ""
            return 200, self.notes[size * (page - 1) : size * page], {"X-Next-Page": following}
        if not self.may_write:
            return 403, {"message": "403 Forbidden"}, {}
        assert list(body) == ["body"]
        if method == "POST":
            assert path == notes
            self.notes.append(self.note(len(self.notes) + 1, 99, body["body"]))
            return 201, self.notes[-1], {}
        assert (method, path.rpartition("/")[0]) == ("PUT", notes)
        self.notes[int(path.rpartition("/")[2]) - 1]["body"] = body["body"]
        return 200, self.notes[int(path.rpartition("/")[2]) - 1], {}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    file = tmp_path / "report.md"
    file.write_text("# Shadow report\n\nNOT READY, asks @octo/team\n\n/close\n")
    return file


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def called(module: ModuleType, *words: object, **environment: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["script.py", *map(str, words)])
        monkeypatch.setattr("time.sleep", lambda _: None)
        for name in ("GITHUB_TOKEN", "SHADOWPROXY_GITLAB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status = 0
        try:
            module.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        out, err = capsys.readouterr()
        assert TOKEN not in out + err, "the token is never printed"
        return status, out, err

    return called


def on_github(call: Call, fake: FakeGitHub, report: Path, *words: str) -> tuple[int, str, str]:
    environment = {"GITHUB_API_URL": fake.url, "GITHUB_REPOSITORY": "octo/hello", "GITHUB_TOKEN": TOKEN}
    return call(GITHUB, report, "--number", 12, *words, **environment)


def on_gitlab(call: Call, fake: FakeGitLab, report: Path, **environment: str) -> tuple[int, str, str]:
    job = {"CI_API_V4_URL": fake.url, "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "12"}
    return call(GITLAB, report, **{**job, "SHADOWPROXY_GITLAB_TOKEN": TOKEN, **environment})


# --- GitHub ----------------------------------------------------------------------------------------------------------


def test_the_first_run_adds_a_comment_and_later_ones_change_it(call: Call, report: Path) -> None:
    with serving(FakeGitHub(*[(OTHER, f"comment {n}") for n in range(130)])) as fake:
        assert isinstance(fake, FakeGitHub)
        status, out, _ = on_github(call, fake, report)
        assert (status, "#issuecomment-131" in out) == (0, True)
        report.write_text("READY\n")
        on_github(call, fake, report)
        on_github(call, fake, report, "--name", "nightly")
        on_github(call, fake, report, "--name", "nightly")
    assert len(fake.comments) == 132
    assert fake.comments[130]["body"] == "<!-- shadowproxy report: shadow -->\nREADY\n"
    assert [asked[0] for asked in fake.asked if asked[0] != "GET"] == ["POST", "PATCH", "POST", "PATCH"]
    assert {headers["authorization"] for headers in fake.headers} == {f"Bearer {TOKEN}"}
    assert {headers["x-github-api-version"] for headers in fake.headers} == {"2022-11-28"}


def test_what_somebody_else_writes_with_the_same_line_is_left_alone(call: Call, report: Path) -> None:
    theirs = "<!-- shadowproxy report: shadow -->\nREADY, trust me\n"
    with serving(FakeGitHub((OTHER, theirs))) as fake:
        assert isinstance(fake, FakeGitHub)
        on_github(call, fake, report)
        assert fake.comments[0]["body"] == theirs
        assert fake.comments[1]["user"]["login"] == "github-actions[bot]"
        fake.user = {**OTHER, "login": "a-person-with-a-token"}
        on_github(call, fake, report)
        on_github(call, fake, report)
    assert [comment["user"]["login"] for comment in fake.comments[1:]] == [BOT["login"], "a-person-with-a-token"]


def test_nobody_is_mentioned_by_what_a_log_holds(call: Call, report: Path) -> None:
    with serving(FakeGitHub()) as fake:
        assert isinstance(fake, FakeGitHub)
        on_github(call, fake, report)
    assert not re.search(r"@\w", fake.comments[0]["body"])


def test_a_token_of_a_fork_that_may_not_write_is_one_line_and_no_failure(call: Call, report: Path) -> None:
    with serving(FakeGitHub()) as fake:
        assert isinstance(fake, FakeGitHub)
        fake.may_write = False
        status, out, err = on_github(call, fake, report)
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert "from a fork may only read" in out


def test_a_report_that_is_too_long_is_cut_after_a_line(call: Call, report: Path) -> None:
    report.write_text("a line\n" * 20_000)
    with serving(FakeGitHub()) as fake:
        assert isinstance(fake, FakeGitHub)
        assert on_github(call, fake, report)[0] == 0
    body = fake.comments[0]["body"]
    assert len(body) <= 65_536
    assert body.endswith("a line\n\n*The report is longer; the rest is in the job.*\n")


def test_github_is_asked_again_where_it_is_busy_and_not_where_it_refuses(call: Call, report: Path) -> None:
    with serving(FakeGitHub()) as fake:
        assert isinstance(fake, FakeGitHub)
        fake.first = [(502, {}, {}), (429, {}, {"Retry-After": "1"}), (403, {}, {"Retry-After": "1"})]
        assert on_github(call, fake, report)[0] == 0
        fake.first = [(401, {"message": "Bad credentials"}, {})]
        status, _, err = on_github(call, fake, report)
        assert (status, err) == (1, "comment.py: GitHub answers 401 to GET /user\n")
        fake.first = [(301, {}, {"Location": "http://127.0.0.1:9/elsewhere"})]
        assert "GitHub answers 301" in on_github(call, fake, report)[2], "the token goes nowhere else"
    fake.url = "http://127.0.0.1:9"
    assert on_github(call, fake, report)[2] == "comment.py: GitHub cannot be asked: URLError\n"
    assert call(GITHUB, report, "--number", 12)[0] == 2


def test_the_action_has_only_inputs_that_it_uses_and_puts_none_into_a_script() -> None:
    action = yaml.safe_load((HANDOVER / "github" / "action.yml").read_text())
    text = (HANDOVER / "github" / "action.yml").read_text()
    assert action["runs"]["using"] == "composite"
    for name in action["inputs"]:
        assert f"inputs.{name}" in text
    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "what a pull request can set must not become a part of a script"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "fail", "ends"),
    [(0, "fail", (0, "pass", 0)), (1, "fail", (0, "fail", 1)), (3, "fail", (0, "undecided", 0)),
     (3, "inconclusive", (0, "undecided", 1)), (1, "never", (0, "fail", 0)), (2, "fail", (2, None, None))],
)  # fmt: skip
def test_the_actions_steps_run_and_end_by_the_verdict(tmp_path: Path, status: int, fail: str, ends: Any) -> None:
    steps = yaml.safe_load((HANDOVER / "github" / "action.yml").read_text())["runs"]["steps"]
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@"\nexit {status}\n')
    program.chmod(0o755)
    files = {"GITHUB_OUTPUT": tmp_path / "out", "GITHUB_STEP_SUMMARY": tmp_path / "summary", "RUNNER_TEMP": tmp_path}
    environment = {**os.environ, **{name: str(path) for name, path in files.items()}}
    environment |= {"COMMAND": str(program), "LOG": "a/* b", "OPTIONS": "--since 2d", "FAIL": fail}
    # As GitHub runs them: https://docs.github.com/actions, "shell: bash".
    first = subprocess.run(["bash", "-eo", "pipefail", "-c", steps[0]["run"]], env=environment, check=False)
    assert first.returncode == ends[0]
    if ends[1] is None:
        return
    assert (tmp_path / "out").read_text() == f"result={ends[1]}\n"
    words = (tmp_path / "shadow-report.md").read_text().split("\n")
    assert words[:-1] == ["report", "--markdown", "--since", "2d", "--", "a/*", "b"]
    environment["RESULT"] = ends[1]
    last = subprocess.run(["bash", "-eo", "pipefail", "-c", steps[2]["run"]], env=environment, check=False)
    assert last.returncode == ends[2]


def block(marker: str) -> Any:
    """The YAML block of the page that this test checks."""
    (text,) = re.findall(rf"<!-- tested by test_handing_over.py::{marker} -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    return yaml.safe_load(text)


def test_the_pages_workflow_uses_the_action_as_it_is() -> None:
    workflow = block("test_the_pages_workflow_uses_the_action_as_it_is")
    job = workflow["jobs"]["shadow"]
    used = job["steps"][-1]
    assert used["uses"].endswith("/deploy/handover/github")
    action = yaml.safe_load((HANDOVER / "github" / "action.yml").read_text())
    assert set(used["with"]) <= set(action["inputs"])
    assert {name for name, each in action["inputs"].items() if each.get("required")} <= set(used["with"])
    assert job["permissions"]["pull-requests"] == "write"


# --- GitLab ----------------------------------------------------------------------------------------------------------


def test_the_first_job_adds_a_note_and_later_ones_change_it(call: Call, report: Path) -> None:
    theirs = (7, "<!-- shadowproxy report: shadow -->\nREADY, trust me\n")
    with serving(FakeGitLab(theirs, *[(7, "x")] * 120)) as fake:
        assert isinstance(fake, FakeGitLab)
        status, out, _ = on_gitlab(call, fake, report, CI_MERGE_REQUEST_PROJECT_URL="https://gitlab.com/octo/hello")
        assert (status, out) == (0, "The report: https://gitlab.com/octo/hello/-/merge_requests/12#note_122\n")
        on_gitlab(call, fake, report)
    assert [asked[0] for asked in fake.asked if asked[0] != "GET"] == ["POST", "PUT"]
    assert fake.notes[0]["body"] == theirs[1]
    body = fake.notes[-1]["body"]
    assert not re.search(r"@\w", body)
    assert not re.search(r"(?m)^\s*/close", body), "no quick action"
    assert {headers["private-token"] for headers in fake.headers} == {TOKEN}


def test_a_job_without_a_token_or_whose_token_may_not_write_says_so(call: Call, report: Path) -> None:
    with serving(FakeGitLab()) as fake:
        assert isinstance(fake, FakeGitLab)
        assert "as in a pipeline of a fork" in on_gitlab(call, fake, report, SHADOWPROXY_GITLAB_TOKEN="")[1]
        fake.may_write = False
        status, out, _ = on_gitlab(call, fake, report)
        assert (status, "GitLab answers 403" in out) == (0, True)
        fake.first = [(401, {}, {})]
        assert on_gitlab(call, fake, report)[0] == 1
    assert call(GITLAB, report, CI_API_V4_URL="")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "fails", "ends"), [(0, "1", 0), (1, "1", 1), (3, "1", 0), (3, "1 3", 3), (2, "", 2)]
)
def test_the_gitlab_jobs_script_runs_and_ends_by_the_verdict(
    tmp_path: Path, status: int, fails: str, ends: int
) -> None:
    job = yaml.safe_load((HANDOVER / "gitlab" / "shadow-report.yml").read_text())[".shadow-report"]
    (tmp_path / "shadowproxy").write_text(f'#!/bin/sh\nprintf "%s " "$@"\nexit {status}\n')
    (tmp_path / "shadowproxy").chmod(0o755)
    (tmp_path / "comment.py").write_text("import sys, pathlib\nprint(pathlib.Path(sys.argv[1]).read_text())\n")
    environment = {**os.environ, **job["variables"], "SHADOW_FAILS": fails, "SHADOW_COMMENT": "comment.py"}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    (script,) = job["script"]
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends, done.stderr
    assert ("report --markdown -- shadow-log" in done.stdout) == (status != 2)


def test_the_pages_job_extends_the_one_that_is_there() -> None:
    given = block("test_the_pages_job_extends_the_one_that_is_there")
    there = yaml.safe_load((HANDOVER / "gitlab" / "shadow-report.yml").read_text())
    job = given["shadow report"]
    assert set(job["variables"]) <= set(there[job["extends"]]["variables"])
    folder, _, name = given["include"]["local"].partition("/")
    assert name == "shadow-report.yml"
    assert there[job["extends"]]["variables"]["SHADOW_COMMENT"] == f"{folder}/comment.py"


# --- MLflow ----------------------------------------------------------------------------------------------------------


class FakeSidecar(Fake):
    def __init__(self, **words: str) -> None:
        super().__init__()
        self.words = words

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any, dict[str, str]]:
        shadow = query["shadow"]
        if path != "/verdict" or shadow not in self.words:
            return 404, {"error": "no such shadow"}, {}
        word = self.words[shadow]
        return 200, {"schema": 1, "verdict": word, "shadows": {shadow: {"verdict": word}}}, {}


class Registry:
    """Of MLflow's client, what promoting needs."""

    def __init__(self, **aliases: str) -> None:
        self.aliases = aliases

    def get_model_version(self, name: str, version: str) -> None:
        assert (name, int(version) > 0) == ("fraud", True)

    def get_registered_model(self, name: str) -> "Registry":
        return self

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version


def test_an_alias_is_set_and_the_version_before_it_is_kept() -> None:
    registry = Registry(champion="6")
    assert MLFLOW.promote(registry, "fraud", "7", "champion") == "6"
    assert registry.aliases == {"champion": "7", "champion-before": "6"}
    assert MLFLOW.promote(registry, "fraud", "7", "champion") == "7"
    assert registry.aliases == {"champion": "7", "champion-before": "6"}, "the same version once more changes nothing"


@pytest.mark.parametrize(("word", "status"), [("fail", 1), ("inconclusive", 3), ("no_data", 3)])
def test_nothing_is_promoted_without_a_pass(call: Call, tmp_path: Path, word: str, status: int) -> None:
    model = ("--model", "fraud", "--version", "7", "--shadow", "challenger")
    with serving(FakeSidecar(challenger=word)) as fake, serving(FakeSidecar(challenger="pass")) as other:
        ended, out, _ = call(MLFLOW, *model, "--verdict", other.url, "--verdict", f"{fake.url}/verdict")
        assert (ended, out) == (status, f"challenger: {word}; champion of fraud stays as it is\n")
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"shadows": {"challenger": {"verdict": {"result": word.replace("_", " ")}}}}))
    assert call(MLFLOW, *model, "--report", file)[0] == status


def test_what_tells_no_verdict_is_one_line_and_status_2(call: Call, tmp_path: Path) -> None:
    model = ("--model", "fraud", "--version", "7", "--shadow", "challenger")
    with serving(FakeSidecar(other="pass")) as fake:
        assert "it may have no shadow challenger" in call(MLFLOW, *model, "--verdict", fake.url)[2]
    for words in (("--verdict", "10.0.0.7:9901"), ("--verdict", "http://127.0.0.1:9"), ("--report", tmp_path / "none")):
        status, _, err = call(MLFLOW, *model, *words)
        assert (status, err.count("\n")) == (2, 1)


IN_A_REGISTRY = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient()
client.create_registered_model("fraud")
for number in range(2):
    client.create_model_version("fraud", f"file:///models/{number}")
client.set_registered_model_alias("fraud", "champion", "1")
"""


@pytest.mark.parties_all("trackers")
def test_in_a_real_registry_only_a_pass_moves_the_alias(tmp_path: Path) -> None:
    python = installed.python("trackers")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'registry.db'}"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    assert run("-c", IN_A_REGISTRY).returncode == 0
    show = (
        "from mlflow import MlflowClient; found = MlflowClient().get_registered_model('fraud').aliases; "
        "print({name: str(version) for name, version in found.items()})"
    )
    promote = (str(HANDOVER / "mlflow" / "promote.py"), "--model", "fraud", "--shadow", "challenger")
    with serving(FakeSidecar(challenger="fail")) as fake:
        assert isinstance(fake, FakeSidecar)
        assert run(*promote, "--version", "2", "--verdict", fake.url).returncode == 1
        assert run("-c", show).stdout == "{'champion': '1'}\n"
        fake.words["challenger"] = "pass"
        refused = run(*promote, "--version", "9", "--verdict", fake.url)
        assert (refused.returncode, "the registry refuses it" in refused.stderr) == (2, True)
        done = run(*promote, "--version", "2", "--verdict", fake.url)
    assert done.stdout == "challenger: pass; champion of fraud is version 2 (was 1, kept as champion-before)\n"
    assert "'champion': '2'" in run("-c", show).stdout
    assert "'champion-before': '1'" in run("-c", show).stdout


# --- Argo Rollouts, Flagger ------------------------------------------------------------------------------------------


def strict(schema: Any) -> Any:
    """A schema that refuses keys it does not name, as `kubectl apply` warns of them and the server drops them."""
    if isinstance(schema, dict):
        made = {name: strict(value) for name, value in schema.items()}
        if "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
        return made
    return [strict(each) for each in schema] if isinstance(schema, list) else schema


def template() -> Any:
    return yaml.safe_load((HANDOVER / "argo" / "analysis-template.yaml").read_text())


def test_the_analysis_template_is_one_by_argos_own_schema() -> None:
    jsonschema.validate(template(), strict(SCHEMAS["argo"]))
    broken = template()
    broken["spec"]["metrics"][0]["provider"]["web"]["jsonpath"] = "{$}"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, strict(SCHEMAS["argo"]))


def phase(word: str) -> str:
    """What Argo makes of a measurement, by its `EvaluateResult` (utils/evaluate, v1.9): failure is looked at first."""
    metric = template()["spec"]["metrics"][0]
    holds = {name: bool(eval(metric[name], {"result": word})) for name in ("successCondition", "failureCondition")}
    return "Failed" if holds["failureCondition"] else "Successful" if holds["successCondition"] else "Inconclusive"


@pytest.mark.parametrize(
    ("word", "made"),
    [("pass", "Successful"), ("fail", "Failed"), ("inconclusive", "Inconclusive"), ("no_data", "Inconclusive")],
)
def test_each_word_is_a_phase_of_argos(word: str, made: str) -> None:
    assert phase(word) == made


def test_one_pass_is_enough_and_one_failure_ends_it() -> None:
    """Argo's `assessMetricStatus`: without a count a metric runs until one of its limits is reached."""
    metric = template()["spec"]["metrics"][0]
    assert "count" not in metric
    assert (metric["consecutiveSuccessLimit"], metric["failureLimit"]) == (1, 0)
    assert metric["inconclusiveLimit"] * 60 == 24 * 3600


def test_the_pages_step_gives_the_template_its_arguments() -> None:
    analysis = block("test_the_pages_step_gives_the_template_its_arguments")["steps"][0]["analysis"]
    assert analysis["templates"] == [{"templateName": template()["metadata"]["name"]}]
    assert {each["name"] for each in analysis["args"]} == {each["name"] for each in template()["spec"]["args"]}
    asked = template()["spec"]["metrics"][0]["provider"]["web"]["url"]
    assert set(re.findall(r"\{\{args\.(\w+)\}\}", asked)) == {each["name"] for each in analysis["args"]}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which has Kubernetes' own jsonPath")
@pytest.mark.slow
def test_kubernetes_own_json_path_finds_the_word(tmp_path: Path) -> None:
    """Argo asks client-go's jsonpath, and so does kubectl, without a cluster."""
    body = {"apiVersion": "x/v1", "kind": "V", "metadata": {"name": "x"}, "schema": 1, "verdict": "inconclusive",
            "shadows": {"my.challenger": {"verdict": "inconclusive"}}}  # fmt: skip
    (tmp_path / "body.json").write_text(json.dumps(body))
    path = template()["spec"]["metrics"][0]["provider"]["web"]["jsonPath"]
    words = ["kubectl", "label", "--local", "-f", str(tmp_path / "body.json"), "a=b", "-o", f"jsonpath={path}"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "inconclusive"


def test_flaggers_webhooks_are_ones_by_its_own_schema() -> None:
    hooks = yaml.safe_load((HANDOVER / "flagger" / "canary-webhooks.yaml").read_text())["spec"]["analysis"]["webhooks"]
    jsonschema.validate(hooks, strict(SCHEMAS["flagger_webhooks"]))
    assert [(hook["type"], urlsplit(hook["url"]).query) for hook in hooks] == [
        ("confirm-promotion", "shadow=challenger"),
        ("rollback", "shadow=challenger&when=fail"),
    ]


def admin(**words: Word) -> ASGIApp:
    """The admin server of a sidecar whose standing verdict says these words."""

    class Standing:
        async def verdict(self) -> StandingVerdict:
            shadows = {name: ShadowVerdict(word, "quotes a request", 9, "since") for name, word in words.items()}
            return StandingVerdict("since", "now", shadows=shadows)

    nothing: Any = None
    operated: Any = Standing()
    return build(Sources(operated, nothing, lambda: Access("0.0.0.0", TOKEN), dict, nothing))


PAYLOAD = {
    "name": "podinfo",
    "namespace": "test",
    "phase": "Progressing",
    "checksum": "85d557f47b",
    "metadata": {"a": "b"},
}
"""What Flagger posts: its CanaryWebhookPayload."""


@pytest.mark.parametrize("word", WORDS)
async def test_flagger_promotes_on_a_pass_and_rolls_back_on_a_failure_alone(word: Word) -> None:
    """Flagger goes on at a status up to 202 (its callWebhook), and shows the body of any other."""
    hooks = yaml.safe_load((HANDOVER / "flagger" / "canary-webhooks.yaml").read_text())["spec"]["analysis"]["webhooks"]
    goes_on = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=admin(challenger=word, other="pass"))) as client:
        for hook in hooks:
            told = await client.post(hook["url"], json=PAYLOAD)
            assert told.status_code in (200, 409)
            assert told.json()["verdict"] == word
            assert "quotes a request" not in told.text
            goes_on.append(told.status_code <= 202)
    assert goes_on == [word == "pass", word == "fail"]


async def test_the_gate_is_of_the_worst_shadow_and_knows_its_words() -> None:
    app = admin(one="pass", other="fail")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://any.svc:9901") as client:
        asked = ["", "?when=fail", "?shadow=one", "?shadow=none", "?when=ready", "?words=pass"]
        statuses = [(await client.post(f"/verdict/gate{query}")).status_code for query in asked]
        assert statuses == [409, 200, 200, 404, 400, 400]
        assert (await client.get("/verdict?shadow=one")).json()["verdict"] == "pass", "by any name, without a token"
        assert (await client.get("/verdict/gate")).status_code == 405


async def test_argo_finds_the_word_in_what_a_sidecar_answers() -> None:
    metric = template()["spec"]["metrics"][0]
    url = metric["provider"]["web"]["url"]
    for name, value in (("admin", "http://shadowproxy.default.svc:9901"), ("shadow", "challenger")):
        url = url.replace(f"{{{{args.{name}}}}}", value)
    for word in WORDS:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=admin(challenger=word, other="fail"))) as client:
            told = (await client.get(url)).json()
        assert told["verdict"] == told["shadows"]["challenger"]["verdict"] == word
