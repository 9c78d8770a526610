"""The fold over files: read, summarise, add up; in this process or several.

A saved summary can be given in place of a log. `summarise_one` can run in other processes or on other machines: it
turns a file and a reading into the bytes of a summary, without state. On Spark:
`parallelize(files).map(...).treeReduce(...)`.
"""

import copyreg
import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from dataclasses import fields as fields_of
from functools import partial
from pathlib import Path
from typing import Any, Final

from shadowproxy import container
from shadowproxy.compare.fold.beside import Used, read_beside
from shadowproxy.compare.fold.filters import EVERYTHING, Only
from shadowproxy.compare.fold.kept import START as _KEPT
from shadowproxy.compare.fold.kept import Keeper
from shadowproxy.compare.fold.late_labels import join, kept_beside
from shadowproxy.compare.fold.outputs import OutputsByField
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.reading import FieldPlaces, Reading, keys_of, named_by
from shadowproxy.compare.fold.summary import Summary, SummaryBuilder, SummaryError, load, save, seal_of
from shadowproxy.compare.fold.truths import NONE as NO_TRUTHS
from shadowproxy.compare.fold.truths import Truth, Truths
from shadowproxy.compare.judge.rules import Rules, Tolerance
from shadowproxy.lines import Line, Unreadable, lines, weight_of
from shadowproxy.record import RecordError, decode
from shadowproxy.sources import COMPRESSED, PLAIN, STANDARD_INPUT, Source, source_of, sources_of
from shadowproxy.stores.opening import in_use as stores_in_use


def _init_arguments(noun: Any) -> tuple[type[Any], tuple[Any, ...]]:
    return type(noun), tuple(getattr(noun, each.name) for each in fields_of(noun) if each.init)


# Other processes are sent the arguments that these were made from: pickle cannot fill a compiled frozen dataclass, and
# what rules and readings derive from their arguments is larger than the arguments.
for each in (Reading, Rules, Tolerance, Truth, Truths):
    copyreg.pickle(each, _init_arguments)

Progress = Callable[[int, int], None]
"""Called with the bytes and the records read since its last call."""

MOST_FIELDS: Final = 3
"""Fields that can be named."""

SAVED: Final = b'{"shadowproxy_summary"'
"""How a saved summary begins."""

_REPORT_EVERY: Final = 200  # records
_REPORT_SECONDS: Final = 0.2
_LOWEST_PRIORITY: Final = 19
_COLLECT_EVERY: Final = 20_000  # objects that were made and are still there
_AHEAD: Final = 2  # files per job that are read ahead: their summaries wait in memory
_MOST_JOBS: Final = 8  # unless another number is given
_OF_A_PROCESS: Final = 128 << 20  # bytes of memory, as each takes up to 100 MB
_WORTH_A_PROCESS: Final = 8 << 20  # bytes: a second process costs 0.1 s, and the log of 8 MiB takes 0.6 s in one
_EXPANDS: Final = 8  # times that a compressed log is shorter than its lines


@dataclass(frozen=True, slots=True)
class Late:
    """Options that come too late for a saved summary: its records can no longer be filtered or compared.

    `options` are their names. Fields can still be chosen among those that were counted: `field_options` are too late
    only if one of `fields` was not counted.
    """

    options: tuple[str, ...] = ()
    field_options: tuple[str, ...] = ()
    fields: tuple[FieldPlaces, ...] = ()

    def for_summary(self, saved: Summary, shadow: str | None = None) -> tuple[str, ...]:
        """The options that cannot be applied to this summary."""
        fields = self.fields[:MOST_FIELDS]
        for name, routes in saved.shadows.items():
            if shadow in (None, name) and any(
                not _has_counted(pair, fields) for pair in (*routes.values(), routes.other)
            ):
                return (*self.options, *self.field_options)
        return self.options


NOTHING_LATE: Final = Late()


def _has_counted(pair: Pair, fields: tuple[FieldPlaces, ...]) -> bool:
    """Whether these fields were counted."""
    wanted = named_by(fields)
    if not pair.pairs or not wanted or set(pair.named) == {wanted}:
        return True
    return not pair.named and all(key in pair.outputs for key in keys_of(wanted))


def _keep_only(pair: Pair, fields: tuple[FieldPlaces, ...]) -> None:
    """Keep only these of the counted places, as if they had been named from the beginning."""
    if fields and pair.pairs and not pair.named:
        wanted = named_by(fields)
        pair.named[wanted] = pair.pairs.total()
        pair.outputs = OutputsByField({key: pair.outputs[key] for key in keys_of(wanted)})


