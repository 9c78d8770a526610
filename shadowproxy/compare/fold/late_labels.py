"""Labels that are given after a log was summarised: joined to the answers kept beside the summary."""

from collections.abc import Iterator

from shadowproxy.compare.fold.kept import KeptPair, pairs_in, source_beside
from shadowproxy.compare.fold.summary import Summary, SummaryError
from shadowproxy.compare.fold.truths import Truths


def join(saved: Summary, file: str, digest: str, truths: Truths) -> None:
    """Count labels in a summary that was loaded from `file`, as if they had been given with its log.

    They replace labels that were counted before. Raises SummaryError if its answers were not kept, or are another's.
    """
    for each in saved.shadows.values():
        for pair in (*each.values(), each.other):
            pair.forget_labels()
    saved.labels = truths.supplied
    answers = source_beside(file)
    for kept in kept_beside(file, digest, truths.place):
        routes = saved.shadows.get(kept.shadow)
        key = kept.id if truths.place is None else kept.key
        truth = None if key is None else truths.by_key.get(key)
        if routes is None or truth is None:
            continue
        counted = routes.get(kept.route, routes.other)
        try:
            counted.label(kept.at // (1000 * saved.width), kept.at / 1e6, truth, kept.gists(), kept.stands_for)
        except (TypeError, ValueError) as error:
            raise SummaryError(f"{answers.name}: not a whole file of answers; save it again from its log") from error


def kept_beside(file: str, digest: str, place: str | None) -> Iterator[KeptPair]:
    """The pairs that were kept beside a summary. Raises SummaryError if they cannot be found."""
    if file == "-":
        raise SummaryError(
            "a summary from standard input has no answers beside it: labels cannot be joined; give its file"
        )
    answers = source_beside(file)
    try:
        yield from pairs_in(answers, digest, place)
    except FileNotFoundError:
        raise SummaryError(
            f"{file} was saved without --keep-answers, or {answers.name.rpartition('/')[2]} is not beside it: "
            "labels cannot be joined; give them to summarise, or the log"
        ) from None
