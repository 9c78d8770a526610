"""The demo: an if statement and a trained model answer the same 5,000 flights, and the log says where they differ."""

from pathlib import Path


def run(*, requests: int = 5000, directory: Path | None = None) -> int:
    """Run the demo and return its exit status: 0 all was as promised, 1 it was not, 2 it could not be set up, 130 Ctrl-C.

    `directory` is where the log is kept; by default `shadow-demo/<time>` in the working directory.
    """
    raise NotImplementedError
