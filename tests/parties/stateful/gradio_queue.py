"""`python gradio_queue.py LOG [DELAY_MS]`: ../predictive/gradio_model.py, with a log of what it gets and sends.

Runs in the environment that ../gradio.txt describes.
"""

import asyncio
import socket
import sys
from pathlib import Path

import gradio
import uvicorn
from fastapi import FastAPI
from received import Logged

sys.path.append(str(Path(__file__).parent.parent / "predictive"))
from gradio_model import app


async def serve(log: Path, delay: float) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    mounted = gradio.mount_gradio_app(FastAPI(), app.queue(default_concurrency_limit=8), "/")
    config = uvicorn.Config(Logged(mounted, log, delay), log_level="warning", timeout_graceful_shutdown=1)
    print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listening])


asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0))
