"""What language models wrote and called, as rows of a table: each arm's answers, and both on the same requests."""

from typing import Final

from shadowproxy.compare.report.figures.basic_types import EstimateFigures
from shadowproxy.compare.report.figures.language_types import (
    CallFigures,
    Followed,
    LanguageFigures,
    MeaningFigures,
    OutputFigures,
    RefusalFigures,
    TextFigures,
)
from shadowproxy.compare.report.sentences.usage import ratio, tokens
from shadowproxy.compare.report.words import percent

LANGUAGE_HEADS: Final = ("live", "shadow", "same requests")

_WHY_NOT: Final = {
    "no package": "no jsonschema",
    "too large": "over 64 KiB",
    "unusable schema": "unusable",
    "too costly": "takes too long",
    "needs a pattern": "needs a pattern",
}
"""Why a value could not be checked by a schema."""

_INSTALL: Final = (
    "Nothing was checked by schemas: the package jsonschema is not installed. pip install '.[schemas]' in a checkout "
    "installs it; then make the report again from the log."
)

LANGUAGE_NOTE: Final = (
    "Texts are compared where both wrote one, without calls, reasoning and refusals. Same words: whatever their case, "
    "blanks and punctuation. Token F1: words in common, in any order; ROUGE-L: in the same order, of the "
    "first 1,000 words. A refusal is one that the API has a field for. Intervals are 95 %."
)


def language_rows(found: LanguageFigures) -> list[tuple[str, ...]]:
    """A row's name, and its figures under LANGUAGE_HEADS."""
    both = f"{found['requests']:,} by both"
    rows: list[tuple[str, ...]] = [("answers", f"{found['live']:,}", f"{found['shadow']:,}", both)]
    if found["only_live"] or found["only_shadow"]:
        rows.append(("text only from it", f"{found['only_live']:,}", f"{found['only_shadow']:,}", ""))
    rows += _texts(found["text"])
    rows += _calls(found["calls"])
    rows += _output(found["output"])
    return [*rows, *_refusals(found["refusals"]), *_meaning(found["meaning"])]


def language_notes(found: LanguageFigures) -> list[str]:
    """What stands below the table: why something could not be checked."""
    arms = [part[arm]["not_checked"] for part in _schemas(found) for arm in ("live", "shadow")]
    notes = [_INSTALL] if any("no package" in arm for arm in arms) else []
    meaning = found["meaning"]
    if meaning is not None:
        by = f"{meaning['model']} at {meaning['to']}"
        if meaning["failed"] is not None:
            notes.append(f"No cosines: {by}: {meaning['failed']}.")
        else:
            drawn = f"{meaning['drawn']:,} of {meaning['pairs']:,} pairs of texts, drawn by hash"
            notes.append(f"Cosines of the embeddings of {by}: {drawn}; {meaning['equal']:,} were equal.")
    return notes


def _meaning(found: MeaningFigures | None) -> list[tuple[str, ...]]:
    if found is None or found["mean"] is None:
        return []
    low, middle = found["quantiles"]["p10"], found["quantiles"]["p50"]
    rows: list[tuple[str, ...]] = [("cosine, mean", "", "", f"{found['mean']:.3f} of {found['drawn']:,}")]
    if low is not None and middle is not None:
        rows.append(("cosine p50", "", "", f"{middle:.3f}"))
        rows.append(("cosine, lowest tenth", "", "", f"up to {low:.3f}"))
    return rows


def _schemas(found: LanguageFigures) -> list[dict[str, Followed]]:
    calls, output = found["calls"], found["output"]
    parts: list[dict[str, Followed]] = []
    if calls is not None:
        parts.append({"live": calls["live"]["schema"], "shadow": calls["shadow"]["schema"]})
    if output is not None:
        parts.append({"live": output["live"], "shadow": output["shadow"]})
    return parts


