"""Posts a change of a shadow's word to a webhook, as JSON or in the form that Slack takes.

1. Changes are posted in their order, each once: it is noted in the history as soon as it was accepted. A post that
   failed is tried again at the next look. A watcher that is killed between the two posts it again, with the same `id`.
2. Only 2xx is accepted. No redirect is followed. 429, 5xx and broken connections are retried a few times at once.
3. The URL is a secret: no message has more of it than its host.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import httpx

from shadowproxy.compare.report.history import HEADLINE_OF, Change, Look

Form: TypeAlias = Literal["json", "slack"]

AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same post may be accepted."""

_PAUSES: Final = (1.0, 2.0, 4.0)  # seconds before each repetition
_LONGEST_PAUSE: Final = 30.0
_TIMEOUT: Final = 10.0
_SLACK_HOSTS: Final = ("hooks.slack.com", "hooks.slack-gov.com")


class PostError(Exception):
    """A post that was not accepted. The text is one line and does not show the URL."""


def form_of(url: str) -> Form:
    """The form that a webhook takes, by its address: Slack's own hosts, and addresses that end in /slack (Discord)."""
    parts = urlsplit(url)
    return "slack" if parts.hostname in _SLACK_HOSTS or parts.path.rstrip("/").endswith("/slack") else "json"


def host_of(url: str) -> str:
    """A webhook as messages show it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where changes are posted. `pause` waits; it returns True where the program is to stop."""

    url: str = field(repr=False)
    form: Form
    pause: Callable[[float], bool]

    def post(self, look: Look, change: Change) -> None:
        """Post one change. Raises PostError."""
        body = message(look, change) if self.form == "json" else slack_message(look, change)
        why = ""
        with httpx.Client(timeout=_TIMEOUT, follow_redirects=False) as client:
            for wait in (*_PAUSES, None):
                try:
                    answer = client.post(self.url, json=body, headers={"Idempotency-Key": change["id"]})
                except httpx.HTTPError as error:
                    why = type(error).__name__
                else:
                    if answer.is_success:
                        return
                    why = f"it answers {answer.status_code}"
                    if answer.status_code not in AGAIN:
                        break
                    wait = _asked_for(answer, wait)
                if wait is None or self.pause(wait):
                    break
        raise PostError(f"{host_of(self.url)} did not accept that {said(change)}: {why}; the next look tries again")


def _asked_for(answer: httpx.Response, wait: float | None) -> float | None:
    asked = answer.headers.get("retry-after", "")
    if wait is None or not asked.isdigit():
        return wait
    return float(asked) if float(asked) <= _LONGEST_PAUSE else None


def said(change: Change) -> str:
    return f"{change['shadow']} is {HEADLINE_OF[change['to']]}"


def message(look: Look, change: Change) -> dict[str, Any]:
    """A change as JSON."""
    seen = look["shadows"].get(change["shadow"])
    return {
        "schema": 1,
        "id": change["id"],
        "at": look["at"],
        "shadow": change["shadow"],
        "verdict": change["to"],
        "was": change["from"],
        "headline": HEADLINE_OF[change["to"]],
        "sentence": "" if seen is None else seen["sentence"],
        "n": 0 if seen is None else seen["n"],
        "checks": {} if seen is None else seen["checks"],
    }


def slack_message(look: Look, change: Change) -> dict[str, Any]:
    """A change as Slack takes it: one text, in which three characters must be escaped."""
    seen = look["shadows"].get(change["shadow"])
    text = f"{said(change)} (was {HEADLINE_OF[change['from']]})"
    if seen is not None and seen["sentence"]:
        text += f": {seen['sentence']}"
    for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, name)
    return {"text": text}
