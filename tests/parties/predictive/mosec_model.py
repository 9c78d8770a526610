"""`python mosec_model.py --port PORT --address 127.0.0.1`: scores at /inference as JSON, at /packed as msgpack."""

from typing import Any

from mosec import Runtime, Server, Worker
from mosec.mixin import MsgpackMixin
from scores import scores


class Scores(Worker):  # type: ignore[misc]
    def forward(self, data: Any) -> Any:
        return {"scores": scores(data["rows"])}


class Packed(MsgpackMixin, Scores):  # type: ignore[misc]
    """The same in msgpack, both ways."""


if __name__ == "__main__":
    server = Server()
    server.register_runtime({"/inference": [Runtime(Scores)], "/packed": [Runtime(Packed)]})
    server.run()
