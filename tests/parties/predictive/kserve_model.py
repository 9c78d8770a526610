"""A model for KServe: `python kserve_model.py --http_port PORT --enable_grpc false`, in both of its protocols."""

from typing import Any

import kserve
import numpy as np
import uvicorn
from scores import scores


class Loopback(uvicorn.Config):
    """KServe listens on all addresses and has no option for it."""

    def __init__(self, app: Any, host: str, **options: Any) -> None:
        super().__init__(app, host="127.0.0.1", **options)


class Scores(kserve.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("scores")
        self.ready = True

    def predict(self, payload: Any, headers: dict[str, str] | None = None, response_headers: Any = None) -> Any:
        if isinstance(payload, dict):
            return {"predictions": scores(payload["instances"])}
        answer = np.array(scores(payload.inputs[0].as_numpy().astype(float).tolist()), np.float32)
        output = kserve.InferOutput("scores", list(answer.shape), "FP32")
        output.set_data_from_numpy(answer, binary_data=payload.use_binary_outputs)
        return kserve.InferResponse(payload.id or "made-up", self.name, [output])


if __name__ == "__main__":
    uvicorn.Config = Loopback  # type: ignore[assignment, misc]
    kserve.ModelServer(workers=1).start([Scores()])
