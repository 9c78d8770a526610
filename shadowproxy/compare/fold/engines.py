"""The fold over files: read, summarise, add up; in this process or several.

A saved summary may stand wherever a log may. `summarise_one` is what runs elsewhere: a file and a reading to the bytes
of a summary, with no state between. On Spark that is `parallelize(files).map(...).treeReduce(...)`.
"""

import copyreg
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from dataclasses import fields as fields_of
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any, Final

from shadowproxy.compare.fold.filters import EVERYTHING, Only
from shadowproxy.compare.fold.kept import ENDING, Keeper
from shadowproxy.compare.fold.kept import START as _KEPT
from shadowproxy.compare.fold.late_labels import join, kept_beside
from shadowproxy.compare.fold.outputs import OutputsByField
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.reading import FieldPlaces, Reading, keys_of, named_by
from shadowproxy.compare.fold.summary import Summary, SummaryError, load, save, seal_of, summarise
from shadowproxy.compare.fold.truths import NONE as NO_TRUTHS
from shadowproxy.compare.fold.truths import Truth, Truths
from shadowproxy.compare.judge.rules import Rules, Tolerance
from shadowproxy.lines import Line, Unreadable, lines, segments
from shadowproxy.record import Record, RecordError, decode


def _given(noun: Any) -> tuple[type[Any], tuple[Any, ...]]:
    return type(noun), tuple(getattr(noun, each.name) for each in fields_of(noun) if each.init)


# Other processes are sent what these were made of. Compiled, a frozen dataclass is none that pickle can fill again; and
# what rules and readings work out of it is larger than what was given.
for each in (Reading, Rules, Tolerance, Truth, Truths):
    copyreg.pickle(each, _given)

Progress = Callable[[int, int], None]
"""Told of bytes and records read since it was last told."""

MOST_FIELDS: Final = 3
"""Fields that can be named."""

_SAVED: Final = b'{"shadowproxy_summary"'
_TOLD_EVERY: Final = 200  # records
_AHEAD: Final = 2  # files a job that are read before their turn: their summaries wait in memory


@dataclass(frozen=True, slots=True)
class Late:
    """What comes too late for a saved summary, whose records cannot be chosen from or compared anew.

    `options` are those that say so, by name. Fields can still be chosen from those that were counted: `field_options`
    count only where one of `fields` was not.
    """

    options: tuple[str, ...] = ()
    field_options: tuple[str, ...] = ()
    fields: tuple[FieldPlaces, ...] = ()

    def for_summary(self, saved: Summary, shadow: str | None = None) -> tuple[str, ...]:
        """The options that cannot be applied to it."""
        asked = self.fields[:MOST_FIELDS]
        for name, routes in saved.shadows.items():
            if shadow in (None, name) and any(
                not _has_counted(pair, asked) for pair in (*routes.values(), routes.other)
            ):
                return (*self.options, *self.field_options)
        return self.options


NOTHING_LATE: Final = Late()


def _has_counted(pair: Pair, asked: tuple[FieldPlaces, ...]) -> bool:
    """Whether what was counted tells of the fields that are asked for."""
    wanted = named_by(asked)
    if not pair.pairs or not wanted or set(pair.named) == {wanted}:
        return True
    return not pair.named and all(key in pair.outputs for key in keys_of(wanted))


def _choose(pair: Pair, asked: tuple[FieldPlaces, ...]) -> None:
    """Leave of the places that were counted those that are asked for, as if they had been named from the beginning."""
    if asked and pair.pairs and not pair.named:
        wanted = named_by(asked)
        pair.named[wanted] = pair.pairs.total()
        pair.outputs = OutputsByField({key: pair.outputs[key] for key in keys_of(wanted)})


