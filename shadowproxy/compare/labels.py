"""What was right, learnt later: a file of request IDs and labels."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from shadowproxy.compare.pair import Truth
from shadowproxy.compare.summary import micros

_IDS: Final = ("id", "request_id", "x_request_id")
_LABELS: Final = ("label", "truth", "actual", "outcome", "y", "target")
_TIMES: Final = ("at", "time", "timestamp")


class LabelError(Exception):
    """A file of labels that cannot be read. The text is one line."""


def read_labels(path: str | Path) -> Mapping[str, Truth]:
    """Labels by request ID, from CSV with a heading or from JSON lines; of one ID the last counts.

    Columns: `id`, `label`, and if it is there `at`, the time at which the label became known. Raises LabelError.
    """
    truths: dict[str, Truth] = {}
    try:
        for number, row in _rows(Path(path)):
            found = _first(row, _IDS), _first(row, _LABELS)
            if found[0] is None:
                raise LabelError(f"{path}:{number}: there is no id and label in this row")
            if found[1] is None or found[1] == "":
                continue  # not yet known
            if not isinstance(found[1], str | int | float):
                raise LabelError(f"{path}:{number}: a label is a text, a number or a boolean")
            at = _first(row, _TIMES)
            truths[str(found[0])] = Truth(found[1], micros(at) if isinstance(at, str) and at else None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:
        raise LabelError(f"{path}: {error}") from error
    if not truths:
        raise LabelError(f"{path}: there is no label in it")
    return truths


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.read(1)
        while first.isspace():
            first = file.read(1)
        file.seek(0)
        if first == "{":
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise LabelError(f"{path}:{number}: not a JSON object")
                    yield number, row
            return
        reader = csv.DictReader(file)
        names = {name.strip().lower() for name in reader.fieldnames or ()}
        if not names.intersection(_IDS) or not names.intersection(_LABELS):
            raise LabelError(f"{path}: the first line must name the columns id and label")
        for row in reader:
            yield reader.line_num, {(key or "").strip().lower(): value for key, value in row.items()}


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)
