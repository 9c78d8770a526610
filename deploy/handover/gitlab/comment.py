"""Keeps a report in one note of a GitLab merge request: the first run adds it, later ones change it.

    python3 comment.py REPORT.md [--name shadow]

From the environment of the job: CI_API_V4_URL, CI_PROJECT_ID and CI_MERGE_REQUEST_IID; and SHADOWPROXY_GITLAB_TOKEN, a
project's access token with the scope `api`, as the job's own token may not write notes. The note is known by a hidden
line at its beginning and by its author, the token's own. Nothing but Python's own library is needed.

Exit status 0 if the note stands, or if there is no token or it may not write (protected variables are not given to
pipelines of forks: one line says so); 1 if GitLab did not take it; 2 for a wrong command line.
"""

import argparse
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

LONGEST = 1_000_000
"""Characters of a note."""

TRIES = 4
LONGEST_WAIT = 60.0


class NotAllowed(Exception):
    """The token may not do this."""


class Failed(Exception):
    """GitLab did not do it. The text is one line without the token."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the token to another place."""

    def redirect_request(self, *_: Any) -> None:
        return None


class GitLab:
    """GitLab's REST API, for one merge request."""

    def __init__(self, api: str, project: str, request: str, token: str) -> None:
        self._api = api.rstrip("/")
        self._notes = f"/projects/{project}/merge_requests/{request}/notes"
        self._token = token
        self._opener = urllib.request.build_opener(NoRedirect)

    def author(self) -> int:
        """Whom the token belongs to."""
        user, _ = self._call("GET", "/user")
        return int(user["id"])

    def notes(self) -> Iterator[dict[str, Any]]:
        """All notes of the merge request, the oldest first."""
        page = "1"
        while page:
            found, page = self._call("GET", f"{self._notes}?sort=asc&order_by=created_at&per_page=100&page={page}")
            yield from found

    def add(self, body: str) -> int:
        made, _ = self._call("POST", self._notes, {"body": body})
        return int(made["id"])

    def change(self, note: int, body: str) -> int:
        made, _ = self._call("PUT", f"{self._notes}/{note}", {"body": body})
        return int(made["id"])

    def _call(self, method: str, path: str, body: Any = None) -> tuple[Any, str]:
        """A response's JSON and the number of the next page. Raises NotAllowed and Failed."""
        request = urllib.request.Request(
            self._api + path,
            None if body is None else json.dumps(body).encode(),
            {"PRIVATE-TOKEN": self._token, "User-Agent": "shadowproxy", "Content-Type": "application/json"},
            method=method,
        )
        what = f"{method} {path.partition('?')[0]}"
        for left in reversed(range(TRIES)):
            try:
                with self._opener.open(request, timeout=30) as response:
                    return json.loads(response.read()), response.headers.get("X-Next-Page", "")
            except urllib.error.HTTPError as error:
                status, wait = error.code, error.headers.get("Retry-After", "")
                if status in (403, 404):
                    raise NotAllowed(f"GitLab answers {status} to {what}") from None
                if left and (status == 429 or status >= 500):
                    time.sleep(min(float(wait) if wait.isdigit() else 2.0 ** (TRIES - left), LONGEST_WAIT))
                    continue
                raise Failed(f"GitLab answers {status} to {what}") from None
            except (OSError, ValueError) as error:
                if not left:
                    raise Failed(f"GitLab cannot be asked: {type(error).__name__}") from None
                time.sleep(2.0 ** (TRIES - left))
        raise AssertionError("unreachable")


def keep(gitlab: GitLab, name: str, report: str) -> int:
    """Keep the report in the one note of that name, and give its number. Raises NotAllowed and Failed."""
    marker = f"<!-- shadowproxy report: {name} -->"
    body = fitting(f"{marker}\n{quiet(report)}")
    author = gitlab.author()
    for note in gitlab.notes():
        if (note.get("author") or {}).get("id") == author and (note.get("body") or "").startswith(marker):
            return gitlab.change(note["id"], body)
    return gitlab.add(body)


def quiet(text: str) -> str:
    """The text without mentions and without quick actions: a value in the log must notify nobody and do nothing."""
    text = re.sub(r"@(?=[A-Za-z0-9])", "@\N{WORD JOINER}", text)
    return re.sub(r"(?m)^(\s*)/(?=[A-Za-z])", "\\1\N{WORD JOINER}/", text)


def fitting(body: str) -> str:
    """A body that a note has room for, cut after a line."""
    if len(body) <= LONGEST:
        return body
    end = "\n\n*The report is longer; the rest is in the job's artifacts.*\n"
    return body[: body.rfind("\n", 0, LONGEST - len(end))] + end


def say(message: str) -> None:
    sys.stdout.write(f"{message}\n")


def fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"comment.py: {message}\n")
    sys.exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(prog="comment.py", description="Keep a report in one note of a merge request.")
    parser.add_argument("report", type=Path)
    parser.add_argument("--name", default="shadow", help="tells several reports on one merge request apart")
    given = parser.parse_args()
    if not re.fullmatch(r"[\w.-]{1,60}", given.name):
        parser.error("--name has letters, digits, . _ and - only")
    names = ("CI_API_V4_URL", "CI_PROJECT_ID", "CI_MERGE_REQUEST_IID")
    api, project, request = (os.environ.get(name, "") for name in names)
    if not (api and project and request):
        fail(f"{', '.join(names)} must be set: run it in a pipeline of a merge request", 2)
    try:
        report = given.report.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"cannot read {given.report}: {error.strerror}", 2)
    token = os.environ.get("SHADOWPROXY_GITLAB_TOKEN", "")
    if not token:
        say("Not commented: SHADOWPROXY_GITLAB_TOKEN is not set, as in a pipeline of a fork; see the job's artifacts.")
        return
    try:
        note = keep(GitLab(api, project, request, token), given.name, report)
    except NotAllowed as error:
        say(f"Not commented: this token may not ({error}); see the report in the job's artifacts.")
    except Failed as error:
        fail(str(error), 1)
    else:
        say(f"The report: {os.environ.get('CI_MERGE_REQUEST_PROJECT_URL', '')}/-/merge_requests/{request}#note_{note}")


if __name__ == "__main__":
    main()