def summarise_files(
    paths: Iterable[str | Path],
    rules: Rules,
    *,
    shadow: str | None = None,
    only: Only = EVERYTHING,
    fields: tuple[FieldPlaces, ...] = (),
    slices: tuple[str, ...] = (),
    truths: Truths | None = None,
    late: Late = NOTHING_LATE,
    keep: Keeper | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Summary:
    """The summary of logs, directories of logs, `-` and saved summaries, together.

    Where the answer is, is decided when the report is made, unless `fields` names it; `slices` are request fields to
    count however many a request has. Truths are joined to a saved summary by the answers that were kept beside it, and
    `keep` keeps those of all that is read. Lines that are no records are counted under a reason, never fatal. `jobs`
    above 1 reads that many files at once; the summary is the same. Raises OSError where a path cannot be read,
    SummaryError where a saved summary is broken, or something cannot be applied to it.
    """
    files = [file for path in paths for file in files_of(path)]
    reading = Reading(rules, fields[:MOST_FIELDS], truths if truths is not None else NO_TRUTHS, slices)
    if jobs > 1 and len(files) > 1 and "-" not in files:
        summary = Summary()
        for file, part in _in_processes(files, partial(_summarised, reading, only, shadow, late, keep), jobs):
            count = part.count
            summary.absorb(part)
            if progress is not None:
                progress(Path(file).stat().st_size, count)
        return summary
    return _folded(_Source(files, reading, only, progress, shadow, late, keep), reading)


def summarise_one(
    file: str,
    reading: Reading,
    only: Only = EVERYTHING,
    shadow: str | None = None,
    late: Late = NOTHING_LATE,
    keep: Keeper | None = None,
) -> bytes:
    """One file's summary, as `save` writes it."""
    return save(_folded(_Source([file], reading, only, None, shadow, late, keep), reading))


def _summarised(reading: Reading, only: Only, shadow: str | None, late: Late, keep: Keeper | None, file: str) -> bytes:
    return summarise_one(file, reading, only, shadow, late, keep)


def _in_processes(files: list[str], work: Callable[[str], bytes], jobs: int) -> Iterator[tuple[str, Summary]]:
    """Each file with its summary, in their order; of no more than a few are the summaries held at once."""
    from concurrent.futures import Future, ProcessPoolExecutor  # only here: it takes 13 ms to load

    with ProcessPoolExecutor(min(jobs, len(files))) as pool:
        waiting: deque[tuple[str, Future[bytes]]] = deque()
        left = iter(files)
        try:
            while True:
                while len(waiting) < _AHEAD * jobs and (file := next(left, None)) is not None:
                    waiting.append((file, pool.submit(work, file)))
                if not waiting:
                    return
                file, made = waiting.popleft()
                yield file, load(made.result())
        finally:
            pool.shutdown(cancel_futures=True)


def files_of(path: str | Path) -> list[str]:
    """The files that a path stands for: a directory's segments, oldest first; a pattern's files by name; or itself.

    Answers beside a summary are found from it, and are no logs that a pattern stands for.
    """
    if str(path) == "-":
        return ["-"]
    if Path(path).is_dir():
        return [str(file) for file in segments(Path(path))]
    if not Path(path).exists() and any(sign in str(path) for sign in "*?["):
        return sorted(file for file in glob(str(path), recursive=True) if not file.endswith(ENDING)) or [str(path)]
    return [str(path)]


class _Source:
    """The records of files that are asked for, in order; what is no record is counted, saved summaries are added up."""

    def __init__(
        self,
        files: list[str],
        reading: Reading,
        only: Only,
        progress: Progress | None,
        shadow: str | None,
        late: Late,
        keep: Keeper | None,
    ) -> None:
        self.unreadable: Counter[str] = Counter()
        self.saved = Summary()
        self.shadow = shadow
        self.keep = keep
        self._truths = reading.truths
        self._only = only
        self._late = late
        self._progress = progress
        self._told = 0
        self._lines = lines(files, None if progress is None else lambda count: progress(count, 0))

    def __iter__(self) -> Iterator[Record]:
        for line in self._lines:
            if isinstance(line, Unreadable):
                self.unreadable[line.why.partition(":")[0]] += 1
                continue
            if line.raw.startswith(_SAVED):
                self.saved.absorb(self._loaded(line))
                continue
            if line.raw.startswith(_KEPT):
                raise SummaryError(
                    f"{line.file} holds the answers beside a summary; give the summary, which finds them"
                )
            record = self._decoded(line)
            self._told += 1
            if self._progress is not None and self._told % _TOLD_EVERY == 0:
                self._progress(0, _TOLD_EVERY)
            if record is not None:
                yield record

    def finish(self) -> None:
        if self.keep is not None:
            self.keep.flush()
        if self._progress is not None:
            self._progress(0, self._told % _TOLD_EVERY)

    def _loaded(self, line: Line) -> Summary:
        try:
            saved = load(line.raw)
        except SummaryError as error:
            raise SummaryError(f"{line.file}: {error}") from error
        if too_late := self._late.for_summary(saved, self.shadow):
            them = "it" if len(too_late) == 1 else "them"
            said = f"{', '.join(too_late)} cannot be applied to it, give {them} to summarise"
            raise SummaryError(f"{line.file} is a summary: {said}")
        if self.shadow is not None:
            saved.shadows = {name: routes for name, routes in saved.shadows.items() if name == self.shadow}
        if self._truths.by_key:
            join(saved, line.file, seal_of(line.raw), self._truths)
        if self.keep is not None:
            self._keep_again(saved, line, self.keep)
        for routes in saved.shadows.values():
            for pair in (*routes.values(), routes.other):
                _choose(pair, self._late.fields[:MOST_FIELDS])
        return saved

    def _keep_again(self, saved: Summary, line: Line, keep: Keeper) -> None:
        """Keep what was kept beside a summary also beside the one that is made of it."""
        for pair in kept_beside(line.file, seal_of(line.raw), keep.place):
            if pair.shadow in saved.shadows:
                keep.put(pair if keep.place is not None else pair._replace(key=None))

    def _decoded(self, line: Line) -> Record | None:
        try:
            record = decode(line.raw)
            return record if self._only.accepts(record) else None
        except RecordError as error:
            self.unreadable["torn line" if line.torn else _reason(error)] += 1
        except ValueError:
            self.unreadable["no time"] += 1
        return None


def _folded(source: _Source, reading: Reading) -> Summary:
    summary = summarise(source, reading, shadow=source.shadow, keep=source.keep)
    source.finish()
    summary.unreadable.update(source.unreadable)
    summary.absorb(source.saved)
    return summary


def _reason(error: RecordError) -> str:
    said = str(error)
    return "another schema" if said.startswith("a record of schema") else said.partition(":")[0]
