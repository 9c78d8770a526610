"""One look at what is watched: what is new is counted, the verdict decided, and both written down."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson

from shadowproxy.compare.fold.beside import Used
from shadowproxy.compare.fold.engines import jobs_for, summarise_files
from shadowproxy.compare.fold.kept import Keeper
from shadowproxy.compare.fold.labels import LabelError
from shadowproxy.compare.fold.places import field_key
from shadowproxy.compare.fold.reading import FieldPlaces
from shadowproxy.compare.fold.samples import hashed_hex
from shadowproxy.compare.fold.summary import Summary, SummaryError, load, merge
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.checks.check import Check, Finding, Result
from shadowproxy.compare.report.figures.types import Labels, Report, ShadowFigures, ShadowReport
from shadowproxy.compare.report.figures.whole import figures_of
from shadowproxy.compare.report.gates import GateError, Gates
from shadowproxy.compare.report.history import (
    FORMAT,
    Change,
    LabelsSeen,
    Look,
    ShadowSeen,
    Span,
    WindowSeen,
    Word,
    word_of,
)
from shadowproxy.compare.report.judged import judged_output, labels_of
from shadowproxy.compare.report.looks import read_looks, report_again
from shadowproxy.compare.report.verdict import HEADLINES
from shadowproxy.compare.report.words import about_time
from shadowproxy.watch.follow import New, new_in
from shadowproxy.watch.labelled import ALL, Windows, due_in, how_they_differ, take, window_name
from shadowproxy.watch.labels import Files, Query
from shadowproxy.watch.sidecars import did_not_answer
from shadowproxy.watch.state import State, StateError
from shadowproxy.watch.together import AT_ONCE, CHECK, UNLIKE_GATES, Sidecar, asked, common_gates, conflict, withheld_by

_LOG: Final = "log"
_BEFORE_THE_FIRST: Final[Word] = "no_data"
"""The word of a shadow that was not looked at yet."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is watched, and how it is judged.

    Attributes:
        logs: paths and addresses of logs.
        sidecars: addresses of admin ports.
        own_gates: whether `gates` were given; sidecars are judged by their own otherwise.
        token: for the sidecars.
        labels: where labels come from; `key` is the field that they are joined by.
        posts: whether changes are posted to a webhook.
    """

    logs: tuple[str, ...]
    sidecars: tuple[str, ...]
    rules: Rules
    windows: Windows
    fields: tuple[FieldPlaces, ...] = ()
    shadow: str | None = None
    gates: Gates = field(default_factory=Gates)
    own_gates: bool = True
    labels: Files | Query | None = None
    token: str | None = field(default=None, repr=False)
    posts: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        """What a state was counted by: with other settings its counts mean something else."""
        return {
            "rules": self.rules.digest,
            "fields": [list(each) for each in self.fields],
            "shadow": self.shadow,
            "label key": None if self.labels is None else self.labels.key,
            "windows": list(self.windows.seconds),
        }


class Looking:
    """Looks at what a plan names, and keeps in `state` what the next look needs. `now` is the time in UTC."""

    def __init__(self, plan: Plan, state: State, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._plan = plan
        self._state = state
        self._now = now
        self._unknown: list[str] = []  # why the sidecars' counts are not all that there is to know
        before, mine = state.get("identity"), orjson.loads(orjson.dumps(plan.identity))
        if before is None:
            state.put("identity", mine)
        elif before != mine:
            changed = ", ".join(name for name, value in mine.items() if before.get(name) != value)
            raise StateError(
                f"{state.path} was counted with another setting ({changed}): give another --history, or remove it to "
                "count again from the beginning; the history stays"
            )
        self.used = Used()

    def look(
        self, words: dict[str, Word], write: Callable[[Look], None], *, strict: bool = False
    ) -> tuple[Look, Report]:
        """Look once. `words` are the last ones by shadow; `write` is called before the look is kept.

        What cannot be read is among the look's faults, and is tried again at the next. With `strict` it is raised:
        OSError, SummaryError or LabelError. Raises StateError, and what `write` raises.
        """
        faults: list[str] = []
        now = self._now()
        with self._state.look():
            base = self._log(faults, strict=strict)
            for saved in self._sidecars(faults):
                base.absorb(saved)
            summary = self._with_labels(base, now, faults, strict=strict)
            looks = self._state.get("looks")
            report, after = report_again(summary, self._gates(), None if looks is None else read_looks(looks))
            self._state.put("looks", after)
            self._withhold(report, now)
            if self._plan.labels is not None:
                _say_what_labels_wait_for(report, self._plan.windows.seconds[0])
            look = self._written(report, base, words, now, faults)
            write(look)
        return look, report

    def _log(self, faults: list[str], *, strict: bool) -> Summary:
        """All that was ever read of the logs, with what is new in them."""
        total = self._state.summary(_LOG)
        if not self._plan.logs:
            return total
        try:
            new = new_in(self._plan.logs, self._state.positions())
            if new:
                total.absorb(self._read(new))
                self._state.put_summary(_LOG, total)
        except OSError as error:
            if strict:
                raise
            faults.append(f"cannot read {error.filename or 'the log'}: {error.strerror or error}")
        except SummaryError as error:
            if strict:
                raise
            faults.append(str(error))
        return total

    def _read(self, new: list[New]) -> Summary:
        plan, sources = self._plan, [each.source for each in new]
        jobs = jobs_for([each.source for each in new if each.source.part is None or not each.after.whole])
        options: dict[str, Any] = {"shadow": plan.shadow, "fields": plan.fields, "jobs": jobs, "used": self.used}
        if plan.labels is None:
            found = summarise_files(sources, plan.rules, **options)
        else:
            with TemporaryDirectory(prefix="shadowproxy-watch-") as directory:
                keeper = Keeper(directory, plan.labels.key)
                found = summarise_files(sources, plan.rules, keep=keeper, **options)
                self._state.add_pairs(keeper.pairs(), by_field=plan.labels.key is not None)
        for each in new:
            self._state.put_position(each.name, each.after)
        return found

    def _sidecars(self, faults: list[str]) -> Iterator[Summary]:
        """What each sidecar has counted; if it cannot be asked, what it had counted at the last look.

        Of two that cannot be added up the later one is left out. Whatever is not known of one withholds READY.
        """
        plan = self._plan
        self._unknown.clear()
        if not plan.sidecars:
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(plan.sidecars))) as pool:
            answers = list(pool.map(lambda url: asked(url, plan.token), plan.sidecars))
        added: list[Sidecar] = []
        for answer in answers:
            name = f"of {hashed_hex(answer.url)}"
            if answer.error is None:
                if (wrong := conflict([*added, answer])) is not None:
                    faults.append(f"{wrong}; it is not counted")
                    self._unknown.append(wrong)
                    continue
                added.append(answer)
                self._state.put(f"about {name}", answer.about)
                saved = load(answer.raw)
                self._state.put_summary(name, saved)
            else:
                faults.append(f"{answer.error}; its last known counts are used")
                saved = self._state.summary(name)
            if plan.shadow is not None:
                saved.shadows = {each: routes for each, routes in saved.shadows.items() if each == plan.shadow}
            yield saved
        if missing := [answer.url for answer in answers if answer.error is not None]:
            self._unknown.append(did_not_answer(missing, len(answers)))

    def _abouts(self) -> list[dict[str, Any]]:
        """What each sidecar said of its counts last."""
        kept = [self._state.get(f"about of {hashed_hex(url)}") for url in self._plan.sidecars]
        return [about for about in kept if about is not None and "shadows" in about]

    def _gates(self) -> Gates:
        """What was given; otherwise what the sidecars allow, if they allow the same."""
        abouts = self._abouts()
        if self._plan.own_gates or not abouts:
            return self._plan.gates
        try:
            found = common_gates(abouts)
        except GateError as error:  # of another version
            self._unknown.append(str(error))
            return self._plan.gates
        if found is None:
            self._unknown.append(UNLIKE_GATES)
        return found or self._plan.gates

    def _withhold(self, report: Report, now: datetime) -> None:
        """Say READY of no shadow of which the sidecars have counted too little."""
        abouts = self._abouts()
        for name, shadow in report["shadows"].items() if self._plan.sidecars else ():
            why = self._unknown[0] if self._unknown else withheld_by(abouts, name, now.timestamp())
            if why is not None and shadow["verdict"]["result"] == "pass":
                check = Check(CHECK, "engineering", Finding(Result.INCONCLUSIVE, why))
                shadow["checks"].append(check.figures())
                undecided: dict[str, Any] = {
                    "result": Result.INCONCLUSIVE.word,
                    "headline": HEADLINES[Result.INCONCLUSIVE],
                    "sentence": why,
                }
                shadow["verdict"].update(undecided)  # type: ignore[typeddict-item]
                if report["result"] == "pass":
                    report["result"] = "inconclusive"

    def _with_labels(self, base: Summary, now: datetime, faults: list[str], *, strict: bool) -> Summary:
        plan = self._plan
        if plan.labels is None:
            return base
        since = self._state.get("since")
        try:
            found, since = plan.labels.labels(since)
        except LabelError as error:
            if strict:
                raise
            faults.append(str(error))
            found = {}
        self._state.put("since", since)
        judged = _judged_places(base, plan.gates)
        take(self._state, found, plan.windows, judged, base.width, round(now.timestamp() * 1e6))
        labelled = self._state.summary(ALL) if self._has_a_whole_window(base, now) else Summary()
        waiting = self._state.labels()
        if waiting and base.count and self._state.none_belong():
            by = plan.labels.key or "the request's ID"
            faults.append(f"{waiting:,} labels have come, and none belongs to a request by {by}")
        summary = merge(base, labelled)
        summary.labels = max(1, summary.labels)  # READY is not said before labels have
        return summary

    def _has_a_whole_window(self, base: Summary, now: datetime) -> bool:
        """Whether requests of a whole window are as old as the window."""
        span = timedelta(seconds=self._plan.windows.seconds[0])
        return base.first is not None and base.first <= (now - 2 * span).timestamp() * 1e6

    def _written(self, report: Report, base: Summary, words: dict[str, Word], now: datetime, faults: list[str]) -> Look:
        at = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        windows = self._windows(base)
        shadows = {name: _seen(shadow, windows.get(name, [])) for name, shadow in report["shadows"].items()}
        changes: list[Change] = []
        for name, seen in shadows.items():
            before = words.get(name, _BEFORE_THE_FIRST)
            if seen["verdict"] != before:
                identity = hashed_hex(at, name, before, seen["verdict"])
                changes.append({"id": identity, "shadow": name, "from": before, "to": seen["verdict"]})
        return {
            "shadowproxy_watch": FORMAT,
            "at": at,
            "records": report["log"]["records"],
            "verdict": word_of(report["result"]),
            "shadows": shadows,
            "changes": changes,
            "faults": faults,
            "webhook": self._plan.posts,
        }

    def _windows(self, base: Summary) -> dict[str, list[WindowSeen]]:
        """Each window's labels, by shadow."""
        found: dict[str, list[WindowSeen]] = {}
        if self._plan.labels is None:
            return found
        for seconds in self._plan.windows.seconds:
            rests = self._state.get(f"rest {seconds:g}") or {}
            within = self._state.summary(window_name(seconds))
            shadows: dict[str, ShadowFigures] = {}
            if within.shadows:
                shadows = figures_of(merge(base, within), bounds=self._plan.gates.bounds)["shadows"]
            for name in base.shadows:
                rest = rests.get(name)
                due, labelled = due_in(rest)
                said, differ = how_they_differ(rest)
                labels = labels_of(shadows[name]) if name in shadows else None
                found.setdefault(name, []).append(
                    {
                        "seconds": seconds,
                        "due": due,
                        "labelled": labelled,
                        "found": _labels_seen(labels),
                        "rest": said,
                        "differ": differ,
                    }
                )
        return found


