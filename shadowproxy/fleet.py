"""One report of a whole fleet's logs on an engine that is there already: Spark, Dask, Ray, or any other map and reduce.

    fold = Fold("shadow.yaml")
    tasks = fold.tasks("s3://bucket/dt=2026-11-*/")        # files, and parts of long ones
    summaries = map(fold.summarise, tasks)                  # anywhere: on workers, in any order
    report = fold.report(functools.reduce(fold.merge, summaries))

Summaries add up exactly: the report is the same, byte for byte, however the logs were cut and the summaries merged.
Workers need this package and access to the files. docs/how-to/fleet.md has it for each engine.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from shadowproxy.compare.fold.engines import summarise_one
from shadowproxy.compare.fold.filters import Condition, Only, parse_moment
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.summary import Summary, SummaryError, load, merge, save
from shadowproxy.compare.judge.configured import rules_in
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.gates import GateError, Gates, load_gates
from shadowproxy.config import ConfigError
from shadowproxy.config import load as load_config
from shadowproxy.sources import Source, sources_of


class FleetError(Exception):
    """An option or a file cannot be used. The text is one line."""


@dataclass(frozen=True, slots=True)
class FleetReport:
    """A report in all its forms.

    Attributes:
        figures: what `shadowproxy report --json` prints, as plain values.
    """

    figures: Any

    @property
    def result(self) -> str:
        """`pass`, `fail`, `inconclusive` or `no data`: the worst of all shadows."""
        return str(self.figures["result"])

    def json(self) -> bytes:
        """The figures, as `shadowproxy report --json` prints them."""
        return orjson.dumps(self.figures, option=orjson.OPT_INDENT_2)

    def text(self, width: int = 100) -> str:
        """The report as a terminal of `width` columns shows it, without colours."""
        from rich.console import Console

        from shadowproxy.compare.report.text import print_figures

        out = io.StringIO()
        print_figures(self.figures, Console(file=out, width=width, color_system=None))
        return out.getvalue()

    def html(self) -> str:
        """The report as one page that loads nothing."""
        from shadowproxy.compare.report.html import to_html

        return to_html(self.figures)

    def markdown(self) -> str:
        """The report for a comment on a pull request."""
        from shadowproxy.compare.report.markdown import to_markdown

        return to_markdown(self.figures)


class Fold:
    """What to read and how to compare, to be sent to workers.

    Args:
        config: a sidecar's configuration, whose rules answers are compared by; None for the defaults.
        shadow: only this shadow.
        since, until: only requests from this time on and before that one, as `report` takes them.
        path: only requests whose path matches this pattern.
        where: only requests whose JSON fulfils these conditions, such as `/carrier=UA`.
        field: where the answer is, as a JSON pointer; the report finds it otherwise.
        slices: request fields that are always counted.
        gates: a file with the limits of the checks.

    Raises:
        FleetError: an option or a file cannot be used.
    """

    def __init__(
        self,
        config: str | Path | None = None,
        *,
        shadow: str | None = None,
        since: str | None = None,
        until: str | None = None,
        path: str | None = None,
        where: Iterable[str] = (),
        field: str | None = None,
        slices: Iterable[str] = (),
        gates: str | Path | None = None,
    ) -> None:
        try:
            self._only = Only(
                since=None if since is None else parse_moment(since),
                until=None if until is None else parse_moment(until),
                path=path,
                where=tuple(map(Condition.parse, where)),
            )
            rules, prediction = _rules_of(config)
            self._gates = Gates() if gates is None else load_gates(str(gates))
        except (ValueError, ConfigError, GateError) as error:
            raise FleetError(str(error)) from error
        place = field if field is not None else prediction
        self._slices = tuple(slices)
        self._reading = Reading(rules, () if place is None else ((place, place),), slices=self._slices)
        self._shadow = shadow

    def tasks(self, *paths: str | Path) -> list[Source]:
        """The files of these paths, and parts of long ones, as `summarise` takes them. Raises OSError."""
        return [part for path in paths for source in sources_of(path) for part in source.in_parts()]

    def summarise(self, task: Source | str | Path) -> bytes:
        """The summary of one task, as `shadowproxy summarise` writes it. Raises OSError and FleetError."""
        try:
            source = task if isinstance(task, Source) else str(task)
            return summarise_one(source, self._reading, self._only, self._shadow)
        except SummaryError as error:
            raise FleetError(str(error)) from error

    @staticmethod
    def merge(one: bytes, other: bytes) -> bytes:
        """The summary of two summaries. Raises FleetError."""
        try:
            return save(merge(load(one), load(other)))
        except SummaryError as error:
            raise FleetError(str(error)) from error

    def report(self, summary: bytes | None) -> FleetReport:
        """The report of a summary; without one, that of an empty log. Raises FleetError."""
        try:
            loaded = Summary() if summary is None else load(summary)
        except SummaryError as error:
            raise FleetError(str(error)) from error
        return FleetReport(to_json(loaded, self._gates, slices=self._slices))


def _rules_of(file: str | Path | None) -> tuple[Rules, str | None]:
    """The rules of a configuration, and where it says that all answers are."""
    if file is None:
        return Rules(), None
    config = load_config(Path(file))
    prediction = config.compare.prediction
    return rules_in(config.compare, config.shadows), prediction if isinstance(prediction, str) and prediction else None
