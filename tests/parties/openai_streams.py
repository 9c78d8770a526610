"""Stream a chat completion with OpenAI's SDK: `python openai_streams.py URL`. Prints each piece as it comes."""

import sys

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="sk-of-the-test", max_retries=0)
stream = client.chat.completions.create(
    model="m", messages=[{"role": "user", "content": "say it"}], stream=True, stream_options={"include_usage": True}
)
for chunk in stream:
    print(chunk.choices[0].delta.content if chunk.choices else f"usage {chunk.usage.total_tokens}", flush=True)
