#!/usr/bin/env bash
# httpx 0.28.1 (httpcore 1.0.9, anyio 4.16.0) with gunicorn 23.0.0 (sync worker) and Flask 3.1.2: if a server answers an
# upload without reading it and closes, httpx.Client reads the response, httpx.AsyncClient loses most of them.
#
# The server's 401 is in the client's socket when the sending fails. httpcore still reads after a failed write, in both
# clients. But the asynchronous client uses an asyncio transport, which closes itself when a write fails and drops the
# bytes that were received and not yet read. Result, 40 posts of 3 MB each over loopback: Client 40 times 401; AsyncClient 5 times
# 401 and 35 times ReadError; http.client 30 times 401 and 10 times BrokenPipeError.
#
# Exits 0 while the synchronous client gets every answer and the asynchronous one loses some, 1 when that has changed.
set -euo pipefail
place=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server" || true; }
    rm -rf "$place"
}
trap finish EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    httpx==0.28.1 httpcore==1.0.9 anyio==4.16.0 gunicorn==23.0.0 flask==3.1.2
cd "$place"
cat >refusing.py <<'PYTHON'
from flask import Flask

app = Flask(__name__)


@app.post("/")
def refuse() -> tuple[dict[str, str], int]:
    return {"error": "no token"}, 401
PYTHON
cat >post.py <<'PYTHON'
import asyncio
import collections
import sys
import time

import httpx

URL, UPLOAD, TIMES = "http://127.0.0.1:18765/", b"x" * 3_000_000, 40


def synchronous() -> str:
    with httpx.Client(trust_env=False) as client:
        return str(client.post(URL, content=UPLOAD).status_code)


async def asynchronous() -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return str((await client.post(URL, content=UPLOAD)).status_code)


def counted(post) -> collections.Counter[str]:
    seen = collections.Counter()
    for _ in range(TIMES):
        try:
            seen[post()] += 1
        except httpx.TransportError as error:
            seen[type(error).__name__] += 1
    return seen


for _ in range(100):
    try:
        httpx.get(URL, trust_env=False)
        break
    except httpx.TransportError:
        time.sleep(0.1)
one, other = counted(synchronous), counted(lambda: asyncio.run(asynchronous()))
print("Client:     ", dict(one))
print("AsyncClient:", dict(other))
sys.exit(not (one["401"] == TIMES and other["401"] < TIMES))
PYTHON
venv/bin/gunicorn --log-level error --bind 127.0.0.1:18765 refusing:app &
server=$!
venv/bin/python post.py