def _texts(found: TextFigures | None) -> list[tuple[str, ...]]:
    if found is None:
        return []
    rows: list[tuple[str, ...]] = [
        ("texts equal", "", "", f"{share(found['exact'])} of {found['requests']:,}"),
        ("texts of the same words", "", "", share(found["same_words"])),
        ("token F1, mean", "", "", _score(found["token_f1"])),
        ("ROUGE-L, mean", "", "", _score(found["rouge_l"])),
    ]
    lowest = found["rouge_l_quantiles"]["p10"]
    if lowest is not None:
        rows.append(("ROUGE-L, lowest tenth", "", "", f"up to {lowest:.2f}"))
    length = found["length"]
    if length is not None:
        totals = tokens(length["live_total"]), tokens(length["shadow_total"])
        rows.append(("characters of text, all", *totals, ratio(length["totals"])))
        middle = [length[arm]["p50"] for arm in ("live", "shadow")]
        shown = ["–" if value is None else tokens(value) for value in middle]
        rows.append(("characters of text p50", *shown, ratio(length["ratio"]["p50"])))
    return rows


def _calls(found: CallFigures | None) -> list[tuple[str, ...]]:
    if found is None:
        return []
    live, shadow = found["live"], found["shadow"]
    of = f" of {found['requests']:,}"
    rows: list[tuple[str, ...]] = [
        ("answers that call tools", f"{live['answers']:,}", f"{shadow['answers']:,}", ""),
        ("tools called", f"{live['calls']:,}", f"{shadow['calls']:,}", ""),
        ("the same tools", "", "", share(found["same_names"]) + of),
        ("with the same arguments", "", "", share(found["same_arguments"]) + of),
    ]
    if live["no_json"] or shadow["no_json"]:
        rows.append(("arguments that are no JSON", f"{live['no_json']:,}", f"{shadow['no_json']:,}", ""))
    if live["unknown_tools"] or shadow["unknown_tools"]:
        unknown = (f"{arm['unknown_tools']:,}" for arm in (live, shadow))
        rows.append(("tools unknown to the request", *unknown, ""))
    return rows + _followed("arguments follow the schema", live["schema"], shadow["schema"], "")


def _output(found: OutputFigures | None) -> list[tuple[str, ...]]:
    if found is None:
        return []
    pairs = f"{found['only_live']:,} only live's, {found['only_shadow']:,} only the shadow's"
    return _followed("texts follow the schema", found["live"], found["shadow"], pairs)


def _followed(name: str, live: Followed, shadow: Followed, pairs: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if live["checked"] or shadow["checked"]:
        rows.append((name, *(f"{arm['valid']:,} of {arm['checked']:,}" for arm in (live, shadow)), pairs))
    for why in sorted({*live["not_checked"], *shadow["not_checked"]}):
        counts = (f"{arm['not_checked'].get(why, 0):,}" for arm in (live, shadow))
        rows.append((f"  not checked: {_WHY_NOT.get(why, why)}", *counts, ""))
    return rows


def _refusals(found: RefusalFigures | None) -> list[tuple[str, ...]]:
    if found is None:
        return []
    words = sorted({*found["live"], *found["shadow"]})
    rows: list[tuple[str, ...]] = [
        (f"refused: {word}", f"{found['live'].get(word, 0):,}", f"{found['shadow'].get(word, 0):,}", "")
        for word in words
    ]
    flips = (
        f"{found['both']:,} by both, {found['only_live']:,} only by live, {found['only_shadow']:,} only by the shadow"
    )
    return [*rows, ("refused requests", "", "", flips)]


def share(estimate: EstimateFigures | None) -> str:
    """A share with its interval, if that is known."""
    if estimate is None:
        return "–"
    low, high = estimate["low"], estimate["high"]
    around = f" ({percent(max(0.0, low))} to {percent(min(1.0, high))})" if low is not None and high is not None else ""
    return f"{percent(estimate['value'])}{around}"


def _score(estimate: EstimateFigures | None) -> str:
    if estimate is None:
        return "–"
    low, high = estimate["low"], estimate["high"]
    around = f" ({max(0.0, low):.2f} to {min(1.0, high):.2f})" if low is not None and high is not None else ""
    return f"{estimate['value']:.2f}{around}"