def summarise_files(
    paths: Iterable[str | Path | Source],
    rules: Rules,
    *,
    shadow: str | None = None,
    only: Only = EVERYTHING,
    fields: tuple[FieldPlaces, ...] = (),
    slices: tuple[str, ...] = (),
    truths: Truths | None = None,
    late: Late = NOTHING_LATE,
    keep: Keeper | None = None,
    jobs: int | None = 1,
    progress: Progress | None = None,
    used: Used | None = None,
) -> Summary:
    """The summary of logs, folders and patterns of logs, addresses in object stores, `-` and saved summaries, together.

    A source is one file, or the part of it that it names.

    The report decides where the answer is, unless `fields` names it; `slices` are request fields that are always
    counted. Truths are joined to a saved summary by the answers that were kept beside it, and `keep` keeps the answers
    of all that is read. Lines that are not records are counted by reason, and are never fatal. `jobs` is how many files
    or parts of long ones are read at once, None as many as `jobs_for` says; the summary is the same. With `used`, the
    current summaries beside segments are read in their place, and counted there, if no option needs the records.

    Raises OSError if a path cannot be read, SummaryError if a saved summary is damaged, an option cannot be applied to
    it, or a process that reads is killed.
    """
    files = [each for path in paths for each in ([path] if isinstance(path, Source) else sources_of(path))]
    reading = Reading(rules, fields[:MOST_FIELDS], truths if truths is not None else NO_TRUTHS, slices)
    beside = Summary()
    if used is not None and only == EVERYTHING and truths is None and keep is None and not slices:
        files, all_files = [], files
        for file, saved in read_beside(all_files, reading, used, files):
            count = saved.count
            beside.absorb(_of_shadow(saved, shadow))
            if progress is not None:
                progress(weight_of(file) or 0, count)
    parts = [part for file in files for part in file.in_parts()] if jobs != 1 else files
    if jobs is None:
        jobs = jobs_for(parts)
    if jobs > 1 and len(parts) > 1 and all(part.path != STANDARD_INPUT for part in parts):
        summary = beside
        for part in _in_processes(parts, partial(_summarised, reading, only, shadow, late, keep), jobs, progress):
            summary.absorb(part)
        return summary
    summary = _Reader(files, reading, only, progress, shadow, late, keep).summary()
    summary.absorb(beside)
    return summary


def summarise_one(
    file: str | Source,
    reading: Reading,
    only: Only = EVERYTHING,
    shadow: str | None = None,
    late: Late = NOTHING_LATE,
    keep: Keeper | None = None,
) -> bytes:
    """One file's summary, as `save` writes it. Raises OSError and SummaryError as `summarise_files` does."""
    return save(_Reader([source_of(file)], reading, only, None, shadow, late, keep).summary())


def _summarised(
    reading: Reading,
    only: Only,
    shadow: str | None,
    late: Late,
    keep: Keeper | None,
    file: Source,
    progress: Progress | None,
) -> bytes:
    return save(_Reader([file], reading, only, progress, shadow, late, keep).summary())


