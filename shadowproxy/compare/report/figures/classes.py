"""The figures of a place that holds classes; a vector's class is its largest member, a ranking's its first."""

from collections.abc import Mapping
from typing import Final

import orjson

from shadowproxy.compare.fold.few import Few
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures import drift
from shadowproxy.compare.report.figures.common import arms, estimated
from shadowproxy.compare.report.figures.relatedness import kappa
from shadowproxy.compare.report.figures.types import ClassArm, ClassFigures
from shadowproxy.compare.report.kinds import AnswerPlace
from shadowproxy.compare.report.stats import Estimate

CLASSES_SHOWN: Final = 20
FLIPS_SHOWN: Final = 10


def tables_of(judged: AnswerPlace) -> tuple[list[Few], list[Few]]:
    """The tables of live's and the shadow's classes."""
    counted = judged.counted
    if judged.kind == "class":
        return [counted.live_classes, counted.live_whole], [counted.shadow_classes, counted.shadow_whole]
    return [counted.live_classes], [counted.shadow_classes]


def class_figures(judged: AnswerPlace, agreement: Estimate | None) -> ClassFigures:
    live_tables, shadow_tables = tables_of(judged)
    live, shadow = totals(live_tables), totals(shadow_tables)
    live_many, shadow_many = (any(table.many for table in tables) for tables in (live_tables, shadow_tables))
    confusion = {tuple(orjson.loads(key)): n for key, n in judged.counted.confusion.items()}
    flips = sorted(
        ((pair, n) for pair, n in confusion.items() if pair[0] != pair[1]), key=lambda each: (-each[1], each[0])
    )
    blocks = drift.class_groups(live_tables, shadow_tables)
    distance = drift.distance(blocks)
    grouped = arms(drift.whole(blocks))
    return {
        "live": _class_arm(live, many=live_many),
        "shadow": _class_arm(shadow, many=shadow_many),
        "new": sorted(set(shadow) - set(live))[:CLASSES_SHOWN] if not live_many and not shadow_many else [],
        "vanished": sorted(set(live) - set(shadow))[:CLASSES_SHOWN] if not live_many and not shadow_many else [],
        "classes_cut": live_many or shadow_many,
        "kappa": kappa(judged) if judged.kind in ("class", "vector") else None,
        "confusion": [
            {"live": pair[0], "shadow": pair[1], "count": n}
            for pair, n in sorted(confusion.items(), key=lambda each: (-each[1], each[0]))[: CLASSES_SHOWN * 5]
        ],
        "flips": [
            {"live": pair[0], "shadow": pair[1], "count": n, "net": n - confusion.get((pair[1], pair[0]), 0)}
            for pair, n in flips[:FLIPS_SHOWN]
        ],
        "drift": {
            "jensen_shannon": estimated(distance),
            "cells": drift.cells_in(blocks),
            "effective": drift.effective(agreement),
            "why": "one of the two has no values there" if distance is None else None,
            "largest_change": stats.largest_change(*grouped),
            "stability_index": stats.stability_index(*grouped),
        },
    }


def totals(tables: list[Few]) -> dict[str, int]:
    return {key: series.total() for table in tables for key, series in table.items()}


def _class_arm(counts: Mapping[str, int], *, many: bool) -> ClassArm:
    """One arm's classes; of too many it is known only how many answers there were."""
    total = sum(counts.values())
    rows = sorted(counts.items(), key=lambda each: (-each[1], each[0])) if not many else []
    return {
        "n": total,
        "classes": [{"class": key, "count": n, "share": n / total} for key, n in rows[:CLASSES_SHOWN]],
        "distinct": len(counts) if not many else None,
        "top_share": rows[0][1] / total if rows else None,
        "entropy": stats.entropy(counts) if not many else None,
    }
