"""What a watcher keeps between its looks, in a file of SQLite beside the history.

One look is one transaction: killed within it, a watcher begins that look again and counts nothing twice. The state
holds what was counted, how far each file was read, and the answers and labels that still wait for each other.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import orjson

from shadowproxy.compare.fold.kept import KeptPair
from shadowproxy.compare.fold.labels import Known
from shadowproxy.compare.fold.summary import Summary, load, save
from shadowproxy.compare.fold.truths import Label
from shadowproxy.watch.follow import Position

FORMAT: Final = 1

_TABLES: Final = """
CREATE TABLE kept (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE files (name TEXT PRIMARY KEY, read INTEGER NOT NULL, whole INTEGER NOT NULL, inode INTEGER);
CREATE TABLE pairs (key TEXT NOT NULL, shadow TEXT NOT NULL, route TEXT NOT NULL, at INTEGER NOT NULL,
  places BLOB NOT NULL, weight INTEGER NOT NULL, stage INTEGER NOT NULL DEFAULT 0, counted BLOB);
CREATE INDEX pairs_by_key ON pairs (key);
CREATE INDEX pairs_by_age ON pairs (stage, at);
CREATE TABLE labels (key TEXT PRIMARY KEY, known BLOB NOT NULL, seen INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX labels_by_age ON labels (seen);
"""


class StateError(Exception):
    """A state that cannot be used. The text is one line."""


class Waiting(NamedTuple):
    """A pair in the state. `counted` are the labels that were counted of it, `known` those that are known."""

    row: int
    pair: KeptPair
    counted: bytes | None
    known: bytes | None


class State:
    """A watcher's state. Owns its connection; use as a context manager. Raises StateError and OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        is_new = not path.exists()
        if is_new:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            self._base = sqlite3.connect(path, isolation_level=None)
            self._base.execute("PRAGMA journal_mode = DELETE")
            if is_new or not self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._base.executescript(f"BEGIN; {_TABLES} COMMIT;")
                self.put("format", FORMAT)
            if self.get("format") != FORMAT:
                raise StateError(f"{path} is of another version: remove it to begin again, the history stays")
        except sqlite3.Error as error:
            raise StateError(f"{path} cannot be read as the state of shadowproxy watch: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    @contextmanager
    def look(self) -> Iterator[None]:
        """One look: all that it changes is kept, or nothing if it fails."""
        try:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._base.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StateError(f"cannot write {self.path}: {error}") from None

    def get(self, name: str) -> Any:
        """What `put` kept under a name; None where nothing was."""
        found = self._base.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return None if found is None else orjson.loads(found[0])

    def put(self, name: str, value: Any) -> None:
        self._base.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, orjson.dumps(value)))

    def summary(self, name: str) -> Summary:
        """The summary under a name; an empty one where there is none. Raises SummaryError."""
        found = self._base.execute("SELECT value FROM kept WHERE name = ?", (f"summary {name}",)).fetchone()
        return Summary() if found is None else load(found[0])

    def put_summary(self, name: str, summary: Summary) -> None:
        self._base.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (f"summary {name}", save(summary)))

    # --- files -------------------------------------------------------------------------------------------------------

    def positions(self) -> dict[str, Position]:
        rows = self._base.execute("SELECT name, read, whole, inode FROM files")
        return {name: Position(read, bool(whole), inode) for name, read, whole, inode in rows}

    def put_position(self, name: str, at: Position) -> None:
        self._base.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (name, at.read, at.whole, at.inode))

    # --- pairs and labels --------------------------------------------------------------------------------------------

    def add_pairs(self, pairs: Iterable[KeptPair], *, by_field: bool) -> None:
        """Keep pairs until their labels have come; `by_field` joins them by the field that was kept, not by the ID."""
        self._base.executemany(
            "INSERT INTO pairs (key, shadow, route, at, places, weight) VALUES (?, ?, ?, ?, ?, ?)",
            (
                (key, pair.shadow, pair.route, pair.at, orjson.dumps(pair.places), pair.weight)
                for pair in pairs
                if (key := pair.key if by_field else pair.id) is not None
            ),
        )

    def add_labels(self, found: dict[str, Known], seen: int) -> int:
        """Add labels, of which for each row the newest counts; gives how many requests have new ones."""
        changed = 0
        for key, more in found.items():
            before = self._base.execute("SELECT known FROM labels WHERE key = ?", (key,)).fetchone()
            known = read_known(before[0]) if before is not None else {}
            for row, (at, label) in more.items():
                if row not in known or at >= known[row][0]:
                    known[row] = at, label
            raw = _written(known)
            if before is None or raw != before[0]:
                changed += 1
                if before is None:
                    self._base.execute("INSERT INTO labels VALUES (?, ?, ?)", (key, raw, seen))
                else:
                    self._base.execute("UPDATE labels SET known = ? WHERE key = ?", (raw, key))
        return changed

    def to_count(self) -> Iterator[Waiting]:
        """The pairs beyond the first stage whose labels have come or changed since they were counted."""
        yield from self._waiting("JOIN labels USING (key) WHERE stage > 0 AND counted IS NOT known", ())

    def counted(self) -> Iterator[Waiting]:
        """The pairs that are kept and whose labels were counted."""
        yield from self._waiting("LEFT JOIN labels USING (key) WHERE counted IS NOT NULL", ())

    def due(self, stage: int, at: int) -> Iterator[Waiting]:
        """The pairs at this stage that are from that time or earlier."""
        yield from self._waiting("LEFT JOIN labels USING (key) WHERE stage = ? AND at <= ?", (stage, at))

    def _waiting(self, which: str, values: tuple[Any, ...]) -> Iterator[Waiting]:
        rows = self._base.execute(
            f"SELECT pairs.rowid, key, at, shadow, route, places, weight, counted, known FROM pairs {which}",
            values,
        )
        for row, key, at, shadow, route, places, weight, counted, known in rows:
            yield Waiting(row, KeptPair(key, key, at, shadow, route, orjson.loads(places), weight), counted, known)

    def mark_counted(self, rows: Iterable[tuple[bytes | None, int]]) -> None:
        self._base.executemany("UPDATE pairs SET counted = ? WHERE rowid = ?", rows)

    def at_stage(self, stage: int) -> Iterator[Waiting]:
        """The pairs at this stage."""
        yield from self._waiting("LEFT JOIN labels USING (key) WHERE stage = ?", (stage,))

    def advance(self, stage: int, at: int) -> None:
        """Move the pairs that were due to the next stage."""
        self._base.execute("UPDATE pairs SET stage = stage + 1 WHERE stage = ? AND at <= ?", (stage, at))

    def drop(self, stage: int) -> None:
        """Forget the pairs at this stage."""
        self._base.execute("DELETE FROM pairs WHERE stage = ?", (stage,))

    def forget_labels(self, seen: int) -> None:
        """Forget labels that came before this time and belong to no pair that is kept."""
        self._base.execute(
            "DELETE FROM labels WHERE seen < ? AND NOT EXISTS (SELECT 1 FROM pairs WHERE pairs.key = labels.key)",
            (seen,),
        )

    def none_belong(self) -> bool:
        """Whether no label belongs to a pair that is kept."""
        found = self._base.execute("SELECT EXISTS (SELECT 1 FROM pairs JOIN labels USING (key))").fetchone()
        return not found[0]

    def labels(self) -> int:
        return int(self._base.execute("SELECT count(*) FROM labels").fetchone()[0])


def _written(known: Known) -> bytes:
    rows = sorted(known.items(), key=lambda each: -1 if each[0] is None else each[0])
    return orjson.dumps([[row, at, _storable(label)] for row, (at, label) in rows])


def _storable(label: Label) -> Label:
    return str(label) if isinstance(label, int) and abs(label) >= 2**63 else label


def read_known(raw: bytes) -> Known:
    """The labels that the state has of one request."""
    return {row: (at, label) for row, at, label in orjson.loads(raw)}
