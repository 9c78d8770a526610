"""Asks an OpenAI-compatible chat endpoint, and gives the text of its reply or one line on why there is none.

1. Every request to it is a call and is counted before it is sent, repeats as well.
2. A reply is bounded in time as a whole, so a server that sends a byte a minute ends no later than a silent one, and in
   bytes. A redirect is not followed: the request holds data of users, and the key is meant for one origin.
3. What a server says stands in a message only cleaned, shortened and without the key.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self

import httpx
import orjson

from shadowproxy.judge.api import AGAIN, address, cleaned, message_in, shown_address
from shadowproxy.judge.prompt import Messages

LARGEST_REPLY: Final = 1 << 20
"""Bytes of a whole reply."""

_FATAL: Final = {
    401: "it does not accept the key",
    403: "it does not allow this key to ask",
    404: "there is no such address or model",
    405: "it takes no POST there",
}
"""Statuses that every further call would get as well."""

_MOST_AGAIN: Final = 3
_LONGEST_WAIT: Final = 60.0  # seconds before a repeated call, whatever Retry-After says


class JudgeStopped(Exception):
    """No further call makes sense. The text is one line."""


class CallFailed(Exception):
    """A call without a usable reply. The text is one line."""


class BudgetSpent(Exception):
    """There is no call left."""


@dataclass(slots=True)
class Calls:
    """How many calls may be made, and how many were."""

    most: float = math.inf
    made: int = 0

    def take(self) -> None:
        """Count a call. Raises BudgetSpent if there is none left."""
        if self.made >= self.most:
            raise BudgetSpent
        self.made += 1


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask: `url` is the whole address, `timeout` in seconds is for a whole reply."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    max_tokens: int = 1024

    @property
    def origin(self) -> str:
        """The address as it may be shown and kept: without its query, which may hold a key."""
        return shown_address(self.url)


def chat_address(text: str) -> str:
    """The address of the chat completions, from it or from the base URL of its API. Raises ValueError."""
    return address(text, "/chat/completions", "SHADOWPROXY_JUDGE_KEY")


class Endpoint:
    """The judge's endpoint. Owns its connections; use as `async with`. `sleep` waits before a repeated call."""

    def __init__(self, target: Target, calls: Calls, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._target = target
        self._calls = calls
        self._sleep = sleep
        self._merged = False  # some models refuse a message by the system
        self._reached = False  # once there was a reply, a connection that fails may work again
        self._options: dict[str, Any] = {"temperature": 0, "max_tokens": target.max_tokens}
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if target.key is not None:
            headers["Authorization"] = f"Bearer {target.key}"
        try:
            self._client = httpx.AsyncClient(headers=headers, timeout=target.timeout, follow_redirects=False)
        except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
            why = "the environment's proxy or certificates cannot be used"
            raise JudgeStopped(f"{why}: {cleaned(error, self._target.key)}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, messages: Messages, made: Calls) -> str:
        """The text of one reply; the calls for it are also counted in `made`.

        Raises CallFailed, JudgeStopped and BudgetSpent.
        """
        again = 0
        while True:
            options, merged = dict(self._options), self._merged
            self._calls.take()
            made.take()
            status, raw, wait, failure = await self._call(_in_one(messages) if merged else messages, options)
            if failure is None and 200 <= status < 300:
                return _text_in(raw)
            if failure is None and status == 400 and self._adapts(raw, options, merged):
                continue
            if failure is None and status in _FATAL:
                raise JudgeStopped(f"{self._target.origin} answers {status}: {_FATAL[status]}")
            if failure is None and 300 <= status < 400:
                raise JudgeStopped(f"{self._target.origin} answers {status}, a redirect, which is not followed")
            why = failure or f"it answers {status}{message_in(raw, self._target.key)}"
            if again == _MOST_AGAIN or (failure is None and status not in AGAIN):
                raise CallFailed(why)
            await self._sleep(2.0**again if wait is None else wait)
            again += 1

    async def _call(self, messages: Messages, options: dict[str, Any]) -> tuple[int, bytes, float | None, str | None]:
        """One call: its status and body, how long to wait before another, and why there is no reply, if there is none.

        Raises CallFailed where it makes no sense to call again with the same.
        """
        content = orjson.dumps({"model": self._target.model, "messages": messages, **options})
        fields = {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(self._target.timeout),
                self._client.stream("POST", self._target.url, content=content, headers=fields) as response,
            ):
                wait = _wait(response.headers.get("retry-after"))
                raw = await _body(response)
                self._reached = True
                return response.status_code, raw, wait, None
        except (TimeoutError, httpx.TimeoutException):
            raise CallFailed(f"no whole reply within {self._target.timeout:g} s") from None
        except httpx.ConnectError as error:
            if not self._reached:
                raise JudgeStopped(
                    f"cannot connect to {self._target.origin}: {cleaned(error, self._target.key)}"
                ) from None
            return 0, b"", None, f"cannot connect: {cleaned(error, self._target.key)}"
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError, OSError) as error:
            return 0, b"", None, f"{cleaned(error, self._target.key) or type(error).__name__}"

    def _adapts(self, raw: bytes, used: dict[str, Any], merged: bool) -> bool:
        """Whether what was refused is done in another way, so that another call makes sense.

        OpenAI's models that reason refuse `max_tokens` and a temperature; templates of Gemma and others a system.
        """
        text = raw.decode("utf-8", "replace").lower()
        if "max_tokens" in used and "max_completion_tokens" in text:
            self._options["max_completion_tokens"] = self._options.pop("max_tokens", self._target.max_tokens)
            return True
        if "temperature" in used and "temperature" in text:
            self._options.pop("temperature", None)
            return True
        if not merged and "system role" in text:
            self._merged = True
            return True
        return False


async def _body(response: httpx.Response) -> bytes:
    if (coding := response.headers.get("content-encoding", "identity")) not in ("", "identity"):
        raise CallFailed(f"its reply is compressed ({coding[:20]!r}), which was not asked for")
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > LARGEST_REPLY:
            raise CallFailed(f"its reply is larger than {LARGEST_REPLY >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _text_in(raw: bytes) -> str:
    """The text of a chat completion. Raises CallFailed."""
    try:
        message = orjson.loads(raw)["choices"][0]["message"]
        content = message.get("content")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise CallFailed("its reply is no chat completion") from None
    if isinstance(content, list):
        content = "".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else ""


def _in_one(messages: Messages) -> Messages:
    """The messages as one of the user's."""
    return [{"role": "user", "content": "\n\n".join(each["content"] for each in messages)}]


def _wait(field: str | None, now: datetime | None = None) -> float | None:
    """The seconds that a Retry-After asks to wait (RFC 9110 section 10.2.3), at most a minute; None without one."""
    if field is None:
        return None
    try:
        seconds = float(field)
    except ValueError:
        try:
            moment = parsedate_to_datetime(field)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds()
    return min(_LONGEST_WAIT, max(0.0, seconds)) if math.isfinite(seconds) else None
