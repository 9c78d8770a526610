"""The fold over files: sample, read, summarise, merge; in this process or several.

A saved summary may stand wherever a log may. `summarise_one` is what runs elsewhere: a file and readings to the bytes
of a summary, with no state between. On Spark that is `parallelize(files).map(...).treeReduce(...)`.
"""

import copyreg
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from functools import partial
from glob import glob
from itertools import chain
from pathlib import Path
from typing import Any, Final

from shadowproxy.compare.answers import answer_value
from shadowproxy.compare.fields import MOST_FIELDS, SAMPLE, Field, detect, field_at
from shadowproxy.compare.filters import EVERYTHING, Only
from shadowproxy.compare.outputs import field_of
from shadowproxy.compare.pair import Reading, Truth, aside_of, good
from shadowproxy.compare.rules import Rules, Tolerance
from shadowproxy.compare.summary import Readings, Summary, SummaryError, load, merge, save, summarise
from shadowproxy.lines import Line, Unreadable, lines, segments
from shadowproxy.record import Record, RecordError, decode


def _given(noun: Any) -> tuple[type[Any], tuple[Any, ...]]:
    return type(noun), tuple(getattr(noun, each.name) for each in fields_of(noun) if each.init)


# Other processes are sent what these were made of. Compiled, a frozen dataclass is none that pickle can fill again; and
# what rules and readings work out of it is larger than what was given.
for each in (Field, Reading, Readings, Rules, Tolerance, Truth):
    copyreg.pickle(each, _given)

Progress = Callable[[int, int], None]
"""Told of bytes and records read since it was last told."""

FieldPlaces = tuple[str, str]
"""Where a field stands in live's answers and in the shadow's."""

_SAVED: Final = b'{"shadowproxy_summary"'
_TOLD_EVERY: Final = 200  # records
_SAMPLE_RECORDS: Final = 10 * SAMPLE
_SAMPLE_BYTES: Final = 64 << 20
_ENOUGH: Final = 100  # pairs of each shadow that a sample should hold


@dataclass(frozen=True, slots=True)
class Late:
    """What comes too late for a saved summary, whose counts cannot be chosen from or compared anew.

    `options` are those that say so, by name. Fields are no news to a summary that was made with the same ones:
    `field_options` count only where `fields` are others than its own.
    """

    options: tuple[str, ...] = ()
    field_options: tuple[str, ...] = ()
    fields: tuple[FieldPlaces, ...] = ()

    def for_summary(self, saved: Summary, shadow: str | None = None) -> tuple[str, ...]:
        """The options that cannot be applied to it."""
        asked = set(self.fields[:MOST_FIELDS])
        for name, pair in saved.shadows.items():
            looked_at = {_places(key) for key in pair.outputs}
            # Without an answer to look at there is none to look at elsewhere.
            had_answers = bool(looked_at) or any(pair.json_given.values())
            if shadow in (None, name) and had_answers and looked_at != asked:
                return (*self.options, *self.field_options)
        return self.options


NOTHING_LATE: Final = Late()


def _places(key: str) -> FieldPlaces:
    found = field_of(key)
    return found.live, found.shadow


