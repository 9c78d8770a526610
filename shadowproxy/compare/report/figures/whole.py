"""The report without its verdict: the log's figures, and each shadow's, as a whole and by route."""

from typing import Final, Literal

from shadowproxy import __version__
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.reading import keys_of
from shadowproxy.compare.fold.routes import FEWEST_PAIRS, OTHER, Route, Routes, judged, pooled
from shadowproxy.compare.fold.summary import Summary
from shadowproxy.compare.report.figures import agreement, language, latency, noise, pairs, state, streams, usage
from shadowproxy.compare.report.figures.common import moment, ranked
from shadowproxy.compare.report.figures.outputs import output_figures
from shadowproxy.compare.report.figures.ranges import Bounds
from shadowproxy.compare.report.figures.slices import parts as parts_of
from shadowproxy.compare.report.figures.slices import slices as slices_of
from shadowproxy.compare.report.figures.types import Log, PairFigures, ReportFigures, ShadowFigures
from shadowproxy.compare.report.kinds import AnswerPlace, answer_places

FORMAT: Final[Literal[2]] = 2
"""The version of the report's JSON. Keys are added within a version, never changed or taken away."""

LEGACY: Final = "this summary was saved by an earlier version, which did not count it; summarise its log again"


def figures_of(summary: Summary, *, slices: tuple[str, ...] = (), bounds: Bounds | None = None) -> ReportFigures:
    """The report without its verdict. Equal summaries give equal figures, digit for digit.

    `slices` names the request fields to look at; without it all that were counted, of which the worst are shown.
    `bounds` are those within which the answers' numbers must lie, where they are known.
    """
    summary.put_in_order()
    return figures_as_counted(summary, slices=slices, bounds=bounds)


def figures_as_counted(
    summary: Summary, *, slices: tuple[str, ...] = (), bounds: Bounds | None = None
) -> ReportFigures:
    """The same in less time, where the last digit of a figure does not matter."""
    return {
        "shadowproxy_report": FORMAT,
        "version": __version__,
        "log": _log(summary),
        "shadows": {name: _shadow(routes, summary, slices, bounds) for name, routes in sorted(summary.shadows.items())},
    }


def _log(summary: Summary) -> Log:
    found: Log = {
        "records": summary.count,
        "first": moment(summary.first),
        "last": moment(summary.last),
        "unreadable": dict(sorted(summary.unreadable.items())),
        "repeated_ids": summary.ids.repeats(),
        "repeated_records": summary.records.repeats(),
        "live_outcomes": ranked(summary.live_outcomes),
        "live_statuses": ranked(summary.live_statuses),
        "block_seconds": summary.width / 1000,
        "blocks": len(summary.blocks),
    }
    if summary.heaviest > 1:
        found["requests"] = summary.requests
    return found


def _shadow(routes: Routes, summary: Summary, slices: tuple[str, ...], bounds: Bounds | None) -> ShadowFigures:
    rows = judged(routes)
    alone = len(rows) == 1
    whole = pooled(routes)
    return {
        **_pair(whole, summary, slices, bounds),
        "routes": [
            {
                "route": route.name,
                "requests": pairs.number_of_pairs(route.pair)[0],
                "share": route.share,
                "gated": route.gated,
                "figures": _figures_of_route(route, summary, slices, bounds, labelled=bool(whole.labelled))
                if route.gated and not alone
                else None,
                "why": None if route.gated or alone else _why(route, rows),
            }
            for route in rows
        ],
    }


def _why(route: Route, rows: list[Route]) -> str:
    """Why a route is not judged by itself."""
    if not any(each.gated for each in rows):
        return "not judged by itself: all routes are judged as one"
    if any(each.gated and each.name == OTHER for each in rows):
        return f"judged with {OTHER}: too few to be judged by itself"
    count = route.pair.pairs.written() if not route.pair.legacy else pairs.number_of_pairs(route.pair)[0]
    return f"not judged: under {FEWEST_PAIRS} requests" if count < FEWEST_PAIRS else "not judged: under 1 % of all"


def _figures_of_route(
    route: Route, summary: Summary, slices: tuple[str, ...], bounds: Bounds | None, *, labelled: bool
) -> PairFigures:
    """The figures of a route that is judged beside others; of a single route they are the shadow's."""
    figures = _pair(route.pair, summary, slices, bounds)
    if labelled and not route.pair.labelled:
        figures["labels_supplied"] = 0  # they are for other routes
    return figures


def _pair(pair: Pair, summary: Summary, slices: tuple[str, ...], bounds: Bounds | None) -> PairFigures:
    outputs = answer_places(pair.outputs, pair.live_good.total(), _named(pair)) if not pair.legacy else []
    first: AnswerPlace | None = outputs[0] if outputs else None
    natures = noise.aside_of(pair, {each.live for each in outputs})
    aside = set(natures)
    fields = agreement.differing_fields(pair, natures)
    chosen, answered = pair.chosen.total(), pair.answered.total()
    return {
        "coverage": {
            "chosen": chosen,
            "answered": answered,
            "share": answered / chosen if chosen else None,
            "outcomes": ranked(pair.outcomes),
            "left_out": pairs.left_out(pair),
        },
        "pairs": pairs.pairs(pair),
        "statuses": [
            {"live": key.partition(" ")[0], "shadow": key.partition(" ")[2], "count": count}
            for key, count in sorted(pair.statuses.items(), key=lambda each: (-each[1], each[0]))
        ],
        # Where an earlier version did not count these for a part of the log, the rest is not shown as if it were all.
        "errors": pairs.errors(pair) if not pair.legacy else None,
        "flips": pairs.flips(pair) if not pair.legacy else None,
        "structure": pairs.structure(pair, aside) if not pair.legacy else None,
        "answered": pairs.answered(pair) if not pair.legacy else None,
        "repeated_keys": {"live": pair.repeated_keys["live"], "shadow": pair.repeated_keys["shadow"]},
        "state": state.state(pair),
        "latency": latency.latency(pair),
        "streams": streams.streams(pair),
        "usage": usage.usage(pair),
        "language": language.language(pair),
        "agreement": agreement.agreement(pair, aside),
        "outputs": [output_figures(each, bounds=bounds, label_delay=pair.label_delay) for each in outputs],
        "fields": fields[: agreement.FIELDS_SHOWN],
        "fields_cut": pair.differs.cut or len(fields) > agreement.FIELDS_SHOWN,
        "near": {path: tally.total() for path, tally in sorted(pair.near.items())},
        "parts": parts_of(pair),
        "slices": slices_of(pair, first, slices),
        "slices_cut": pair.slices.cut,
        "control": noise.control(pair, first.live if first is not None else None),
        "repeats": noise.repeats(pair),
        "over_time": agreement.over_time(pair, first, aside, summary.width),
        "examples": agreement.examples(pair, aside, first),
        "largest": [first.counted.largest[digest] for digest in sorted(first.counted.largest)] if first else [],
        "labels_supplied": summary.labels,
        "judged": None,
        "legacy": LEGACY if pair.legacy else None,
    }


def _named(pair: Pair) -> tuple[str, ...]:
    """The fields that were named, in their order: of parts that named others, those of most requests."""
    if not pair.named:
        return ()
    return keys_of(max(sorted(pair.named), key=lambda key: pair.named[key]))
