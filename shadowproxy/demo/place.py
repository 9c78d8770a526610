"""The directory of a demo's results: its files, and where it is made."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shadowproxy.demo import flights
from shadowproxy.demo.processes import NotStarted

GATES = """\
# What the demo's report allows its shadow: what every report does, but for this.
# An if statement takes no time, and here five programs share one machine's processors.
p99_ratio: null
"""


@dataclass(frozen=True, slots=True)
class DemoDirectory:
    """The directory of a demo's results."""

    directory: Path

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def labels(self) -> Path:
        return self.directory / "labels.csv"

    @property
    def gates(self) -> Path:
        """What the report allows the shadow."""
        return self.directory / "gates.yaml"

    @property
    def page(self) -> Path:
        """The report as an HTML page."""
        return self.directory / "report.html"

    def output(self, name: str) -> Path:
        """The output of the server of that name."""
        return self.directory / f"{name}.txt"


def directory_at(directory: Path) -> DemoDirectory:
    """Makes `directory`, which must be new or empty, and puts into it what is known before. Raises NotStarted."""
    place = DemoDirectory(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise NotStarted(f"{directory} is not empty: the demo needs a new or empty directory")
        place.labels.write_text(flights.labels_csv())
        place.gates.write_text(GATES)
    except OSError as error:
        raise NotStarted(f"cannot write to {directory}: {error.strerror}") from None
    return place


def new_directory(say: Callable[[str], None]) -> DemoDirectory:
    """A new directory under `shadow-demo` in the working directory. If that cannot be written, one in the system's
    temporary directory, and `say` gets a line about it. Raises NotStarted."""
    try:
        return directory_at(Path("shadow-demo") / time.strftime("%Y%m%d-%H%M%S"))
    except NotStarted as error:
        try:
            elsewhere = Path(tempfile.mkdtemp(prefix="shadow-demo-"))
        except OSError:
            raise error from None
        say(f"{error}, so the log goes to {elsewhere}")
        return directory_at(elsewhere)
