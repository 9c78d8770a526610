"""Ask a model server with its own SDK: `python ask.py SDK URL` with a JSON array of requests on standard input.

Each request is rows of numbers. Prints an array of the answers' scores, with null where the SDK raised.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

Rows = list[list[float]]


def triton(url: str, *, request: dict[str, Any], binary: bool) -> Callable[[Rows], Any]:
    import numpy as np
    import tritonclient.http as client

    server = client.InferenceServerClient(url.removeprefix("http://"))

    def ask(rows: Rows) -> Any:
        given = client.InferInput("rows", [len(rows), 3], "FP32")
        given.set_data_from_numpy(np.array(rows, np.float32), binary_data=binary)
        name = client.InferInput("name", [len(rows), 1], "BYTES")
        name.set_data_from_numpy(np.array([[b"ab"]] * len(rows), object), binary_data=binary)
        outputs = None if binary else [client.InferRequestedOutput(n, binary_data=False) for n in ("label", "scores")]
        return server.infer("scores", [given, name], outputs=outputs, **request).as_numpy("scores").tolist()

    return ask


def bentoml(url: str, *, call: str) -> Callable[[Rows], Any]:
    import bentoml as client

    server = client.SyncHTTPClient(url)

    def ask(rows: Rows) -> Any:
        answer = getattr(server, call)(rows=rows)
        if call == "predict":
            return answer["scores"]
        return answer.to_numpy().tolist() if call == "table" else answer.tolist()

    return ask


def kserve(url: str, *, binary: bool) -> Callable[[Rows], Any]:
    import asyncio

    import kserve as client
    import numpy as np

    async def infer(rows: Rows) -> Any:
        server = client.InferenceRESTClient(client.RESTConfig(protocol="v2", retries=0))
        given = client.InferInput("rows", [len(rows), 3], "FP32")
        given.set_data_from_numpy(np.array(rows, np.float32), binary_data=binary)
        parameters = {"binary_data_output": True} if binary else {}
        request = client.InferRequest("scores", [given], parameters=parameters)
        answer = await server.infer(url, request, model_name="scores")
        return answer.outputs[0].as_numpy().tolist()

    return lambda rows: asyncio.run(infer(rows))


SDKS: dict[str, Callable[[str], Callable[[Rows], Any]]] = {
    "triton": lambda url: triton(url, request={}, binary=True),
    "triton-json": lambda url: triton(url, request={"request_id": "r1"}, binary=False),
    "triton-gzip": lambda url: triton(url, request={"request_compression_algorithm": "gzip"}, binary=True),
    "bentoml": lambda url: bentoml(url, call="predict"),
    "bentoml-array": lambda url: bentoml(url, call="array"),
    "bentoml-table": lambda url: bentoml(url, call="table"),
    "kserve": lambda url: kserve(url, binary=False),
    "kserve-binary": lambda url: kserve(url, binary=True),
}


def main() -> None:
    ask = SDKS[sys.argv[1]](sys.argv[2])
    answers: list[Any] = []
    for rows in json.load(sys.stdin):
        try:
            answers.append(ask(rows))
        except Exception as error:  # noqa: BLE001 - each SDK has errors of its own
            print(error, file=sys.stderr)
            answers.append(None)
    print(json.dumps(answers))


main()
