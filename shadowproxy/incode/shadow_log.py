"""The records of one test: those of the exchanges that this process began during it."""

from types import TracebackType
from typing import Self

from shadowproxy.incode import shadow as shadows
from shadowproxy.record import Record, read


class ShadowLog:
    """What every Shadow of this process records while it is entered; of those made later too.

    The records of other tests, threads' of other processes and earlier runs in the same log are left out.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []

    def __enter__(self) -> Self:
        shadows.noting.append(self._ids)
        for shadow in list(shadows.every):
            shadow.note_records(self._ids)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shadows.noting.remove(self._ids)
        for shadow in list(shadows.every):
            shadow.note_records(None)

    def __repr__(self) -> str:
        return f"<ShadowLog of {len(self._ids)} exchanges>"

    def records(self, timeout: float = 30.0) -> list[Record]:
        """The records until now, in the order of the calls, once every shadow has answered or missed its deadline.

        Args:
            timeout: the most seconds to wait.

        Raises:
            TimeoutError: not all were written by then.
            AssertionError: some were lost; the text says how many, and why.
        """
        found: dict[str, Record] = {}
        wanted = set(self._ids)
        for shadow in list(shadows.every):
            if not shadow.flush(timeout):
                raise TimeoutError(f"not all exchanges were settled and written within {timeout:g} s: {shadow!r}")
            for path in shadow.log_files():
                for each in read([path]):
                    if isinstance(each, Record) and each.record in wanted:
                        found[each.record] = each
        missing = len(wanted) - len(found)
        assert not missing, f"{missing} of {len(wanted)} exchanges were lost: {[*shadows.every]}"
        return [found[record] for record in self._ids]
