"""What the configuration changes in the head of a request for one endpoint, as the head is written: one pass, pure."""

from collections.abc import Iterable

from shadowproxy.exchange import Field, Fields


class Edits:
    """`removed` are lower-case names; each of `put` replaces the fields of its name in place, or is added at the end.

    `host` is the value of the Host field, None keeps the caller's; where a request has none, `own_host` is it.
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
        # Of most requests this pass touches nothing but these two, and reads one of them. A name of another length is
        # none of them: to make it lower and hash it costs as much as to write it.
        self._touched = frozenset({b"host", b"transfer-encoding", *values, *removed})
        self._lengths = frozenset(map(len, self._touched))

    def head(self, method: str, target: bytes, fields: Iterable[Field]) -> tuple[bytes, bool]:
        """A request's head with its empty line, and whether it says that the body is chunked."""
        parts = [method.encode(), b" ", target, b" HTTP/1.1\r\n", b""]
        seen: set[bytes] = set()
        touched, lengths = self._touched, self._lengths
        for name, value in fields:
            if len(name) in lengths and (lower := name.lower()) in touched:
                put = self._values.get(lower)
                if lower in self._removed or (put is not None and lower in seen):
                    continue
                seen.add(lower)
                if put is not None:
                    value = put  # the name stays as it came
            parts += (name, b": ", value, b"\r\n")
        if b"host" not in seen:
            parts[4] = self._first
        for lower, line in self._lines:
            if lower not in seen:
                parts.append(line)
        parts.append(b"\r\n")
        return b"".join(parts), b"transfer-encoding" in seen


def _line(name: bytes, value: bytes) -> bytes:
    return b"%b: %b\r\n" % (name, value)
