"""The answers kept beside a saved summary, so that labels can be joined when the log is gone.

The file is JSON lines, compressed with zstd. The first line has the version, the digest of the summary that it belongs
to, and the field of the requests by which labels can be joined, if not by the ID alone. Then comes a line for each
pair, in the order of the hash of its ID: the hash, the ID, the value of that field, the time in microseconds, the
shadow, the route, for each counted place its key with live's gists and the shadow's (1 if they are the same, null if it
failed), and, if the log has weights, that of its record and the most that any may have. The last line has their number
and a digest of all.

Lines are sorted in memory up to a bound, in runs on the disk beyond it. So the file does not depend on the log's order
or on the number of processes.
"""

import heapq
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Final, NamedTuple

import orjson
import zstandard

from shadowproxy.compare.fold.counts import Weight
from shadowproxy.compare.fold.gist import gist_of, read, written
from shadowproxy.compare.fold.place_gists import PlaceGists
from shadowproxy.compare.fold.places import PlaceValues
from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.summary import SummaryError
from shadowproxy.compare.fold.truths import key_at
from shadowproxy.lines import Line, lines
from shadowproxy.record import Record
from shadowproxy.sources import ANSWERS, Source, source_of
from shadowproxy.stores.addresses import is_address

FORMAT: Final = 1
START: Final = b'{"shadowproxy_answers"'
"""How such a file begins, decompressed."""

_MOST_HELD: Final = 16 << 20  # bytes of lines that are sorted in memory
_MOST_MERGED: Final = 32  # runs that are read at once
_SAME: Final = 1


class KeptPair(NamedTuple):
    """A pair as it was kept; `key` is the value of the field that labels are joined by. `gists` decodes `places`."""

    id: str
    key: str | None
    at: int
    shadow: str
    route: str
    places: list[Any]
    weight: int = 1
    most: int = 1

    @property
    def stands_for(self) -> Weight:
        """How often it counts."""
        return Weight(self.weight, max(self.weight, self.most))

    def gists(self) -> list[PlaceGists]:
        """The gists of both arms. Raises ValueError or TypeError if the file was changed."""
        found = []
        for key, live, shadow in self.places:
            mine = list(map(read, live))
            theirs = mine if shadow == _SAME else None if shadow is None else list(map(read, shadow))
            found.append(PlaceGists(str(key), mine, theirs))
        return found


def beside(summary: str | Path) -> Path:
    """The file with the answers of a saved summary: `pod-1.answers.zst` for `pod-1.json`."""
    path = Path(summary)
    return path.with_name(_answers_of(path.name))


def source_beside(summary: str) -> Source:
    """The same, also of a summary in a store."""
    if not is_address(summary):
        return source_of(beside(summary))
    folder, slash, name = summary.rpartition("/")
    return source_of(folder + slash + _answers_of(name))


def _answers_of(name: str) -> str:
    for ending in (".zst", ".gz", ".json"):
        name = name.removesuffix(ending) or name
    return name + ANSWERS


