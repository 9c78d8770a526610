"""The standing verdicts of several sidecars as one: their counts added up exactly, and one report on the sum.

What is not known of a sidecar withholds READY: it did not answer, it could not count enough, or it shadows another
candidate. Sidecars that compare by different rules are not added up at all.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from shadowproxy.compare.fold.routes import Routes
from shadowproxy.compare.fold.summary import Summary, load
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.checks.all import checks_of
from shadowproxy.compare.report.checks.check import Check, Finding, Result
from shadowproxy.compare.report.figures.types import Report, ShadowFigures
from shadowproxy.compare.report.gates import Gates, gates_in
from shadowproxy.serve.standing.answer import Facts, withheld
from shadowproxy.watch.sidecars import SidecarError, did_not_answer, shown, summary_of

AT_ONCE: Final = 16
"""Sidecars that are asked at once."""

UNLIKE_GATES: Final = "the sidecars are configured with different gates: give --gates"

CHECK: Final = "sidecars"
"""The name of the check that withholds READY."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What one sidecar said: its summary with what it is of, or why there is none."""

    url: str
    raw: bytes = b""
    about: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(slots=True)
class Together:
    """What all of them said. `wrong` is why they cannot be added up; `notes` is what else is to be said.

    `unlike`: the gates are the default ones as those of the sidecars differ.
    """

    sidecars: Sequence[Sidecar]
    allow_missing: bool = False
    wrong: str | None = None
    notes: list[str] = field(default_factory=list)
    unlike: bool = False

    def __post_init__(self) -> None:
        self.wrong = conflict(self.answered)

    @property
    def answered(self) -> list[Sidecar]:
        return [each for each in self.sidecars if each.error is None]

    @property
    def missing(self) -> list[Sidecar]:
        return [each for each in self.sidecars if each.error is not None]

    @property
    def since(self) -> list[str]:
        """Since when each counts, the earliest first."""
        return sorted({min(each.about["since"].values(), default="") for each in self.answered} - {""})

    def gates(self) -> Gates:
        """What they allow, if all allow the same; else the defaults, which a note says and which withhold READY.

        Raises GateError.
        """
        found = common_gates([each.about for each in self.answered])
        self.unlike = found is None
        if found is None:
            self.notes.append(f"{UNLIKE_GATES}; the default ones are used")
        return found or Gates()

    def report(self, gates: Gates, shadow: str | None = None) -> Report:
        """The report on all that they counted."""
        total = Summary()
        for each in self.answered:
            total.absorb(load(each.raw))
        for name in {name: None for each in self.answered for name in each.about["shadows"]}:
            total.shadows.setdefault(name, Routes())  # no request was sent to it so far
        if shadow is not None:
            total.shadows = {name: routes for name, routes in total.shadows.items() if name == shadow}

        def checks(name: str, figures: ShadowFigures, gates: Gates) -> list[Check]:
            why = self._withheld(name)
            extra = [] if why is None else [Check(CHECK, "engineering", Finding(Result.INCONCLUSIVE, why))]
            return [*checks_of(figures, gates), *extra]

        return to_json(total, gates, checks=checks)

    def _withheld(self, shadow: str) -> str | None:
        """Why the shadow is not READY even if every check passes."""
        if self.missing and not self.allow_missing:
            return did_not_answer([each.url for each in self.missing], len(self.sidecars))
        if self.unlike:
            return UNLIKE_GATES
        return withheld_by([each.about for each in self.answered], shadow)


def common_gates(abouts: Sequence[Mapping[str, Any]]) -> Gates | None:
    """What these sidecars allow; None if they do not allow the same. Raises GateError."""
    given = [each["gates"] for each in abouts]
    if any(each != given[0] for each in given):
        return None
    return gates_in(given[0], "the sidecars' gates") if given else Gates()


def withheld_by(abouts: Sequence[Mapping[str, Any]], shadow: str, now: float | None = None) -> str | None:
    """Why READY is not said of a shadow by what these sidecars say of their counts, though every check passes."""
    if len({each["shadows"][shadow] for each in abouts if shadow in each["shadows"]}) > 1:
        return "the sidecars shadow different candidates by this name: their addresses or settings differ"
    total, last = Facts(), ""
    for each in abouts:
        total.add(Facts.from_json(each["counted"]))
        last = max(last, each["last"].get(shadow) or "")
    return withheld(total, last or None, now)


def ask(urls: Sequence[str], token: str | None, *, allow_missing: bool = False) -> Together:
    """Ask each sidecar what it has counted."""
    with ThreadPoolExecutor(min(AT_ONCE, len(urls))) as pool:
        found = list(pool.map(lambda url: asked(url, token), urls))
    return Together(found, allow_missing)


def asked(url: str, token: str | None) -> Sidecar:
    """What one sidecar says, or why it says nothing that can be used."""
    try:
        raw = summary_of(url, token)
        about = orjson.loads(raw).get("standing")
        if not isinstance(about, dict):
            raise SidecarError(f"{shown(url)} answers with a summary that is no sidecar's")
        _ = Facts.from_json(about["counted"]), dict(about["since"]), dict(about["shadows"]), dict(about["last"])
        _ = about["key"]["rules"], about["instance"], about["gates"]
    except SidecarError as error:
        return Sidecar(url, error=str(error))
    except (KeyError, TypeError, ValueError) as error:
        return Sidecar(url, error=f"{shown(url)} answers with a summary of another version: {error!s:.60}")
    return Sidecar(url, raw, about)


def conflict(sidecars: Sequence[Sidecar]) -> str | None:
    """Why these cannot be added up."""
    seen: dict[str, Sidecar] = {}
    for each in sidecars:
        before = seen.setdefault(str(each.about["instance"]), each)
        if before is not each:
            return f"{shown(before.url)} and {shown(each.url)} are the same sidecar, and would count twice"
    for each in sidecars[1:]:
        first = sidecars[0]
        for key, what in (("rules", "rules"), ("fields", "places of the answer")):
            if each.about["key"].get(key) != first.about["key"].get(key):
                return (
                    f"{shown(each.url)} compares by other {what} than {shown(first.url)}: give them one configuration"
                )
    return None
