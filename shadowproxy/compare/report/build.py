"""The report: a summary's figures with the verdict on them.

`to_json` gives everything that any form of the report says; the other forms draw what it gives, so that no two of them
can disagree.
"""

from dataclasses import asdict
from typing import Final

from shadowproxy.compare.fold.summary import Summary
from shadowproxy.compare.report.advice import advice_of
from shadowproxy.compare.report.checks import WORST_FIRST, Check, Result, came_twice, checks_of, checks_of_route
from shadowproxy.compare.report.conclusion import decided, result_of, verdict_of
from shadowproxy.compare.report.figures.shown import Figures
from shadowproxy.compare.report.figures.whole import figures_of
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.sensitivity import blind_spots

EXIT_CODES: Final = {
    str(Result.PASS): 0,
    str(Result.FAIL): 1,
    str(Result.INCONCLUSIVE): 3,
    str(Result.NO_DATA): 3,
}
"""What a report's result is to a shell. 2 is for input that cannot be read."""


def to_json(summary: Summary, gates: Gates | None = None, *, slices: tuple[str, ...] = ()) -> Figures:
    """Every figure of the report, the checks, the verdict and the advice, as plain JSON values. A pure function."""
    gates = gates or Gates()
    figures = figures_of(summary, slices=slices, bounds=gates.bounds)
    for shadow in figures["shadows"].values():
        checks = [*checks_of(shadow, gates), *came_twice(figures["log"])]
        shadow["checks"] = [_plain(check) for check in checks]
        shadow["verdict"] = verdict_of(shadow, checks)
        shadow["decided"] = decided(shadow["over_time"], gates.min_agreement)
        shadow["advice"] = advice_of(shadow)
        shadow["blind_spots"] = blind_spots(shadow, gates)
        for route in shadow["routes"]:
            own = checks_of_route(route["figures"], gates) if route["figures"] is not None else None
            route["checks"] = None if own is None else [_plain(check) for check in own]
            route["result"] = None if own is None else str(result_of(own))
    results = [shadow["verdict"]["result"] for shadow in figures["shadows"].values()]
    figures["result"] = str(next((result for result in WORST_FIRST if result in results), Result.NO_DATA))
    figures["gates"] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(gates).items()
    }
    return figures


def exit_code(figures: Figures, *, fail_on: str = "inconclusive") -> int:
    """0, 1 or 3 as EXIT_CODES says; with `fail_on` "fail" an inconclusive report is no reason to stop."""
    result = figures["result"]
    return 0 if fail_on == "fail" and result == Result.INCONCLUSIVE else EXIT_CODES[result]


def _plain(check: Check) -> Figures:
    plain = asdict(check)
    plain["result"] = str(check.result)
    return plain
