"""How near two models' texts are in meaning: the cosine of their embeddings, for some requests drawn by hash.

Each shadow's pairs with the smallest hashes are drawn, so that a log gives the same ones every time. Equal texts are
not sent: their cosine is 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heapreplace
from pathlib import Path
from typing import Final

from shadowproxy.answers import content_of
from shadowproxy.compare.fold.filters import EVERYTHING, Only
from shadowproxy.compare.fold.language import written_by
from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.values import cosine
from shadowproxy.compare.judge.standing import standing_of
from shadowproxy.compare.report.figures.language_types import MeaningFigures
from shadowproxy.exchange import Outcome
from shadowproxy.judge.draw import Progress, Survey, records_in
from shadowproxy.judge.embeddings import TEXTS_A_CALL, Embeddings, EmbeddingsFailed
from shadowproxy.record import RecordedLeg

LONGEST: Final = 8000
"""Characters of a text that are sent, the first: models take about 8,000 tokens."""

_QUANTILES: Final = {"p1": 0.01, "p10": 0.1, "p50": 0.5, "p90": 0.9}


@dataclass(slots=True)
class Pairs:
    """The drawn pairs of one shadow, as a heap of the smallest hashes: the largest of them comes first."""

    most: int
    found: int = 0
    drawn: list[tuple[int, str, str]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def add(self, key: int, live: str, shadow: str) -> None:
        """Draw a pair, unless its hash is too large or was seen."""
        self.found += 1
        if key in self.seen or (len(self.drawn) == self.most and -self.drawn[0][0] < key):
            return
        self.seen.add(key)
        entry = -key, _sent(live), _sent(shadow)
        if len(self.drawn) < self.most:
            heappush(self.drawn, entry)
        else:
            self.seen.discard(-heapreplace(self.drawn, entry)[0])


def draw_texts(
    paths: Sequence[str | Path],
    shadow: str | None,
    most: int,
    only: Only = EVERYTHING,
    progress: Progress | None = None,
) -> dict[str, Pairs]:
    """The texts of language models that both wrote, at most `most` pairs of each shadow.

    Raises OSError where a path cannot be read, and DrawError for a saved summary.
    """
    pairs: dict[str, Pairs] = {}
    for record in records_in(paths, only, Survey(), progress):
        live = _text(record.live)
        if not live:
            continue
        for name, leg in record.shadows.items():
            if shadow in (None, name) and (other := _text(leg)):
                pairs.setdefault(name, Pairs(most)).add(hashed("meaning", record.record), live, other)
    return pairs


def _text(answer: RecordedLeg) -> str:
    """What a language model wrote; empty for any other answer."""
    if answer.outcome is not Outcome.OK:
        return ""
    content = content_of(answer)
    said = written_by(content, standing_of(answer, content))
    return said.text if said is not None else ""


def _sent(text: str) -> str:
    return text[:LONGEST].encode(errors="replace").decode()  # half of a surrogate pair is no UTF-8


def meanings(pairs: Mapping[str, Pairs], endpoint: Embeddings, model: str) -> dict[str, MeaningFigures]:
    """The figures of each shadow. Where the endpoint fails, what is not known is None, and `failed` says why."""
    found: dict[str, MeaningFigures] = {}
    failed: str | None = None
    for name, each in pairs.items():
        differing = [(live, shadow) for _, live, shadow in sorted(each.drawn) if live != shadow]
        cosines: list[float] | None = None
        if failed is None:
            try:
                cosines = _cosines(differing, endpoint)
            except EmbeddingsFailed as why:
                failed = str(why)
        equal = len(each.drawn) - len(differing)
        ordered = sorted([*cosines, *[1.0] * equal]) if cosines is not None else []
        found[name] = {
            "model": model,
            "to": endpoint.origin,
            "pairs": each.found,
            "drawn": len(each.drawn),
            "equal": equal,
            "failed": failed,
            "mean": sum(ordered) / len(ordered) if ordered else None,
            "quantiles": {word: _quantile(ordered, q) for word, q in _QUANTILES.items()},
        }
    return found


def _cosines(pairs: Sequence[tuple[str, str]], endpoint: Embeddings) -> list[float]:
    texts = [text for pair in pairs for text in pair]
    vectors: list[list[float]] = []
    for start in range(0, len(texts), TEXTS_A_CALL):
        vectors += endpoint.of(texts[start : start + TEXTS_A_CALL])
    return list(_angles(vectors))


def _angles(vectors: Sequence[Sequence[float]]) -> Iterable[float]:
    for live, shadow in zip(vectors[::2], vectors[1::2], strict=True):
        found = cosine(live, shadow)
        if found is None:
            raise EmbeddingsFailed("its embeddings have several dimensions, or no length")
        yield found


def _quantile(ordered: Sequence[float], q: float) -> float | None:
    """The q-quantile of sorted numbers, between its two neighbours; None without any."""
    if not ordered:
        return None
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