def jobs_for(files: Iterable[Source]) -> int:
    """How many files to read at once: one for each core, if several logs are large enough to gain by it; else 1.

    In a container it is as many as its share of time keeps busy, and as half of its memory holds: a process that the
    kernel kills there for want of memory may be the sidecar.
    A saved summary counts for nothing here: another process would only read it, write it and have it read again.
    """
    size = logs = 0
    for file in files:
        bytes_in_file = file.size()
        if bytes_in_file is None or _is_saved(file):
            continue
        size += bytes_in_file * (_EXPANDS if file.path.endswith(COMPRESSED) else 1)
        logs += 1
    if logs < 2 or size < _WORTH_A_PROCESS:
        return 1
    memory = container.memory()
    room = _MOST_JOBS if memory is None else max(1, memory // 2 // _OF_A_PROCESS)
    return min(container.cores(), logs, room, _MOST_JOBS)


def _is_saved(file: Source) -> bool:
    if file.in_store:
        return not file.path.endswith((PLAIN, *COMPRESSED))  # not opened: each opening is a request
    try:
        with open(file.path, "rb") as source:
            return source.read(len(SAVED)) == SAVED
    except OSError:
        return True  # whoever reads it says what is wrong


Work = Callable[[Source, Progress | None], bytes]


def _in_processes(files: list[Source], work: Work, jobs: int, progress: Progress | None) -> Iterator[Summary]:
    """The summary of each file, in order; only a few summaries are in memory at once."""
    from concurrent.futures import Future, ProcessPoolExecutor, wait  # only here: it takes 13 ms to load
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    # A fork would lack the threads of a store's client, and wait for them.
    context = get_context("spawn" if any(file.in_store for file in files) or stores_in_use() else None)
    counts = None if progress is None else context.Array("q", 2)  # bytes and records that were read
    with ProcessPoolExecutor(min(jobs, len(files)), context, _begin, (work, counts)) as pool:
        waiting: deque[Future[bytes]] = deque()
        left = iter(files)
        reported = (0, 0)
        try:
            while True:
                while len(waiting) < _AHEAD * jobs and (file := next(left, None)) is not None:
                    waiting.append(pool.submit(_in_process, file))
                if not waiting:
                    return
                if counts is not None and progress is not None:
                    wait([waiting[0]], _REPORT_SECONDS)
                    size, records = counts[:]
                    progress(size - reported[0], records - reported[1])
                    reported = size, records
                    if not waiting[0].done():
                        continue
                yield load(waiting.popleft().result())
        except BrokenProcessPool:
            raise SummaryError(
                "a process that read the logs was killed, perhaps for want of memory; --jobs 1 needs the least"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_work: list[tuple[Work, Any]] = []
"""In a process of the pool: what it does with each file, and where it counts. Sent once, as truths may be large."""


def _begin(work: Work, counts: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback of its own
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_PRIORITY)  # it may run beside a sidecar, in its container
    _work[:] = [(work, counts)]


def _in_process(file: Source) -> bytes:
    work, counts = _work[0]
    if counts is None:
        return work(file, None)

    def progress(size: int, records: int) -> None:
        with counts.get_lock():
            counts[0] += size
            counts[1] += records

    return work(file, progress)


class _Reader:
    """Reads the wanted records of files into a summary, and adds up the saved summaries among them."""

    def __init__(
        self,
        files: list[Source],
        reading: Reading,
        only: Only,
        progress: Progress | None,
        shadow: str | None,
        late: Late,
        keep: Keeper | None,
    ) -> None:
        self._reading = reading
        self._truths = reading.truths
        self._only = None if only == EVERYTHING else only
        self._shadow = shadow
        self._late = late
        self._keep = keep
        self._progress = progress
        self._lines = lines(files, None if progress is None else lambda count: progress(count, 0))

    def summary(self) -> Summary:
        """The summary of all files. It is called once: the files are read as it runs."""
        with _few_collections():
            return self._read()

    def _read(self) -> Summary:
        builder = SummaryBuilder(labels=self._truths.supplied)
        saved = Summary()
        unreported = 0
        for line in self._lines:
            if isinstance(line, Unreadable):
                builder.add_unreadable(line.why.partition(":")[0])
                continue
            if line.raw.startswith(SAVED):
                saved.absorb(self._loaded(line))
                continue
            if line.raw.startswith(_KEPT):
                raise SummaryError(
                    f"{line.file} holds the answers beside a summary; give the summary, which finds them"
                )
            self._add(builder, line)
            unreported += 1
            if self._progress is not None and unreported == _REPORT_EVERY:
                self._progress(0, unreported)
                unreported = 0
        if self._keep is not None:
            self._keep.flush()
        if self._progress is not None:
            self._progress(0, unreported)
        total = builder.finish()
        total.absorb(saved)
        return total

    def _add(self, builder: SummaryBuilder, line: Line) -> None:
        """Count the record in a line, if it is one and is wanted."""
        try:
            record = decode(line.raw)
            if self._only is None or self._only.accepts(record):
                builder.add(record, self._reading, shadow=self._shadow, keep=self._keep)
        except RecordError as error:
            builder.add_unreadable("torn line" if line.torn else _reason(error))
        except ValueError:
            builder.add_unreadable("no time")

    def _loaded(self, line: Line) -> Summary:
        try:
            saved = load(line.raw)
        except SummaryError as error:
            raise SummaryError(f"{line.file}: {error}") from error
        if too_late := self._late.for_summary(saved, self._shadow):
            them = "it" if len(too_late) == 1 else "them"
            options = ", ".join(too_late)
            raise SummaryError(f"{line.file} is a summary: {options} cannot be applied to it, give {them} to summarise")
        saved = _of_shadow(saved, self._shadow)
        if self._truths.by_key:
            join(saved, line.file, seal_of(line.raw), self._truths)
        if self._keep is not None:
            self._keep_again(saved, line, self._keep)
        for routes in saved.shadows.values():
            for pair in (*routes.values(), routes.other):
                _keep_only(pair, self._late.fields[:MOST_FIELDS])
        return saved

    def _keep_again(self, saved: Summary, line: Line, keep: Keeper) -> None:
        """Keep the answers beside this summary also beside the one that it is added to."""
        for pair in kept_beside(line.file, seal_of(line.raw), keep.place):
            if pair.shadow in saved.shadows:
                keep.put(pair if keep.place is not None else pair._replace(key=None))


def _of_shadow(saved: Summary, shadow: str | None) -> Summary:
    """A saved summary with this shadow alone, if one is named."""
    if shadow is not None:
        saved.shadows = {name: routes for name, routes in saved.shadows.items() if name == shadow}
    return saved


@contextmanager
def _few_collections() -> Iterator[None]:
    """Have Python look for objects in circles less often: reading makes hundreds for each record and none in circles,
    and looking for them takes a twentieth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_EVERY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _reason(error: RecordError) -> str:
    text = str(error)
    return "another schema" if text.startswith("a record of schema") else text.partition(":")[0]
