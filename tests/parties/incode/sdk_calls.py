"""Calls of OpenAI's and Anthropic's SDKs, each with a client of its own kind: `python sdk_calls.py URL [mirrored]`.

What came of each is printed as JSON, a line each. `mirrored` has each client's transport mirrored.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import trio

from parties.incode.mirroring import shadow

URL, MIRRORED = sys.argv[1], sys.argv[2:] == ["mirrored"]
CHAT: Any = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
MESSAGES: Any = CHAT | {"max_tokens": 9}
OPENAI: Any = {"base_url": f"{URL}/v1", "api_key": "sk-secret", "max_retries": 1}
ANTHROPIC: Any = {"base_url": URL, "api_key": "sk-secret", "max_retries": 1}


def sync_options(client: Callable[..., Any], transport: Callable[[], Any] | None = None) -> dict[str, Any]:
    return {"http_client": client(transport=shadow.transport(transport and transport()))} if MIRRORED else {}


def async_options(client: Callable[..., Any], transport: Callable[[], Any] | None = None) -> dict[str, Any]:
    return {"http_client": client(transport=shadow.async_transport(transport and transport()))} if MIRRORED else {}


def told(name: str, *values: Any) -> None:
    print(json.dumps([name, *values], default=repr), flush=True)


def openai_sync(name: str, options: dict[str, Any]) -> None:
    with openai.OpenAI(**OPENAI, **options) as client:
        raw = client.chat.completions.with_raw_response.create(**CHAT)
        told(name, raw.status_code, sorted(raw.headers.items()), raw.parse().model_dump())
        with client.chat.completions.create(**CHAT, stream=True) as stream:
            told(name, [event.model_dump() for event in stream])
        try:
            client.chat.completions.create(**CHAT, extra_headers={"X-Ask": "refuse"})
        except openai.APIStatusError as error:
            told(name, type(error).__name__, str(error), error.status_code)
        told(name, client.chat.completions.create(**CHAT, extra_headers={"X-Ask": "retry"}).model_dump())


async def openai_async(name: str, options: dict[str, Any]) -> None:
    async with openai.AsyncOpenAI(**OPENAI, **options) as client:
        told(name, (await client.chat.completions.create(**CHAT)).model_dump())
        async with await client.chat.completions.create(**CHAT, stream=True) as stream:
            told(name, [event.model_dump() async for event in stream])


def anthropic_sync(name: str, options: dict[str, Any]) -> None:
    with anthropic.Anthropic(**ANTHROPIC, **options) as client:
        told(name, client.messages.create(**MESSAGES).model_dump())
        with client.messages.stream(**MESSAGES) as stream:
            told(name, list(stream.text_stream), stream.get_final_message().model_dump())


async def anthropic_async(name: str, options: dict[str, Any]) -> None:
    async with anthropic.AsyncAnthropic(**ANTHROPIC, **options) as client:
        told(name, (await client.messages.create(**MESSAGES)).model_dump())
        async with client.messages.stream(**MESSAGES) as stream:
            told(name, [text async for text in stream.text_stream])


def on_trio(call: Callable[[str, dict[str, Any]], Awaitable[None]], name: str, options: dict[str, Any]) -> None:
    trio.run(call, name, options)


if __name__ == "__main__":
    openai_sync("openai", sync_options(openai.DefaultHttpxClient))
    openai_sync("openai, an inner transport", sync_options(httpx2.Client, httpx2.HTTPTransport))
    openai_sync("openai, httpx", sync_options(httpx.Client) or {"http_client": httpx.Client()})
    asyncio.run(openai_async("openai, asyncio", async_options(openai.DefaultAsyncHttpxClient)))
    on_trio(openai_async, "openai, trio", async_options(openai.DefaultAsyncHttpxClient))
    anthropic_sync("anthropic", sync_options(anthropic.DefaultHttpxClient))
    asyncio.run(anthropic_async("anthropic, asyncio", async_options(anthropic.DefaultAsyncHttpxClient)))
    on_trio(anthropic_async, "anthropic, trio", async_options(anthropic.DefaultAsyncHttpxClient))
    shadow.close()
