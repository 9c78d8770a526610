"""Which figures stand for the answers: those of the judged place, or of whole answers where no place is judged.

The checks, the advice and every form choose by these functions, so that all of them speak of the same place.
"""

from typing import Final

from shadowproxy.compare.report.figures.types import Answered, EstimateFigures, Labels, Output, PairFigures


def judged_output(figures: PairFigures) -> Output | None:
    """The place that the answers are judged by: the first in the detector's order that has values."""
    return next((each for each in figures["outputs"] if each["pairs"]), None)


def agreement_of(figures: PairFigures) -> EstimateFigures | None:
    """How often the two agree: at the judged place, or else as whole answers without what is noise."""
    judged = judged_output(figures)
    if judged is not None:
        return judged["agreement"]
    return figures["agreement"]["settled"] or figures["agreement"]["whole"]


def answered_of(figures: PairFigures) -> Answered | None:
    """How many answers are missing: at the judged place, or of whole answers."""
    judged = judged_output(figures)
    return judged["answered"] if judged is not None else figures["answered"]


def labels_of(figures: PairFigures) -> Labels | None:
    """The judged place against the labels."""
    judged = judged_output(figures)
    return judged["labels"] if judged is not None else None


def place_of(output: Output) -> str:
    """Where live's answer is, as people read it."""
    return output["live_path"] or "the answer"


def needs_state(figures: PairFigures) -> bool:
    """Whether the shadow rejects requests for IDs that it was never given, as nothing is translated for it."""
    found, flips = figures["state"], figures["flips"]
    if found is None or found["translated"] or found["unknown"] or flips is None:
        return False
    return found["refused"] >= max(_FEWEST, _LEAST_SHARE * flips["to_4xx"]["count"])


_FEWEST: Final = 3
_LEAST_SHARE: Final = 0.2  # of the requests that only the shadow rejects
