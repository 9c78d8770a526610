"""Makes the summary of one segment, to be put beside it (`beside` reads it)."""

from pathlib import Path

from shadowproxy import __version__
from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.reading import FieldPlaces
from shadowproxy.compare.fold.summary import resealed
from shadowproxy.compare.judge.rules import Rules


def summary_of(path: Path, rules: Rules, fields: tuple[FieldPlaces, ...], size: int, tag: str | None) -> bytes | None:
    """The summary of a segment of `size` bytes, to be put beside it; None if it has no records.

    `tag` is that of the segment in its store. Raises OSError.
    """
    summary = summarise_files([path], rules, fields=fields)
    if not summary.count:
        return None
    of = {
        "segment": path.name,
        "bytes": size,
        "tag": tag,
        "rules": rules.digest,
        "fields": [list(each) for each in fields],
        "version": __version__,
    }
    return resealed(summary, {"of": of})
