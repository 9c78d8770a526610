"""What the tests of what ships share: an engine, the image built once, and a note of how long each part took."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from shadowproxy import __version__
from ship.engine import ROOT, Engine, alone, environment, provide_bases, running

IMAGE = f"shadowproxy:{__version__}"
PARTS: list[tuple[str, float]] = []
"""Each part with its seconds, in the order of time."""


@contextmanager
def part(name: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    PARTS.append((name, time.monotonic() - begun))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    if Path(__file__).parent not in item.path.parents:
        return (yield)
    with part(item.name.removeprefix("test_").replace("_", " ")):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PARTS:
        terminalreporter.section("what ships: seconds for each part")
        for name, seconds in PARTS:
            terminalreporter.write_line(f"{seconds:6.1f}  {name}")


@pytest.fixture(scope="session")
def tools() -> dict[str, str]:
    """The environment in which the programs of .ship/ are found."""
    return environment()


@pytest.fixture(scope="session")
def the_ports() -> Iterator[None]:
    """For whoever listens on the ports that ship, or on others that are the same in every run."""
    with part("waiting for the ports"), ExitStack() as stack:
        stack.enter_context(alone())
        kept = stack.pop_all()
    with kept:
        yield


@pytest.fixture(scope="session")
def engine(the_ports: None) -> Iterator[Engine]:
    with part("an engine"):
        context = running()
        engine = context.__enter__()
    try:
        yield engine
    finally:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The image, built from the checkout as it is."""
    with part("the base images"):
        provide_bases(engine)
    with part("the image"):
        # It compiles: two minutes on a quiet machine, a multiple of that where other tests run too.
        engine.run("buildx", "build", "--network=host", "--tag", IMAGE, ROOT, timeout=1800)
    return IMAGE
