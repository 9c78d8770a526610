"""A model for gradio: `python gradio_model.py PORT`, with the call /scores and the stream /rows."""

import sys
from collections.abc import Iterator

import gradio
from scores import BROKEN, scores


def one(rows: list[list[float]]) -> dict[str, list[list[float]]]:
    if rows[0][0] == BROKEN:
        raise gradio.Error("the model is broken")
    return {"scores": scores(rows)}


def each(rows: list[list[float]]) -> Iterator[list[float]]:
    yield from scores(rows)


with gradio.Blocks() as app:
    given, out = gradio.JSON(), gradio.JSON()
    gradio.Button().click(one, given, out, api_name="scores")
    gradio.Button().click(each, given, out, api_name="rows")

if __name__ == "__main__":
    app.queue().launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True, show_error=True)
