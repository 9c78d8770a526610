"""A service for BentoML: `bentoml serve bento_model:Scores --working-dir . --host 127.0.0.1 --port PORT`."""

from collections.abc import Iterator

import bentoml
import numpy as np
import pandas as pd
from scores import scores


@bentoml.service(workers=1)
class Scores:
    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, rows: list[list[float]]) -> dict[str, list[list[float]]]:
        return {"scores": scores(rows)}

    @bentoml.api  # type: ignore[untyped-decorator]
    def array(self, rows: np.ndarray) -> np.ndarray:
        return np.array(scores(rows.tolist()), np.float32)

    @bentoml.api  # type: ignore[untyped-decorator]
    def table(self, rows: list[list[float]]) -> pd.DataFrame:
        return pd.DataFrame(scores(rows), columns=["low", "high"])

    @bentoml.api  # type: ignore[untyped-decorator]
    def last(self, rows: list[list[float]]) -> float:
        last: float = scores(rows)[-1][-1]
        return last

    @bentoml.api  # type: ignore[untyped-decorator]
    def pieces(self, rows: list[list[float]]) -> Iterator[str]:
        for row in scores(rows):
            yield f"{row}\n"
