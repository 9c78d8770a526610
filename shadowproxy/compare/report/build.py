"""The report: a summary's figures with the verdict on them.

`to_json` gives everything that any form of the report says; the other forms draw what it gives, so that no two of them
can disagree.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from shadowproxy.compare.fold.summary import Summary
from shadowproxy.compare.report.advice import advice_of
from shadowproxy.compare.report.checks.all import checks_of, checks_of_route, repeated_records
from shadowproxy.compare.report.checks.check import WORST_FIRST, Check, Result
from shadowproxy.compare.report.figures.language_types import MeaningFigures
from shadowproxy.compare.report.figures.types import (
    Judged,
    Report,
    ResultWord,
    RouteFigures,
    RouteReport,
    ShadowFigures,
    ShadowReport,
)
from shadowproxy.compare.report.figures.whole import figures_of
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.sensitivity import blind_spots
from shadowproxy.compare.report.verdict import decision_of, result_of, verdict_of

Checks = Callable[[str, ShadowFigures, Gates], list[Check]]
"""The checks of the shadow with this name."""

EXIT_CODES: Final[Mapping[ResultWord, int]] = {"pass": 0, "fail": 1, "inconclusive": 3, "no data": 3}
"""What a report's result is to a shell. 2 is for input that cannot be read."""


def to_json(
    summary: Summary,
    gates: Gates | None = None,
    *,
    slices: tuple[str, ...] = (),
    judged: Mapping[str, Judged] | None = None,
    meanings: Mapping[str, MeaningFigures] | None = None,
    checks: Checks | None = None,
) -> Report:
    """Every figure of the report, the checks, the verdict and the advice, as plain JSON values. A pure function.

    `judged` are a judge's figures by shadow, `meanings` those of an embeddings endpoint. `checks` decides where the
    report is one of several looks at the same requests (looks.py).
    """
    gates = gates or Gates()
    figures = figures_of(summary, slices=slices, bounds=gates.bounds)
    for name, found in (judged or {}).items():
        figures["shadows"][name]["judged"] = found
    for name, meaning in (meanings or {}).items():
        if name in figures["shadows"] and (language := figures["shadows"][name]["language"]) is not None:
            language["meaning"] = meaning
    repeated = repeated_records(figures["log"])
    shadows = {name: _judged(name, shadow, repeated, gates, checks) for name, shadow in figures["shadows"].items()}
    results = [shadow["verdict"]["result"] for shadow in shadows.values()]
    return {
        "shadowproxy_report": figures["shadowproxy_report"],
        "version": figures["version"],
        "log": figures["log"],
        "shadows": shadows,
        "result": next((result.word for result in WORST_FIRST if result in results), Result.NO_DATA.word),
        "gates": gates.figures(),
    }


def exit_code(report: Report, *, fail_on: str = "inconclusive") -> int:
    """0, 1 or 3 as EXIT_CODES says; with `fail_on` "fail" an inconclusive report is no reason to stop."""
    result = report["result"]
    return 0 if fail_on == "fail" and result == "inconclusive" else EXIT_CODES[result]


def _judged(
    name: str, shadow: ShadowFigures, repeated: list[Check], gates: Gates, decide: Checks | None
) -> ShadowReport:
    """A shadow's figures with all that is decided on them."""
    if shadow["judged"] is not None and gates.judge is not None:
        gates = replace(gates, unexplained=None)  # the judge says who is right, on every route
    checks = [*(checks_of(shadow, gates) if decide is None else decide(name, shadow, gates)), *repeated]
    shown = [check.figures() for check in checks]
    verdict = verdict_of(shadow, checks)
    return {
        **shadow,
        "routes": [_judged_route(route, gates) for route in shadow["routes"]],
        "checks": shown,
        "verdict": verdict,
        "decided": decision_of(shadow["over_time"], gates.min_agreement),
        "advice": advice_of(shadow, shown, verdict),
        "blind_spots": blind_spots(shadow, gates),
    }


def _judged_route(route: RouteFigures, gates: Gates) -> RouteReport:
    if route["figures"] is None:
        return {**route, "checks": None, "result": None}
    checks = checks_of_route(route["figures"], gates)
    return {**route, "checks": [check.figures() for check in checks], "result": result_of(checks).word}
