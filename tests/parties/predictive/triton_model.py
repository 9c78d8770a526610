"""Triton on the CPU, by pytriton: `python triton_model.py HTTP_PORT GRPC_PORT METRICS_PORT`. Ends on SIGTERM."""

import signal
import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from scores import scores


@batch  # type: ignore[untyped-decorator]
def infer(rows: Any, name: Any) -> dict[str, Any]:
    answer = np.array(scores(rows.astype(float).tolist()))
    labels = [[f"{each.decode()}:{row[0] > 0}".encode()] for (each,), row in zip(name, answer, strict=True)]
    return {
        "half": answer.astype(np.float16),
        "label": np.array(labels, dtype=object),
        "scores": answer.astype(np.float32),
    }


def stop(*_: object) -> None:
    """By default SIGTERM ends this process alone, and tritonserver goes on."""
    raise SystemExit


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    http, grpc, metrics = map(int, sys.argv[1:])
    config = TritonConfig(
        http_address="127.0.0.1", http_port=http, grpc_address="127.0.0.1", grpc_port=grpc, metrics_port=metrics
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="scores",
            infer_func=infer,
            inputs=[Tensor(name="rows", dtype=np.float32, shape=(3,)), Tensor(name="name", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="half", dtype=np.float16, shape=(2,)),
                Tensor(name="label", dtype=bytes, shape=(1,)),
                Tensor(name="scores", dtype=np.float32, shape=(2,)),
            ],
            config=ModelConfig(max_batch_size=16),
            strict=True,
        )
        triton.serve()
