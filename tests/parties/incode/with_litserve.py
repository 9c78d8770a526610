"""A model for LitServe, mirrored by a middleware if $MIRRORED is set. `python with_litserve.py PORT`."""

import os
import signal
import sys
from typing import Any

import litserve

if __name__ == "__main__":  # its workers are processes that import this file, and do without
    from parties.incode.mirroring import shadow


class Half(litserve.LitAPI):
    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: dict[str, Any]) -> float:
        return float(request["age"])

    def predict(self, x: float) -> float:
        return x / 2

    def encode_response(self, output: float) -> dict[str, float]:
        return {"score": output}


if __name__ == "__main__":
    middlewares = [shadow.asgi] if os.environ.get("MIRRORED") else []
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))  # its workers would outlive it
    server = litserve.LitServer(Half(), accelerator="cpu", workers_per_device=1, middlewares=middlewares)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
