"""Writes the head of a request for one endpoint, with the configuration's changes. One pass over the fields; pure."""

from collections.abc import Callable, Iterable

from shadowproxy.exchange import Field, Fields
from shadowproxy.serve.http1.section import Section

WRITERS = 8
"""How many endpoints' written lines a section caches. Reloads may make new endpoints while callers keep a section."""


class Edits:
    """`removed` are lower-case names. Each of `put` replaces the fields of its name in place, or is added at the end.

    `host` is the value of the Host field; None keeps the caller's. A request without a Host field gets `own_host`.
    """

    def __init__(
        self, *, host: bytes | None, own_host: bytes, removed: frozenset[bytes] = frozenset(), put: Fields = ()
    ) -> None:
        values = {name.lower(): value for name, value in put}
        lines = {name.lower(): _line(name, value) for name, value in put}
        if host is not None:
            values[b"host"] = host
            lines.pop(b"host", None)
        self._first = b"" if b"host" in lines else _line(b"Host", host or own_host)
        self._values = values
        self._lines = tuple(lines.items())
        self._removed = removed
        # The names to look for. Most requests have only the first two of them.
        self._touched = frozenset({b"host", b"transfer-encoding", *values, *removed})

    def write_head(
        self, method: str, target: bytes, fields: Iterable[Field], section: Section | None = None
    ) -> tuple[bytes, bool]:
        """A request's head with its empty line, and whether it says that the body is chunked.

        The fields of `section` come before `fields`. Their lines are written once for all requests that have it.
        """
        lines = [b"%b %b HTTP/1.1" % (method.encode(), target)]
        found: set[bytes] = set()
        if section is not None and section.seen > 1:
            written, found_there = self._section_lines(section)
            if written:
                lines.append(written)
            found.update(found_there)
        elif section is not None:
            self._write_lines(section.fields, lines, found)
        self._write_lines(fields, lines, found)
        if self._first and b"host" not in found:
            lines.insert(1, self._first)
        for lower, line in self._lines:
            if lower not in found:
                lines.append(line)
        lines.append(b"\r\n")
        return b"\r\n".join(lines), b"transfer-encoding" in found

    def trailers_after(self, trailers: Callable[[], Fields]) -> Callable[[], Fields]:
        """`trailers`, without those whose name the configuration sets or removes: they must not get past it."""

        def edited() -> Fields:
            return tuple([field for field in trailers() if field[0].lower() not in self._touched])

        return edited

    def _section_lines(self, section: Section) -> tuple[bytes, frozenset[bytes]]:
        if section.written is None:
            section.written = {}
        written = section.written.get(self)
        if written is None:
            if len(section.written) >= WRITERS:
                section.written.clear()
            lines: list[bytes] = []
            found: set[bytes] = set()
            self._write_lines(section.fields, lines, found)
            written = section.written[self] = b"\r\n".join(lines), frozenset(found)
        return written

    def _write_lines(self, fields: Iterable[Field], lines: list[bytes], found: set[bytes]) -> None:
        """Add the lines of `fields` to `lines`, and those of their names that are looked for to `found`."""
        touched = self._touched
        for field in fields:
            lower = field[0].lower()
            if lower in touched:
                put = self._values.get(lower)
                if lower in self._removed or (put is not None and lower in found):
                    continue
                found.add(lower)
                if put is not None:
                    field = (field[0], put)  # the name keeps its case
            lines.append(b": ".join(field))


def _line(name: bytes, value: bytes) -> bytes:
    return b"%b: %b" % (name, value)
