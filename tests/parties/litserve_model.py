"""A model for LitServe: the sum of what it is given. `python litserve_model.py PORT`."""

import sys
from typing import Any

import litserve


class Sum(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: dict[str, Any]) -> list[float]:
        values: list[float] = request["values"]
        return values

    def predict(self, x: list[float]) -> float:
        return sum(x)

    def encode_response(self, output: float) -> dict[str, float]:
        return {"sum": output}


if __name__ == "__main__":
    server = litserve.LitServer(Sum(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
