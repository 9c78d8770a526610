"""Asks an OpenAI-compatible endpoint for the embeddings of texts, or raises one line on why there are none.

As for a chat: a reply is bounded in time and bytes as a whole, a redirect is not followed, and what a server says
stands in a message only cleaned, shortened and without the key.
"""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import httpx
import orjson

from shadowproxy.judge.api import AGAIN, address, cleaned, message_in, shown_address

LARGEST_REPLY: Final = 32 << 20
"""Bytes of a whole reply: 32 embeddings of 8,192 numbers, written out, are 6 MB."""

TEXTS_A_CALL: Final = 16
"""Several servers take no more than 32."""

TIMEOUT: Final = 60.0
"""Seconds of a whole reply."""

_WAITS: Final = (1.0, 4.0)  # seconds before a call is made again


class EmbeddingsFailed(Exception):
    """There are no embeddings. The text is one line."""


def embeddings_address(text: str) -> str:
    """The address of the embeddings, from it or from the base URL of its API. Raises ValueError."""
    return address(text, "/embeddings", "SHADOWPROXY_EMBEDDINGS_KEY")


class Embeddings:
    """An embeddings endpoint. Owns its connections; use as `with`. `sleep` waits before a call is made again."""

    def __init__(
        self, url: str, model: str, key: str | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._url = url
        self._model = model
        self._key = key
        self._sleep = sleep
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        try:
            self._client = httpx.Client(headers=headers, timeout=TIMEOUT, follow_redirects=False)
        except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
            why = "the environment's proxy or certificates cannot be used"
            raise EmbeddingsFailed(f"{why}: {cleaned(error, self._key)}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @property
    def origin(self) -> str:
        """The address as it may be shown: without its query, which may hold a key."""
        return shown_address(self._url)

    def of(self, texts: Sequence[str]) -> list[list[float]]:
        """The embeddings of at most TEXTS_A_CALL texts, in their order. Raises EmbeddingsFailed."""
        for wait in (*_WAITS, None):
            status, raw = self._call(texts)
            if status == 200:
                return _vectors(raw, len(texts))
            if status not in AGAIN or wait is None:
                break
            self._sleep(wait)
        raise EmbeddingsFailed(f"it answers {status}{message_in(raw, self._key)}")

    def _call(self, texts: Sequence[str]) -> tuple[int, bytes]:
        content = orjson.dumps({"model": self._model, "input": list(texts), "encoding_format": "float"})
        end = time.monotonic() + TIMEOUT
        raw = bytearray()
        try:
            with self._client.stream("POST", self._url, content=content) as response:
                if response.headers.get("content-encoding", "identity") not in ("", "identity"):
                    raise EmbeddingsFailed("its reply is compressed, which was not asked for")
                for part in response.iter_raw():
                    raw += part
                    if len(raw) > LARGEST_REPLY:
                        raise EmbeddingsFailed(f"its reply is larger than {LARGEST_REPLY >> 20} MiB")
                    if time.monotonic() > end:
                        raise EmbeddingsFailed(f"no whole reply within {TIMEOUT:g} s")
                return response.status_code, bytes(raw)
        except httpx.TimeoutException:
            raise EmbeddingsFailed(f"no whole reply within {TIMEOUT:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError, OSError) as error:
            raise EmbeddingsFailed(f"it cannot be asked: {cleaned(error, self._key) or type(error).__name__}") from None


def _vectors(raw: bytes, count: int) -> list[list[float]]:
    """The embeddings in a reply, in the order of the texts. Raises EmbeddingsFailed."""
    try:
        data = orjson.loads(raw)["data"]
        by_place = {each.get("index", at): each["embedding"] for at, each in enumerate(data)}
        found = [by_place[at] for at in range(count)]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise EmbeddingsFailed("its reply is no list of embeddings, one for each text") from None
    for vector in found:
        if not isinstance(vector, list) or not vector or any(type(each) not in (int, float) for each in vector):
            raise EmbeddingsFailed("its reply has an embedding that is no array of numbers")
    return found
