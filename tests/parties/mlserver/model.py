"""A model for MLServer: the sum of what it is given."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Sum(MLModel):  # type: ignore[misc]
    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        values = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("sum", values.sum(axis=-1, keepdims=True))
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[output])