def _say_what_labels_wait_for(report: Report, seconds: float) -> None:
    """Put into words why no label counts yet."""
    span = about_time(seconds)
    said = f"labels count once requests of a whole {span} are {span} old and have some"
    for shadow in report["shadows"].values():
        for check in shadow["checks"]:
            if check["name"] == "labels" and check["result"] == "no data" and labels_of(shadow) is None:
                verdict = shadow["verdict"]
                verdict["sentence"] = verdict["sentence"].replace(check["said"], said)
                check["said"] = said


def _judged_places(summary: Summary, gates: Gates) -> dict[str, str]:
    """By shadow, the key of the place that its answers are judged by."""
    shadows = figures_of(summary, bounds=gates.bounds)["shadows"]
    judged = {name: judged_output(shadow) for name, shadow in shadows.items()}
    return {
        name: field_key(output["live_path"], output["shadow_path"])
        for name, output in judged.items()
        if output is not None
    }


def _seen(shadow: ShadowReport, windows: list[WindowSeen]) -> ShadowSeen:
    rows = [(row, so_far) for row in shadow["over_time"] if (so_far := row["so_far"]) is not None]
    agreement: Span | None = None
    if rows:
        row, so_far = rows[-1]
        agreement = {"value": so_far, "low": row["low"], "high": row["high"]}
    return {
        "verdict": word_of(shadow["verdict"]["result"]),
        "headline": shadow["verdict"]["headline"],
        "sentence": shadow["verdict"]["sentence"],
        "n": shadow["pairs"]["n"],
        "checks": {check["name"]: word_of(check["result"]) for check in shadow["checks"]},
        "agreement": agreement,
        "labels": _labels_seen(labels_of(shadow)),
        "windows": windows,
    }


def _labels_seen(labels: Labels | None) -> LabelsSeen | None:
    if labels is None or labels["live"] is None or labels["shadow"] is None or labels["difference"] is None:
        return None
    difference, anytime = labels["difference"], labels["anytime"]
    low, high = (anytime[0], anytime[1]) if anytime is not None else (difference["low"], difference["high"])
    return {
        "measure": labels["measure"],
        "labelled": labels["labelled"],
        "live": labels["live"]["value"],
        "shadow": labels["shadow"]["value"],
        "difference": {"value": difference["value"], "low": low, "high": high},
    }