class Keeper:
    """Keeps the answers of pairs in sorted runs in a directory, until they are written down together.

    A copy in another process keeps its runs in the same directory. `place` is the field of the requests that labels may
    be joined by. Raises SummaryError where a run cannot be written.
    """

    def __init__(self, directory: str, place: str | None = None) -> None:
        self.directory = directory
        self.place = place
        self._lines: list[bytes] = []
        self._size = 0

    def __reduce__(self) -> tuple[type["Keeper"], tuple[str, str | None]]:
        return Keeper, (self.directory, self.place)

    def __call__(self, record: Record, at: int, shadow: str, route: str, places: Sequence[PlaceValues]) -> None:
        """Keep a pair. `summarise` calls it for each."""
        key = None if self.place is None else key_at(record, self.place)
        self.put(
            KeptPair(
                record.id, key, at, shadow, route, [_written(look) for look in places], record.weight, record.heaviest
            )
        )

    def put(self, pair: KeptPair) -> None:
        id, key = _storable(pair.id), pair.key if pair.key is None else _storable(pair.key)
        rest = pair[2:] if pair.most > 1 else pair[2:-2]
        line = orjson.dumps([f"{hashed(pair.id):016x}", id, key, *rest], option=orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _MOST_HELD:
            self.flush()

    def flush(self) -> None:
        """Write the lines in memory as a run."""
        if self._lines:
            self._lines.sort()
            self._run(self._lines)
            self._lines, self._size = [], 0

    def pairs(self) -> Iterator[KeptPair]:
        """All kept pairs, in no particular order of time."""
        self.flush()
        for run in sorted(Path(self.directory).iterdir()):
            for line in _lines_of(run):
                yield KeptPair(*orjson.loads(line)[1:])

    def write(self, file: Path, digest: str) -> None:
        """Write all kept answers for the summary with that digest. The file appears whole or not at all."""
        self.flush()
        runs = sorted(Path(self.directory).iterdir())
        while len(runs) > _MOST_MERGED:
            some, runs = runs[:_MOST_MERGED], runs[_MOST_MERGED:]
            runs.append(self._run(heapq.merge(*map(_lines_of, some))))
            for run in some:
                run.unlink()
        head = {"shadowproxy_answers": FORMAT, "summary": digest, "label_key": self.place}
        descriptor, name = mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "wb") as plain:
                with zstandard.ZstdCompressor(write_checksum=True).stream_writer(plain, closefd=False) as packed:
                    packed.write(orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE))
                    count, seal = 0, blake2b(digest_size=16)
                    for line in heapq.merge(*map(_lines_of, runs)):
                        packed.write(line)
                        seal.update(line)
                        count += 1
                    packed.write(orjson.dumps(["end", count, seal.hexdigest()], option=orjson.OPT_APPEND_NEWLINE))
                plain.flush()
                os.fsync(plain.fileno())
            os.replace(name, file)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise

    def _run(self, ordered: Iterable[bytes]) -> Path:
        try:
            descriptor, name = mkstemp(dir=self.directory)
            with (
                os.fdopen(descriptor, "wb") as plain,
                zstandard.ZstdCompressor(level=1).stream_writer(plain, closefd=False) as packed,
            ):
                for line in ordered:
                    packed.write(line)
        except OSError as error:  # it must not look like an error in reading the log
            raise SummaryError(f"cannot write the answers in {self.directory}: {error.strerror or error}") from error
        return Path(name)


def pairs_in(path: str | Path | Source, digest: str, place: str | None) -> Iterator[KeptPair]:
    """The pairs that were kept beside the summary of that digest, to be joined by `place` or, without, by their IDs.

    Raises SummaryError if the file is another summary's, has no such field or is not whole, OSError if it cannot be
    read.
    """
    file = source_of(path)
    kept = lines([file])
    head = next(kept, None)
    try:
        header = orjson.loads(head.raw) if isinstance(head, Line) else None
    except orjson.JSONDecodeError:
        header = None
    if not isinstance(header, dict) or "shadowproxy_answers" not in header:
        raise SummaryError(f"{file.name}: not a file of answers kept beside a summary")
    version = header["shadowproxy_answers"]
    if version != FORMAT:
        raise SummaryError(f"{file.name}: answers of format {version!r:.20}; this version reads format {FORMAT}")
    if header.get("summary") != digest:
        raise SummaryError(f"{file.name}: these answers belong to another summary; save both again from the log")
    if place is not None and header.get("label_key") != place:
        raise SummaryError(
            f"{file.name} has no {place}: give --label-key {place} to summarise --keep-answers, "
            "or give the log to report"
        )
    seal = blake2b(digest_size=16)
    broken = SummaryError(f"{file.name}: not a whole file of answers; save it again from its log")
    for count, line in enumerate(kept):
        if not isinstance(line, Line):
            raise broken
        try:
            row = orjson.loads(line.raw)
            if row[0] == "end":
                if row[1:] != [count, seal.hexdigest()] or next(kept, None) is not None:
                    raise broken
                return
            pair = KeptPair(*row[1:])
        except (orjson.JSONDecodeError, TypeError, IndexError, KeyError) as error:
            raise broken from error
        seal.update(line.raw + b"\n")
        yield pair
    raise broken


def _written(look: PlaceValues) -> list[Any]:
    live = [written(gist_of(value)) for value in look.live]
    if look.shadow is None:
        return [look.key, live, None]
    if look.shadow is look.live:
        return [look.key, live, _SAME]
    shadow = [written(gist_of(value)) for value in look.shadow]
    # Compared as written: to Python 1 is True, and 0 is -0.
    return [look.key, live, _SAME if orjson.dumps(shadow) == orjson.dumps(live) else shadow]


def _storable(text: str) -> str:
    """A text as JSON can hold it: half a surrogate pair cannot be written, and is in no file of labels."""
    return text.encode("utf-8", "replace").decode()


def _lines_of(run: Path) -> Iterator[bytes]:
    with (
        run.open("rb") as packed,
        closing(zstandard.ZstdDecompressor().stream_reader(packed)) as plain,
        io.BufferedReader(plain, 64 << 10) as buffered,
    ):
        yield from buffered
