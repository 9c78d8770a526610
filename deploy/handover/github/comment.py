"""Keeps a report in one comment of a GitHub pull request: the first run adds it, later ones change it.

    python3 comment.py REPORT.md --number 12 [--name shadow]

From the environment: GITHUB_TOKEN (needs `pull-requests: write`), GITHUB_REPOSITORY, and GITHUB_API_URL where it is not
github.com. The comment is known by a hidden line at its beginning and by its author, the token's own: what somebody
else writes with the same line is left alone. Nothing but Python's own library is needed.

Exit status 0 if the comment stands, or if this token may not write one (that of a pull request from a fork may only
read: one line says so); 1 if GitHub did not take it; 2 for a wrong command line.
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

LONGEST = 65_536
"""Characters of a comment: GitHub refuses more with 422."""

ACTIONS = "github-actions[bot]"
"""Who writes with the token of a workflow, which may not ask who it is."""

TRIES = 4
LONGEST_WAIT = 60.0


class NotAllowed(Exception):
    """The token may not do this."""


class Failed(Exception):
    """GitHub did not do it. The text is one line without the token."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the token to another place."""

    def redirect_request(self, *_: Any) -> None:
        return None


class GitHub:
    """GitHub's REST API, for one repository."""

    def __init__(self, api: str, repository: str, token: str) -> None:
        self._api = api.rstrip("/")
        self._repository = repository
        self._token = token
        self._opener = urllib.request.build_opener(NoRedirect)

    def author(self) -> str:
        """Who the token writes as."""
        try:
            user, _ = self._call("GET", "/user")
        except NotAllowed:
            return ACTIONS
        return str(user["login"])

    def comments(self, number: int) -> Iterator[dict[str, Any]]:
        """All comments of a pull request, the oldest first."""
        path: str | None = f"/repos/{self._repository}/issues/{number}/comments?per_page=100"
        while path is not None:
            found, link = self._call("GET", path)
            yield from found
            following = re.search(r'<([^>]+)>; rel="next"', link)
            path = following[1].removeprefix(self._api) if following else None

    def add(self, number: int, body: str) -> str:
        made, _ = self._call("POST", f"/repos/{self._repository}/issues/{number}/comments", {"body": body})
        return str(made["html_url"])

    def change(self, comment: int, body: str) -> str:
        made, _ = self._call("PATCH", f"/repos/{self._repository}/issues/comments/{comment}", {"body": body})
        return str(made["html_url"])

    def _call(self, method: str, path: str, body: Any = None) -> tuple[Any, str]:
        """A response's JSON and its `Link`. Raises NotAllowed and Failed."""
        request = urllib.request.Request(
            self._api + path,
            None if body is None else json.dumps(body).encode(),
            {
                "Authorization": f"Bearer {self._token}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
                "User-Agent": "shadowproxy",
                "Content-Type": "application/json",
            },
            method=method,
        )
        what = f"{method} {path.partition('?')[0]}"
        for left in reversed(range(TRIES)):
            try:
                with self._opener.open(request, timeout=30) as response:
                    return json.loads(response.read()), response.headers.get("Link", "")
            except urllib.error.HTTPError as error:
                status, wait = error.code, error.headers.get("Retry-After", "")
                limited = status == 429 or (status == 403 and bool(wait))
                if status in (403, 404) and not limited:
                    raise NotAllowed(f"GitHub answers {status} to {what}") from None
                if left and (limited or status >= 500):
                    time.sleep(min(float(wait) if wait.isdigit() else 2.0 ** (TRIES - left), LONGEST_WAIT))
                    continue
                raise Failed(f"GitHub answers {status} to {what}") from None
            except (OSError, ValueError) as error:
                if not left:
                    raise Failed(f"GitHub cannot be asked: {type(error).__name__}") from None
                time.sleep(2.0 ** (TRIES - left))
        raise AssertionError("unreachable")


def keep(github: GitHub, number: int, name: str, report: str) -> str:
    """Keep the report in the one comment of that name, and give its address. Raises NotAllowed and Failed."""
    marker = f"<!-- shadowproxy report: {name} -->"
    body = fitting(f"{marker}\n{quiet(report)}")
    author = github.author()
    for comment in github.comments(number):
        user = comment.get("user") or {}
        if user.get("login") == author and (comment.get("body") or "").startswith(marker):
            return github.change(comment["id"], body)
    return github.add(number, body)


def quiet(text: str) -> str:
    """The text without mentions: a value in the log that begins with @ must notify nobody."""
    return re.sub(r"@(?=[A-Za-z0-9])", "@\N{WORD JOINER}", text)


def fitting(body: str) -> str:
    """A body that a comment has room for, cut after a line."""
    if len(body) <= LONGEST:
        return body
    end = "\n\n*The report is longer; the rest is in the job.*\n"
    return body[: body.rfind("\n", 0, LONGEST - len(end))] + end


def say(message: str) -> None:
    sys.stdout.write(f"{message}\n")


def fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"comment.py: {message}\n")
    sys.exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(prog="comment.py", description="Keep a report in one comment of a pull request.")
    parser.add_argument("report", type=Path)
    parser.add_argument("--number", type=int, required=True, help="of the pull request")
    parser.add_argument("--name", default="shadow", help="tells several reports on one pull request apart")
    given = parser.parse_args()
    if not re.fullmatch(r"[\w.-]{1,60}", given.name):
        parser.error("--name has letters, digits, . _ and - only")
    token, repository = os.environ.get("GITHUB_TOKEN", ""), os.environ.get("GITHUB_REPOSITORY", "")
    if not token or not repository:
        fail("GITHUB_TOKEN and GITHUB_REPOSITORY must be set", 2)
    try:
        report = given.report.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"cannot read {given.report}: {error.strerror}", 2)
    github = GitHub(os.environ.get("GITHUB_API_URL") or "https://api.github.com", repository, token)
    try:
        address = keep(github, given.number, given.name, report)
    except NotAllowed as error:
        say(
            f"Not commented: this token may not ({error}). That of a pull request from a fork may only read; "
            "give the job `pull-requests: write`, or read the report in the job's summary."
        )
    except Failed as error:
        fail(str(error), 1)
    else:
        say(f"The report: {address}")


if __name__ == "__main__":
    main()