def summarise_files(
    paths: Iterable[str | Path],
    rules: Rules,
    *,
    shadow: str | None = None,
    only: Only = EVERYTHING,
    fields: tuple[FieldPlaces, ...] = (),
    slices: tuple[str, ...] = (),
    truths: Mapping[str, Truth] | None = None,
    late: Late = NOTHING_LATE,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Summary:
    """The summary of logs, directories of logs, `-` and saved summaries, together.

    Where the answer is (`fields`) is found out from a sample unless told; `slices` are request fields to count however
    many a request has. Lines that are no records are counted under a reason, never fatal. `jobs` above 1 reads that
    many files at once; the summary is the same. Raises OSError where a path cannot be read, SummaryError where a saved
    summary is broken or something of `late` cannot be applied to it.
    """
    files = [file for path in paths for file in files_of(path)]
    if jobs > 1 and len(files) > 1 and "-" not in files:
        from concurrent.futures import ProcessPoolExecutor  # only here: it takes 13 ms to load

        with_sample = _Source(files, only, None, shadow, late)
        readings = readings_of(with_sample.sample(), rules, shadow=shadow, fields=fields, slices=slices, truths=truths)
        with_sample.close()
        work = partial(summarise_one, readings=readings, only=only, shadow=shadow, late=late)
        summary = Summary()
        with ProcessPoolExecutor(min(jobs, len(files))) as pool:
            for file, raw in zip(files, pool.map(work, files), strict=True):
                part = load(raw)
                summary = merge(summary, part)
                if progress is not None:
                    progress(Path(file).stat().st_size, part.count)
        return summary
    source = _Source(files, only, progress, shadow, late)
    sample = source.sample()
    readings = readings_of(sample, rules, shadow=shadow, fields=fields, slices=slices, truths=truths)
    return _folded(source, sample, readings, shadow)


def summarise_one(
    file: str, readings: Readings, only: Only = EVERYTHING, shadow: str | None = None, late: Late = NOTHING_LATE
) -> bytes:
    """One file's summary, as `save` writes it."""
    return save(_folded(_Source([file], only, None, shadow, late), [], readings, shadow))


def files_of(path: str | Path) -> list[str]:
    """The files that a path stands for: a directory's segments, oldest first; a pattern's files by name; or itself."""
    if str(path) == "-":
        return ["-"]
    if Path(path).is_dir():
        return [str(file) for file in segments(Path(path))]
    if not Path(path).exists() and any(sign in str(path) for sign in "*?["):
        return sorted(glob(str(path), recursive=True)) or [str(path)]
    return [str(path)]


class _Source:
    """The records of files that are asked for, in order; what is no record is counted, saved summaries are kept."""

    def __init__(self, files: list[str], only: Only, progress: Progress | None, shadow: str | None, late: Late) -> None:
        self.unreadable: Counter[str] = Counter()
        self.saved: list[Summary] = []
        self._only = only
        self._shadow = shadow
        self._late = late
        self._progress = progress
        self._told = 0
        self._bytes = 0
        self._lines = lines(files, None if progress is None else lambda count: progress(count, 0))
        self._records = self._read()

    def __iter__(self) -> Iterator[Record]:
        return self._records

    def sample(self) -> list[Record]:
        """The first records: enough to see where the answer is, for every shadow among them."""
        taken: list[Record] = []
        pairs: Counter[str] = Counter()
        for record in self._records:
            taken.append(record)
            pairs.update(name for name, answer in record.shadows.items() if good(answer) and good(record.live))
            enough = len(taken) >= SAMPLE and all(count >= _ENOUGH for count in pairs.values())
            if enough or len(taken) >= _SAMPLE_RECORDS or self._bytes > _SAMPLE_BYTES:
                break
        return taken

    def close(self) -> None:
        self._records.close()

    def finish(self) -> None:
        if self._progress is not None:
            self._progress(0, self._told % _TOLD_EVERY)

    def _read(self) -> Generator[Record, None, None]:
        for line in self._lines:
            if isinstance(line, Unreadable):
                self.unreadable[line.why.partition(":")[0]] += 1
                continue
            self._bytes += len(line.raw)
            if line.raw.startswith(_SAVED):
                self.saved.append(self._loaded(line))
                continue
            record = self._decoded(line)
            self._told += 1
            if self._progress is not None and self._told % _TOLD_EVERY == 0:
                self._progress(0, _TOLD_EVERY)
            if record is not None:
                yield record

    def _loaded(self, line: Line) -> Summary:
        try:
            saved = load(line.raw)
        except SummaryError as error:
            raise SummaryError(f"{line.file}: {error}") from error
        if too_late := self._late.for_summary(saved, self._shadow):
            them = "it" if len(too_late) == 1 else "them"
            said = f"{', '.join(too_late)} cannot be applied to it, give {them} to summarise"
            raise SummaryError(f"{line.file} is a summary: {said}")
        return saved

    def _decoded(self, line: Line) -> Record | None:
        try:
            record = decode(line.raw)
            return record if self._only.accepts(record) else None
        except RecordError as error:
            self.unreadable["torn line" if line.torn else _reason(error)] += 1
        except ValueError:
            self.unreadable["no time"] += 1
        return None


def _folded(source: _Source, sample: list[Record], readings: Readings, shadow: str | None) -> Summary:
    summary = summarise(chain(sample, source), readings, shadow=shadow)
    source.finish()
    summary.unreadable.update(source.unreadable)
    for saved in source.saved:
        if shadow is not None:
            saved.shadows = {name: pair for name, pair in saved.shadows.items() if name == shadow}
        summary = merge(summary, saved)
    return summary


def readings_of(
    sample: list[Record],
    rules: Rules,
    *,
    shadow: str | None = None,
    fields: tuple[FieldPlaces, ...] = (),
    slices: tuple[str, ...] = (),
    truths: Mapping[str, Truth] | None = None,
) -> Readings:
    """How to read each shadow of a sample: where its answer is unless `fields` tells, and what is noise."""
    first = summarise(sample, rules, shadow=shadow)
    named: dict[str, Reading] = {}
    base = Reading(rules, truths=truths or {}, slices=slices)
    for name, pair in first.shadows.items():
        pairs = [
            (answer_value(record.live), answer_value(record.shadows[name]))
            for record in sample
            if name in record.shadows and good(record.live) and good(record.shadows[name])
        ][:SAMPLE]
        pairs = [(one, other) for one, other in pairs if one is not None and other is not None]
        told = tuple(field_at(pairs, live, other) for live, other in fields[:MOST_FIELDS])
        found = told or detect(pairs)
        named[name] = replace(base, fields=found, aside=frozenset(aside_of(pair, {each.live for each in found})))
    other = replace(base, fields=tuple(field_at([], *each) for each in fields[:MOST_FIELDS]))
    return Readings(other, named)


def _reason(error: RecordError) -> str:
    said = str(error)
    return "another schema" if said.startswith("a record of schema") else said.partition(":")[0]
